"""What the commands of `python -m training` do, given what the command line says.

Each takes the parsed arguments and returns an exit code. What is heavy is imported where it is
used, so that --help is quick.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_runtime.console import OK, THEIRS
from edge_runtime.errors import EdgeError
from edge_runtime.settings import from_arguments

KEYWORDS = Path("runs/keywords.txt")
WATCHED = "watched.csv"  # manifest of the clips of the speakers that did not train


@dataclass(frozen=True)
class ModelSettings:
    """The shape of the network, as far as the command line sets it."""

    filters: int = 128
    """Filters per kernel length."""
    stride: int = 1
    """Frames of 10 ms from one audio map to the next."""
    dilations: str = ""
    """Dilation of each audio layer of kernel 3 behind the first, in maps, such as 1 or 1,2."""
    hidden: int = 128
    """Width of the hidden dense layer."""
    dropout: float = 0.5
    """Dropout before each dense layer."""


@dataclass(frozen=True)
class SpeakerSettings:
    """Speaker embeddings, for a variant with +speaker."""

    speaker: str = ""
    """Where they are from: resemblyzer (computed here), FILE.scp, FILE.ark, FILE.npy with its ids
    in FILE.txt, or a folder of ID.npy."""
    utt2spk: Path | None = None
    """Kaldi's utt2spk, where the embeddings are those of speakers it names."""


@dataclass(frozen=True)
class CostSettings:
    """The model whose variants are counted."""

    filters: int = 128
    """Filters per kernel length."""
    hidden: int = 128
    """Width of the hidden dense layer."""
    embedding: int = 50
    """Width of a word embedding."""
    vocabulary: int = 10_000
    """Rows of the embedding table."""
    speaker: int = 512
    """Width of the speaker embedding."""
    frames: int = 750
    """Frames of the utterance, 10 ms each."""
    tokens: int = 128
    """Words of the utterance."""


def corpora_command(arguments: argparse.Namespace) -> int:
    """Print what is there."""
    from rich.console import Console
    from rich.table import Table

    from edge_runtime.audio.file import FileSource
    from training.corpora import incomplete, load_corpora

    columns = ("corpus", "utterances", "text only", "hours", "speakers", "classes", "left out")
    table = Table(*columns, "unreadable")
    notes = []
    for name, found in load_corpora(arguments.corpora).items():
        seconds, unreadable, text_only = 0.0, 0, 0
        for utterance in found.utterances:
            if utterance.path is None:
                text_only += 1
                continue
            try:
                seconds += FileSource(utterance.path, utterance.start, utterance.end).seconds
            except EdgeError as error:
                unreadable += 1
                logging.warning("%s", error)
        table.add_row(
            name,
            str(len(found.utterances)),
            str(text_only),
            f"{seconds / 3600:.2f}",
            str(len({u.speaker for u in found.utterances})),
            _counts(Counter(u.label for u in found.utterances)),
            _counts(found.left_out) or "-",
            str(unreadable),
        )
        notes += [f"{name}: {note}" for note in found.notes]
        if warning := incomplete(name, found):
            logging.warning("%s", warning)
    console = Console()
    console.print(table)
    for note in notes:
        console.print(note)
    return OK


def fit_command(arguments: argparse.Namespace) -> int:
    """Train one model."""
    from rich.console import Console

    from training.corpora import load_corpora
    from training.corpora.manifest import write as write_manifest
    from training.data import FeatureSettings
    from training.errors import TrainingError
    from training.fit import FitSettings, fit, run_of
    from training.folds import check_classes, official_split, watch_split
    from training.pairs import draw_words
    from training.prepare import prepare
    from training.report import plot_curves, print_metrics

    out = arguments.out or Path("runs/fit")
    settings = from_arguments(FitSettings, arguments)
    _refuse_finished(out, arguments.resume)
    found = load_corpora(arguments.corpora)
    utterances = [u for f in found.values() for u in f.utterances]
    labels = check_classes(utterances)
    share = 0.0 if arguments.crossval else arguments.watch
    if not 0 <= share < 1:
        raise TrainingError(f"--watch {share} is not a share from 0 to 1")
    borrowed = _crossval_summary(arguments.crossval, labels) if arguments.crossval else None
    config, known = _with_speakers(
        arguments, _config(arguments, arguments.variant, labels), utterances
    )
    features = FeatureSettings()
    usable, words = _word_plan(arguments, utterances, config)
    split = None if config.parts.audio else official_split(usable)
    train, watched = split or watch_split(usable, share)
    if words.test:
        watched = draw_words(watched, words.test, words.seed)
    branches = _branches(arguments.audio_run, arguments.text_run)
    prepared = prepare(train, watched, config, settings, features, words, branches)
    data = replace(prepared.data, speakers=known)
    data, config, taught, taught_on = _distil(arguments, data, prepared)
    for note in prepared.notes:
        print(note)
    _report_skipped([*data.train.skipped, *(data.watch.skipped if data.watch else [])])
    module = fit(data, config, settings, out, arguments.resume)
    run = run_of(module, features)
    run.vocabulary = prepared.vocabulary
    run.training = _training_record(
        found | taught_on, settings, [*data.train.utterances, *words.train], data
    )
    if taught:
        run.training["distillation"] = taught
    if known:
        run.training["speaker_embedding"] = known.source
    if branches:
        run.training["branches"] = {
            name: branch.training.get("settings", {})
            for name, branch in (("audio", branches.audio), ("text", branches.text))
            if branch
        }
    if borrowed:
        run.calibration = _calibration_of(borrowed)
        run.metrics = borrowed["metrics"]
    run.save(out)
    _measure(run, out, data, words, bool(borrowed), bool(split))
    if data.watch:
        write_manifest(out / WATCHED, data.watch.utterances)
    plot_curves([out], out / "curves.png", settings.float_epochs)
    console = Console()
    print_metrics(console, run.metrics)
    console.print(f"run in {out}; next: python -m conversion build {out} --out BUNDLE")
    return OK


def crossval_command(arguments: argparse.Namespace) -> int:
    """Train and judge a model for each fold."""
    from rich.console import Console

    from training.corpora import load_corpora
    from training.crossval import crossval, default_jobs, write_summary
    from training.data import FeatureSettings
    from training.errors import TrainingError
    from training.fit import FitSettings
    from training.folds import check_classes
    from training.metrics import Metrics
    from training.report import plot_confusion, plot_curves, print_metrics

    out = arguments.out or Path("runs/crossval")
    settings = from_arguments(FitSettings, arguments)
    folds = _folds(arguments, 5)
    found = load_corpora(arguments.corpora)
    utterances = [u for f in found.values() for u in f.utterances]
    labels = check_classes(utterances)
    config, known = _with_speakers(
        arguments, _config(arguments, arguments.variant, labels), utterances
    )
    usable, words = _word_plan(arguments, utterances, config)
    for path in (arguments.audio_runs, arguments.text_run):
        if path and not path.exists():
            raise TrainingError(f"there is no {path}")
    result = crossval(
        usable,
        config,
        settings,
        FeatureSettings(),
        folds,
        out,
        arguments.jobs or default_jobs(),
        words,
        arguments.audio_runs,
        arguments.text_run,
        known,
    )
    summary = write_summary(result, config, out, folds is None, bool(words.train))
    metrics = summary["metrics"]["corpora"]
    for corpus, modalities in metrics.items():
        main_modality, forms = list(modalities.items())[-1]
        panels = [
            (f"{corpus}, {main_modality}, {form}", Metrics.of(forms[form]))
            for form in ("float", "int8")
        ]
        plot_confusion(panels, out / f"confusion_{corpus}.png")
    plot_curves(sorted(out.glob("fold*")), out / "curves.png", settings.float_epochs)
    console = Console()
    print_metrics(console, summary["metrics"])
    for name, chosen in summary["calibration"].items():
        error = summary["metrics"]["calibration_error"][name]
        console.print(
            f"{name}: calibration error {100 * error:.1f} % at temperature "
            f"{chosen['temperature']:.2f}"
        )
    console.print(f"plots and predictions in {out}")
    return OK


def transcribe_command(arguments: argparse.Namespace) -> int:
    """Write what an engine hears."""
    from training.corpora import load_corpora
    from training.transcribe import TranscribeSettings, transcribe

    found = load_corpora(_as_manifest(argument) for argument in arguments.corpora)
    utterances = [u for f in found.values() for u in f.utterances]
    result = transcribe(utterances, arguments.out, from_arguments(TranscribeSettings, arguments))
    print(
        f"{arguments.out}: {result.heard} clips heard, {result.kept} kept, "
        f"{len(result.failed)} failed"
    )
    return THEIRS if result.failed else OK


def keywords_command(arguments: argparse.Namespace) -> int:
    """Learn the list of key phrases."""
    from rich.console import Console
    from rich.table import Table

    from training.corpora import load_corpora
    from training.keywords import KeywordSettings, learn

    settings = from_arguments(KeywordSettings, arguments)
    found = load_corpora(_as_manifest(argument) for argument in arguments.corpora)
    utterances = [u for f in found.values() for u in f.utterances]
    # Clips of corpora that repeat a few sentences tell nothing about words: texts are those that
    # have no audio, or an official training split.
    texts = [u for u in utterances if u.text and (u.split == "train" or not (u.split or u.path))]
    result = learn(texts, utterances, settings)
    result.write(arguments.out, settings)
    table = Table("phrase", "tells", "log10 threshold", "found", "alarms an hour", "bits x 1000")
    for entry in result.phrases:
        best = max(entry.phrase.weights, key=lambda label: entry.phrase.weights[label])
        table.add_row(
            entry.phrase.text,
            f"{best} {entry.phrase.weights[best]:.1f}",
            f"{entry.phrase.threshold:.1f}",
            f"{entry.hits} of {entry.spoken}",
            f"{entry.rate:g}",
            f"{1000 * entry.bits:.2f}",
        )
    Console().print(table)
    print(
        f"{arguments.out}: {len(result.phrases)} phrases, {len(result.left_out)} candidates left "
        f"out; {result.hours:.2f} h of real and {result.spoken_hours:.2f} h of synthesized speech"
    )
    return OK


def _as_manifest(argument: str) -> str:
    """A CSV can be named without saying that it is a manifest."""
    return f"manifest={argument}" if argument.endswith(".csv") and "=" not in argument else argument


def table_command(arguments: argparse.Namespace) -> int:
    """Every variant over the paper's folds."""
    from rich.console import Console

    from training.corpora import incomplete, load_corpora
    from training.crossval import default_jobs
    from training.data import FeatureSettings
    from training.embeddings import WordSettings
    from training.fit import FitSettings
    from training.folds import check_classes
    from training.table import PAPER_FOLDS, Protocol, TableSettings, choose, run
    from training.transcribe import with_transcripts

    out = arguments.out or Path("runs/table")
    settings = from_arguments(TableSettings, arguments)
    speaker = from_arguments(SpeakerSettings, arguments)
    words = from_arguments(WordSettings, arguments)
    folds = _folds(arguments, PAPER_FOLDS)
    found = load_corpora(arguments.corpora)
    utterances = [u for f in found.values() for u in f.utterances]
    if words.text == "asr":
        utterances = with_transcripts(utterances, words.transcripts)
    chosen, notes = choose(settings.variants, utterances, arguments.pair, bool(speaker.speaker))
    notes = [*filter(None, (incomplete(name, f) for name, f in found.items())), *notes]
    spoken = [u for u in utterances if u.path is not None]
    if not arguments.pair and len(spoken) < len(utterances):
        notes.append(
            f"{len(utterances) - len(spoken)} texts without sound are left out; see --pair"
        )
        utterances = spoken
    for note in notes:
        logging.warning("%s", note)
    protocol = Protocol(
        utterances,
        _config(arguments, "audio", check_classes(spoken)),
        from_arguments(FitSettings, arguments),
        FeatureSettings(),
        words,
        folds,
        arguments.jobs or default_jobs(),
        arguments.pair,
        _speakers(speaker, spoken),
    )
    table = run(protocol, chosen, settings, out, notes, logging.warning)
    # As wide as its cells wherever it goes: a row that wraps is not read at a glance.
    console = Console(width=max(Console().width, 150))
    for part in table.tables():
        console.print(part)
    for line in table.explanation():
        print(line)
    print(f"table in {out}: table.json, table.md, table.png")
    return OK


def variants_command(arguments: argparse.Namespace) -> int:
    """Print what each variant costs."""
    from rich.console import Console
    from rich.table import Table

    from training.cost import cost
    from training.model import ModelConfig, variants

    shape = from_arguments(CostSettings, arguments)
    table = Table(
        "variant", "head reads", "parameters", "and embeddings", "MMAC", "audio", "text", "att"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name in variants():
        config = ModelConfig(
            variant=name,
            filters=shape.filters,
            hidden=(shape.hidden,),
            embedding=shape.embedding,
            vocabulary=shape.vocabulary,
            speaker=shape.speaker,
        )
        found = cost(config, shape.frames, shape.tokens)
        embeddings = found.parameters.get("embedding", 0)
        table.add_row(
            name,
            f"{found.width:,}",
            f"{found.total_parameters - embeddings:,}",
            f"{embeddings:,}" if embeddings else "-",
            f"{found.total_macs / 1e6:,.1f}",
            *(f"{found.macs.get(p, 0) / 1e6:,.1f}" for p in ("audio", "text", "attention")),
        )
    Console(width=110).print(table)
    print(
        f"one utterance of {shape.frames} frames and {shape.tokens} words; in int8 a parameter is "
        "a byte; the speaker embedding's own encoder is not counted"
    )
    return OK


def _folds(arguments: argparse.Namespace, count: int) -> int | None:
    """Folds by speaker, `count` by default; None for one a session."""
    from training.errors import TrainingError

    if arguments.by == "speaker":
        return count if arguments.folds is None else int(arguments.folds)
    if arguments.folds is not None:
        raise TrainingError("--by session makes one fold a session; leave out --folds")
    return None


def _config(arguments: argparse.Namespace, variant: str, labels: list[str]) -> Any:
    from training.errors import TrainingError
    from training.model import ModelConfig

    shape = from_arguments(ModelSettings, arguments)
    try:
        return ModelConfig(
            labels=tuple(labels),
            variant=variant,
            filters=shape.filters,
            audio_stride=shape.stride,
            audio_dilations=_numbers(shape.dilations),
            hidden=(shape.hidden,),
            dropout=shape.dropout,
        )
    except ValueError as error:
        raise TrainingError(str(error)) from None


def _numbers(text: str) -> tuple[int, ...]:
    """Numbers apart by commas; ValueError, in words, for anything else."""
    try:
        return tuple(int(number) for number in text.split(",") if number)
    except ValueError:
        raise ValueError(f"--dilations {text}: expected numbers, such as 1 or 1,2") from None


def _with_speakers(
    arguments: argparse.Namespace, config: Any, utterances: list[Any]
) -> tuple[Any, Any]:
    """`config` at the width of the speaker embeddings, and those; as it is and None without."""
    from training.errors import TrainingError

    chosen = from_arguments(SpeakerSettings, arguments)
    if config.parts.speaker != bool(chosen.speaker):
        raise TrainingError(
            f"variant {config.variant} needs --speaker: resemblyzer, or a file of embeddings"
            if config.parts.speaker
            else f"variant {config.variant} takes no speaker embedding; add +speaker to it"
        )
    speakers = _speakers(chosen, utterances)
    return (replace(config, speaker=speakers.width) if speakers else config), speakers


def _speakers(chosen: SpeakerSettings, utterances: list[Any]) -> Any:
    """The speaker embeddings asked for; None for none."""
    from training.speaker import load_speakers

    if not chosen.speaker:
        return None
    speakers = load_speakers(chosen.speaker, utterances, chosen.utt2spk)
    print(
        f"{len(speakers.vectors)} of {len(utterances)} utterances have a speaker embedding of "
        f"{speakers.source}, {speakers.width} wide"
    )
    return speakers


def _word_plan(
    arguments: argparse.Namespace, utterances: list[Any], config: Any
) -> tuple[list[Any], Any]:
    from training.embeddings import WordSettings
    from training.prepare import word_plan
    from training.transcribe import with_transcripts

    settings = from_arguments(WordSettings, arguments)
    if config.parts.text and settings.text == "asr":
        utterances = with_transcripts(utterances, settings.transcripts)
    return word_plan(utterances, config, settings, arguments.pair)


def _distil(
    arguments: argparse.Namespace, data: Any, prepared: Any
) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """Data and config for training on a teacher, if asked for; what to record; further corpora."""
    from edge_runtime.text.tokenizer import Tokenizer
    from training.distil import DistilSettings, check, distil, further_corpora, with_odds
    from training.errors import TrainingError
    from training.text import TextSet, tokenize

    settings, config = from_arguments(DistilSettings, arguments), prepared.config
    check(settings)
    if settings.distil == 0:
        return data, config, {}, {}
    if not isinstance(data.train, TextSet):
        raise TrainingError("--distil teaches models of words alone: --variant text or text+swem")
    tokenizer = Tokenizer(prepared.vocabulary, config.tokens, config.punctuation)
    corpora = further_corpora(settings)
    texts = [u for c in corpora.values() for u in c.utterances if u.label in data.labels]
    further = tokenize(texts, tokenizer)
    taught = distil(data.train, data.labels, settings, further)
    print(
        f"the teacher's UA on the training texts, out of fold: {100 * taught.ua:.1f} %; "
        f"{taught.texts.unlabelled} further texts learn from it"
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
    from training.run import load
    from training.warmstart import Branches

    return Branches(load(audio) if audio else None, load(text) if text else None)


def _refuse_finished(out: Path, resume: bool) -> None:
    from training.errors import TrainingError
    from training.run import RUN_FILE

    if (out / RUN_FILE).exists():
        raise TrainingError(f"{out} holds a finished run; choose another --out or remove it")
    if (out / "checkpoints").exists() and not resume:
        raise TrainingError(f"{out} holds an interrupted run; go on with --resume or remove it")


def _crossval_summary(folder: Path, labels: list[str]) -> dict[str, Any]:
    from training.crossval import SUMMARY
    from training.errors import TrainingError

    path = folder / SUMMARY
    if not path.exists():
        raise TrainingError(f"{folder} is not a finished crossval: there is no {SUMMARY}")
    summary: dict[str, Any] = json.loads(path.read_text())
    if summary["labels"] != labels:
        raise TrainingError(f"{folder} has classes {summary['labels']}, this data {labels}")
    return summary


def _calibration_of(summary: dict[str, Any]) -> dict[str, Any]:
    from edge_runtime.bundle import Calibration

    return {name: Calibration(**chosen) for name, chosen in summary["calibration"].items()}


def _measure(run: Any, out: Path, data: Any, words: Any, borrowed: bool, official: bool) -> None:
    """Measure and calibrate on what did not train, in every form; write the run again.

    Spoken clips, unless the figures are borrowed; and the development texts by themselves.
    """
    from training.crossval import convert, judge, summarize
    from training.data import FeatureSet
    from training.pairs import PAIRING, PairSet

    metrics, watched = run.metrics, data.watch
    metrics.setdefault("corpora", {})
    metrics.setdefault("calibration_error", {})
    parts: list[tuple[list[Any], Any, str]] = []
    if watched and not borrowed:
        clips = watched.clips if isinstance(watched, PairSet) else watched
        heard = isinstance(clips, FeatureSet)
        features = [variants[0] for variants in clips.variants] if heard else None
        speakers = len({u.speaker for u in watched.utterances})
        protocol = (
            "official development split"
            if official
            else f"{speakers} speakers kept out of training"
        ) + (f"; {PAIRING}" if words.test else "")
        parts.append((watched.utterances, features, protocol))
    if words.test:
        parts.append((list(words.test), None, "texts: official development split, words alone"))
    if not parts:
        return
    bundle = convert(out, out / "bundle")
    for utterances, features, protocol in parts:
        summary = summarize(
            judge(run, bundle, utterances, features, data.speakers), utterances, run.config.labels
        )
        metrics["protocol"] = "; ".join(filter(None, [metrics.get("protocol"), protocol]))
        for corpus, modalities in summary.metrics.items():
            metrics["corpora"].setdefault(corpus, {}).update(modalities)
        # What was calibrated on clips of a crossval is better known than by few.
        run.calibration = {**summary.calibration, **run.calibration}
        metrics["calibration_error"] = {**summary.calibration_error, **metrics["calibration_error"]}
    run.save(out)


def _training_record(
    found: dict[str, Any], settings: Any, used: list[Any], data: Any
) -> dict[str, Any]:
    from training.data import FeatureSet
    from training.pairs import PAIRING, PairSet

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
                "speakers": len({u.speaker for u in used if u.corpus == name}),
                "hours": round(hours[name], 3),
                "classes": dict(sorted(Counter(u.label for u in used if u.corpus == name).items())),
                "licence": f.licence,
                "citation": f.citation,
            }
            for name, f in found.items()
        },
        "licence": ", ".join(licences) or "that of the manifest's data",
        "skipped": len(features.skipped),
        **({"pairing": PAIRING} if any(u.path is None for u in used) and paired else {}),
        "settings": asdict(settings),
        "versions": {t: importlib.metadata.version(t) for t in ("torch", "lightning", "numpy")},
    }


def _report_skipped(skipped: Iterable[tuple[Any, str]]) -> None:
    skipped = list(skipped)
    if skipped:
        print(f"skipped {len(skipped)} clips that cannot be used (see above)", file=sys.stderr)


def _counts(counter: Counter[str]) -> str:
    return "  ".join(f"{key} {count}" for key, count in sorted(counter.items()))
