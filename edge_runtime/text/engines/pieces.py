"""What engines share that hear an utterance at once, when it is over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from edge_runtime.errors import TextError
from edge_runtime.events import Word
from edge_runtime.pcm import Int16
from edge_runtime.text import Transcript


class PieceSource(ABC):
    """A TextSource that collects the samples of an utterance and hears them at its end."""

    name: ClassVar[str] = ""
    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._pieces: list[Int16] | None = None
        self._start = 0.0

    def restart(self) -> None:
        """See TextSource."""
        self._pieces = None

    def begin(self, t: float) -> None:
        """See TextSource."""
        self._start, self._pieces = t, []

    def feed(self, samples: Int16) -> Transcript | None:
        """See TextSource; nothing is said before the end."""
        if self._pieces is None:
            raise TextError(f"{self.name}: samples before an utterance began")
        self._pieces.append(samples)
        return None

    def end(self) -> Transcript:
        """See TextSource."""
        if self._pieces is None:
            raise TextError(f"{self.name}: an utterance ended that had not begun")
        samples = np.concatenate([np.zeros(0, np.int16), *self._pieces])
        self._pieces = None
        words = self._words(samples, self._start) if samples.size else ()
        return Transcript(words, True, self._start, self.name)

    def close(self) -> None:
        """See TextSource."""
        self._pieces = None

    @abstractmethod
    def _words(self, samples: Int16, start: float) -> tuple[Word, ...]:
        """What is heard in `samples`, shape (n,), n > 0, of an utterance from second `start`."""
