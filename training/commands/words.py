"""`python -m training transcribe` and `keywords`: what a device's engine hears."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_runtime.console import OK, THEIRS
from edge_runtime.settings import from_arguments

KEYWORDS = Path("runs/keywords.txt")


def transcribe_command(arguments: argparse.Namespace) -> int:
    """Write what an engine hears."""
    from training.corpora import load_corpora
    from training.speech.settings import TranscribeSettings
    from training.speech.transcribe import transcribe

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
    from training.speech.keywords import learn
    from training.speech.settings import KeywordSettings

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
