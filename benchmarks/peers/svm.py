"""Accuracy of a fixed set of features with an RBF SVM: how a peer's features are judged.

Every peer is judged alike: features over the whole clip, each standardized by the training clips,
then scikit-learn's SVC with its defaults (C = 1, gamma = "scale") and balanced classes, trained
and tested within one corpus, on the folds of `training.data.folds.speaker_folds`. Nothing is
tuned, and nothing is learned from a test speaker (standardizing each speaker by his own clips,
which many papers do, would tell the SVM how he sounds on average).

Of C in 0.3, 1, 3, 10, 100, C chosen by grouped cross-validation inside the training speakers, and
gamma of 0.5, 1 and 2 times "scale", these defaults alone give the figures known from before
(eGeMAPSv02 59.1 and 76.8, ComParE_2016 60.5 and 82.1 per cent UA on RAVDESS and EMO-DB) within a
point: 59.4, 76.8, 60.5, 82.4 as means of the folds' UA. Other choices move single figures by up to
two points, up and down. The UA over the clips of all folds together is another figure wherever
folds differ in size or lack a class, as in EMO-DB (79.4 and 84.1 there); it is the one that
cross-validation of ours reports, so both are shown.
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
from training.data.folds import Fold, check_classes, speaker_folds
from training.evaluate.metrics import Metrics, measure

log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FeaturePeer:
    """What a peer's file gives: features of a clip, for the SVM."""

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
    """A peer's accuracy on one corpus."""

    metrics: Metrics
    """Over the clips of all test folds together."""
    fold_ua: list[float]
    """UA of each fold, 0 to 1, over the classes that it has."""
    svm_bytes: int
    """The largest of the folds' classifiers, pickled."""


def judge(
    peer: FeaturePeer, utterances: Sequence[Utterance], folds: int, jobs: int | None
) -> Judged:
    """Cross-validate `peer` on the utterances of one corpus, `jobs` processes at a time.

    Clips without features are in neither side of a fold, and logged. Raises TrainingError when the
    speakers do not fold, and BenchmarkError when no clip has features.
    """
    labels = check_classes(utterances)
    plan = speaker_folds(utterances, folds)
    found = peer.extract_all(utterances, jobs)
    extracted = [vector is not None for vector in found]
    if not any(extracted):
        raise BenchmarkError(f"{peer.name}: no clip of {utterances[0].corpus} has features")
    if not all(extracted):
        log.warning("%s: %d clips have no features", peer.name, extracted.count(False))
    width = next(len(vector) for vector in found if vector is not None)
    nothing = np.zeros(width, np.float32)
    vectors: Float32 = np.stack([nothing if vector is None else vector for vector in found])
    truth: Indices = np.array([labels.index(u.label) for u in utterances])
    plan = [
        Fold([i for i in f.train if extracted[i]], [i for i in f.test if extracted[i]])
        for f in plan
    ]
    plan = [fold for fold in plan if fold.test]
    tasks: list[tuple[Float32, Indices, Float32]]
    tasks = [(vectors[f.train], truth[f.train], vectors[f.test]) for f in plan]
    predicted = np.full(len(truth), -1)
    fold_ua, sizes = [], []
    for fold, (guess, size) in zip(plan, parallel(_fit_fold, tasks, jobs, peer.name), strict=True):
        predicted[fold.test] = guess
        fold_ua.append(measure(truth[fold.test], guess, labels).ua)
        sizes.append(size)
    speakers = [u.speaker for u, has in zip(utterances, extracted, strict=True) if has]
    accuracy = measure(truth[extracted], predicted[extracted], labels, speakers)
    return Judged(accuracy, fold_ua, max(sizes))


def classifier() -> Pipeline:
    """What judges features (values,): standardized, RBF SVM of scikit-learn's defaults."""
    return make_pipeline(StandardScaler(), SVC(kernel="rbf", class_weight="balanced"))


def _fit_fold(task: tuple[Float32, Indices, Float32]) -> tuple[Indices, int]:
    """Classes predicted for the test side, and the bytes of the classifier."""
    train, truth, test = task
    model = classifier()
    model.fit(train, truth)
    return np.asarray(model.predict(test)), len(pickle.dumps(model))
