"""Standard input, or anything else that can only be read once: raw samples, or a file in a pipe.

A WAV of plain samples is heard as it comes, its length in the header or not, and so are raw
samples. Other containers (FLAC, OGG, MP3, AIFF...) are heard when the pipe has ended: their decoder
wants to go back and forth.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from edge_runtime.audio import Block
from edge_runtime.audio.container import (
    HEAD,
    foreign_kind_of,
    kind_of,
    wav_head,
)
from edge_runtime.audio.file import FileSource
from edge_runtime.audio.mono import Mono
from edge_runtime.audio.raw import RawFormat, read_some
from edge_runtime.errors import AudioError

_SNIFFED = 16  # bytes that tell a container from raw samples
_IN_MEMORY = 16 << 20  # bytes of a piped container; more goes to a temporary file


class PipeSource:
    """Samples from a pipe.

    Parameters
    ----------
    stream : what to read; None for standard input.
    raw : what the bytes are where they are in no container; None for the default of `RawFormat`.
        Given, nothing is guessed.

    Raises AudioError when a person's terminal is piped in, or a container that cannot be read.
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
        self._stream = stream or sys.stdin.buffer
        if self._stream.isatty():
            raise AudioError(
                "standard input is a terminal; pipe audio into it: "
                "arecord -f S16_LE -r 16000 -c 1 -t raw | edge-emotion run --stdin"
            )

    def blocks(self) -> Iterator[Block]:
        """Blocks as soon as they arrive. A pipe waits: nothing is lost in it."""
        if self._raw is not None:
            yield from self._listen(self._raw, b"")
            return
        head = self._head(_SNIFFED)
        foreign = foreign_kind_of(head)
        if foreign:
            raise AudioError(
                f"{self.name} carries {foreign}, which is not read here; convert it: "
                "ffmpeg -i FILE -f wav - | edge-emotion run -"
            )
        kind = kind_of(head)
        if kind is None:
            yield from self._listen(RawFormat(), head)
            return
        if kind == "WAV":
            head += self._head(HEAD - len(head))
            wav = wav_head(head)
            if wav is not None:
                yield from self._listen(wav.format, head[wav.offset :], wav.size)
                return
        yield from self._spooled(head, kind)

    def _head(self, size: int) -> bytes:
        """The next bytes; fewer where the stream ends."""
        data = b""
        while len(data) < size and (more := read_some(self._stream, size - len(data))):
            data += more
        return data

    def _listen(self, raw: RawFormat, begun: bytes, size: int | None = None) -> Iterator[Block]:
        stream = cast(BinaryIO, _Joined(begun, self._stream, size))
        mono = Mono(self.name, raw.rate, self.warnings)
        yield from mono.blocks(raw.pieces(stream, self.warnings, self.name))

    def _spooled(self, head: bytes, kind: str) -> Iterator[Block]:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as held:
            held.write(head)
            while more := read_some(self._stream, 1 << 16):
                held.write(more)
            held.seek(0)
            file = FileSource(Path(self.name), stream=cast(BinaryIO, held))
            self.warnings = file.warnings
            yield from file.blocks()


class _Joined(io.RawIOBase):
    """Bytes that were read already, then the rest of a stream, up to `size` bytes in all."""

    def __init__(self, begun: bytes, stream: BinaryIO, size: int | None) -> None:
        self._begun, self._stream = begun, stream
        self._left = size

    def read1(self, size: int) -> bytes:
        """What has arrived, at most `size` bytes."""
        size = size if self._left is None else min(size, self._left)
        data, self._begun = self._begun[:size], self._begun[size:]
        if not data and size:
            data = read_some(self._stream, size)
        if self._left is not None:
            self._left -= len(data)
        return data
