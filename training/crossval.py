"""Speaker-independent cross-validation: a model per fold, each judged by speakers it never heard.

The int8 figures are those of the converted bundle, run through the device's own code. The
converter is called as a user would call it, by its command: training does not import it.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import AUDIO, BOTH, TEXT, Bundle, Calibration
from edge_runtime.fusion import softmax
from edge_runtime.mfcc import Float32, Int16
from edge_runtime.stream import judge_clip
from edge_runtime.text.tokenizer import Tokenizer
from edge_runtime.text.tokenizer import words as words_of
from training.corpora import Utterance
from training.data import FeatureSettings, extract
from training.errors import TrainingError
from training.fakequant import Phase
from training.fit import FitSettings, augmentations, fit, predict, run_of
from training.folds import Fold, session_folds, speaker_folds
from training.metrics import calibration_error, fit_temperature, measure, unsure_threshold
from training.model import ModelConfig, Variant
from training.pairs import PAIRING, draw_words
from training.prepare import WordPlan, prepare
from training.progress import FoldProgress
from training.run import RUN_FILE, Run, load
from training.speaker import SpeakerVectors
from training.teacher import teach
from training.text import encode
from training.warmstart import Branches

FORMS = ("float", "fake-quant", "int8")
SUMMARY, PREDICTIONS = "crossval.json", "predictions.npz"
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
    at the temperature that fits the other half."""


@dataclass
class CrossvalResult:
    """Out-of-fold predictions of every clip, in every form of the model."""

    utterances: list[Utterance]
    labels: list[str]
    verdicts: Verdicts
    folds: list[int]
    """The fold that judged each utterance."""


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
    truth = np.array([list(labels).index(u.label) for u in utterances])
    corpora = np.array([u.corpus for u in utterances])
    summary = Summary({}, {}, {})
    for key, logits in verdicts.items():
        modality, form = key.split("/")
        for corpus in sorted(set(corpora.tolist())):
            chosen = corpora == corpus
            found = measure(truth[chosen], logits.argmax(axis=1)[chosen], list(labels))
            forms = summary.metrics.setdefault(corpus, {}).setdefault(modality, {})
            forms[form] = found.to_dict()
            if folds is not None:
                forms[form]["ua_folds"] = [
                    round(measure(truth[part], logits.argmax(axis=1)[part], list(labels)).ua, 4)
                    for number in sorted(set(folds))
                    if (part := chosen & (np.array(folds) == number)).any()
                ]
        if form == "int8":
            temperature, threshold, error = calibrate(logits, truth)
            summary.calibration[modality] = Calibration(temperature, threshold)
            summary.calibration_error[modality] = round(error, 4)
    return summary


def crossval(
    utterances: Sequence[Utterance],
    config: ModelConfig,
    settings: FitSettings,
    features: FeatureSettings,
    folds: int | None,
    out: Path,
    jobs: int,
    words: WordPlan | None = None,
    audio_runs: Path | None = None,
    text_run: Path | None = None,
    speakers: SpeakerVectors | None = None,
    int8: bool = True,
) -> CrossvalResult:
    """Train, convert and judge `folds` models into `out`, `jobs` at a time, one thread each.

    Folds are cut by speaker; with None, each recording session is a fold.
    A fold that is finished in `out` is not trained again; one that was judged without int8 is
    converted when that is asked for.
    Raises TrainingError when the data does not fold, or the converter fails.

    Parameters
    ----------
    utterances : what is spoken.
    config, settings, features : the model's shape, the schedule, and the features.
    folds, out, jobs : see above.
    words : for a model that reads: where its words come from.
    audio_runs : a finished crossval of an audio model over the same folds, whose encoders the
        folds start from and keep (`training.warmstart`).
    text_run : a run of a text model, likewise; it must not have trained on the words tested.
    speakers : speaker embeddings, for a variant that takes them.
    int8 : whether to convert each fold's model and judge it on the device path, which takes a few
        seconds a fold and about as long again as the clips take to stream.
    """
    known = extract(utterances, features, augmentations(settings))
    if settings.teacher:
        teach(known, features, augmentations(settings))
    usable = known.utterances
    del known  # the folds read their own; of a large corpus this is gigabytes
    plan = session_folds(usable) if folds is None else speaker_folds(usable, folds)
    words = words or WordPlan()
    if config.parts.text and words.test:
        usable = draw_words(usable, words.test, words.seed)
    _refuse_other_plan(out, plan, usable, settings, config, words, speakers)
    context = multiprocessing.get_context("spawn")
    with (
        FoldProgress(len(plan), settings.all_epochs) as progress,
        ProcessPoolExecutor(jobs, mp_context=context) as pool,
    ):
        futures = [
            pool.submit(
                _run_fold,
                _FoldTask(
                    number,
                    usable,
                    fold,
                    config,
                    settings,
                    features,
                    words,
                    audio_runs / f"fold{number}" if audio_runs else None,
                    text_run,
                    out / f"fold{number}",
                    progress.queue,
                    speakers,
                    int8,
                ),
            )
            for number, fold in enumerate(plan, 1)
        ]
        progress.follow(futures)
        results = [future.result() for future in futures]
    labels = list(config.labels)
    verdicts: Verdicts = {}
    for fold, result in zip(plan, results, strict=True):
        for key, logits in result.items():
            empty = np.zeros((len(usable), len(labels)), np.float32)
            verdicts.setdefault(key, empty)[fold.test] = logits
    numbers = [0] * len(usable)
    for number, fold in enumerate(plan):
        for index in fold.test:
            numbers[index] = number
    return CrossvalResult(list(usable), labels, verdicts, numbers)


def write_summary(
    result: CrossvalResult, config: ModelConfig, out: Path, by_session: bool, paired: bool
) -> dict[str, Any]:
    """Write the figures of a crossval into `out`, where `fit --crossval` finds them; the same back.

    `by_session` and `paired` say how folds were cut and whether words were drawn by class.
    """
    found = summarize(result.verdicts, result.utterances, result.labels, result.folds)
    corpora = sorted(found.metrics)
    speakers = {c: len({u.speaker for u in result.utterances if u.corpus == c}) for c in corpora}
    summary: dict[str, Any] = {
        "labels": result.labels,
        "variant": config.variant,
        "calibration": {name: asdict(chosen) for name, chosen in found.calibration.items()},
        "metrics": {
            "protocol": f"{len(set(result.folds))} speaker-independent folds"
            + (", each a recording session, over " if by_session else " over ")
            + " and ".join(f"{c} ({n} speakers)" for c, n in speakers.items())
            + "; figures over the clips of all test folds together"
            + (f"; {PAIRING}" if paired else ""),
            "corpora": found.metrics,
            "calibration_error": found.calibration_error,
        },
    }
    (out / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def calibrate(logits: Logits, truth: npt.NDArray[Any]) -> tuple[float, float, float]:
    """Temperature, "unsure" threshold and cross-fitted calibration error of held-out logits."""
    temperature = fit_temperature(logits, truth)
    order = np.random.default_rng(0).permutation(len(truth))
    probabilities = np.empty_like(logits)
    for half in (0, 1):
        mine, others = order[half::2], order[1 - half :: 2]
        probabilities[mine] = softmax(logits[mine], fit_temperature(logits[others], truth[others]))
    correct = probabilities.argmax(axis=1) == truth
    threshold = unsure_threshold(softmax(logits, temperature).max(axis=1), correct)
    return temperature, threshold, calibration_error(probabilities, truth)


@dataclass
class _FoldTask:
    number: int
    utterances: list[Utterance]
    fold: Fold
    config: ModelConfig
    settings: FitSettings
    features: FeatureSettings
    words: WordPlan
    audio_run: Path | None
    text_run: Path | None
    folder: Path
    queue: Any
    speakers: SpeakerVectors | None
    int8: bool


def _run_fold(task: _FoldTask) -> dict[str, Logits]:
    """Train, convert and judge one fold; runs in a process of its own."""
    done = task.folder / PREDICTIONS
    result = _known(done, task.int8)
    if not result:
        torch.set_num_threads(1)
        task.folder.mkdir(parents=True, exist_ok=True)
        train, test = (_take(task.utterances, side) for side in (task.fold.train, task.fold.test))
        finished = (task.folder / RUN_FILE).exists()
        run = load(task.folder) if finished else _train(task, train, test)
        bundle = None
        if task.int8:
            task.queue.put((task.number, "converting", 0))
            bundle = convert(task.folder, task.folder / "bundle")
        clean = None
        if run.config.parts.audio:
            known = extract(test, task.features, workers=1, progress=False)
            clean = [variants[0] for variants in known.variants]
        result = judge(run, bundle, test, clean, task.speakers)
        np.savez(done, **result)  # type: ignore[arg-type]
    task.queue.put((task.number, "done", 0))
    return result


def _known(path: Path, int8: bool) -> Verdicts:
    """The verdicts of a finished fold in the forms asked for; empty where they are not all there.

    Folds of one result have the same forms: int8 that is not asked for is left out.
    """
    verdicts = dict(np.load(path)) if path.exists() else {}
    if int8:
        return verdicts if any("/int8" in key for key in verdicts) else {}
    return {key: logits for key, logits in verdicts.items() if "/int8" not in key}


def _train(task: _FoldTask, train: list[Utterance], test: list[Utterance]) -> Run:
    """The model of one fold, trained, saved in the fold's folder."""
    branches = Branches(
        load(task.audio_run) if task.audio_run else None,
        load(task.text_run) if task.text_run else None,
    )
    prepared = prepare(
        train,
        test,
        task.config,
        task.settings,
        task.features,
        task.words,
        branches,
        workers=1,
    )
    module = fit(
        replace(prepared.data, speakers=task.speakers),
        prepared.config,
        task.settings,
        task.folder,
        resume=True,
        progress=lambda epoch, _: task.queue.put((task.number, "training", epoch)),
    )
    run = run_of(module, task.features)
    run.training = {"fold": task.number}
    run.vocabulary = prepared.vocabulary
    run.save(task.folder)
    return run


def judge(
    run: Run,
    bundle_path: Path | None,
    utterances: Sequence[Utterance],
    features: Sequence[Float32] | None,
    speakers: SpeakerVectors | None = None,
) -> Verdicts:
    """Logits (n, classes) of every modality there is and every form of a model.

    Parameters
    ----------
    run, bundle_path : the model, and the bundle made of it; without that, no form is int8.
    utterances : what is judged; their `text` is what is read.
    features : their raw features; None for words alone.
    speakers : their speaker embeddings, for a model that takes them.
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


def convert(run: Path, out: Path) -> Path:
    """Build a bundle of a run with the converter's command; TrainingError if it fails."""
    command = [sys.executable, "-m", "conversion", "build", str(run), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise TrainingError(f"converting {run} failed: {' '.join(last)}")
    return out


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


def _refuse_other_plan(
    out: Path,
    plan: list[Fold],
    utterances: Sequence[Utterance],
    settings: FitSettings,
    config: ModelConfig,
    words: WordPlan,
    speakers: SpeakerVectors | None,
) -> None:
    """Finished folds are only good for the same data, folds and settings."""
    parts: dict[str, Any] = {
        "settings": repr(settings),
        "config": repr(config),
        "test": [
            [f"{u.corpus}/{u.audio.name}/{u.start}/{u.text}" for u in _take(utterances, f.test)]
            for f in plan
        ],
    }
    if config.parts.text:
        texts = "\n".join(u.text for u in words.train)
        digest = hashlib.sha256(texts.encode()).hexdigest()
        parts["words"] = {"settings": repr(words.settings), "paired": digest}
    if speakers:
        parts["speakers"] = speakers.digest(utterances)
    identity = json.dumps(parts)
    path = out / "plan.json"
    if path.exists() and path.read_text() != identity:
        raise TrainingError(
            f"{out} holds folds of other data or settings; choose another --out or remove it"
        )
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(identity)


def _take(utterances: Sequence[Utterance], indices: Sequence[int]) -> list[Utterance]:
    return [utterances[i] for i in indices]


def default_jobs() -> int:
    """One fold per core."""
    return os.cpu_count() or 1
