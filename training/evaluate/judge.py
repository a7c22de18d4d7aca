"""How good a run is: in float, in fake-quant and in int8 on the device's own code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import AUDIO, BOTH, TEXT, Calibration
from edge_runtime.model.fusion import softmax
from edge_runtime.pcm import Float32, Int16
from edge_runtime.stream import judge_clip
from edge_runtime.tokenizer import Tokenizer
from edge_runtime.tokenizer import words as words_of
from training.corpora import Utterance, class_indices
from training.data.speaker import SpeakerVectors
from training.data.tokens import encode
from training.errors import TrainingError
from training.evaluate.metrics import calibration_error, fit_temperature, measure, unsure_threshold
from training.evaluate.predict import predict
from training.network.config import Variant
from training.network.fakequant import Phase
from training.rounding import changes
from training.run import Run

DEGRADED = "degraded"

Logits = npt.NDArray[np.float32]

Verdicts = dict[str, Logits]  # "modality/form" to logits (n, classes)


@dataclass(frozen=True)
class Summary:
    """Figures of a model on utterances that did not train."""

    metrics: dict[str, dict[str, dict[str, Any]]]
    """Corpus to modality (audio, text, audio+text) to form to `Metrics.to_dict`."""
    calibration: dict[str, Calibration]
    """Temperature and threshold by modality, of int8."""
    calibration_error: dict[str, float]
    """Expected calibration error by modality, cross-fitted: each half of the utterances is judged
    at the temperature that fits the other half. Over clips as they are and, where there are such,
    degraded."""


def summarize(
    verdicts: Verdicts,
    utterances: Sequence[Utterance],
    labels: Sequence[str],
    folds: Sequence[int] | None = None,
) -> Summary:
    """Accuracy by corpus, modality and form, and calibration, of logits in the order given.

    With `folds`, the fold of each utterance, also `ua_folds`: the UA of each fold by itself, the
    mean of which is what some publish.
    """
    truth = np.array(class_indices(utterances, labels))
    corpora = np.array([u.corpus for u in utterances])
    speakers = np.array([u.speaker for u in utterances], object)
    summary = Summary({}, *calibrations([(verdicts, truth)]))
    for key, logits in verdicts.items():
        modality, form = key.split("/")
        for corpus in sorted(set(corpora.tolist())):
            chosen = corpora == corpus
            guess = logits.argmax(axis=1)[chosen]
            found = measure(truth[chosen], guess, list(labels), list(speakers[chosen]))
            forms = summary.metrics.setdefault(corpus, {}).setdefault(modality, {})
            forms[form] = found.to_dict()
            exact = verdicts.get(f"{modality}/float")
            if exact is not None and form in ("fake-quant", "int8"):
                said = exact.argmax(axis=1)[chosen]
                forms[form] |= changes(truth[chosen], said, guess, list(labels))
            if folds is not None:
                forms[form]["ua_folds"] = [
                    round(measure(truth[part], logits.argmax(axis=1)[part], list(labels)).ua, 4)
                    for number in sorted(set(folds))
                    if (part := chosen & (np.array(folds) == number)).any()
                ]
    return summary


def calibrations(
    judged: Sequence[tuple[Verdicts, npt.NDArray[Any]]],
) -> tuple[dict[str, Calibration], dict[str, float]]:
    """Calibration and its cross-fitted error, by modality, over verdicts with their true classes.

    Where clips were judged degraded as well, that counts alike: what a score is worth in other
    rooms than the studio is learned there. Modalities and thresholds are those of the first
    verdicts, at the temperature of all: what is "unsure" shall be so of speech like that which
    trained, or most of other speech would be.
    """
    chosen, errors = {}, {}
    for key in judged[0][0]:
        modality, form = key.split("/")
        if form != "int8":
            continue
        parts = [
            [
                (verdicts[name], truth)
                for name in (key, f"{modality}/{DEGRADED}")
                if name in verdicts
            ]
            for verdicts, truth in judged
        ]
        logits, truth = _stacked([pair for pairs in parts for pair in pairs])
        temperature, error = calibrate(logits, truth)
        logits, truth = _stacked(parts[0])
        confidence = softmax(logits, temperature).max(axis=1)
        threshold = unsure_threshold(confidence, logits.argmax(axis=1) == truth)
        chosen[modality] = Calibration(temperature, threshold)
        errors[modality] = round(error, 4)
    return chosen, errors


def _stacked(
    parts: Sequence[tuple[Logits, npt.NDArray[Any]]],
) -> tuple[Logits, npt.NDArray[Any]]:
    logits, truth = zip(*parts, strict=True)
    return np.concatenate(logits), np.concatenate(truth)


def calibrate(logits: Logits, truth: npt.NDArray[Any]) -> tuple[float, float]:
    """Temperature and cross-fitted calibration error of held-out logits."""
    temperature = fit_temperature(logits, truth)
    order = np.random.default_rng(0).permutation(len(truth))
    probabilities = np.empty_like(logits)
    for half in (0, 1):
        mine, others = order[half::2], order[1 - half :: 2]
        probabilities[mine] = softmax(logits[mine], fit_temperature(logits[others], truth[others]))
    return temperature, calibration_error(probabilities, truth)


def judge(
    run: Run,
    bundle_path: Path | None,
    utterances: Sequence[Utterance],
    features: Sequence[Float32] | None,
    speakers: SpeakerVectors | None = None,
    degraded: Sequence[Float32] = (),
) -> Verdicts:
    """Logits (n, classes) of every modality there is and every form of a model.

    Parameters
    ----------
    run, bundle_path : the model, and the bundle made of it; without that, no form is int8.
    utterances : what is judged; their `text` is what is read.
    features : their raw features; None for words alone.
    speakers : their speaker embeddings, for a model that takes them.
    degraded : raw features of the same clips as some device might hear them; none: not judged.
    """
    parts, tokens = run.config.parts, None
    if parts.text:
        reader = Tokenizer(run.vocabulary, run.config.tokens, run.config.punctuation)
        tokens = encode(utterances, reader)
    bundle = load_bundle(bundle_path) if bundle_path else None
    vectors = speakers.of(utterances) if speakers else None
    result = {}
    for modality in modalities(parts):
        if modality != TEXT and features is None:
            continue
        heard = features if modality != TEXT else None
        read = tokens if modality != AUDIO else None
        for form, phase in (("float", Phase.FLOAT), ("fake-quant", Phase.INT8)):
            result[f"{modality}/{form}"] = predict(run.model(phase), heard, read, vectors)
        if degraded and modality != TEXT:
            model = run.model(Phase.INT8)
            result[f"{modality}/{DEGRADED}"] = predict(model, degraded, read, vectors)
        if bundle is None:
            continue
        result[f"{modality}/int8"] = int8_logits(bundle, utterances, modality, vectors)
        if modality == TEXT and run.config.punctuation:
            # What an ASR returns has no marks.
            plain = [replace(u, text=" ".join(words_of(u.text))) for u in utterances]
            result[f"{modality}/int8, no marks"] = int8_logits(bundle, plain, modality, vectors)
    return result


def modalities(parts: Variant) -> tuple[str, ...]:
    """What a verdict of a model can rest on, all that it takes last; as `Manifest.modalities`."""
    one = ((AUDIO,) if parts.audio else ()) + ((TEXT,) if parts.text else ())
    return (*one, BOTH) if len(one) > 1 else one


def convert(run: Path, out: Path, *options: str) -> Path:
    """Build a bundle of a run with the converter's command; TrainingError if it fails.

    What rounding has broken is built as well, for it is to be measured.
    """
    command = ("build", str(run), "--out", str(out), "--allow-loss", *options)
    ask_converter(*command, what=f"converting {run}")
    return out


def ask_converter(*arguments: str, what: str) -> None:
    """Run the converter's command; TrainingError, that `what` failed and why, if it does."""
    command = [sys.executable, "-m", "conversion", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, encoding="utf-8"
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise TrainingError(f"{what} failed: {' '.join(last)}")


def int8_logits(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    modality: str = AUDIO,
    speakers: Float32 | None = None,
) -> Logits:
    """Logits, up to a constant, of utterances through the device's code, (n, classes).

    `speakers` are embeddings (n, width), NaN where there is none.
    """
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    rows = []
    for row, utterance in enumerate(utterances):
        if speakers is not None:
            stream.speaker = None if np.isnan(speakers[row]).any() else speakers[row]
        samples: Int16 = np.zeros(0, np.int16)
        if modality != TEXT:
            samples = read_file(utterance.audio, utterance.start, utterance.end)
        words = utterance.text if modality != AUDIO else ""
        event = judge_clip(stream, samples, words)
        even = 1.0 / len(bundle.manifest.labels)
        rows.append(list(event.scores.values()) if event else [even] * len(bundle.manifest.labels))
    temperature = bundle.manifest.calibration[modality].temperature
    return np.asarray(np.log(np.maximum(rows, 1e-9)) * temperature, np.float32)
