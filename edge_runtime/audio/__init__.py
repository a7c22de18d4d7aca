"""Audio sources: each yields int16 blocks at 16 kHz, mono, and counts what it lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from edge_runtime.pcm import SAMPLE_RATE, Int16

BLOCK_SECONDS = 0.1  # audio handed over at a time
BLOCK = round(BLOCK_SECONDS * SAMPLE_RATE)  # the same in samples


class AudioSource(Protocol):
    """Where samples come from."""

    name: str
    """What to call it in messages."""
    warnings: list[str]
    """What was survived and should be told: truncation, overflow."""

    def blocks(self) -> Iterator[Int16]:
        """Blocks of int16 samples, shape (n,), until the source ends. Raises AudioError."""
        ...

    def take_dropped(self) -> int:
        """Samples lost since this was last asked."""
        ...
