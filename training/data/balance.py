"""Clips by corpus and class: what weighs them, and whether there are any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from training.corpora import Utterance
from training.errors import TrainingError

Indices = npt.NDArray[np.int64]


def cells(utterances: Sequence[Utterance], truth: Indices) -> Iterator[tuple[int, Indices]]:
    """Each class of each corpus that occurs, and where its clips are.

    `truth` is the class of each, (n,); `NO_INDEX` is one of its own, of sounds that say nothing.
    """
    corpora = np.array([u.corpus for u in utterances])
    for corpus in np.unique(corpora):
        for label in np.unique(truth[corpora == corpus]):
            yield int(label), np.flatnonzero((corpora == corpus) & (truth == label))


def check_every_class(truth: Indices, labels: Sequence[str], what: str) -> None:
    """Raise TrainingError, that `what` needs it, for the first class without a clip."""
    missing = [label for place, label in enumerate(labels) if not (truth == place).any()]
    if missing:
        raise TrainingError(f"{what} needs clips of every class; no {missing[0]}")
