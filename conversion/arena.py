"""Where the activations of a graph lie in one piece of memory, planned before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Life:
    """A piece of memory that is needed for a while."""

    size: int
    """Bytes."""
    begin: int
    """Step that first writes it."""
    end: int
    """Step that last reads it."""


def place(lives: Mapping[int, Life], alignment: int) -> dict[int, int]:
    """An offset for each piece, so that what is needed at the same time does not overlap.

    Greedily by size (Pisarchyk and Lee 2020, arXiv 2001.03288), as TensorFlow Lite does.
    """
    offsets: dict[int, int] = {}
    for index in sorted(lives, key=lambda i: -lives[i].size):
        life, offset = lives[index], 0
        size = _aligned(life.size, alignment)
        for other in sorted(offsets, key=offsets.__getitem__):
            there, begin = lives[other], offsets[other]
            together = there.begin <= life.end and life.begin <= there.end
            if together and begin < offset + size:
                offset = max(offset, begin + _aligned(there.size, alignment))
        offsets[index] = offset
    return offsets


def extent(lives: Mapping[int, Life], offsets: Mapping[int, int], alignment: int) -> int:
    """Bytes from the first to the last that are placed."""
    ends = (offsets[index] + _aligned(life.size, alignment) for index, life in lives.items())
    return max(ends, default=0)


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
