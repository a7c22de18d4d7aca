"""Accuracy of a bundle on labelled clips, through the code that runs on the device."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.errors import BenchmarkError
from edge_runtime import EmotionStream
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.errors import AudioError
from edge_runtime.stream import classify
from training.corpora import Utterance
from training.metrics import Metrics, measure

log = logging.getLogger(__name__)


@dataclass
class AccuracyResult:
    """Verdicts on the clips that could be judged."""

    judged: list[Utterance]
    scores: list[dict[str, float]]
    """Probabilities of each judged clip."""
    skipped: int
    """Clips whose label the bundle does not know, or without audio that can be read."""
    labels: list[str]

    def metrics(self) -> Metrics:
        """UA, WA and the rest; the label of a verdict is its most probable class."""
        truth = np.array([self.labels.index(u.label) for u in self.judged])
        predicted = np.array([self.labels.index(max(s, key=lambda k: s[k])) for s in self.scores])
        return measure(truth, predicted, self.labels)

    def write_predictions(self, path: Path) -> None:
        """A CSV: path, true label, predicted label, probability of every class."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "predicted", *self.labels])
            for utterance, scores in zip(self.judged, self.scores, strict=True):
                values = [f"{scores[label]:.4f}" for label in self.labels]
                best = max(scores, key=lambda k: scores[k])
                writer.writerow([utterance.path, utterance.label, best, *values])


def accuracy(bundle: Bundle, utterances: Sequence[Utterance]) -> AccuracyResult:
    """Stream every clip, as one utterance, through `bundle`.

    Clips with a label that the bundle does not know, clips that cannot be read and utterances that
    are text only are logged and counted. Raises BenchmarkError when none is left.
    """
    labels = list(bundle.manifest.labels)
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    result = AccuracyResult([], [], 0, labels)
    text_only = sum(u.path is None for u in utterances)
    if text_only:
        log.warning("skipped %d utterances that are text only", text_only)
    if text_only and text_only == len(utterances):
        raise BenchmarkError(f"all {text_only} utterances of the manifest are text only")
    console = Console(stderr=True)
    for utterance in track(utterances, "streaming clips", console=console, transient=True):
        if utterance.path is None:
            result.skipped += 1
            continue
        if utterance.label not in labels:
            result.skipped += 1
            log.warning("skipped %s: the bundle has no class %r", utterance.path, utterance.label)
            continue
        try:
            samples = read_file(utterance.path, utterance.start, utterance.end)
        except AudioError as error:
            result.skipped += 1
            log.warning("skipped %s", error)
            continue
        if not samples.size:
            result.skipped += 1
            log.warning("skipped %s: no samples between start and end", utterance.path)
            continue
        result.judged.append(utterance)
        result.scores.append(classify(stream, samples).scores)
    if not result.judged:
        raise BenchmarkError("no clip of the manifest could be judged")
    return result
