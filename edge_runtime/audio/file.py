"""Audio files of any format libsndfile reads, at any rate, as a stream of constant memory."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edge_runtime.audio import BLOCK_SECONDS, Block
from edge_runtime.audio.container import HEAD, ffmpeg_advice, foreign_kind_of, kind_of, no_audio_of
from edge_runtime.audio.decoders import Decoder, MpegDecoder, PlainDecoder, SndfileDecoder
from edge_runtime.audio.mono import Mono
from edge_runtime.audio.mpeg import KIND as MPEG
from edge_runtime.audio.plain import plain_head
from edge_runtime.errors import AudioError
from edge_runtime.pcm import Float32, Int16

READER_VERSION = 2
"""Raise when some file's samples change: caches of what was computed from them go by it."""

log = logging.getLogger(__name__)


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
        self.path = Path(path)
        # Linux allows any bytes in a file name, JSON and terminals do not.
        self.name = os.fsencode(path).decode("utf-8", "replace")
        self.warnings: list[str] = []
        self._stream = stream  # the same from an open file, named `path` in messages
        self._start, self._end = start, end
        self._decoder = self._open()
        self._mono = Mono(self.name, self.rate, self.warnings)

    @property
    def seconds(self) -> float:
        """Length of what will be read, s; counted by decoding where no header says it."""
        known = self._decoder.promised
        if known is None:
            counted = self._open()
            with self._reading():
                known = counted.count()
            if self._stream is None:
                counted.close()
            else:
                self._decoder = self._open()  # reads the same file, from its beginning again
        last = known if self._end is None else min(known, self._frame(self._end))
        return float(max(0, last - self._frame(self._start)) / self.rate)

    @property
    def rate(self) -> int:
        """Frames a second in the file, Hz."""
        return self._decoder.rate

    def blocks(self) -> Iterator[Block]:
        """Blocks of about 0.1 s; nothing is lost between them."""
        return self._mono.blocks(self._pieces())

    def read(self) -> Int16:
        """All of it at once, int16 at 16 kHz, shape (n,); empty where start is beyond the end."""
        blocks = [block.samples for block in self.blocks()]
        return np.concatenate(blocks) if blocks else np.empty(0, np.int16)

    def close(self) -> None:
        """Close the file; reading to the end of `blocks` does the same."""
        self._decoder.close()

    def _pieces(self) -> Iterator[Float32]:
        first = position = self._frame(self._start)
        last = None if self._end is None else self._frame(self._end)
        size = max(1, round(BLOCK_SECONDS * self.rate))
        try:
            with self._reading():
                for decoded in self._decoder.pieces(first):
                    wanted = decoded if last is None else decoded[: max(0, last - position)]
                    position += len(wanted)
                    for at in range(0, len(wanted), size):
                        yield wanted[at : at + size]
                    if last is not None and position >= last:
                        break
            self._tell_missing(position, first, last)
        finally:
            self.close()

    def _tell_missing(self, position: int, first: int, last: int | None) -> None:
        """Say what there should be behind the frame `position`, the last one that was read."""
        promised, damage = self._decoder.promised, self._decoder.damage
        missing = 0
        if promised is not None:
            missing = (promised if last is None else min(last, promised)) - max(position, first)
        lost = f"the last {missing / self.rate:.2f} s cannot be read" if missing > 0 else ""
        if damage:
            where = lost or f"nothing is read behind {position / self.rate:.2f} s"
            self.warnings.append(f"{damage}; {where}")
        elif lost:
            self.warnings.append(f"{self.name}: {lost}: it is truncated")

    def _open(self) -> Decoder:
        with self._reading():
            return self._decoder_of(self._read_head())

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What the system refuses in here is AudioError: a stick may be pulled out at any time."""
        try:
            yield
        except OSError as error:
            raise AudioError(f"{self.name} cannot be read: {error.strerror or error}") from None

    def _decoder_of(self, head: bytes) -> Decoder:
        if foreign := foreign_kind_of(head):
            raise AudioError(ffmpeg_advice(self.name, foreign))
        kind = kind_of(head)
        if kind == MPEG:
            return MpegDecoder(self.name, self._opened(), self.warnings)
        if kind is None and (what := no_audio_of(head)):
            raise AudioError(f"{self.name} is not audio that can be read: it is {what}")
        promised = None
        file = self._opened()
        plain = plain_head(file.read)
        if plain is not None:
            plain = plain.of_file(_size(file))
            if plain.size is None:
                return self._plain(PlainDecoder(file, plain))
            promised = plain.size // plain.format.frame_bytes
        if self._stream is None:
            file.close()
            return SndfileDecoder(self.name, os.fsencode(self.path), promised)
        file.seek(0)
        return SndfileDecoder(self.name, file, promised)

    def _plain(self, decoder: PlainDecoder) -> PlainDecoder:
        if decoder.promised == 0:
            raise AudioError(f"{self.name} holds no samples")
        return decoder

    def _opened(self) -> BinaryIO:
        """The file, at its beginning."""
        if self._stream is None:
            return self.path.open("rb")
        self._stream.seek(0)
        return self._stream

    def _read_head(self) -> bytes:
        try:
            if self._stream is None:
                self._refuse_unseekable()
            file = self._opened()
            head = file.read(HEAD)
            if self._stream is None:
                file.close()
        except FileNotFoundError:
            raise AudioError(f"no such file: {self.name}") from None
        except ValueError as error:  # a NUL in its name
            raise AudioError(f"{self.name} cannot be read: {error}") from None
        if not head:
            raise AudioError(f"{self.name} is empty")
        return head

    def _refuse_unseekable(self) -> None:
        """What can be read once, and may never end, is no clip."""
        mode = self.path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{self.name} is a folder; name an audio file in it")
        if not stat.S_ISREG(mode):
            raise AudioError(
                f"{self.name} is a pipe or a device, not a file; stream it: "
                f"edge-emotion run - < {self.name}"
            )

    def _frame(self, second: float) -> int:
        return round(second * self.rate)


def read_file(path: str | Path, start: float = 0.0, end: float | None = None) -> Int16:
    """A whole clip as int16 at 16 kHz, mono, shape (n,). Raises like `FileSource`.

    What was survived is logged as a warning.
    """
    source = FileSource(path, start, end)
    samples = source.read()
    for warning in source.warnings:
        log.warning("%s", warning)
    return samples


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)
