"""MPEG audio (MP3, MP2) frame by frame: exact, of constant memory, as it comes.

libsndfile alone hears a file no further than its header says, or where there is none (an encoder
that wrote to a pipe), than a guess from its first frame's bit rate; and it gives up where a few
bytes are damaged. So the frames are found here, and given to it a few at a time. Each group is
preceded by those frames on which its first one depends, whose samples are then left out: what
comes out is what libsndfile makes of the whole, up to the rounding of a float's last bit.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_runtime.errors import AudioError
from edge_runtime.pcm import Float32
from edge_runtime.system import native_stderr_silenced

KIND = "MP3"
Read = Callable[[int], bytes]
"""The next bytes, at most so many, as they come; none at the end."""

# kbit/s by the four bits of a header: layers I, II and III of MPEG 1; I, II and III of 2 and 2.5.
_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_GROUP_SECONDS = 0.5  # decoded at once; a live stream is heard so much later
_RESERVOIR = 511  # bytes of earlier frames in which a frame's own data may begin
_STATE_FRAMES = 3  # that a decoder must have seen for its filters to be in their state
_TURN = 8  # frames after which the ring buffer of the filters is where it was, and rounds alike
_DECODER_DELAY = 529  # samples that a decoder's filters put in front, no sound
_READ_BYTES = 4096
_SEARCHED = 1 << 20  # bytes in which a first frame is searched for
_HAS_FRAMES = 1  # the Xing header's flag for a number of frames
_XING_BYTES = 120  # from its tag to the encoder's name: flags, frames, bytes, positions, quality


@dataclass(frozen=True)
class Tag:
    """What an encoder wrote into a first frame without sound."""

    frames: int | None
    """How many follow; None where it does not say."""
    delay: int = 0
    """Samples before the sound."""
    padding: int = 0
    """Samples after it."""


def frame_bytes(header: bytes) -> int:
    """Bytes of the frame that has these first four; 0 where they begin none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, _layer(header)
    bits, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return 0
    kilobits = _RATES[1 if version == 3 else 2, layer][bits]
    padding = header[2] >> 1 & 1
    if layer == 1:
        return (12 * kilobits * 1000 // _HZ[version][rate] + padding) * 4
    return _frame_samples(header) // 8 * kilobits * 1000 // _HZ[version][rate] + padding


def aac_bytes(header: bytes) -> int:
    """Bytes of the frame of AAC (ADTS) that has these first seven; 0 where they begin none."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return 0
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return size if size > 7 and header[2] >> 2 & 15 < 13 else 0


def begins(head: bytes) -> bool:
    """Whether `head` is two frames of MPEG audio and the beginning of a third, as far as it goes.

    That samples look like that by chance need not be feared; one frame they do at times.
    """
    at, found = 0, 0
    while found < 3 and at + 4 <= len(head):
        size = frame_bytes(head[at : at + 4])
        if size == 0 or not _alike(head[at : at + 4], head[:4]):
            return False
        at, found = at + size, found + 1
    return found > 1


def begins_aac(head: bytes) -> bool:
    """The same for AAC."""
    at, found = 0, 0
    while found < 3 and at + 7 <= len(head):
        size = aac_bytes(head[at : at + 7])
        if size == 0:
            return False
        at, found = at + size, found + 1
    return found > 1


class Mpeg:
    """A stream of frames, decoded as they come.

    Parameters
    ----------
    name : what to call it in messages.
    read : brings its bytes.
    warnings : where to put what is damaged.

    Raises AudioError where no frame is found; OSError as `read` does.
    """

    def __init__(self, name: str, read: Read, warnings: list[str]) -> None:
        self._name, self._warnings = name, warnings
        self._scan = _Scan(read)
        self._frames = self._scan.frames()
        first = next(self._frames, None)
        if first is None:
            raise AudioError(f"{name} is not audio that can be read: no frame of MPEG audio in it")
        self.tag = _tag(first)
        self._first = first if self.tag is None else next(self._frames, first)
        self.rate = _HZ[first[1] >> 3 & 3][first[2] >> 2 & 3]
        """Samples a second, Hz."""
        self.channels = 1 if self._first[3] >> 6 == 3 else 2
        """Those of the first frame; later ones are made to have as many."""
        self._samples = _frame_samples(first)
        self._layer_3 = _layer(first) == 3

    @property
    def promised(self) -> int | None:
        """Samples a channel that there should be; None where it is not said."""
        if self.tag is None or self.tag.frames is None:
            return None
        whole = self.tag.frames * self._samples
        return max(0, whole - self._delay - _end(self.tag))

    def count(self) -> int:
        """Samples a channel that there are, by finding all frames."""
        frames = 1 + sum(1 for frame in self._frames if _tag(frame) is None)
        end = _end(self.tag) if self.tag and frames == self.tag.frames else 0
        return max(0, frames * self._samples - self._delay - end)

    def pieces(self, start: int = 0) -> Iterator[Float32]:
        """Samples from `start` on, float, (n, channels) each; what is before is not decoded."""
        position = -self._delay  # of the next sample to come
        held = self._silence(0)
        end = _end(self.tag)  # samples that are held back: they may be the padding
        frames = 0
        for before, group in self._groups():
            frames += len(group)
            size = len(group) * self._samples
            if position + size > start:
                skipped = max(0, start - position)
                piece = self._decode(before, group)[skipped:]
                held = np.concatenate([held, piece])
                if len(held) > end:
                    yield held[: len(held) - end]
                    held = held[len(held) - end :]
            position += size
        if self._scan.damaged:
            self._warnings.append(
                f"{self._name}: {self._scan.damaged} bytes are damaged and were left out"
            )
        # Files that were joined or cut have their padding elsewhere.
        if len(held) and not (self.tag and frames == self.tag.frames):
            yield held

    @property
    def _delay(self) -> int:
        """Samples in front that are no sound: the decoder's own, and the encoder's."""
        return _DECODER_DELAY + (self.tag.delay if self.tag else 0) if self._layer_3 else 0

    def _groups(self) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Frames to decode at once, each group with those before that its first depends on."""
        size = _TURN * max(1, round(_GROUP_SECONDS * self.rate / self._samples / _TURN))
        before: list[bytes] = []
        group = [self._first]
        for frame in self._frames:
            if _tag(frame) is not None:
                continue  # of a file that was appended
            if len(group) == size:
                yield before, group
                before = _needed([*before, *group])
                group = []
            group.append(frame)
        yield before, group

    def _decode(self, before: list[bytes], group: list[bytes]) -> Float32:
        """The samples of `group`, (n, channels)."""
        import soundfile

        content = _headed([*before, *group])
        wanted = len(group) * self._samples
        # libmpg123 writes to the terminal what it thinks of frames.
        with native_stderr_silenced():
            try:
                with soundfile.SoundFile(io.BytesIO(content)) as file:
                    file.seekable = lambda: False
                    found = np.concatenate(list(_until_end(file)) or [self._silence(0)])
            except (soundfile.LibsndfileError, RuntimeError):
                return self._silence(wanted)
        if not self._layer_3:
            found = found[len(before) * self._samples :][:wanted]
        found = _with_channels(found[-wanted:], self.channels)
        # A stream that was joined in its middle begins with frames that lack what they depend on.
        return np.concatenate([self._silence(wanted - len(found)), found])

    def _silence(self, samples: int) -> Float32:
        return np.zeros((samples, self.channels), np.float32)


class _Scan:
    """Finds the frames of a stream, whatever lies between them."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._data = b""
        self._like = b""  # the header of the first frame
        self.damaged = 0  # bytes between frames that are none, and no tag

    def frames(self) -> Iterator[bytes]:
        """Each frame, whole."""
        self._skip_tag()
        skipped = 0
        synchronous = False
        while self._fill(4):
            size = frame_bytes(self._data[:4])
            if size and self._like and not _alike(self._data[:4], self._like):
                size = 0
            if size and not synchronous and not self._followed(size):
                size = 0
            if size == 0:
                synchronous = False
                if not self._like and skipped > _SEARCHED:
                    return
                step = self._data.find(b"\xff", 1)
                step = step if step > 0 else len(self._data)
                self._data = self._data[step:]
                skipped += step
                continue
            if not self._fill(size):
                return
            frame, self._data = self._data[:size], self._data[size:]
            if self._like:
                self.damaged += skipped
            skipped = 0
            synchronous = True
            self._like = self._like or frame[:4]
            yield frame

    def _followed(self, size: int) -> bool:
        """Whether the frame that seems to begin here ends where another begins, or all does."""
        if self._fill(size + 4):
            following = self._data[size : size + 4]
            return frame_bytes(following) > 0 and _alike(following, self._data[:4])
        return self._fill(size)

    def _skip_tag(self) -> None:
        """Go behind an ID3 tag in front; its size has seven bits a byte."""
        while self._fill(10) and self._data[:3] == b"ID3":
            size = 10
            for place, byte in enumerate(reversed(self._data[6:10])):
                size += (byte & 0x7F) << 7 * place
            while size > 0 and self._fill(1):
                step = min(size, len(self._data))
                self._data = self._data[step:]
                size -= step

    def _fill(self, size: int) -> bool:
        """Whether there are `size` bytes yet to look at."""
        while len(self._data) < size:
            more = self._read(_READ_BYTES)
            if not more:
                return False
            self._data += more
        return True


def _alike(header: bytes, other: bytes) -> bool:
    """Whether two headers can be of one stream: version, layer and rate are the same."""
    return header[1] & 0xFE == other[1] & 0xFE and header[2] & 0x0C == other[2] & 0x0C


def _layer(header: bytes) -> int:
    return 4 - (header[1] >> 1 & 3)


def _frame_samples(header: bytes) -> int:
    layer = _layer(header)
    if layer == 1:
        return 384
    return 576 if layer == 3 and header[1] >> 3 & 3 != 3 else 1152


def _side_bytes(header: bytes) -> int:
    """Bytes of layer III's side information, before which lies the header."""
    mono = header[3] >> 6 == 3
    return (17 if mono else 32) if header[1] >> 3 & 3 == 3 else (9 if mono else 17)


def _tag(frame: bytes) -> Tag | None:
    """What an encoder wrote into a frame in place of sound; None where it is sound."""
    if _layer(frame) != 3:
        return None
    if frame[36:40] == b"VBRI":
        return Tag(int.from_bytes(frame[50:54], "big"))
    at = 4 + _side_bytes(frame)
    if frame[at : at + 4] not in (b"Xing", b"Info"):
        return None
    counted = int.from_bytes(frame[at + 4 : at + 8], "big") & _HAS_FRAMES
    frames = int.from_bytes(frame[at + 8 : at + 12], "big") if counted else None
    lame = frame[at + _XING_BYTES : at + _XING_BYTES + 24]
    if len(lame) < 24 or not lame[:4].strip(b"\0"):
        return Tag(frames or None)
    gaps = int.from_bytes(lame[21:24], "big")
    return Tag(frames or None, gaps >> 12, gaps & 0xFFF)


def _end(tag: Tag | None) -> int:
    """Samples at the end that are none."""
    return max(0, tag.padding - _DECODER_DELAY) if tag else 0


def _needed(frames: list[bytes]) -> list[bytes]:
    """The last of `frames`, as many as the next one may depend on."""
    count, size = 0, 0
    while count < len(frames) and (count <= _STATE_FRAMES or size < _RESERVOIR or count % _TURN):
        count += 1
        if count > _STATE_FRAMES:
            size += max(0, len(frames[-count]) - 4 - _side_bytes(frames[-count]))
    return frames[len(frames) - count :]


def _headed(frames: list[bytes]) -> bytes:
    """`frames` with a number of them in front; else libsndfile guesses, and stops there."""
    first = frames[0]
    if _layer(first) != 3:
        # Its guess is nearly right there.
        return b"".join([*frames, *frames[-1:] * 3])
    # Without a checksum, at a bit rate that has room for it.
    header = bytes((first[0], first[1] | 1, (first[2] & 0x0F) | 0x90, first[3]))
    # More than there are, that none is taken for padding.
    tag = b"Xing" + _HAS_FRAMES.to_bytes(4, "big") + (len(frames) + 64).to_bytes(4, "big")
    info = (header + bytes(_side_bytes(header)) + tag).ljust(frame_bytes(header), b"\0")
    return info + b"".join(frames)


def _until_end(file: Any) -> Iterator[Float32]:
    while len(piece := file.read(1 << 16, dtype="float32", always_2d=True)):
        yield piece


def _with_channels(samples: Float32, channels: int) -> Float32:
    if samples.shape[1] == channels:
        return samples
    mixed = samples.mean(axis=1, keepdims=True)
    return np.asarray(np.repeat(mixed, channels, axis=1), np.float32)
