"""Standard input, or anything else that can only be read once: raw samples, or a file in a pipe.

Raw samples are heard as they come, and so are WAV, AIFF, AU and CAF of plain samples, MP3, OGG and
FLAC, whether their head says how long they are or not. What libsndfile reads beside these is heard
when the pipe has ended: its decoder wants to go back and forth.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from edge_runtime.audio import Block
from edge_runtime.audio.container import (
    HEAD,
    ffmpeg_command,
    foreign_kind_of,
    kind_of,
    may_be_frames,
    no_audio_of,
)
from edge_runtime.audio.file import FileSource
from edge_runtime.audio.mono import Mono
from edge_runtime.audio.plain import PlainHead, plain_head
from edge_runtime.audio.raw import RawFormat, read_some
from edge_runtime.errors import AudioError
from edge_runtime.pcm import Float32

_SNIFFED = 32  # bytes that tell most containers from raw samples
_IN_MEMORY = 16 << 20  # bytes of a piped container; more goes to a temporary file
_READ_BYTES = 1 << 16


class PipeSource:
    """Samples from a pipe.

    Parameters
    ----------
    stream : what to read, as it was opened, closed at its end; None for standard input.
    raw : what the bytes are where they are in no container; None for the default of `RawFormat`.
        Given, a container is refused: it says its own.
    name : what to call it in messages.

    Raises AudioError, also while it is read: for a person's terminal, for what cannot be read, and
    for what is no audio.
    """

    def __init__(
        self,
        stream: BinaryIO | None = None,
        raw: RawFormat | None = None,
        name: str = "standard input",
    ) -> None:
        self.name = name
        self.warnings: list[str] = []
        self._raw = raw
        if stream is None and sys.stdin is None:
            raise AudioError("standard input is closed; pipe audio into it")
        self._owned = stream is not None
        self._file = stream or sys.stdin.buffer
        self._seekable = _is_file(self._file)
        self._stream = _Replayed(self._file, name)
        if self._file.isatty():
            raise AudioError(
                f"{name} is a terminal; pipe audio into it: "
                "arecord -f S16_LE -r 16000 -c 1 -t raw | edge-emotion run --stdin"
            )

    def blocks(self) -> Iterator[Block]:
        """Blocks as soon as they arrive. A pipe waits: nothing is lost in it."""
        try:
            yield from self._blocks()
        finally:
            self.close()

    def close(self) -> None:
        """Close what was opened for it; standard input stays open."""
        if self._owned:
            self._file.close()

    def _blocks(self) -> Iterator[Block]:
        kind = self._kind()
        if kind is None:
            yield from self._listen(self._raw or RawFormat())
        elif self._seekable:
            # A file by redirection can be read back and forth.
            yield from self._source(self._file)
        elif kind == "MP3":
            yield from self._mpeg()
        else:
            yield from self._contained(kind)

    def _kind(self) -> str | None:
        """The container, None for raw samples; what is neither is refused."""
        head = self._stream.peek(_SNIFFED)
        if may_be_frames(head):
            head = self._stream.peek(HEAD)
        if foreign := foreign_kind_of(head):
            raise AudioError(
                f"{self.name} carries {foreign}, which is not read here; convert it: "
                f"{ffmpeg_command('FILE')}"
            )
        kind = kind_of(head)
        if kind is None and (what := no_audio_of(head)):
            raise AudioError(f"{self.name} carries no audio: it is {what}")
        if kind and self._raw:
            raise AudioError(
                f"{self.name} carries {kind}, which says its own rate, format and channels; leave "
                "out --rate, --format and --channels"
            )
        return kind

    def _listen(self, raw: RawFormat, head: PlainHead | None = None) -> Iterator[Block]:
        """Plain samples, up to where `head` says they end."""
        mono = Mono(self.name, raw.rate, self.warnings)
        samples = _Limited(self._stream, head.size if head else None)
        yield from mono.blocks(raw.pieces(samples.read1, self.warnings, self.name))
        self._tell_missing((samples.left or 0) // raw.frame_bytes, raw.rate)

    def _contained(self, kind: str) -> Iterator[Block]:
        taken: list[bytes] = []

        def take(size: int) -> bytes:
            taken.append(self._stream.take(size))
            return taken[-1]

        plain = plain_head(take)
        if plain is not None:
            yield from self._listen(plain.format, plain.of_pipe())
            return
        self._stream.put_back(b"".join(taken))
        from edge_runtime.audio import live

        if kind not in live.KINDS:
            yield from self._spooled()
            return
        decoder = live.LiveDecoder(self.name, kind, self._stream.read1)
        mono = Mono(self.name, decoder.rate, self.warnings)
        counted = _Counted(decoder.pieces())
        yield from mono.blocks(counted)
        if decoder.damage:
            self.warnings.append(decoder.damage)
        elif decoder.promised is not None:
            self._tell_missing(decoder.promised - counted.frames, decoder.rate)

    def _mpeg(self) -> Iterator[Block]:
        from edge_runtime.audio.mpeg import Mpeg

        mpeg = Mpeg(self.name, self._stream.read1, self.warnings)
        mono = Mono(self.name, mpeg.rate, self.warnings)
        counted = _Counted(mpeg.pieces())
        yield from mono.blocks(counted)
        if mpeg.promised is not None:
            self._tell_missing(mpeg.promised - counted.frames, mpeg.rate)

    def _tell_missing(self, frames: int, rate: int) -> None:
        if frames > 0:
            self.warnings.append(
                f"{self.name} ended {frames / rate:.2f} s before its header says: it is truncated"
            )

    def _spooled(self) -> Iterator[Block]:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as held:
            try:
                while more := self._stream.read1(_READ_BYTES):
                    held.write(more)
            except OSError as error:
                raise AudioError(
                    f"{self.name} cannot be kept until it ends, in {tempfile.gettempdir()}: "
                    f"{error.strerror}"
                ) from None
            yield from self._source(cast(BinaryIO, held))

    def _source(self, stream: BinaryIO) -> Iterator[Block]:
        file = FileSource(Path(self.name), stream=stream)
        file.warnings[:0] = self.warnings
        self.warnings = file.warnings
        yield from file.blocks()


class _Replayed:
    """A stream whose beginning can be looked at before it is read."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._begun = b""

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, waiting for them; fewer where the stream ends."""
        while len(self._begun) < size and (more := self._next(size - len(self._begun))):
            self._begun += more
        return self._begun[:size]

    def take(self, size: int) -> bytes:
        """The same, and read."""
        data = self.peek(size)
        self._begun = self._begun[len(data) :]
        return data

    def read1(self, size: int) -> bytes:
        """What has arrived, at most `size` bytes; none at the end."""
        data, self._begun = self._begun[:size], self._begun[size:]
        return data or self._next(size)

    def put_back(self, data: bytes) -> None:
        """Let `data` be read next."""
        self._begun = data + self._begun

    def _next(self, size: int) -> bytes:
        try:
            return read_some(self._file, size)
        except OSError as error:
            raise AudioError(f"{self._name} cannot be read: {error.strerror or error}") from None


class _Limited:
    """A stream up to a number of bytes; None for its end."""

    def __init__(self, stream: _Replayed, left: int | None) -> None:
        self._stream = stream
        self.left = left

    def read1(self, size: int) -> bytes:
        """What has arrived, at most `size` bytes; none at the end."""
        data = self._stream.read1(size if self.left is None else min(size, self.left))
        if self.left is not None:
            self.left -= len(data)
        return data


class _Counted:
    """Pieces, and how many frames they were."""

    def __init__(self, pieces: Iterator[Float32]) -> None:
        self._pieces = pieces
        self.frames = 0

    def __iter__(self) -> Iterator[Float32]:
        for piece in self._pieces:
            self.frames += len(piece)
            yield piece


def _is_file(stream: BinaryIO) -> bool:
    """Whether it is a file on a disk, at its beginning."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode) and stream.tell() == 0
    except (OSError, ValueError):
        return False
