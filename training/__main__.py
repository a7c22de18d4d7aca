"""`python -m training`: corpora on disk become quantization-aware models."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_runtime.console import OK, THEIRS, command_parser, run_command
from edge_runtime.errors import EdgeError
from edge_runtime.settings import add_arguments, from_arguments

_EPILOG = """examples:
  python -m training corpora  ravdess=data/ravdess emodb=data/emodb
  python -m training fit      manifest=my_clips.csv --out runs/mine
  python -m training crossval ravdess=data/ravdess emodb=data/emodb --folds 5 --out runs/cv
  python -m training fit      ravdess=data/ravdess emodb=data/emodb --crossval runs/cv
  python -m training fit      meld=data/meld --variant text+swem --out runs/meld
  python -m training transcribe ravdess=data/ravdess --out runs/transcripts.csv
  python -m training keywords meld=data/meld goemotions=data/goemotions ravdess=data/ravdess
  python -m training variants --embedding 300 --vocabulary 20000

NAME is ravdess, emodb, iemocap, meld, cremad, tess, savee, esd, msppodcast, goemotions (text only),
or manifest (a CSV: path,label,speaker,session,text,split,start,end). The layout, licence and full
counts of each are in training/corpora/NAME.py.
"""


TRANSCRIPTS = Path("runs/transcripts.csv")
KEYWORDS = Path("runs/keywords.txt")
WATCHED = "watched.csv"  # manifest of the clips of the speakers that did not train


@dataclass(frozen=True)
class ModelSettings:
    """The shape of the network, as far as the command line sets it."""

    variant: str = "audio"
    """audio, text, audio+text or audio+text+att; then +swem, +speaker or both."""
    filters: int = 128
    """Filters per kernel length."""
    hidden: int = 128
    """Width of the hidden dense layer."""
    dropout: float = 0.5
    """Dropout before each dense layer."""


@dataclass(frozen=True)
class WordSettings:
    """The words that a model reads."""

    vectors: Path | None = None
    """Word vectors, a GloVe or word2vec text file, plain or .gz; by default glove.6B.50d."""
    vocabulary: int = 10_000
    """Most frequent words that are known beside those of the training texts."""
    punctuation: bool = False
    """Take . , ! ? and ... for words: for written text, not for what an ASR returns."""
    text: str = field(default="transcript", metadata={"choices": ("transcript", "asr")})
    """The corpus's own words, or those that an engine heard (see transcribe)."""
    transcripts: Path = TRANSCRIPTS
    """What an engine heard, for --text asr."""


@dataclass(frozen=True)
class TableSettings:
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


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; the exit code."""
    from training.fit import FitSettings
    from training.keywords import KeywordSettings
    from training.transcribe import TranscribeSettings

    parser, commands = command_parser(
        "python -m training",
        "Train MSCNN-SPU speech emotion models, quantization-aware.",
        _EPILOG,
    )

    corpora = commands.add_parser("corpora", help="what is there: clips, hours, speakers, classes")
    fit = commands.add_parser("fit", help="train one model")
    crossval = commands.add_parser("crossval", help="speaker-independent folds, UA/WA, plots")
    variants = commands.add_parser("variants", help="parameters and MACs of every variant")
    variants.set_defaults(command=_variants)
    add_arguments(variants, TableSettings)
    hearing = commands.add_parser("transcribe", help="what an engine hears in every clip, as a CSV")
    add_arguments(hearing, TranscribeSettings)
    hearing.add_argument(
        "--out",
        type=Path,
        default=TRANSCRIPTS,
        metavar="CSV",
        help=f"manifest to write; rows that it has are kept (default: {TRANSCRIPTS})",
    )
    keywords = commands.add_parser("keywords", help="learn the list of phrases that a device spots")
    add_arguments(keywords, KeywordSettings)
    keywords.add_argument(
        "--out", type=Path, default=KEYWORDS, metavar="TXT", help=f"(default: {KEYWORDS})"
    )
    for command, function in (
        (corpora, _corpora),
        (fit, _fit),
        (crossval, _crossval),
        (hearing, _transcribe),
        (keywords, _keywords),
    ):
        command.add_argument("corpora", nargs="+", metavar="NAME=PATH", help="a corpus on disk")
        command.set_defaults(command=function)
    for command in (fit, crossval):
        command.add_argument(
            "--out", type=Path, default=None, metavar="RUN", help="folder to write"
        )
        add_arguments(command.add_argument_group("schedule"), FitSettings)
        add_arguments(command.add_argument_group("model"), ModelSettings)
    add_arguments(fit.add_argument_group("words"), WordSettings)
    fit.add_argument("--resume", action="store_true", help="go on where RUN was interrupted")
    fit.add_argument(
        "--watch",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="share of each corpus's speakers kept out of training, to measure and calibrate on "
        "(default: 0.2; 0 with --crossval)",
    )
    fit.add_argument(
        "--crossval",
        type=Path,
        metavar="RUN",
        help="a finished crossval of the same data: train on every speaker, and take calibration "
        "and figures from there",
    )
    crossval.add_argument("--folds", type=int, metavar="K", help="folds by speaker (default: 5)")
    crossval.add_argument(
        "--by",
        choices=("speaker", "session"),
        default="speaker",
        help="what a fold is cut by (default: speaker); by session, each session is a fold",
    )
    crossval.add_argument("--jobs", type=int, metavar="N", help="folds at a time (default: cores)")

    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from training.errors import TrainingError

    return run_command("training", lambda: int(parsed.command(parsed)), (TrainingError, EdgeError))


def _corpora(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from edge_runtime.audio.file import FileSource
    from training.corpora import differences, load_corpora

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
        different = differences(name, found)
        if different and found.expected:
            logging.warning(
                "%s: not the complete corpus (%s): %s",
                name,
                found.expected.source,
                "; ".join(different),
            )
    console = Console()
    console.print(table)
    for note in notes:
        console.print(note)
    return OK


def _fit(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from training.corpora import load_corpora
    from training.corpora.manifest import write as write_manifest
    from training.data import FeatureSet, FeatureSettings, extract
    from training.errors import TrainingError
    from training.fit import FitData, FitSettings, augmentations, fit, run_of
    from training.folds import check_classes, official_split, watch_split
    from training.report import plot_curves
    from training.text import TextSet

    out = arguments.out or Path("runs/fit")
    settings = from_arguments(FitSettings, arguments)
    _refuse_finished(out, arguments.resume)
    found = load_corpora(arguments.corpora)
    utterances = _with_words(arguments, [u for f in found.values() for u in f.utterances])
    labels = check_classes(utterances)
    share = 0.0 if arguments.crossval else arguments.watch
    if not 0 <= share < 1:
        raise TrainingError(f"--watch {share} is not a share from 0 to 1")
    borrowed = _crossval_summary(arguments.crossval, labels) if arguments.crossval else None
    config = _config(arguments, labels)
    features = FeatureSettings()
    train_set: FeatureSet | TextSet
    watch_set: FeatureSet | TextSet | None
    vocabulary = None
    if config.parts.text:
        if config.parts.audio:
            raise TrainingError(f"variant {config.variant} has no training data that pairs yet")
        train, watched = official_split(utterances) or watch_split(utterances, share)
        train_set, watch_set, vocabulary = _texts(arguments, train, watched)
        config = replace(
            config,
            vocabulary=len(vocabulary.table),
            embedding=vocabulary.table.shape[1],
            punctuation=arguments.punctuation,
        )
    else:
        train, watched = watch_split(utterances, share)
        train_set = extract(train, features, augmentations(settings))
        watch_set = extract(watched, features) if watched else None
    _report_skipped([*train_set.skipped, *(watch_set.skipped if watch_set else [])])
    data = FitData(train_set, watch_set, labels, vocabulary)
    module = fit(data, config, settings, out, arguments.resume)
    run = run_of(module, features)
    if vocabulary:
        run.vocabulary = vocabulary.words
    run.training = _training_record(found, settings, train_set.utterances, train_set)
    if borrowed:
        run.temperature, run.threshold = borrowed["temperature"], borrowed["threshold"]
        run.metrics = borrowed["metrics"]
    elif watch_set:
        _measure_on_watched(run, watch_set)
    run.save(out)
    if watch_set:
        write_manifest(out / WATCHED, watch_set.utterances)
    plot_curves([out], out / "curves.png", settings.epochs)
    console = Console()
    _print_metrics(console, run.metrics)
    console.print(f"run in {out}; next: python -m conversion build {out} --out BUNDLE")
    return OK


def _crossval(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from training.corpora import load_corpora
    from training.crossval import SUMMARY, crossval, default_jobs
    from training.data import FeatureSettings
    from training.errors import TrainingError
    from training.fit import FitSettings
    from training.folds import check_classes
    from training.report import plot_confusion, plot_curves

    out = arguments.out or Path("runs/crossval")
    settings = from_arguments(FitSettings, arguments)
    if arguments.by == "session" and arguments.folds is not None:
        raise TrainingError("--by session makes one fold a session; leave out --folds")
    folds = None if arguments.by == "session" else 5 if arguments.folds is None else arguments.folds
    found = load_corpora(arguments.corpora)
    utterances = [u for f in found.values() for u in f.utterances]
    labels = check_classes(utterances)
    result = crossval(
        utterances,
        _config(arguments, labels),
        settings,
        FeatureSettings(),
        folds,
        out,
        arguments.jobs or default_jobs(),
    )
    metrics = result.metrics()
    temperature, threshold, error = result.calibration()
    speakers = {c: len({u.speaker for u in result.utterances if u.corpus == c}) for c in metrics}
    summary: dict[str, Any] = {
        "labels": labels,
        "temperature": temperature,
        "threshold": threshold,
        "metrics": {
            "protocol": f"{result.folds} speaker-independent folds"
            + (", each a recording session, over " if folds is None else " over ")
            + " and ".join(f"{c} ({n} speakers)" for c, n in speakers.items())
            + "; figures over the clips of all test folds together",
            "corpora": {
                corpus: {form: m.to_dict() for form, m in forms.items()}
                for corpus, forms in metrics.items()
            },
            "calibration_error": round(error, 4),
        },
    }
    (out / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
    for corpus, forms in metrics.items():
        panels = [(f"{corpus}, {form}", forms[form]) for form in ("float", "int8")]
        plot_confusion(panels, out / f"confusion_{corpus}.png")
    plot_curves(sorted(out.glob("fold*")), out / "curves.png", settings.epochs)
    console = Console()
    _print_metrics(console, summary["metrics"])
    console.print(f"calibration error {100 * error:.1f} % at temperature {temperature:.2f}")
    console.print(f"plots and predictions in {out}")
    return OK


def _transcribe(arguments: argparse.Namespace) -> int:
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


def _keywords(arguments: argparse.Namespace) -> int:
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
    table = Table("phrase", "tells", "log10 threshold", "found", "false alarms")
    for entry in result.phrases:
        best = max(entry.phrase.weights, key=lambda label: entry.phrase.weights[label])
        table.add_row(
            entry.phrase.text,
            f"{best} {entry.phrase.weights[best]:.1f}",
            f"{entry.phrase.threshold:.1f}",
            f"{entry.hits} of {entry.spoken}",
            str(entry.alarms),
        )
    Console().print(table)
    print(
        f"{arguments.out}: {len(result.phrases)} phrases, {len(result.left_out)} candidates left "
        f"out; {result.hours:.2f} h of real speech, speech with the phrases is synthesized"
    )
    return OK


def _as_manifest(argument: str) -> str:
    """A CSV can be named without saying that it is a manifest."""
    return f"manifest={argument}" if argument.endswith(".csv") and "=" not in argument else argument


def _with_words(arguments: argparse.Namespace, utterances: list[Any]) -> list[Any]:
    """The utterances with the words that --text asks for."""
    from training.transcribe import with_transcripts

    if arguments.text == "transcript":
        return utterances
    return with_transcripts(utterances, arguments.transcripts)


def _variants(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from training.cost import cost
    from training.model import ModelConfig, variants

    shape = from_arguments(TableSettings, arguments)
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


def _config(arguments: argparse.Namespace, labels: list[str]) -> Any:
    from training.errors import TrainingError
    from training.model import ModelConfig

    shape = from_arguments(ModelSettings, arguments)
    try:
        return ModelConfig(
            labels=tuple(labels),
            variant=shape.variant,
            filters=shape.filters,
            hidden=(shape.hidden,),
            dropout=shape.dropout,
        )
    except ValueError as error:
        raise TrainingError(str(error)) from None


def _texts(
    arguments: argparse.Namespace, train: list[Any], watched: list[Any]
) -> tuple[Any, Any, Any]:
    """Tokens to train on, tokens to watch, and the vocabulary of the former."""
    from edge_runtime.text.tokenizer import Tokenizer
    from training.embeddings import build_vocabulary, quantize_table, read_vectors, table_error
    from training.text import tokenize

    chosen = from_arguments(WordSettings, arguments)
    vectors = read_vectors(chosen.vectors)
    texts = (u.text for u in train)
    vocabulary = build_vocabulary(vectors, texts, chosen.vocabulary, chosen.punctuation)
    tokenizer = Tokenizer(vocabulary.words, punctuation=chosen.punctuation)
    sets = [tokenize(part, tokenizer) for part in (train, watched)]
    error = table_error(vocabulary.table, quantize_table(vocabulary.table))
    print(
        f"{len(vocabulary.words)} words of {vectors.source} known; in int8 they are off by "
        f"{100 * error.relative:.1f} %"
    )
    for name, part in zip(("training", "watched"), sets, strict=True):
        print(
            f"{name}: {len(part.utterances)} texts, {part.words} words, {part.unknown} of them "
            f"unknown, {part.cut} beyond the longest text read"
        )
    return sets[0], sets[1] if sets[1].utterances else None, vocabulary


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


def _measure_on_watched(run: Any, watched: Any) -> None:
    """Calibrate and measure on the speakers that did not train; fake-quant stands for int8."""
    import numpy as np

    from training.crossval import calibrate
    from training.fakequant import Phase
    from training.fit import predict, predict_text
    from training.metrics import measure
    from training.text import TextSet

    labels = list(run.config.labels)
    truth = np.array([labels.index(u.label) for u in watched.utterances])
    corpora = np.array([u.corpus for u in watched.utterances])
    logits = {}
    for form, phase in (("float", Phase.FLOAT), ("fake-quant", Phase.INT8)):
        if isinstance(watched, TextSet):
            logits[form] = predict_text(run.model(phase), watched.tokens)
        else:
            clean = [variants[0] for variants in watched.variants]
            logits[form] = predict(run.model(phase), clean)
    run.temperature, run.threshold, error = calibrate(logits["fake-quant"], truth)
    speakers = len({u.speaker for u in watched.utterances})
    run.metrics = {
        "protocol": "official development split"
        if all(u.split for u in watched.utterances)
        else f"{speakers} speakers kept out of training",
        "corpora": {
            str(c): {
                form: measure(truth[corpora == c], x.argmax(axis=1)[corpora == c], labels).to_dict()
                for form, x in logits.items()
            }
            for c in sorted(set(corpora))
        },
        "calibration_error": round(error, 4),
    }


def _training_record(
    found: dict[str, Any], settings: Any, used: list[Any], features: Any
) -> dict[str, Any]:
    from training.data import FeatureSet

    hours: defaultdict[str, float] = defaultdict(float)
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
        "settings": asdict(settings),
        "versions": {t: importlib.metadata.version(t) for t in ("torch", "lightning", "numpy")},
    }


def _print_metrics(console: Any, metrics: dict[str, Any]) -> None:
    from rich.table import Table

    if not metrics:
        return
    table = Table("corpus", "form", "clips", "UA %", "WA %", "recall %")
    for corpus, forms in metrics["corpora"].items():
        for form, values in forms.items():
            recalls = values["per_class_recall"]
            table.add_row(
                corpus,
                form,
                str(values["n"]),
                f"{100 * values['ua']:.1f}",
                f"{100 * values['wa']:.1f}",
                "  ".join(f"{label} {100 * recall:.0f}" for label, recall in recalls.items()),
            )
    console.print(table)
    console.print(metrics["protocol"])


def _report_skipped(skipped: Iterable[tuple[Any, str]]) -> None:
    skipped = list(skipped)
    if skipped:
        print(f"skipped {len(skipped)} clips that cannot be used (see above)", file=sys.stderr)


def _counts(counter: Counter[str]) -> str:
    return "  ".join(f"{key} {count}" for key, count in sorted(counter.items()))


if __name__ == "__main__":
    sys.exit(main())
