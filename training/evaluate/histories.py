"""Which earlier utterances of a speaker a device may have heard: drawn from a corpus, by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from training.corpora import NEUTRAL, Utterance

LONG = 20  # utterances of a long history
FOREIGN = 15  # utterances by somebody else, before the speaker changes
_SHARE = 0.7  # of a long history that is mostly plain

Indices = npt.NDArray[np.int64]


class Speakers:
    """The utterances of each speaker, and draws from them.

    Parameters
    ----------
    utterances : all that may be drawn; those without a known speaker have no history.
    labels : the classes.
    seed : of the draws, which depend on their order.
    """

    def __init__(
        self, utterances: Sequence[Utterance], labels: Sequence[str], seed: int = 0
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._labels = list(labels)
        self._who = [u.speaker for u in utterances]
        self._corpus = [u.corpus for u in utterances]
        places: defaultdict[tuple[str | None, str], list[int]] = defaultdict(list)
        for place, utterance in enumerate(utterances):
            if utterance.speaker is not None:
                places[utterance.speaker, utterance.label].append(place)
        self._places = {key: np.array(found) for key, found in places.items()}
        self._by_corpus: defaultdict[str, list[str]] = defaultdict(list)
        for who, corpus in sorted({(u.speaker, u.corpus) for u in utterances if u.speaker}):
            self._by_corpus[corpus].append(str(who))

    def own(self, place: int, count: int, label: str | None = None) -> list[int]:
        """At most `count` further utterances of who speaks there, of one class or of any."""
        found = self._of(self._who[place], label)
        found = found[found != place]
        return self._some(found, count)

    def balanced(self, place: int) -> list[int]:
        """A long history with as much of each class."""
        share = LONG // len(self._labels)
        return self._mixed([self.own(place, share, label) for label in self._labels])

    def mostly_plain(self, place: int) -> list[int]:
        """A long history, most of it of the class `NEUTRAL`."""
        others = [label for label in self._labels if label != NEUTRAL]
        plain = round(_SHARE * LONG)
        each = (LONG - plain) // max(1, len(others))
        return self._mixed(
            [self.own(place, plain, NEUTRAL), *(self.own(place, each, k) for k in others)]
        )

    def other(self, place: int, count: int, label: str | None = None) -> list[int]:
        """Utterances of somebody else, of the corpus where anybody else speaks in it."""
        who = self._who[place]
        near = [name for name in self._by_corpus[self._corpus[place]] if name != who]
        others = near or [n for names in self._by_corpus.values() for n in names if n != who]
        if not others:
            return []
        return self._some(self._of(others[self._rng.integers(len(others))], label), count)

    def turns(self, place: int) -> list[int]:
        """A long history of two speakers who take turns; the other one has just spoken."""
        ours, theirs = self.own(place, LONG // 2), self.other(place, LONG // 2)
        return [turn for pair in zip(ours, theirs, strict=False) for turn in pair]

    def after(self, place: int, own: int) -> list[int]:
        """Utterances of somebody else, then so many of who speaks there."""
        theirs = self.other(place, FOREIGN)
        return theirs + self.own(place, own) if theirs else []

    def _of(self, who: str | None, label: str | None) -> Indices:
        labels = self._labels if label is None else [label]
        found = [self._places[who, k] for k in labels if (who, k) in self._places]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _some(self, found: Indices, count: int) -> list[int]:
        return [int(i) for i in self._rng.permutation(found)[:count]]

    def _mixed(self, parts: Sequence[list[int]]) -> list[int]:
        joined = [place for part in parts for place in part]
        return [joined[i] for i in self._rng.permutation(len(joined))]


Draw = Callable[[Speakers, int], list[int]]

TRAINED: dict[str, Draw] = {
    "1 of any": lambda speakers, i: speakers.own(i, 1),
    "2 neutral": lambda speakers, i: speakers.own(i, 2, NEUTRAL),
    "3 of any": lambda speakers, i: speakers.own(i, 3),
    "5 of any": lambda speakers, i: speakers.own(i, 5),
    "10 of any": lambda speakers, i: speakers.own(i, 10),
    "20 balanced": lambda speakers, i: speakers.balanced(i),
    "20, 70 % neutral": lambda speakers, i: speakers.mostly_plain(i),
    "20 neutral": lambda speakers, i: speakers.own(i, LONG, NEUTRAL),
}
"""The histories that a reference is fitted on, in equal parts."""
CHANGES: dict[str, Draw] = {
    "two speakers in turn": lambda speakers, i: speakers.turns(i),
    f"{FOREIGN} of another": lambda speakers, i: speakers.after(i, 0),
    f"{FOREIGN} of another, 2 own": lambda speakers, i: speakers.after(i, 2),
    f"{FOREIGN} of another, 5 own": lambda speakers, i: speakers.after(i, 5),
}
"""Histories in which somebody else spoke."""
ENROLLED = "2 neutral"
"""The one that is like a profile: it neither fades nor is it doubted while it is learned."""
