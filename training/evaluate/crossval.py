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
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_runtime.console import OURS
from training.begun import begin
from training.corpora import Utterance, class_indices
from training.corpora.class_map import DEFAULT
from training.data.features import FeatureSettings, extract
from training.data.fingerprint import data_record
from training.data.folds import Cut, Fold, cut_folds, fold_protocol, unjudged
from training.data.pairs import PAIRING, draw_words
from training.data.speaker import SpeakerVectors
from training.data.teacher import teach
from training.evaluate import verdicts as by_clip
from training.evaluate.crossval_files import (
    PREDICTIONS,
    SUMMARY,
    VERDICTS,
    clip_name,
    write_verdicts,
)
from training.evaluate.judge import Logits, Verdicts, convert, judge, summarize
from training.evaluate.progress import FoldProgress
from training.fit.fit import augmentations, fit, run_of, watched_augmentations
from training.fit.prepare import WordPlan, prepare
from training.fit.remedy import remedied
from training.fit.settings import FitSettings
from training.fit.warmstart import Branches
from training.network.config import ModelConfig
from training.output import at_once
from training.provenance import provenance
from training.run import RUN_FILE, Run, forms_of, load
from training.tracking import flat

FORMS = ("float", "fake-quant", "int8")

log = logging.getLogger(__name__)


@dataclass(eq=False)
class CrossvalResult:
    """Out-of-fold predictions of every clip, in every form of the model."""

    utterances: list[Utterance]
    labels: list[str]
    verdicts: Verdicts
    folds: list[int]
    """The fold that judged each utterance."""


@dataclass(frozen=True, eq=False)
class Training:
    """How the model of every fold is trained and judged."""

    config: ModelConfig
    """The shape of the models."""
    settings: FitSettings
    """The schedule."""
    features: FeatureSettings
    """What a model hears of a clip."""
    words: WordPlan = field(default_factory=WordPlan)
    """For a model that reads: where its words come from."""
    audio_runs: Path | None = None
    """A finished crossval of an audio model over the same folds, whose encoders the folds start
    from and keep (`training.fit.warmstart`)."""
    text_run: Path | None = None
    """A run of a text model, likewise; it must not have trained on the words tested."""
    speakers: SpeakerVectors | None = None
    """Speaker embeddings, for a variant that takes them."""
    classes: dict[str, Any] = field(default_factory=dict)
    """What is recorded of the map of classes (`training.corpora.class_map.record_of`)."""
    int8: bool = True
    """Whether to convert each fold's model and judge it on the device path, which takes a few
    seconds a fold and about as long again as the clips take to stream."""


def crossval(
    utterances: Sequence[Utterance], training: Training, folds: Cut, out: Path, jobs: int
) -> CrossvalResult:
    """Train, convert and judge `folds` models into `out`, `jobs` at a time, one thread each.

    Folds are so many by speaker, or one a recording session or corpus.
    A fold that is finished in `out` is not trained again; one that was judged without int8 is
    converted when that is asked for.
    Raises TrainingError when the data does not fold, or the converter fails.
    """
    settings, words = training.settings, training.words
    known = extract(utterances, training.features, augmentations(settings))
    if settings.teacher:
        teach(known, settings.teacher)
    usable = known.utterances
    del known  # the folds read their own; of a large corpus this is gigabytes
    plan = cut_folds(usable, folds)
    for line in unjudged(usable, plan):
        log.warning("%s", line)
    if training.config.parts.text and words.test:
        usable = draw_words(usable, words.test, words.seed)
    begin(out, _made_from(plan, usable, training), go_on=True)
    folders = [out / f"fold{number}" for number in range(1, len(plan) + 1)]
    results = [_known(folder / PREDICTIONS, training.int8) for folder in folders]
    with FoldProgress(len(plan), settings.all_epochs) as progress, _fold_pool(jobs) as pool:
        futures: dict[int, Future[Verdicts]] = {}
        for place, fold in enumerate(plan):
            if results[place]:  # no process need begin, which takes seconds
                progress.queue.put((place + 1, "done", 0))
                continue
            task = _FoldTask(place + 1, usable, fold, training, folders[place], progress.queue)
            futures[place] = pool.submit(_run_fold, task)
        progress.follow(list(futures.values()))
        for place, future in futures.items():
            results[place] = future.result()
    return _joined(usable, list(training.config.labels), plan, results)


def _joined(
    usable: Sequence[Utterance],
    labels: list[str],
    plan: Sequence[Fold],
    results: Sequence[Mapping[str, Logits]],
) -> CrossvalResult:
    """The verdicts of all folds, each on its own test utterances, as one."""
    verdicts: Verdicts = {}
    numbers = [0] * len(usable)
    for number, (fold, result) in enumerate(zip(plan, results, strict=True)):
        for key, logits in result.items():
            empty = np.zeros((len(usable), len(labels)), np.float32)
            verdicts.setdefault(key, empty)[fold.test] = logits
        for index in fold.test:
            numbers[index] = number
    return CrossvalResult(list(usable), labels, verdicts, numbers)


def write_summary(
    result: CrossvalResult, training: Training, out: Path, cut: Cut, paired: bool
) -> dict[str, Any]:
    """Write the figures of a crossval into `out`, where `fit --crossval` finds them; the same back.

    `cut` and `paired` say how folds were cut and whether words were drawn by class.
    """
    config = training.config
    found = summarize(result.verdicts, result.utterances, result.labels, result.folds)
    summary: dict[str, Any] = {
        "labels": result.labels,
        **({"classes": training.classes} if training.classes else {}),
        "variant": config.variant,
        "settings": training.settings.record(),
        "model": asdict(config),
        "data": data_record(result.utterances),
        "seeds": {"training": training.settings.seed, "pairs": training.words.seed},
        **provenance(),
        "calibration": {name: asdict(chosen) for name, chosen in found.calibration.items()},
        "metrics": {
            "protocol": fold_protocol(result.utterances, len(set(result.folds)), cut)
            + "; figures over the clips of all test folds together"
            + (f"; {PAIRING}" if paired else ""),
            "corpora": found.metrics,
            "calibration_error": found.calibration_error,
            "forms": forms_of({"corpora": found.metrics}),
        },
    }
    write_verdicts(
        out / VERDICTS,
        result.verdicts,
        np.array(class_indices(result.utterances, result.labels)),
    )
    rows = by_clip.rows_of(result.utterances, result.verdicts, result.labels, found.calibration)
    by_clip.write(out / by_clip.FILE, rows, result.labels)
    with at_once(out / SUMMARY) as new:
        new.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


@dataclass
class _FoldTask:
    number: int
    utterances: list[Utterance]
    fold: Fold
    training: Training
    folder: Path
    queue: Any


_ended: Any = None  # in the process of a fold: an event, set where no more is to be done


@contextmanager
def _fold_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for folds; on the way out, no fold is begun, and none goes on for another epoch."""
    context = multiprocessing.get_context("spawn")
    ended = context.Event()
    # A fold's gigabytes go with its process: a finished trainer is a circle of references.
    pool = ProcessPoolExecutor(jobs, context, _begin_process, (ended,), max_tasks_per_child=1)
    try:
        yield pool
    finally:
        # A pool holds more folds than it has processes for; those it cannot give up any more.
        ended.set()
        pool.shutdown(cancel_futures=True)


def _begin_process(ended: Any) -> None:
    global _ended
    _ended = ended
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A fold whose command was killed would train on, and write where the next one does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(OURS)


def _tell(task: _FoldTask, state: str, epochs: int) -> None:
    """Say how far a fold is; KeyboardInterrupt where no more is to be done."""
    if _ended is not None and _ended.is_set():
        raise KeyboardInterrupt
    task.queue.put((task.number, state, epochs))


def _run_fold(task: _FoldTask) -> dict[str, Logits]:
    """Train, convert and judge one fold; runs in a process of its own."""
    _tell(task, "reading", 0)
    done = task.folder / PREDICTIONS
    result = _known(done, task.training.int8)
    if not result:
        torch.set_num_threads(1)
        task.folder.mkdir(parents=True, exist_ok=True)
        train, test = (_take(task.utterances, side) for side in (task.fold.train, task.fold.test))
        finished = (task.folder / RUN_FILE).exists()
        run = load(task.folder) if finished else _train(task, train, test)
        bundle = None
        if task.training.int8:
            _tell(task, "converting", 0)
            bundle = convert(task.folder, task.folder / "bundle")
        clean, degraded = None, []
        if run.config.parts.audio:
            seen = watched_augmentations(task.training.settings)
            heard = extract(test, task.training.features, seen, workers=1, progress=False)
            clean, degraded = heard.clean, heard.variant(1)
        result = judge(run, bundle, test, clean, task.training.speakers, degraded)
        with at_once(done) as new:
            np.savez(new, **result)  # type: ignore[arg-type]
    _tell(task, "done", 0)
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
    audio_runs = task.training.audio_runs
    branches = Branches(
        load(audio_runs / task.folder.name) if audio_runs else None,
        load(task.training.text_run) if task.training.text_run else None,
    )
    prepared = prepare(
        train,
        test,
        task.training.config,
        task.training.settings,
        task.training.features,
        task.training.words,
        branches,
        workers=1,
    )
    data, settings = replace(prepared.data, speakers=task.training.speakers), task.training.settings

    def progress(epoch: int, _: int) -> None:
        _tell(task, "training", epoch)

    module = fit(data, prepared.config, settings, task.folder, True, progress)
    module, tried = remedied(module, data, settings, task.folder, True, progress, by_watched=False)
    run = run_of(module, task.training.features)
    run.training = {
        "fold": task.number,
        "settings": task.training.settings.record(),
        "data": data_record(prepared.data.train.utterances, test),
        **provenance(),
    }
    if tried:
        run.training["remedy"] = tried.record()
    run.vocabulary = prepared.vocabulary
    run.save(task.folder)
    return run


def _made_from(
    plan: Sequence[Fold], utterances: Sequence[Utterance], training: Training
) -> dict[str, Any]:
    """All that a fold's model and figures depend on."""
    words = training.words
    parts: dict[str, Any] = {
        "settings": training.settings.record(),
        "model": asdict(training.config),
        "features": asdict(training.features),
        "from": {
            "audio-runs": training.audio_runs and training.audio_runs.name,
            "text-run": training.text_run and training.text_run.name,
        },
        "test": [
            [f"{clip_name(u)}/{u.label}/{u.text}" for u in _take(utterances, fold.test)]
            for fold in plan
        ],
    }
    if training.config.parts.text:
        texts = "\n".join(u.text for u in words.train)
        digest = hashlib.sha256(texts.encode()).hexdigest()
        settings = {name: str(value) for name, value in flat(asdict(words.settings)).items()}
        parts["words"] = {**settings, "paired": digest}
    if training.classes.get("map", DEFAULT) != DEFAULT:
        parts["classes"] = training.classes
    if training.speakers:
        parts["speakers"] = training.speakers.digest(utterances)
    return parts


def _take(utterances: Sequence[Utterance], indices: Sequence[int]) -> list[Utterance]:
    return [utterances[i] for i in indices]


def default_jobs() -> int:
    """One fold per core."""
    return os.cpu_count() or 1
