"""The last seconds of a stream, so that an utterance can be cut out when it is over."""

from __future__ import annotations

from collections import deque

import numpy as np

from edge_runtime.pcm import SAMPLE_RATE, Int16

SECONDS = 60.0
"""As much as is held of a stream: 1.9 MB, four times the longest utterance of a shipped model."""
MARGIN_SECONDS = 0.3
"""Heard before and after an utterance, for whoever listens to it."""


class Recent:
    """Samples by their place in the stream; the oldest go."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._most = round(seconds * SAMPLE_RATE)
        self._blocks: deque[tuple[int, Int16]] = deque()
        self._held = 0

    def take(self, position: int, samples: Int16) -> None:
        """Copy samples (n,), the first of which is number `position` of the stream."""
        if not samples.size:
            return
        self._blocks.append((position, samples.copy()))
        self._held += samples.size
        while self._held - self._blocks[0][1].size >= self._most:
            self._held -= self._blocks.popleft()[1].size

    def clear(self) -> None:
        """Forget all: another stream begins."""
        self._blocks.clear()
        self._held = 0

    def cut(self, start: float, end: float) -> tuple[float, Int16]:
        """The second at which it begins, and samples (n,) of what lies between two seconds.

        `MARGIN_SECONDS` on both sides are with it, as far as they are held and nothing was lost
        there. Of a longer stretch than is held the end is there; of none that is, nothing.
        """
        first = round((start - MARGIN_SECONDS) * SAMPLE_RATE)
        last = round((end + MARGIN_SECONDS) * SAMPLE_RATE)
        pieces: list[Int16] = []
        begin = at = 0
        for position, block in self._blocks:
            piece = block[max(0, first - position) : max(0, last - position)]
            if not piece.size:
                continue
            place = max(first, position)
            if pieces and place != at:  # something was lost here
                if place > round(start * SAMPLE_RATE):
                    break
                pieces = []
            begin = begin if pieces else place
            pieces.append(piece)
            at = place + piece.size
        return begin / SAMPLE_RATE, np.concatenate(pieces) if pieces else np.empty(0, np.int16)
