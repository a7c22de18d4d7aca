"""Heads of the containers whose samples lie there plainly: WAV, RF64, W64, AIFF, AU, CAF.

They are read forward alone, so that a pipe's audio can be heard as it comes. A recorder that writes
to a pipe cannot go back to fill in how much it wrote: such a size promises nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import isfinite

from edge_runtime.audio.raw import ENCODINGS, RawFormat

Read = Callable[[int], bytes]
"""The next bytes, as many as asked for; fewer where the stream ends."""

MOST_CHANNELS = 1024
"""As many as libsndfile takes; a head that promises more is none."""

# Recorders put about 2 GB or more into a size that they cannot fill in, each its own number.
_UNFILLED = 0x7F000000
# Bytes of text, pictures and padding that may come before the samples.
_LARGEST_HEAD = 16 << 20
_FORMAT_PCM, _FORMAT_FLOAT, _FORMAT_ALAW, _FORMAT_MULAW, _FORMAT_EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_AU = {1: "mulaw", 2: "s8", 3: "s16be", 4: "s24be", 5: "s32be", 6: "f32be", 7: "f64be", 27: "alaw"}
_AIFC = {
    b"sowt": "s16le",
    b"fl32": "f32be",
    b"FL32": "f32be",
    b"fl64": "f64be",
    b"FL64": "f64be",
    b"ulaw": "mulaw",
    b"ULAW": "mulaw",
    b"alaw": "alaw",
    b"ALAW": "alaw",
}


@dataclass(frozen=True)
class PlainHead:
    """What the head of a container of plain samples says."""

    format: RawFormat
    offset: int
    """Byte at which the samples begin."""
    size: int | None
    """Bytes of samples that it promises; None where its recorder did not fill that in."""

    def of_file(self, size: int) -> PlainHead:
        """The same, knowing that the file has `size` bytes: a recording that large may be one."""
        if self.size is None or self.size < _UNFILLED or self.offset + self.size <= size:
            return self
        return replace(self, size=None)

    def of_pipe(self) -> PlainHead:
        """The same of a stream whose end is not known: its size counts where it can be meant."""
        return self if self.size and self.size < _UNFILLED else replace(self, size=None)


def plain_head(read: Read) -> PlainHead | None:
    """What `read` brings from a container's first byte on, up to its samples; None for all others.

    Compressed codecs are left to libsndfile. A size of 0 is None unless the rest of the head says
    that the recording is empty.
    """
    walk = _Walk(read)
    readers: dict[bytes, Callable[[_Walk, bytes], PlainHead | None]]
    readers = {b"RIFF": _wav, b"RIFX": _wav, b"RF64": _wav, b"BW64": _wav}
    readers |= {b"riff": _w64, b"FORM": _aiff, b".snd": _au, b"caff": _caf}
    try:
        magic = walk.take(4)
        found = readers[magic](walk, magic) if magic in readers else None
    except (_EndedError, struct.error):
        return None
    if found is None or not found.format.encoding:
        return None
    if not 1 <= found.format.channels <= MOST_CHANNELS:
        return None
    return found


class _EndedError(Exception):
    """The head ends before its samples begin."""


class _Walk:
    """A stream read forward, chunk after chunk."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.at = 0

    def take(self, size: int) -> bytes:
        """Exactly the next `size` bytes."""
        if not 0 <= size <= _LARGEST_HEAD - self.at:
            raise _EndedError
        data = self._read(size)
        self.at += len(data)
        if len(data) < size:
            raise _EndedError
        return data

    def unpack(self, form: str) -> tuple[int, ...]:
        """The next bytes as numbers."""
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def chunks(self, order: str) -> Iterator[tuple[bytes, int]]:
        """Names and sizes of chunks, each to be taken before the next is asked for."""
        while True:
            name = self.take(4)
            (size,) = self.unpack(order + "I")
            end = self.at + size + size % 2
            yield name, size
            self.take(end - self.at)


def _wav(walk: _Walk, magic: bytes) -> PlainHead | None:
    order = ">" if magic == b"RIFX" else "<"
    (total,) = walk.unpack(order + "I")
    if walk.take(4) != b"WAVE":
        return None
    form, large = None, None
    for name, size in walk.chunks(order):
        if name == b"fmt ":
            form = _wav_format(walk.take(size), order)
        elif name == b"ds64":
            total, large, _ = struct.unpack("<QQQ", walk.take(size)[:24])
        elif name == b"data":
            if large is not None and size == 0xFFFFFFFF:
                size = large
            # A recorder that filled in the whole, but not the samples, has recorded none.
            empty = size == 0 and walk.at < total + 8 < _UNFILLED
            return PlainHead(form, walk.at, size if size or empty else None) if form else None
    return None


def _w64(walk: _Walk, magic: bytes) -> PlainHead | None:
    walk.take(12 + 8)  # the rest of the name, the size of all
    form = None
    if walk.take(16)[:4] != b"wave":
        return None
    while True:
        name = walk.take(16)[:4]
        (size,) = walk.unpack("<q")
        size -= 24  # it counts its name and itself
        if name == b"fmt ":
            form = _wav_format(walk.take(size + -size % 8), "<")
        elif name == b"data":
            return PlainHead(form, walk.at, size if size > 0 else None) if form else None
        else:
            walk.take(size + -size % 8)


def _wav_format(chunk: bytes, order: str) -> RawFormat | None:
    code, channels, rate, _, align, bits = struct.unpack(order + "HHIIHH", chunk[:16])
    if code == _FORMAT_EXTENSIBLE and len(chunk) >= 26:
        (code,) = struct.unpack(order + "H", chunk[24:26])
    width = align // channels if channels else 0  # 20 bits lie in three bytes, or in four
    end = "le" if order == "<" else "be"
    encoding = {
        (_FORMAT_PCM, 1): "u8",
        (_FORMAT_PCM, 2): f"s16{end}",
        (_FORMAT_PCM, 3): f"s24{end}",
        (_FORMAT_PCM, 4): f"s32{end}",
        (_FORMAT_FLOAT, 4): f"f32{end}",
        (_FORMAT_FLOAT, 8): f"f64{end}",
        (_FORMAT_ALAW, 1): "alaw",
        (_FORMAT_MULAW, 1): "mulaw",
    }.get((code, width), "")
    return RawFormat(encoding, rate, channels) if bits <= 8 * width else None


def _aiff(walk: _Walk, magic: bytes) -> PlainHead | None:
    walk.take(4)
    kind = walk.take(4)
    form = None
    for name, size in walk.chunks(">") if kind in (b"AIFF", b"AIFC") else ():
        if name == b"COMM":
            chunk = walk.take(size)
            channels, _, bits = struct.unpack(">HIH", chunk[:8])
            encoding = {1: "s8", 2: "s16be", 3: "s24be", 4: "s32be"}.get((bits + 7) // 8, "")
            codec = chunk[18:22] if kind == b"AIFC" else b"NONE"
            if codec not in (b"NONE", b"twos"):
                encoding = _AIFC.get(codec, "")
            form = RawFormat(encoding, _extended(chunk[8:18]), channels)
        elif name == b"SSND":
            offset = walk.unpack(">II")[0]
            walk.take(offset)
            # Eight bytes of it are no samples; ffmpeg leaves 0 to a pipe.
            promised = size - 8 - offset
            return PlainHead(form, walk.at, promised if promised > 0 else None) if form else None
    return None


def _extended(data: bytes) -> int:
    """An 80-bit float, as AIFF has its rate."""
    exponent, mantissa = struct.unpack(">HQ", data)
    shift = 16383 + 63 - (exponent & 0x7FFF)
    return int(mantissa >> shift) if 0 <= shift < 64 else 0


def _au(walk: _Walk, magic: bytes) -> PlainHead | None:
    offset, size, code, rate, channels = walk.unpack(">IIIII")
    walk.take(offset - walk.at)
    form = RawFormat(_AU.get(code, ""), rate, channels)
    return PlainHead(form, walk.at, size if 0 < size < 0xFFFFFFFF else None)


def _caf(walk: _Walk, magic: bytes) -> PlainHead | None:
    walk.take(4)
    form = None
    while True:
        name = walk.take(4)
        (size,) = walk.unpack(">q")
        if name == b"desc":
            form = _caf_format(walk.take(size))
        elif name == b"data":
            walk.take(4)  # how often it was edited
            promised = size - 4
            return PlainHead(form, walk.at, promised if promised > 0 else None) if form else None
        else:
            walk.take(size)


def _caf_format(chunk: bytes) -> RawFormat:
    rate, codec, flags, _, _, channels, bits = struct.unpack(">d4s5I", chunk[:32])
    kind = "f" if flags & 1 else "s"
    end = "le" if flags & 2 else "be"
    encoding = f"{kind}{bits}" + ("" if bits == 8 else end)
    if codec != b"lpcm":
        encoding = {b"ulaw": "mulaw", b"alaw": "alaw"}.get(codec, "")
    whole = int(rate) if isfinite(rate) else 0  # which is refused as a rate
    return RawFormat(encoding if encoding in ENCODINGS else "", whole, channels)
