"""`python -m training transcribe` and `keywords`: what a device's engine hears."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.console import OK, THEIRS, counted
from edge_runtime.settings import add_arguments, from_arguments
from training.commands.common import add_classes, add_corpora, as_manifest
from training.output import new_file
from training.speech.settings import TRANSCRIPTS, KeywordSettings, TranscribeSettings

KEYWORDS = Path("runs/keywords.txt")


def add(commands: Any) -> None:
    """Add both commands to the parser's."""
    hearing = commands.add_parser("transcribe", help="what an engine hears in every clip, as a CSV")
    add_corpora(hearing)
    add_classes(hearing)
    add_arguments(hearing, TranscribeSettings)
    hearing.add_argument(
        "--out",
        type=Path,
        default=TRANSCRIPTS,
        metavar="CSV",
        help=f"manifest to write; rows that it has are kept (default: {TRANSCRIPTS})",
    )
    hearing.set_defaults(command=_transcribe)
    learning = commands.add_parser("keywords", help="learn the list of phrases that a device spots")
    add_corpora(learning)
    add_classes(learning)
    add_arguments(learning, KeywordSettings)
    learning.add_argument(
        "--out", type=new_file, default=KEYWORDS, metavar="TXT", help=f"(default: {KEYWORDS})"
    )
    learning.set_defaults(command=_keywords)


def _transcribe(arguments: argparse.Namespace) -> int:
    settings = from_arguments(TranscribeSettings, arguments)
    return transcribe_corpora(arguments.corpora, arguments.out, settings, arguments.classes)


def _keywords(arguments: argparse.Namespace) -> int:
    settings = from_arguments(KeywordSettings, arguments)
    return learn_keywords(arguments.corpora, arguments.out, settings, arguments.classes)


def transcribe_corpora(
    corpora: Sequence[str], out: Path, settings: TranscribeSettings, classes: str = ""
) -> int:
    """Write what an engine hears into the manifest `out`; the exit code."""
    from training.corpora import load_corpora
    from training.corpora.class_map import open_classes
    from training.speech.transcribe import transcribe

    found = load_corpora(map(as_manifest, corpora), classes=open_classes(classes))
    utterances = [u for f in found.values() for u in f.utterances]
    result = transcribe(utterances, out, settings)
    print(
        f"{out}: {counted(result.heard, 'clip')} heard, {result.kept} kept, "
        f"{len(result.failed)} failed"
    )
    return THEIRS if result.failed else OK


def learn_keywords(
    corpora: Sequence[str], out: Path, settings: KeywordSettings, classes: str = ""
) -> int:
    """Learn the list of key phrases and write it to `out`; the exit code."""
    from rich.table import Table

    from edge_runtime.terminal import Tables
    from training.corpora import load_corpora
    from training.corpora.class_map import open_classes
    from training.speech.keywords import learn

    found = load_corpora(map(as_manifest, corpora), "", open_classes(classes))
    utterances = [u for f in found.values() for u in f.utterances]
    # Clips of corpora that repeat a few sentences tell nothing about words: texts are those that
    # have no audio, or an official training split.
    texts = [u for u in utterances if u.text and (u.split == "train" or not (u.split or u.path))]
    speech = [*utterances, *(u for f in found.values() for u in f.ordinary)]
    result = learn(texts, speech, settings)
    result.write(out, settings)
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
    Tables().print(table)
    print(
        f"{out}: {counted(len(result.phrases), 'phrase')}, "
        f"{counted(len(result.left_out), 'candidate')} left out; "
        f"{result.hours:.2f} h of real and {result.spoken_hours:.2f} h of synthesized speech"
    )
    return OK
