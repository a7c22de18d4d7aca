"""Speaker-independent cross-validation: a model per fold, each judged by speakers it never heard.

The int8 figures are those of the converted bundle, run through the device's own code. The
converter is called as a user would call it, by its command: training does not import it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.recognizer import softmax
from edge_runtime.stream import classify
from training.corpora import Utterance
from training.data import FeatureSet, FeatureSettings, extract
from training.errors import TrainingError
from training.fakequant import Phase
from training.fit import FitData, FitSettings, augmentations, fit, predict, run_of
from training.folds import Fold, session_folds, speaker_folds
from training.metrics import Metrics, calibration_error, fit_temperature, measure, unsure_threshold
from training.model import ModelConfig
from training.progress import FoldProgress
from training.teacher import teach

FORMS = ("float", "fake-quant", "int8")
SUMMARY, PREDICTIONS = "crossval.json", "predictions.npz"
Logits = npt.NDArray[np.float32]


@dataclass
class CrossvalResult:
    """Out-of-fold predictions of every clip, in every form of the model."""

    utterances: list[Utterance]
    labels: list[str]
    logits: dict[str, Logits]
    """Form to (n, classes)."""
    folds: int

    def truth(self) -> npt.NDArray[np.int64]:
        """Class index of each utterance, (n,)."""
        return np.array([self.labels.index(u.label) for u in self.utterances])

    def metrics(self) -> dict[str, dict[str, Metrics]]:
        """Corpus to form to metrics over that corpus's clips."""
        truth = self.truth()
        corpora = np.array([u.corpus for u in self.utterances])
        return {
            str(corpus): {
                form: measure(truth[corpora == corpus], found[corpora == corpus], self.labels)
                for form, found in ((f, x.argmax(axis=1)) for f, x in self.logits.items())
            }
            for corpus in sorted(set(corpora))
        }

    def calibration(self) -> tuple[float, float, float]:
        """Temperature, threshold, and expected calibration error, of the int8 predictions.

        The error is cross-fitted: each half of the clips is judged at the temperature that fits
        the other half.
        """
        return calibrate(self.logits["int8"], self.truth())


def crossval(
    utterances: Sequence[Utterance],
    config: ModelConfig,
    settings: FitSettings,
    features: FeatureSettings,
    folds: int | None,
    out: Path,
    jobs: int,
) -> CrossvalResult:
    """Train, convert and judge `folds` models into `out`, `jobs` at a time, one thread each.

    Folds are cut by speaker; with None, each recording session is a fold.
    A fold that is finished in `out` is not trained again.
    Raises TrainingError when the data does not fold, or the converter fails.
    """
    known = extract(utterances, features, augmentations(settings))
    if settings.teacher:
        teach(known, features, augmentations(settings))
    usable = known.utterances
    plan = session_folds(usable) if folds is None else speaker_folds(usable, folds)
    _refuse_other_plan(out, plan, usable, settings, config)
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
                    out / f"fold{number}",
                    progress.queue,
                ),
            )
            for number, fold in enumerate(plan, 1)
        ]
        progress.follow(futures)
        results = [future.result() for future in futures]
    labels = list(config.labels)
    logits: dict[str, Logits] = {f: np.zeros((len(usable), len(labels)), np.float32) for f in FORMS}
    for fold, result in zip(plan, results, strict=True):
        for form in FORMS:
            logits[form][fold.test] = result[form]
    return CrossvalResult(list(usable), labels, logits, len(plan))


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
    folder: Path
    queue: Any


def _run_fold(task: _FoldTask) -> dict[str, Logits]:
    """Train, convert and judge one fold; runs in a process of its own."""
    done = task.folder / PREDICTIONS
    if done.exists():
        task.queue.put((task.number, "done", 0))
        return dict(np.load(done))
    torch.set_num_threads(1)
    task.folder.mkdir(parents=True, exist_ok=True)
    train, test = (_take(task.utterances, side) for side in (task.fold.train, task.fold.test))
    train_set = _quietly(train, task, len(augmentations(task.settings)))
    if task.settings.teacher:
        teach(train_set, task.features, augmentations(task.settings), workers=1, progress=False)
    test_set = _quietly(test, task, 1)
    module = fit(
        FitData(train_set, test_set, list(task.config.labels)),
        task.config,
        task.settings,
        task.folder,
        resume=True,
        progress=lambda epoch, _: task.queue.put((task.number, "training", epoch)),
    )
    task.queue.put((task.number, "converting", 0))
    run = run_of(module, task.features)
    run.training = {"fold": task.number}
    run.save(task.folder)
    clean = [variants[0] for variants in test_set.variants]
    result = {
        "float": predict(run.model(Phase.FLOAT), clean),
        "fake-quant": predict(run.model(Phase.INT8), clean),
        "int8": int8_logits(convert(task.folder, task.folder / "bundle"), test),
    }
    np.savez(done, **result)  # type: ignore[arg-type]
    task.queue.put((task.number, "done", 0))
    return result


def convert(run: Path, out: Path) -> Path:
    """Build a bundle of a run with the converter's command; TrainingError if it fails."""
    command = [sys.executable, "-m", "conversion", "build", str(run), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise TrainingError(f"converting {run} failed: {' '.join(last)}")
    return out


def int8_logits(bundle_path: Path, utterances: Sequence[Utterance]) -> Logits:
    """Logits, up to a constant, of clips streamed through a bundle, (n, classes)."""
    bundle = load_bundle(bundle_path)
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    scores = [
        list(classify(stream, read_file(u.audio, u.start, u.end)).scores.values())
        for u in utterances
    ]
    temperature = bundle.manifest.calibration.temperature
    return np.asarray(np.log(np.maximum(scores, 1e-9)) * temperature, np.float32)


def _quietly(utterances: list[Utterance], task: _FoldTask, variants: int) -> FeatureSet:
    """Features from the cache that the parent has filled."""
    chosen = augmentations(task.settings)[:variants]
    return extract(utterances, task.features, chosen, workers=1, progress=False)


def _refuse_other_plan(
    out: Path,
    plan: list[Fold],
    utterances: Sequence[Utterance],
    settings: FitSettings,
    config: ModelConfig,
) -> None:
    """Finished folds are only good for the same data, folds and settings."""
    identity = json.dumps(
        {
            "settings": repr(settings),
            "config": repr(config),
            "test": [
                [f"{u.corpus}/{u.audio.name}/{u.start}" for u in _take(utterances, f.test)]
                for f in plan
            ],
        }
    )
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
