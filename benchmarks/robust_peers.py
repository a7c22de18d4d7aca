"""Peers under the same conditions: a feature set and an SVM, trained on clean clips of corpora."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.conditions import CONDITIONS, heard, possible
from benchmarks.errors import BenchmarkError
from benchmarks.peers.svm import FeaturePeer, classifier
from edge_runtime.audio.file import read_file
from edge_runtime.errors import AudioError
from edge_runtime.pcm import Float32
from training.corpora import Utterance, class_indices
from training.data.cache import parallel
from training.data.surroundings import Surroundings, sources
from training.evaluate.metrics import Metrics, measure

log = logging.getLogger(__name__)

Row = dict[str, dict[str, Metrics]]
"""Corpus to condition to accuracy."""


def judge_peer(
    peer: FeaturePeer,
    training: Sequence[Utterance],
    labelled: dict[str, list[Utterance]],
    around: Surroundings,
    labels: list[str],
    jobs: int | None = None,
) -> Row:
    """Accuracy of a peer on corpora, under every condition that `around` allows.

    Parameters
    ----------
    peer : the features.
    training : clips that the SVM learns from, clean; best those that the bundle trained on.
    labelled : utterances by corpus, judged as `robustness` judges them.
    around : noises, rooms and voices.
    labels : the classes; clips of others are left out.
    jobs : processes at a time, by default one a core.

    Raises BenchmarkError where no clip to learn from has features.
    """
    lessons = [u for u in training if u.label in labels]
    extracted = peer.extract_all(lessons, jobs)
    pairs = [(v, u.label) for v, u in zip(extracted, lessons, strict=True) if v is not None]
    if not pairs:
        raise BenchmarkError(f"{peer.name}: no clip to train on has features")
    model = classifier()
    model.fit(np.stack([v for v, _ in pairs]), [label for _, label in pairs])
    names = [condition.name for condition in possible(sources(around))]
    wanted = {corpus: [u for u in part if u.label in labels] for corpus, part in labelled.items()}
    tasks = [_Task(peer, around, name, part) for part in wanted.values() for name in names]
    vectors = list(parallel(_features, tasks, jobs, peer.name, chunk=1))
    return {
        corpus: {
            name: _accuracy(peer, model, part, vectors[number * len(names) + place], labels)
            for place, name in enumerate(names)
        }
        for number, (corpus, part) in enumerate(wanted.items())
    }


@dataclass(frozen=True)
class _Task:
    peer: FeaturePeer
    around: Surroundings
    condition: str
    utterances: list[Utterance]


def _features(task: _Task) -> list[Float32 | None]:
    recordings = sources(task.around)
    condition = next(c for c in CONDITIONS if c.name == task.condition)
    result: list[Float32 | None] = []
    for utterance in task.utterances:
        try:
            samples = read_file(utterance.audio, utterance.start, utterance.end)
        except AudioError:
            result.append(None)
            continue
        changed = heard(samples, condition, utterance.audio.name, recordings)
        values = task.peer.extract(changed) if changed.size else None
        result.append(None if values is None else np.asarray(values, np.float32))
    return result


def _accuracy(
    peer: FeaturePeer,
    model: Any,
    utterances: Sequence[Utterance],
    vectors: Sequence[Float32 | None],
    labels: list[str],
) -> Metrics:
    judged = [(u, v) for u, v in zip(utterances, vectors, strict=True) if v is not None]
    if len(judged) < len(utterances):
        log.warning("%s: %d clips have no features", peer.name, len(utterances) - len(judged))
    if not judged:
        raise BenchmarkError(f"{peer.name}: no clip has features")
    guess = model.predict(np.stack([v for _, v in judged]))
    return measure(
        np.array(class_indices([u for u, _ in judged], labels)),
        np.array([labels.index(label) for label in guess]),
        labels,
        [u.speaker for u, _ in judged],
    )
