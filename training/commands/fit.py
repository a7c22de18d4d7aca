"""`python -m training fit`: one model, quantization-aware."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK, counted
from edge_runtime.settings import add_arguments, from_arguments, setting
from training.begun import begin
from training.commands.common import (
    VariantRecipe,
    add_corpora,
    add_preset,
    explain,
    load_data,
    refuse_finished,
    with_speakers,
)
from training.provenance import provenance
from training.tracking import MLFLOW, Tracking, tracked
from training.words.settings import DistilSettings

if TYPE_CHECKING:
    from training.corpora.class_map import ClassMap
    from training.data.fingerprint import Origins
    from training.run import Run

WATCHED = "watched.csv"  # manifest of the clips of the speakers that did not train


@dataclass(frozen=True)
class FitRecipe(VariantRecipe):
    """Everything that training one model needs to know beside its corpora."""

    out: Path = setting(Path("runs/fit"), "Folder to write.", metavar="RUN")
    resume: bool = setting(False, "Go on where RUN was interrupted.")
    mlflow: str = setting("", MLFLOW, metavar="URI|DIR")
    watch: float = setting(
        0.2,
        "Share of each corpus's speakers kept out of training, to measure and calibrate on; 0 with "
        "--crossval.",
        metavar="SHARE",
        minimum=0,
        below=1,
    )
    crossval: Path | None = setting(
        None,
        "A finished crossval of the same data: train on every speaker, and take calibration and "
        "figures from there.",
        metavar="RUN",
    )
    crossval_corpora: Path | None = setting(
        None,
        "With --crossval: a finished crossval --by corpus of the same data. Confidence is fitted "
        "on its verdicts too, on corpora that did not train, and its figures are kept.",
        metavar="RUN",
    )
    audio_run: Path | None = setting(
        None,
        "Start from this run: audio + text keeps its audio encoder as it is; a variant that is the "
        "run's own is trained further as a whole.",
        metavar="RUN",
    )
    text_run: Path | None = setting(
        None,
        "Start from this run: audio + text keeps its text encoder as it is; a variant that is the "
        "run's own is trained further as a whole.",
        metavar="RUN",
    )
    distillation: DistilSettings = field(default_factory=DistilSettings)


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser("fit", help="train one model")
    add_corpora(command)
    add_preset(command)
    add_arguments(command, FitRecipe)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from edge_runtime.terminal import Tables
    from training.evaluate.report import print_metrics

    recipe = from_arguments(FitRecipe, arguments)
    run = fit_model(arguments.corpora, recipe)
    console = Tables()
    print_metrics(console, run.metrics)
    explain(run.metrics, run.calibration, run.training)
    out = recipe.out
    console.print(f"run in {out}; next: python -m conversion build {out} --out BUNDLE")
    return OK


def fit_model(corpora: Sequence[str], recipe: FitRecipe) -> Run:
    """Train one model, measure it on what did not train, and write it to `recipe.out`.

    Parameters
    ----------
    corpora : NAME=PATH each.

    Raises TrainingError for data or settings that cannot be used.
    """
    refuse_finished(recipe.out, recipe.resume)
    with tracked(recipe.mlflow, recipe.out, recipe.resume) as tracking:
        return _fit_tracked(corpora, recipe, tracking)


def _fit_tracked(corpora: Sequence[str], recipe: FitRecipe, tracking: Tracking) -> Run:
    """What `fit_model` does, telling `tracking` of it."""
    from training.corpora.manifest import write as write_manifest
    from training.data.features import FeatureSettings
    from training.data.fingerprint import TRAINED, write_trained
    from training.data.folds import official_split, watch_split
    from training.data.pairs import draw_words
    from training.evaluate import verdicts
    from training.evaluate.report import plot_curves
    from training.fit.fit import fit, run_of
    from training.fit.prepare import prepare
    from training.fit.remedy import remedied
    from training.run import RUN_FILE

    out, settings = recipe.out, recipe.schedule
    found, usable, words, config = load_data(corpora, recipe)
    share = 0.0 if recipe.crossval else recipe.watch
    borrowed = _borrow(recipe, list(config.labels))
    features = FeatureSettings()
    config, known = with_speakers(config, recipe.speaker_embedding, usable)
    split = None if config.parts.audio else official_split(usable)
    train, watched = split or watch_split(usable, share)
    if words.test:
        watched = draw_words(watched, words.test, words.seed)
    branches = _branches(recipe.audio_run, recipe.text_run)
    prepared = prepare(train, watched, config, settings, features, words, branches)
    data = replace(prepared.data, speakers=known)
    data, config, taught, taught_on = _distil(recipe, data, prepared)
    for note in prepared.notes:
        print(note)
    _report_skipped([*data.train.skipped, *(data.watch.skipped if data.watch else [])])
    record = _training_record(found | taught_on, settings, _used(data, words), data)
    record["seeds"] = {"training": settings.seed, "pairs": words.seed}
    if taught:
        record["distillation"] = taught
    if known:
        record["speaker_embedding"] = known.source
    _name_origins(record, data)
    made_from = {"settings": settings.record(), "model": asdict(config), "data": record["data"]}
    runs = {"audio-run": recipe.audio_run, "text-run": recipe.text_run}
    made_from["from"] = {name: run and run.name for name, run in runs.items()}
    begin(out, made_from, go_on=recipe.resume)
    tracking.begin(record, asdict(config))
    module = fit(data, config, settings, out, recipe.resume, logger=tracking.logger)
    module, tried = remedied(module, data, settings, out, recipe.resume)
    if tried:
        record["remedy"] = tried.record()
    run = run_of(module, features)
    run.vocabulary, run.training = prepared.vocabulary, record
    if borrowed:
        run.calibration, run.metrics = borrowed
    paths = (recipe.audio_run, branches.audio), (recipe.text_run, branches.text)
    origins = {path: begun.training for path, begun in paths if path and begun}
    rows = _measure(run, out, data, words, bool(borrowed), bool(split), origins)
    record["data"] |= {"complete": write_trained(out / TRAINED, _used(data, words), origins)}
    if data.watch:
        write_manifest(out / WATCHED, data.watch.utterances)
    if rows:
        verdicts.write(out / verdicts.FILE, rows, config.labels)
    plot_curves([out], out / "curves.png", settings.float_epochs)
    # The last: where it is, the run is finished.
    run.save(out)
    tracking.end(run.metrics, verdicts.errors_by_corpus(rows), out / RUN_FILE)
    return run


def _used(data: Any, words: Any) -> list[Any]:
    """What trains: clips, and the texts to pair them with."""
    return [*data.train.utterances, *words.train]


def _distil(
    recipe: FitRecipe, data: Any, prepared: Any
) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """Data and config for training on a teacher, if asked for; what to record; further corpora."""
    from edge_runtime.tokenizer import Tokenizer
    from training.corpora.class_map import open_classes
    from training.data.tokens import TextSet, tokenize
    from training.errors import TrainingError
    from training.words.distil import check, distil, further_corpora, with_odds

    config, settings = prepared.config, recipe.distillation
    check(settings)
    if settings.distil == 0:
        return data, config, {}, {}
    if not isinstance(data.train, TextSet):
        raise TrainingError("--distil teaches models of words alone: --variant text or text+swem")
    tokenizer = Tokenizer(prepared.vocabulary, config.tokens, config.punctuation)
    corpora = further_corpora(settings, open_classes(recipe.classes))
    texts = [u for c in corpora.values() for u in c.utterances if u.label in data.labels]
    further = tokenize(texts, tokenizer)
    taught = distil(data.train, data.labels, settings, further)
    print(
        f"the teacher's UA on the training texts, out of fold: {100 * taught.ua:.1f} %; "
        f"it teaches {counted(taught.texts.unlabelled, 'further text')}"
    )
    vocabulary = data.vocabulary
    if settings.distil_columns:
        sources = [part for part in (data.train.utterances, further.utterances) if part]
        vocabulary = with_odds(vocabulary, sources)
        config = replace(config, embedding=vocabulary.table.shape[1])
    record = {**asdict(settings), "distil_texts": settings.distil_texts.partition("=")[0]}
    record |= {"unlabelled": taught.texts.unlabelled, "ua": taught.ua}
    return replace(data, train=taught.texts, vocabulary=vocabulary), config, record, corpora


def _branches(audio: Path | None, text: Path | None) -> Any:
    from training.fit.warmstart import Branches
    from training.run import load

    return Branches(load(audio) if audio else None, load(text) if text else None)


def _borrow(recipe: FitRecipe, labels: list[str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Calibration and figures of the crossvals that stand for what would be kept out."""
    from training.errors import TrainingError
    from training.evaluate.crossval_files import joint_calibration

    if recipe.crossval is None:
        if recipe.crossval_corpora:
            raise TrainingError("--crossval-corpora goes with --crossval")
        return None
    summary = _crossval_summary(recipe.crossval, labels)
    if recipe.crossval_corpora is None:
        return calibration_of(summary), summary["metrics"]
    unseen = _crossval_summary(recipe.crossval_corpora, labels)["metrics"]
    calibration, errors = joint_calibration([recipe.crossval, recipe.crossval_corpora])
    return calibration, {**summary["metrics"], "calibration_error": errors, "unseen": unseen}


def _crossval_summary(folder: Path, labels: list[str]) -> dict[str, Any]:
    from training.errors import TrainingError
    from training.evaluate.crossval_files import SUMMARY

    path = folder / SUMMARY
    if not path.exists():
        raise TrainingError(f"{folder} is not a finished crossval: there is no {SUMMARY}")
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if summary["labels"] != labels:
        raise TrainingError(f"{folder} has classes {summary['labels']}, this data {labels}")
    return summary


def classes_of(folder: Path, given: str) -> ClassMap:
    """The map of classes that `given` names, else the one that a run or crossval was trained with.

    Raises TrainingError where that cannot be read.
    """
    from training.corpora.class_map import open_classes
    from training.evaluate.crossval_files import SUMMARY
    from training.run import RUN_FILE

    record: dict[str, Any] = {}
    for name in (SUMMARY, RUN_FILE):
        if (folder / name).exists():
            raw = json.loads((folder / name).read_text(encoding="utf-8"))
            record = raw if name == SUMMARY else raw.get("training", {})
            break
    return open_classes(given, record)


def watched_clips(folder: Path) -> set[Any]:
    """Keys (`Utterance.clip`) of the clips that a run kept out; none where it says nothing."""
    from training.corpora.manifest import load as load_manifest

    path = folder / WATCHED
    if not path.exists():
        return set()
    return {u.clip for u in load_manifest(path).utterances if u.path is not None}


def calibration_of(summary: dict[str, Any]) -> dict[str, Any]:
    """The calibration that a crossval's summary holds."""
    from edge_runtime.manifest import Calibration

    return {name: Calibration(**chosen) for name, chosen in summary["calibration"].items()}


def _measure(
    run: Any,
    out: Path,
    data: Any,
    words: Any,
    borrowed: bool,
    official: bool,
    origins: Origins,
) -> list[dict[str, Any]]:
    """Measure and calibrate on what did not train, in every form; the verdicts on each clip.

    Spoken clips, unless the figures are borrowed; and the development texts by themselves.
    """
    from training.data.features import FeatureSet
    from training.data.fingerprint import seen_before
    from training.data.folds import watch_protocol
    from training.data.pairs import PAIRING, PairSet
    from training.evaluate.judge import convert, judge, summarize
    from training.evaluate.verdicts import rows_of
    from training.run import forms_of

    metrics, watched = run.metrics, data.watch
    metrics.setdefault("corpora", {})
    metrics.setdefault("calibration_error", {})
    parts: list[tuple[list[Any], Any, Any, list[Any], str]] = []
    if watched and not borrowed:
        clips = watched.clips if isinstance(watched, PairSet) else watched
        heard = isinstance(clips, FeatureSet)
        features = clips.clean if heard else None
        degraded = clips.variant(1) if heard else []
        protocol = (
            "official development split" if official else watch_protocol(watched.utterances)
        ) + (f"; {PAIRING}" if words.test else "")
        seen = ", ".join(seen_before(watched.utterances, origins))
        if seen:
            protocol += f"; what it was begun with was trained on {seen}"
            warning = "what it was begun with was trained on %s: people who taught it judge it"
            logging.warning(f"warning: {warning}, and the figures flatter", seen)
        parts.append((watched.utterances, features, data.speakers, degraded, protocol))
    if words.test:
        # Nobody spoke them.
        alone = "texts: official development split, words alone"
        parts.append((list(words.test), None, None, [], alone))
    rows: list[dict[str, Any]] = []
    if not parts:
        return rows
    with tempfile.TemporaryDirectory() as work:
        # Not in `out`, where it would say that the run is finished.
        run.save(Path(work) / "run")
        bundle = convert(Path(work) / "run", out / "bundle")
    for utterances, features, speakers, degraded, protocol in parts:
        found = judge(run, bundle, utterances, features, speakers, degraded)
        summary = summarize(found, utterances, run.config.labels)
        metrics["protocol"] = "; ".join(filter(None, [metrics.get("protocol"), protocol]))
        for corpus, modalities in summary.metrics.items():
            metrics["corpora"].setdefault(corpus, {}).update(modalities)
        # What was calibrated on clips of a crossval is better known than by few.
        run.calibration = {**summary.calibration, **run.calibration}
        metrics["calibration_error"] = {**summary.calibration_error, **metrics["calibration_error"]}
        rows += rows_of(utterances, found, run.config.labels, run.calibration)
    metrics["forms"] = forms_of(metrics)
    return rows


def _training_record(
    found: dict[str, Any], settings: Any, used: list[Any], data: Any
) -> dict[str, Any]:
    from training.corpora import speakers_of
    from training.corpora.class_map import record_of
    from training.data.features import FeatureSet
    from training.data.fingerprint import data_record
    from training.data.pairs import PAIRING, PairSet

    hours: defaultdict[str, float] = defaultdict(float)
    paired = isinstance(data.train, PairSet)
    features = data.train.clips if paired else data.train
    if isinstance(features, FeatureSet):
        for utterance, variants in zip(features.utterances, features.variants, strict=True):
            hours[utterance.corpus] += len(variants[0]) / 360_000
    licences = [f"{f.licence} ({name})" for name, f in found.items() if f.licence]
    return {
        "corpora": {
            name: {
                "clips": sum(u.corpus == name for u in used),
                "speakers": speakers_of(u for u in used if u.corpus == name),
                "hours": round(hours[name], 3),
                "classes": dict(sorted(Counter(u.label for u in used if u.corpus == name).items())),
                "licence": f.licence,
                "citation": f.citation,
            }
            for name, f in found.items()
        },
        "classes": record_of(found),
        "licence": ", ".join(licences) or "that of the manifest's data",
        "skipped": len(features.skipped),
        **({"pairing": PAIRING} if any(u.path is None for u in used) and paired else {}),
        "settings": settings.record(),
        "data": data_record(used, data.watch.utterances if data.watch else ()),
        **provenance(),
    }


def _name_origins(record: dict[str, Any], data: Any) -> None:
    """Add to a training record the runs that the model came from: its data is theirs as well."""
    from training.run import with_origin

    named = {"audio": data.branches.audio, "text": data.branches.text}
    runs = {name: run for name, run in named.items() if run}
    if runs:
        record["branches"] = {name: r.training.get("settings", {}) for name, r in runs.items()}
    if data.start:
        record["start"] = data.start.training.get("settings", {})
        runs["start"] = data.start
    for run in runs.values():
        with_origin(record, run)


def _report_skipped(skipped: Iterable[tuple[Any, str]]) -> None:
    skipped = list(skipped)
    if skipped:
        print(
            f"skipped {counted(len(skipped), 'clip')} that cannot be used (see above)",
            file=sys.stderr,
        )
