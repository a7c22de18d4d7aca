"""Accuracy of a bundle on labelled utterances, through the code that runs on the device."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.output import tracked
from edge_runtime import EmotionStream
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.errors import AudioError
from edge_runtime.events import EmotionEvent
from edge_runtime.pcm import Int16
from edge_runtime.stream import classify
from edge_runtime.text.engines import engine_named, forms
from training.corpora import Utterance, class_indices
from training.evaluate.metrics import Metrics, measure
from training.output import at_once

log = logging.getLogger(__name__)

TRANSCRIPT, OFF = "transcript", "off"
"""Words that a bundle reads which no engine hears: those of the manifest, and none."""


@dataclass
class AccuracyResult:
    """Verdicts on the utterances that could be judged."""

    judged: list[Utterance]
    verdicts: list[EmotionEvent]
    """The final verdict on each judged utterance."""
    skipped: int
    """Utterances whose label the bundle does not know, or of which it can take nothing."""
    labels: list[str]
    text: str
    """Whose words were read: transcript, off, or the engine's that heard them."""

    def metrics(self) -> Metrics:
        """UA, WA and the rest; the label of a verdict is its most probable class."""
        return self._measure(range(len(self.judged)))

    def by_modality(self) -> dict[str, Metrics]:
        """The same by what the verdicts rest on: "audio", "text", "audio+text", as they occur."""
        modalities = [verdict.modality for verdict in self.verdicts]
        return {
            modality: self._measure([i for i, m in enumerate(modalities) if m == modality])
            for modality in sorted(set(modalities))
        }

    def write_predictions(self, path: Path) -> None:
        """A CSV: path, text, true label, predicted label, modality, probability of every class."""
        with at_once(path) as new, new.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "text", "label", "predicted", "modality", *self.labels])
            for utterance, verdict in zip(self.judged, self.verdicts, strict=True):
                values = [f"{verdict.scores[label]:.4f}" for label in self.labels]
                row = [utterance.path, utterance.text, utterance.label]
                writer.writerow([*row, _best(verdict), verdict.modality, *values])

    def _measure(self, indices: Sequence[int]) -> Metrics:
        truth = np.array(class_indices([self.judged[i] for i in indices], self.labels))
        predicted = np.array([self.labels.index(_best(self.verdicts[i])) for i in indices])
        speakers = [self.judged[i].speaker for i in indices]
        return measure(truth, predicted, self.labels, speakers)


def accuracy(
    bundle: Bundle, utterances: Sequence[Utterance], text: str | None = None
) -> AccuracyResult:
    """Judge every utterance by all that `bundle` takes of it: a clip, streamed, and words.

    Utterances with a label that the bundle does not know, clips that cannot be read, and utterances
    of which the bundle can take nothing are logged and counted. Raises BenchmarkError when none is
    left, and when words are asked for that the bundle does not read; TextError for an engine that
    cannot be.

    Parameters
    ----------
    bundle : what is judged.
    utterances : clips, texts, or both in one.
    text : transcript, off, or an engine as for `edge-emotion run --text`; by default transcript
        where the bundle reads words and `utterances` have some, else off.
    """
    labels = list(bundle.manifest.labels)
    text = choose_text(bundle, utterances, text)
    result = AccuracyResult([], [], 0, labels, text)
    why = ""
    engine = OFF if text == TRANSCRIPT else text
    segment = bundle.manifest.segment.whole()
    with EmotionStream(bundle, engine, segment=segment, partial_seconds=0, live=False) as stream:
        stream.wait_ready()
        for utterance in tracked(utterances, "judging utterances"):
            try:
                if utterance.label not in labels:
                    raise BenchmarkError(f"the bundle has no class {utterance.label!r}")
                samples, words = inputs(bundle, utterance, text)
                verdict = _verdict(stream, samples, words)
            except (BenchmarkError, AudioError) as error:
                result.skipped += 1
                # Errors of audio name their file.
                where = "" if isinstance(error, AudioError) else f"{_name(utterance)}: "
                why = f"{where}{error}"
                log.warning("skipped %s", why)
            else:
                result.judged.append(utterance)
                result.verdicts.append(verdict)
    if not result.judged:
        raise BenchmarkError(f"no utterance of the manifest could be judged; the last was {why}")
    return result


def _verdict(stream: EmotionStream, samples: Int16 | None, words: str | None) -> EmotionEvent:
    """The final verdict on one utterance; None stands for a modality that is not there.

    The one place where the runtime is asked.
    """
    silence = np.zeros(0, np.int16)
    try:
        return classify(stream, silence if samples is None else samples, words or "")
    except ValueError as error:
        raise BenchmarkError(str(error)) from None


def choose_text(bundle: Bundle, utterances: Sequence[Utterance], asked: str | None) -> str:
    """The default of `--text`, or what was asked if the bundle can do it."""
    reads = _takes(bundle, "text")
    if asked is None:
        return TRANSCRIPT if reads and any(u.text for u in utterances) else OFF
    if asked != OFF and not reads:
        raise BenchmarkError(
            f"--text {asked}: bundle {bundle.manifest.name} ({bundle.manifest.variant}) reads no "
            "words; use --text off"
        )
    if asked not in (TRANSCRIPT, OFF) and engine_named(asked.partition(":")[0]) is None:
        there_is = ", ".join((TRANSCRIPT, OFF, *forms()))
        raise BenchmarkError(f"--text {asked}: expected one of {there_is}")
    return asked


def inputs(bundle: Bundle, utterance: Utterance, text: str) -> tuple[Int16 | None, str | None]:
    """Samples and words of an utterance as far as the bundle takes them, None for what it lacks.

    Raises AudioError for a clip that cannot be read, BenchmarkError where neither is there.
    """
    hears, reads = _takes(bundle, "audio"), _takes(bundle, "text")
    words = utterance.text if reads and text == TRANSCRIPT and utterance.text else None
    samples = None
    if utterance.path is not None and hears:
        samples = read_file(utterance.path, utterance.start, utterance.end)
        if not samples.size:
            raise BenchmarkError("no samples between start and end")
    if samples is None and words is None:
        bundle_name = f"bundle {bundle.manifest.name}"
        no_audio = "it has no audio" if utterance.path is None else f"{bundle_name} hears nothing"
        no_words = "it has no words"
        if utterance.text:
            no_words = "--text is not transcript" if reads else f"{bundle_name} reads no words"
        raise BenchmarkError(f"{no_audio}, and {no_words}")
    return samples, words


def _takes(bundle: Bundle, modality: str) -> bool:
    """Whether the bundle's model has a branch for "audio" or "text"."""
    return modality in bundle.manifest.modalities


def _best(verdict: EmotionEvent) -> str:
    return max(verdict.scores, key=lambda label: verdict.scores[label])


def _name(utterance: Utterance) -> str:
    return str(utterance.path) if utterance.path else repr(utterance.text[:40])
