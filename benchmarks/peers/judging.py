"""What all peers share: how they are asked, and how what they say over folds becomes figures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.errors import BenchmarkError
from edge_runtime.pcm import Int16
from training.corpora import Utterance, class_indices
from training.data.folds import Fold, check_classes
from training.evaluate.metrics import Metrics, measure

log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]

Side = tuple[Indices, Indices]
"""Utterances that train and that test, (n,) each."""

Learn = Callable[[list[Side], Indices, int], Iterable[Indices]]
"""From folds, the class of each utterance and the number of classes to what is predicted for the
test side of each fold in turn."""


@dataclass(frozen=True)
class Judged:
    """A peer's accuracy over the folds of some corpora."""

    metrics: dict[str, Metrics]
    """Corpus to accuracy over its clips of all test folds together."""
    fold_ua: dict[str, list[float]]
    """Corpus to the UA of each fold that tests it, 0 to 1, over the classes that it has there."""
    model_bytes: int = 0
    """The largest of the folds' classifiers, where it comes beside the peer's own files."""
    note: str = ""
    """What a reader should know of how it learned, one phrase."""


@dataclass(frozen=True)
class Cost:
    """What a peer takes on a device."""

    run: Callable[[Int16], object]
    """What is timed: a clip, int16, 16 kHz, (n,), in; one thread."""
    file_bytes: int
    """Its own files: native library, settings, weights."""
    seconds: float | None = None
    """How much of a clip it hears at most; None: all of it."""
    parameters: int | None = None
    """What a network trains; None for features that are given."""


class Peer(Protocol):
    """What people use beside ours."""

    @property
    def key(self) -> str:
        """What the command line calls it."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    @property
    def package(self) -> str:
        """The module that it needs."""

    @property
    def install(self) -> str:
        """How to get that."""

    @property
    def protocol(self) -> str:
        """How it learns, one phrase."""

    def judge(
        self,
        utterances: Sequence[Utterance],
        plan: Sequence[Fold],
        jobs: int | None,
        epochs: int | None,
    ) -> Judged:
        """Train on the training side of each fold, judge on the test side, by corpus.

        `jobs` are processes at a time, by default one a core; `epochs` are of networks.
        """

    def cost(self, classes: int) -> Cost:
        """What it takes to tell `classes`."""


def over_folds(
    name: str,
    utterances: Sequence[Utterance],
    plan: Sequence[Fold],
    usable: npt.NDArray[np.bool_],
    learn: Learn,
) -> Judged:
    """Accuracy by corpus of what `learn` says of the test sides of `plan`.

    Parameters
    ----------
    name : the peer's, for messages.
    utterances : of one corpus or several.
    plan : folds, indices into them.
    usable : which of them have features; the others are in neither side, and logged.
    learn : what trains and predicts.

    Raises TrainingError when there is one class only, and BenchmarkError when no clip of a corpus
    has features, or those of a training side are of one class.
    """
    labels = check_classes(utterances)
    names = np.array([u.corpus for u in utterances], object)
    corpora = list(dict.fromkeys(names.tolist()))
    for corpus in corpora:
        if not usable[names == corpus].any():
            raise BenchmarkError(f"{name}: no clip of {corpus} has features")
    if not usable.all():
        log.warning("%s: %d clips have no features", name, (~usable).sum())
    truth: Indices = np.array(class_indices(utterances, labels))
    sides = [(train, test) for train, test in (_with(usable, fold) for fold in plan) if len(test)]
    for train, test in sides:
        if len(set(truth[train].tolist())) < 2:
            raise BenchmarkError(
                f"{name}: the clips that train for those of {names[test[0]]} have features of "
                "one class only"
            )
    predicted = np.full(len(truth), -1)
    fold_ua: dict[str, list[float]] = {corpus: [] for corpus in corpora}
    for (_, test), guess in zip(sides, learn(sides, truth, len(labels)), strict=True):
        predicted[test] = guess
        for corpus in dict.fromkeys(names[test].tolist()):
            part = names[test] == corpus
            fold_ua[corpus].append(measure(truth[test][part], guess[part], labels).ua)
    speakers = np.array([u.speaker for u in utterances], object)
    metrics = {}
    for corpus in corpora:
        own = usable & (names == corpus)
        metrics[corpus] = measure(truth[own], predicted[own], labels, list(speakers[own]))
    return Judged(metrics, fold_ua)


def _with(usable: npt.NDArray[np.bool_], fold: Fold) -> Side:
    """Training and test side of a fold without the clips that have no features."""
    train, test = (np.array(side, np.int64) for side in (fold.train, fold.test))
    return train[usable[train]], test[usable[test]]
