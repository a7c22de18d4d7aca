"""Raw PCM16 on standard input: 16 kHz, mono, little-endian, as `arecord -f S16_LE` writes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from edge_runtime.audio import BLOCK, Block
from edge_runtime.errors import AudioError


class StdinSource:
    """Samples from a pipe. Raises AudioError when a person's terminal or a WAV file is piped in."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self.name = "standard input"
        self.warnings: list[str] = []
        if stream is None and sys.stdin is None:
            raise AudioError("standard input is closed; pipe PCM into it")
        self._stream = stream or sys.stdin.buffer
        if self._stream.isatty():
            raise AudioError(
                "standard input is a terminal; pipe PCM into it: "
                "arecord -f S16_LE -r 16000 -c 1 -t raw | edge-emotion run --stdin"
            )

    def blocks(self) -> Iterator[Block]:
        """Blocks as soon as they arrive. A pipe waits: nothing is lost in it."""
        rest = b""
        first = True
        while data := _read_some(self._stream, 2 * BLOCK):
            data = rest + data
            if first and data[:4] in (b"RIFF", b"fLaC", b"OggS"):
                raise AudioError(
                    "standard input takes raw PCM16, not an audio file; "
                    "name the file instead: edge-emotion run FILE"
                )
            first = False
            even = len(data) // 2 * 2
            rest = data[even:]
            yield Block(np.frombuffer(data[:even], "<i2").astype(np.int16, copy=False))
        if rest:
            self.warnings.append("standard input ended in the middle of a sample")


def _read_some(stream: BinaryIO, size: int) -> bytes:
    """What has arrived, at most `size` bytes: a live stream must not wait for a full block."""
    reader = getattr(stream, "read1", stream.read)
    return bytes(reader(size))
