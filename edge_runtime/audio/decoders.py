"""What turns the bytes of a file or a pipe into frames: float, (n, channels), at its own rate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from edge_runtime.audio import BLOCK_SECONDS
from edge_runtime.audio.container import ffmpeg_command
from edge_runtime.audio.mpeg import Mpeg
from edge_runtime.audio.plain import PlainHead
from edge_runtime.errors import AudioError, MissingPackageError
from edge_runtime.pcm import Float32
from edge_runtime.system import native_stderr_silenced

_UNKNOWN_FRAMES = 1 << 48  # and more: libsndfile's word for a length that nobody wrote down
# Containers that count their samples, and codecs in which a number of bytes is one of samples.
_COUNTED = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "FLAC", "CAF", "AU"}
_PLAIN = {"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}


class Decoder(Protocol):
    """One recording, read once from some frame on."""

    rate: int
    """Frames a second, Hz."""
    promised: int | None
    """Frames that it says it has; None where it does not, or only guesses."""
    damage: str
    """What ended it before its end, after something was heard; empty where nothing did."""

    def pieces(self, start: int) -> Iterator[Float32]:
        """Frames from the one numbered `start` to the end, (n, channels) each.

        Raises AudioError where nothing at all can be decoded.
        """
        ...

    def count(self) -> int:
        """Frames there are, found by reading on to the end; nothing can be read afterwards."""
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...


class PlainDecoder:
    """Samples that lie plainly in a file, from the end of its head to the end of the file."""

    damage = ""

    def __init__(self, file: BinaryIO, head: PlainHead) -> None:
        self._file, self._head = file, head
        self.rate = head.format.rate
        size = file.seek(0, os.SEEK_END) - head.offset
        self._frames = max(0, size) // head.format.frame_bytes
        self.promised: int | None = self._frames

    def pieces(self, start: int) -> Iterator[Float32]:
        """Frames from `start` on."""
        width = self._head.format.frame_bytes
        self._file.seek(self._head.offset + min(start, self._frames) * width)
        size = self._head.format.block_bytes
        while data := self._file.read(size):
            yield self._head.format.frames(data[: len(data) // width * width])

    def count(self) -> int:
        """Frames there are."""
        return self._frames

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class MpegDecoder:
    """MP3 and MP2, which go on behind what is damaged."""

    damage = ""

    def __init__(self, name: str, file: BinaryIO, warnings: list[str]) -> None:
        _soundfile()
        self._file = file
        self._mpeg = Mpeg(name, file.read, warnings)
        self.rate = self._mpeg.rate
        self.promised = self._mpeg.promised

    def pieces(self, start: int) -> Iterator[Float32]:
        """Frames from `start` on."""
        return self._mpeg.pieces(start)

    def count(self) -> int:
        """Frames there are."""
        return self._mpeg.count()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class SndfileDecoder:
    """All that libsndfile reads.

    Parameters
    ----------
    name : what to call it in messages.
    source : a path, as bytes, for any is possible; a descriptor, or a file that is open. Neither
        of the latter is closed.
    promised : frames that the file's head promises, where that is known better.
    """

    def __init__(
        self,
        name: str,
        source: bytes | int | BinaryIO,
        promised: int | None = None,
    ) -> None:
        self._name = name
        self.damage = ""
        self._file = _opened(name, source, name if isinstance(source, bytes) else "FILE")
        self.rate = int(self._file.samplerate)
        self.promised = self._promised() if promised is None else promised
        self._exact = self._file.seekable() and (
            self._file.subtype in _PLAIN or self._file.format == "FLAC"
        )
        self._noisy = "MPEG" in self._file.subtype
        # Else soundfile seeks after every block, which some codecs cannot do at all.
        self._file.seekable = lambda: False

    def pieces(self, start: int) -> Iterator[Float32]:
        """Frames from `start` on, found by decoding those before where seeking is not exact."""
        position = 0
        if self._exact and 0 < start <= self._file.frames:
            position = int(self._file.seek(start))
        size = max(1, round(BLOCK_SECONDS * self.rate))
        heard = False
        while True:
            try:
                piece = self._read(size)
            except AudioError as error:
                if not heard:
                    raise
                self.damage = str(error)
                return
            if len(piece) == 0:
                return
            heard = True
            if position + len(piece) > start:
                yield piece[max(0, start - position) :]
            position += len(piece)

    def count(self) -> int:
        """Frames there are."""
        return sum(len(piece) for piece in self.pieces(0))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _promised(self) -> int | None:
        frames = int(self._file.frames)
        counted = self._file.format in _COUNTED and (
            self._file.subtype in _PLAIN or self._file.format == "FLAC"
        )
        return frames if counted and 0 < frames < _UNKNOWN_FRAMES else None

    def _read(self, frames: int) -> Float32:
        soundfile = _soundfile()
        try:
            if not self._noisy:
                return np.asarray(self._file.read(frames, dtype="float32", always_2d=True))
            with native_stderr_silenced():
                return np.asarray(self._file.read(frames, dtype="float32", always_2d=True))
        except soundfile.LibsndfileError as error:
            reason = str(error.error_string).rstrip(".") or "its data cannot be decoded"
            raise AudioError(f"{self._name} is damaged: {reason}") from None
        except (RuntimeError, ValueError, OSError) as error:
            raise AudioError(f"{self._name} is damaged: {error}") from None


def _opened(name: str, source: bytes | int | BinaryIO, path: str) -> Any:
    """What soundfile opens; `path` is what the user has to name to another program."""
    soundfile = _soundfile()
    try:
        file = soundfile.SoundFile(cast(Any, source), closefd=False)
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).rstrip(".") or "libsndfile does not know it"
        raise _unreadable(name, path, reason) from None
    except TypeError:
        raise AudioError(
            f"{name} has no header; say what it holds: "
            "edge-emotion run --rate HZ --format s16le --channels 1 FILE"
        ) from None
    except (RuntimeError, ValueError, OSError) as error:
        raise _unreadable(name, path, str(error)) from None
    if file.frames == 0:
        file.close()
        raise AudioError(f"{name} holds no samples")
    return file


def _unreadable(name: str, path: str, reason: str) -> AudioError:
    return AudioError(
        f"{name} is not audio that can be read: {reason}; if ffmpeg knows it: "
        f"{ffmpeg_command(path)}"
    )


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError:
        raise MissingPackageError("reading audio files", "soundfile", "files") from None
    return soundfile
