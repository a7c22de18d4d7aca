"""What engines share that hear an utterance at once: when it is over, or again as it goes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from time import monotonic
from typing import ClassVar

import numpy as np

from edge_runtime.errors import TextError
from edge_runtime.events import Word
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.text import Transcript

_EVERY = 1.0  # seconds of speech after which a running utterance is heard again, at the earliest
_REST = 3.0  # and so many times as long as hearing it took
_MARKS = ".,!?;:-…\"“”' "  # around words
_CURLED = "\u2019"  # apostrophe


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


class RehearingSource(PieceSource):
    """A PieceSource with partial words: a running utterance is heard again from its beginning.

    At most once in a second of speech, and only after three times the time that the last hearing
    took: partial words cost a third of a core at most, however slow it is, and a hearing a second
    where it is fast.
    """

    def __init__(self) -> None:
        super().__init__()
        self._took = 0.0
        self._fed = self._due = 0
        self._said: tuple[Word, ...] = ()

    def begin(self, t: float) -> None:
        """See TextSource."""
        super().begin(t)
        self._fed, self._due, self._said = 0, self._pause(), ()

    def feed(self, samples: Int16) -> Transcript | None:
        """See TextSource."""
        super().feed(samples)
        assert self._pieces is not None
        self._fed += samples.size
        if self._fed < self._due:
            return None
        began = monotonic()
        words = self._words_so_far(np.concatenate(self._pieces), self._start)
        self._took = monotonic() - began
        self._due = self._fed + self._pause()
        if words == self._said:
            return None
        self._said = words
        return Transcript(words, False, self._start, self.name)

    def end(self) -> Transcript:
        """See TextSource."""
        began = monotonic()
        found = super().end()
        # Else a hearing that was held up once, for minutes perhaps, would be the last of its kind.
        self._took = monotonic() - began
        return found

    def _pause(self) -> int:
        """Samples until the next hearing."""
        return round(max(_EVERY, _REST * self._took) * SAMPLE_RATE)

    @abstractmethod
    def _words_so_far(self, samples: Int16, start: float) -> tuple[Word, ...]:
        """As `_words`, of an utterance that goes on: it may be less exact, and should be quick."""


def spoken(text: str) -> str:
    """A word as Whisper writes it, as text: without marks; [MUSIC] and (laughs) are none."""
    text = text.strip().replace(_CURLED, "'")
    return "" if text[:1] in tuple("[(*♪") else text.strip(_MARKS).lower()
