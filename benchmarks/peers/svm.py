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

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.peers.judging import Cost, Indices, Judged, Side, over_folds
from edge_runtime.pcm import Float32, Int16
from training.corpora import Utterance
from training.data.cache import parallel
from training.data.folds import Fold

PROTOCOL = (
    "features of whole clips, standardized; SVC of scikit-learn, its defaults, balanced classes"
)


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

    @property
    def protocol(self) -> str:
        """How it learns, one phrase."""
        return PROTOCOL

    def judge(
        self,
        utterances: Sequence[Utterance],
        plan: Sequence[Fold],
        jobs: int | None,
        epochs: int | None = None,
    ) -> Judged:
        """As `judge`; there are no epochs."""
        return judge(self, utterances, plan, jobs)

    def cost(self, classes: int) -> Cost:
        """The features alone."""
        return Cost(self.extract, self.file_bytes())


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

    Raises like `over_folds`.
    """
    found = peer.extract_all(utterances, jobs)
    extracted = np.array([vector is not None for vector in found])
    width = next((len(vector) for vector in found if vector is not None), 0)
    nothing = np.zeros(width, np.float32)
    vectors: Float32 = np.stack([nothing if vector is None else vector for vector in found])
    sizes: list[int] = []

    def learn(sides: list[Side], truth: Indices, _: int) -> Iterator[Indices]:
        tasks = [(vectors[train], truth[train], vectors[test]) for train, test in sides]
        with closing(parallel(_fit_fold, tasks, jobs, peer.name, chunk=1)) as fitted:
            for guess, size in fitted:
                sizes.append(size)
                yield guess

    judged = over_folds(peer.name, utterances, plan, extracted, learn)
    return replace(judged, model_bytes=max(sizes))


def classifier(c: float = 1.0) -> Pipeline:
    """What judges features (values,): standardized, RBF SVM of scikit-learn's defaults.

    `c` is what an error costs it.
    """
    return make_pipeline(StandardScaler(), SVC(C=c, kernel="rbf", class_weight="balanced"))


def _fit_fold(task: tuple[Float32, Indices, Float32]) -> tuple[Indices, int]:
    """Classes predicted for the test side, and the bytes of the classifier."""
    train, truth, test = task
    model = classifier()
    model.fit(train, truth)
    return np.asarray(model.predict(test)), len(pickle.dumps(model))
