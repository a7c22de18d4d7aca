"""Accuracy of a fixed set of features with an RBF SVM: how a peer's features are judged.

Every peer is judged alike: features over the whole clip, each standardized by the training clips,
then scikit-learn's SVC with its defaults (C = 1, gamma = "scale") and balanced classes, trained
and tested on the folds of `training.data.folds`, within one corpus or over several at once
(`benchmarks.peers.rules`). Nothing is tuned, and nothing is learned from the test side of a fold
(standardizing each speaker by his own clips, which many papers do, would tell the SVM how he sounds
on average).

Within one corpus, of C in 0.3, 1, 3, 10, 100, C chosen by grouped cross-validation inside the
training speakers, and gamma of 0.5, 1 and 2 times "scale", these defaults alone give the figures
known from before (eGeMAPSv02 59.1 and 76.8, ComParE_2016 60.5 and 82.1 per cent UA on RAVDESS and
EMO-DB) within a point: 59.4, 76.8, 60.5, 82.4 as means of the folds' UA. Other choices move single
figures by up to two points, up and down. The UA over the clips of all folds together is another
figure wherever folds differ in size or lack a class, as in EMO-DB (79.4 and 84.1 there); it is the
one that cross-validation of ours reports, so both are shown.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.errors import BenchmarkError
from edge_runtime.pcm import Float32, Int16
from training.corpora import Utterance
from training.data.cache import parallel
from training.data.folds import Fold, check_classes
from training.evaluate.metrics import Metrics, measure

log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FeaturePeer:
    """What a peer's file gives: features of a clip, for the SVM."""

    key: str
    """What the command line calls it."""
    name: str
    """What it is called in tables."""
    package: str
    """The module that it needs."""
    install: str
    """How to get that."""
    extract: Callable[[Int16], object]
    """Features of one clip, int16, 16 kHz, (n,): what is timed."""
    extract_all: Callable[[Sequence[Utterance], int | None], list[Float32 | None]]
    """Features (values,) of each utterance, None where there are none; the number is of jobs."""
    file_bytes: Callable[[], int]
    """Bytes of the extractor's own files: native library, settings, weights."""


@dataclass(frozen=True)
class Judged:
    """A peer's accuracy over the folds of some corpora."""

    metrics: dict[str, Metrics]
    """Corpus to accuracy over its clips of all test folds together."""
    fold_ua: dict[str, list[float]]
    """Corpus to the UA of each fold that tests it, 0 to 1, over the classes that it has there."""
    svm_bytes: int
    """The largest of the folds' classifiers, pickled."""


def judge(
    peer: FeaturePeer, utterances: Sequence[Utterance], plan: Sequence[Fold], jobs: int | None
) -> Judged:
    """Train `peer` on the training side of each fold, judge it on the test side, by corpus.

    Parameters
    ----------
    peer : the features.
    utterances : of one corpus or several.
    plan : folds, indices into them. Clips without features are in neither side, and logged.
    jobs : processes at a time; by default one a core.

    Raises TrainingError when there is one class only, and BenchmarkError when no clip of a corpus
    has features, or those of a training side are of one class.
    """
    labels = check_classes(utterances)
    found = peer.extract_all(utterances, jobs)
    extracted = np.array([vector is not None for vector in found])
    names = np.array([u.corpus for u in utterances], object)
    corpora = list(dict.fromkeys(names.tolist()))
    for corpus in corpora:
        if not extracted[names == corpus].any():
            raise BenchmarkError(f"{peer.name}: no clip of {corpus} has features")
    if not extracted.all():
        log.warning("%s: %d clips have no features", peer.name, (~extracted).sum())
    width = next(len(vector) for vector in found if vector is not None)
    nothing = np.zeros(width, np.float32)
    vectors: Float32 = np.stack([nothing if vector is None else vector for vector in found])
    truth: Indices = np.array([labels.index(u.label) for u in utterances])
    sides = [
        (train, test) for fold in plan for train, test in [_with(extracted, fold)] if len(test)
    ]
    for train, test in sides:
        if len(set(truth[train].tolist())) < 2:
            raise BenchmarkError(
                f"{peer.name}: the clips that train for those of {names[test[0]]} have features of "
                "one class only"
            )
    tasks: list[tuple[Float32, Indices, Float32]]
    tasks = [(vectors[train], truth[train], vectors[test]) for train, test in sides]
    predicted = np.full(len(truth), -1)
    fold_ua: dict[str, list[float]] = {corpus: [] for corpus in corpora}
    sizes = []
    outcomes = parallel(_fit_fold, tasks, jobs, peer.name, chunk=1)
    for (_, test), (guess, size) in zip(sides, outcomes, strict=True):
        predicted[test] = guess
        sizes.append(size)
        for corpus in dict.fromkeys(names[test].tolist()):
            part = names[test] == corpus
            fold_ua[corpus].append(measure(truth[test][part], guess[part], labels).ua)
    speakers = np.array([u.speaker for u in utterances], object)
    metrics = {}
    for corpus in corpora:
        own = extracted & (names == corpus)
        metrics[corpus] = measure(truth[own], predicted[own], labels, list(speakers[own]))
    return Judged(metrics, fold_ua, max(sizes))


def classifier() -> Pipeline:
    """What judges features (values,): standardized, RBF SVM of scikit-learn's defaults."""
    return make_pipeline(StandardScaler(), SVC(kernel="rbf", class_weight="balanced"))


def _with(extracted: npt.NDArray[np.bool_], fold: Fold) -> tuple[Indices, Indices]:
    """Training and test side of a fold without the clips that have no features."""
    train, test = (np.array(side, np.int64) for side in (fold.train, fold.test))
    return train[extracted[train]], test[extracted[test]]


def _fit_fold(task: tuple[Float32, Indices, Float32]) -> tuple[Indices, int]:
    """Classes predicted for the test side, and the bytes of the classifier."""
    train, truth, test = task
    model = classifier()
    model.fit(train, truth)
    return np.asarray(model.predict(test)), len(pickle.dumps(model))
