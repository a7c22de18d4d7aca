"""Speaker-independent cross-validation: a model per fold, each judged by speakers it never heard.

The int8 figures are those of the converted bundle, run through the device's own code. The
converter is called as a user would call it, by its command: training does not import it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.corpora import Utterance
from training.data.features import FeatureSettings, extract
from training.data.folds import Cut, Fold, cut_folds, unjudged
from training.data.pairs import PAIRING, draw_words
from training.data.speaker import SpeakerVectors
from training.data.teacher import teach
from training.errors import TrainingError
from training.evaluate.judge import Logits, Verdicts, convert, judge, summarize
from training.evaluate.progress import FoldProgress
from training.fit.fit import augmentations, fit, run_of
from training.fit.prepare import WordPlan, prepare
from training.fit.settings import FitSettings
from training.fit.warmstart import Branches
from training.network.config import ModelConfig
from training.output import at_once
from training.run import RUN_FILE, Run, load

FORMS = ("float", "fake-quant", "int8")

log = logging.getLogger(__name__)

SUMMARY, PREDICTIONS = "crossval.json", "predictions.npz"


@dataclass(eq=False)
class CrossvalResult:
    """Out-of-fold predictions of every clip, in every form of the model."""

    utterances: list[Utterance]
    labels: list[str]
    verdicts: Verdicts
    folds: list[int]
    """The fold that judged each utterance."""


def crossval(
    utterances: Sequence[Utterance],
    config: ModelConfig,
    settings: FitSettings,
    features: FeatureSettings,
    folds: Cut,
    out: Path,
    jobs: int,
    words: WordPlan | None = None,
    audio_runs: Path | None = None,
    text_run: Path | None = None,
    speakers: SpeakerVectors | None = None,
    int8: bool = True,
) -> CrossvalResult:
    """Train, convert and judge `folds` models into `out`, `jobs` at a time, one thread each.

    Folds are so many by speaker, or one a recording session or corpus.
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
        folds start from and keep (`training.fit.warmstart`).
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
    plan = cut_folds(usable, folds)
    for line in unjudged(usable, plan):
        log.warning("%s", line)
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


_EACH: dict[Cut, str] = {
    "session": ", each a recording session,",
    "corpus": ", each a corpus of which nothing trained,",
}


def write_summary(
    result: CrossvalResult, config: ModelConfig, out: Path, cut: Cut, paired: bool
) -> dict[str, Any]:
    """Write the figures of a crossval into `out`, where `fit --crossval` finds them; the same back.

    `cut` and `paired` say how folds were cut and whether words were drawn by class.
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
            + _EACH.get(cut, "")
            + " over "
            + " and ".join(f"{c} ({n} speakers)" for c, n in speakers.items())
            + "; figures over the clips of all test folds together"
            + (f"; {PAIRING}" if paired else ""),
            "corpora": found.metrics,
            "calibration_error": found.calibration_error,
        },
    }
    with at_once(out / SUMMARY) as new:
        new.write_text(json.dumps(summary, indent=1) + "\n")
    return summary


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
        with at_once(done) as new:
            np.savez(new, **result)  # type: ignore[arg-type]
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
            [
                f"{u.corpus}/{u.audio.name}/{u.start}/{u.end}/{u.text}"
                for u in _take(utterances, f.test)
            ]
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
    with at_once(path) as new:
        new.write_text(identity)


def _take(utterances: Sequence[Utterance], indices: Sequence[int]) -> list[Utterance]:
    return [utterances[i] for i in indices]


def default_jobs() -> int:
    """One fold per core."""
    return os.cpu_count() or 1
