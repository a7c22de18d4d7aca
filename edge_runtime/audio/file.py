"""Audio files of any format libsndfile reads, at any rate, as a stream of constant memory."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.audio import BLOCK_SECONDS, Block
from edge_runtime.errors import AudioError, MissingPackageError
from edge_runtime.pcm import SAMPLE_RATE, Float32, Int16, to_pcm


class FileSource:
    """One audio file, or the part of it between `start` and `end` seconds.

    Channels are averaged; other rates are converted with soxr. Raises AudioError, in one line, for
    a file that is missing, empty, not audio, or holds no samples; MissingPackageError without
    soundfile or soxr.
    """

    def __init__(self, path: str | Path, start: float = 0.0, end: float | None = None) -> None:
        self.path = Path(path)
        # Linux allows any bytes in a file name, JSON and terminals do not.
        self.name = os.fsencode(path).decode("utf-8", "replace")
        self.warnings: list[str] = []
        self._invalid = 0
        self._start, self._end = start, end
        self._file = self._open()

    @property
    def seconds(self) -> float:
        """Length of what will be read, s."""
        last = self._file.frames if self._end is None else self._frame(self._end)
        frames = min(last, self._file.frames) - self._frame(self._start)
        return float(max(0, frames) / self.rate)

    @property
    def rate(self) -> int:
        """Samples a second in the file."""
        return int(self._file.samplerate)

    def blocks(self) -> Iterator[Block]:
        """Blocks of 0.1 s; nothing is lost between them."""
        resample = self._resampler()
        with self._file as file:
            file.seek(min(self._frame(self._start), file.frames))
            left = round(self.seconds * self.rate)
            size = max(1, round(BLOCK_SECONDS * self.rate))
            while left > 0:
                block = self._read(file, min(size, left))
                if len(block) == 0:
                    seconds = left / self.rate
                    self.warnings.append(f"{self.name}: the last {seconds:.2f} s cannot be read")
                    break
                left -= len(block)
                yield Block(self._convert(resample, block.mean(axis=1), left <= 0))
        if self._invalid:
            self.warnings.append(
                f"{self.name}: {self._invalid} samples were NaN or infinite and taken for silence"
            )

    def read(self) -> Int16:
        """All of it at once, int16 at 16 kHz, shape (n,); empty where start is beyond the end."""
        blocks = [block.samples for block in self.blocks()]
        return np.concatenate(blocks) if blocks else np.empty(0, np.int16)

    def _open(self) -> Any:
        try:
            import soundfile
        except ImportError:
            raise MissingPackageError("reading audio files", "soundfile", "files") from None
        if self.path.is_dir():
            raise AudioError(f"{self.name} is a folder; name an audio file in it")
        if not self.path.exists():
            raise AudioError(f"no such file: {self.name}")
        if self.path.stat().st_size == 0:
            raise AudioError(f"{self.name} is empty")
        try:
            file = soundfile.SoundFile(os.fsencode(self.path))  # as bytes: any name is possible
        except soundfile.LibsndfileError as error:
            reason = str(error.error_string).rstrip(".")
            raise AudioError(f"{self.name} is not audio that can be read: {reason}") from None
        if file.frames == 0:
            file.close()
            raise AudioError(f"{self.name} holds no samples")
        # Else soundfile seeks after every block, and MP3 frames depend on those before them.
        file.seekable = lambda: False
        missing = _missing_bytes(self.path)
        if missing:
            self.warnings.append(
                f"{self.name} is truncated: {missing} bytes fewer than its header promises"
            )
        return file

    def _resampler(self) -> Any:
        if self.rate == SAMPLE_RATE:
            return lambda block, last: block
        try:
            import soxr
        except ImportError:
            raise MissingPackageError(f"audio at {self.rate} Hz", "soxr", "files") from None
        stream = soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, dtype="float32")
        return lambda block, last: stream.resample_chunk(block, last=last)

    def _read(self, file: Any, frames: int) -> Float32:
        import soundfile

        try:
            return np.asarray(file.read(frames, dtype="float32", always_2d=True))
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{self.name} is damaged: {error.error_string}") from None

    def _convert(self, resample: Any, samples: Float32, last: bool) -> Int16:
        invalid = ~np.isfinite(samples)
        if invalid.any():
            # Before resampling, which would spread them.
            self._invalid += int(invalid.sum())
            samples = np.where(invalid, np.float32(0), samples)
        return to_pcm(resample(samples, last))[0]

    def _frame(self, second: float) -> int:
        return round(second * self.rate)


def read_file(path: str | Path, start: float = 0.0, end: float | None = None) -> Int16:
    """A whole clip as int16 at 16 kHz, mono, shape (n,). Raises like `FileSource`."""
    return FileSource(path, start, end).read()


def _missing_bytes(path: Path) -> int:
    """Bytes by which a RIFF file is shorter than its header says; 0 for other formats.

    Programs that write to a pipe put 0 or the largest number there: that promises nothing.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if len(head) < 12 or head[:4] != b"RIFF":
        return 0
    (promised,) = struct.unpack("<I", head[4:8])
    if promised in (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000):
        return 0
    return max(0, int(promised) + 8 - path.stat().st_size)
