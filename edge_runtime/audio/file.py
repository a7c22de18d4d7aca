"""Audio files of any format libsndfile reads, at any rate, as a stream of constant memory."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edge_runtime.audio import BLOCK_SECONDS, Block
from edge_runtime.audio.container import HEAD, ffmpeg_advice, foreign_kind_of, kind_of, wav_head
from edge_runtime.audio.mono import Mono
from edge_runtime.errors import AudioError, MissingPackageError
from edge_runtime.pcm import Float32, Int16
from edge_runtime.system import native_stderr_silenced

_UNKNOWN_FRAMES = 1 << 48  # and more: libsndfile's word for a length that nobody wrote down
# Whose header counts the frames; elsewhere the number is an estimate, or the recorder's guess.
_COUNTED = {"WAV", "WAVEX", "AIFF", "FLAC", "W64", "RF64", "CAF", "AU"}


class FileSource:
    """One audio file, or the part of it between `start` and `end` seconds.

    Read to its end, whatever its header says of its length; what the header promises beyond that
    is told. Channels are mixed and rates converted as `Mono` says. Raises AudioError, in one line,
    for a file that is missing, empty, not audio, or holds no samples, also while it is read;
    MissingPackageError without soundfile or soxr.
    """

    def __init__(
        self,
        path: str | Path,
        start: float = 0.0,
        end: float | None = None,
        *,
        stream: BinaryIO | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        # Linux allows any bytes in a file name, JSON and terminals do not.
        self.name = os.fsencode(path).decode("utf-8", "replace")
        self.warnings: list[str] = []
        self._stream = stream  # the same from an open file, named `path` in messages
        self._start, self._end = start, end
        self._file = self._open()
        self._mono = Mono(self.name, self.rate, self.warnings)

    @property
    def seconds(self) -> float:
        """Length of what will be read, s; counted by decoding where no header says it."""
        known = self._promised()
        if known is None:
            known = self._count()
        last = known if self._end is None else min(known, self._frame(self._end))
        return float(max(0, last - self._frame(self._start)) / self.rate)

    @property
    def rate(self) -> int:
        """Frames a second in the file, Hz."""
        return int(self._file.samplerate)

    def blocks(self) -> Iterator[Block]:
        """Blocks of about 0.1 s; nothing is lost between them."""
        return self._mono.blocks(self._pieces())

    def read(self) -> Int16:
        """All of it at once, int16 at 16 kHz, shape (n,); empty where start is beyond the end."""
        blocks = [block.samples for block in self.blocks()]
        return np.concatenate(blocks) if blocks else np.empty(0, np.int16)

    def _pieces(self) -> Iterator[Float32]:
        with self._file as file:
            position = self._skip(file)
            last = None if self._end is None else self._frame(self._end)
            size = max(1, round(BLOCK_SECONDS * self.rate))
            while last is None or position < last:
                piece = self._read(file, size if last is None else min(size, last - position))
                if len(piece) == 0:
                    break
                position += len(piece)
                yield piece
            self._tell_missing(position, last)

    def _skip(self, file: Any) -> int:
        """Go to where the part begins, by reading where the codec cannot seek; the frame."""
        wanted = self._frame(self._start)
        position = 0
        while position < wanted:
            piece = self._read(file, min(wanted - position, self.rate))
            if len(piece) == 0:
                break
            position += len(piece)
        return position

    def _tell_missing(self, position: int, last: int | None) -> None:
        promised = self._promised()
        if promised is None:
            return
        missing = (promised if last is None else min(last, promised)) - position
        if missing > 0 and position >= self._frame(self._start):
            self.warnings.append(
                f"{self.name}: the last {missing / self.rate:.2f} s cannot be read: it is truncated"
            )

    def _promised(self) -> int | None:
        """Frames that the file says it has; None where it does not, or only guesses."""
        if self._head is not None and self._head.size is None:
            return None
        if self._head is not None:
            return int(self._head.size or 0) // self._head.format.frame_bytes
        frames = int(self._file.frames)
        if self._file.format not in _COUNTED or not 0 < frames < _UNKNOWN_FRAMES:
            return None
        return frames

    def _count(self) -> int:
        """Frames there are, by decoding them all from a second opening."""
        if self._stream is not None:
            return int(self._file.frames)
        with FileSource(self.path)._file as file:
            frames = 0
            while count := len(self._read(file, 1 << 16)):
                frames += count
        return frames

    def _open(self) -> Any:
        try:
            import soundfile
        except ImportError:
            raise MissingPackageError("reading audio files", "soundfile", "files") from None
        head = self._read_head()
        self._head = wav_head(head)
        if self._head is not None and self._head.total == self._size():
            self._head = None  # filled in: an empty recording is one
        foreign = foreign_kind_of(head)
        if foreign:
            raise AudioError(ffmpeg_advice(self.name, foreign))
        # libmpg123 writes to the terminal what it thinks of a file's headers.
        self._quiet = native_stderr_silenced if kind_of(head) == "MP3" else nullcontext
        if self._head is not None and self._head.size is None:
            unfilled = _UnfilledWav(self._reopened(), self._head)
            if unfilled.frames == 0:
                raise AudioError(f"{self.name} holds no samples")
            return unfilled
        try:
            with self._quiet():
                file = soundfile.SoundFile(self._decodable(head))
        except soundfile.LibsndfileError as error:
            reason = str(error.error_string).rstrip(".")
            raise AudioError(f"{self.name} is not audio that can be read: {reason}") from None
        except TypeError:
            raise AudioError(
                f"{self.name} has no header; say what it holds: "
                "edge-emotion run --stdin --rate HZ --format s16le --channels 1 < FILE"
            ) from None
        except (RuntimeError, ValueError, OSError) as error:
            raise AudioError(f"{self.name} is not audio that can be read: {error}") from None
        if file.frames == 0:
            file.close()
            raise AudioError(f"{self.name} holds no samples")
        # Else soundfile seeks after every block, which some codecs cannot do at all, and after
        # which MP3 frames lack those before them.
        file.seekable = lambda: False
        return file

    def _decodable(self, head: bytes) -> bytes | BinaryIO:
        """What libsndfile is to open: the file's name, as bytes, for any is possible; or a stream.

        An MP3 of unknown length gets its header first; it is small enough to be held.
        """
        if kind_of(head) == "MP3":
            from edge_runtime.audio.mp3 import with_length

            with self._reopened() if self._stream is None else nullcontext(self._stream) as file:
                whole = with_length(file.read())
            if whole is not None:
                return io.BytesIO(whole)
        if self._stream is None:
            return os.fsencode(self.path)
        self._stream.seek(0)
        return self._stream

    def _read_head(self) -> bytes:
        if self._stream is not None:
            head = self._stream.read(HEAD)
            self._stream.seek(0)
            return head
        if self.path.is_dir():
            raise AudioError(f"{self.name} is a folder; name an audio file in it")
        try:
            with self.path.open("rb") as file:
                head = file.read(HEAD)
        except FileNotFoundError:
            raise AudioError(f"no such file: {self.name}") from None
        except OSError as error:
            raise AudioError(f"{self.name} cannot be read: {error.strerror}") from None
        if not head:
            raise AudioError(f"{self.name} is empty")
        return head

    def _size(self) -> int:
        """Bytes of the file."""
        if self._stream is None:
            return self.path.stat().st_size
        size = self._stream.seek(0, os.SEEK_END)
        self._stream.seek(0)
        return size

    def _reopened(self) -> BinaryIO:
        return self._stream if self._stream is not None else self.path.open("rb")

    def _read(self, file: Any, frames: int) -> Float32:
        import soundfile

        try:
            with self._quiet():
                return np.asarray(file.read(frames, dtype="float32", always_2d=True))
        except soundfile.LibsndfileError as error:
            reason = error.error_string or "its data cannot be decoded from here on"
            raise AudioError(f"{self.name} is damaged: {reason}") from None
        except (RuntimeError, ValueError, OSError) as error:
            raise AudioError(f"{self.name} is damaged: {error}") from None

    def _frame(self, second: float) -> int:
        return round(second * self.rate)


class _UnfilledWav:
    """A WAV whose recorder could not go back to write its length, as soundfile shows a file.

    libsndfile takes 0 or the largest number there for what it says.
    """

    format = "WAV"

    def __init__(self, file: BinaryIO, head: Any) -> None:
        self._file, self._head = file, head
        file.seek(head.offset)
        self.samplerate = head.format.rate
        size = file.seek(0, os.SEEK_END) - head.offset
        file.seek(head.offset)
        self.frames = size // head.format.frame_bytes

    def __enter__(self) -> _UnfilledWav:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, frames: int, **_: object) -> Float32:
        """Up to so many frames, (n, channels)."""
        width = self._head.format.frame_bytes
        data = self._file.read(frames * width)
        return np.asarray(self._head.format.frames(data[: len(data) // width * width]))


def read_file(path: str | Path, start: float = 0.0, end: float | None = None) -> Int16:
    """A whole clip as int16 at 16 kHz, mono, shape (n,). Raises like `FileSource`."""
    return FileSource(path, start, end).read()
