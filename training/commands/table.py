"""`python -m training table`: every variant over the paper's folds."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from edge_runtime.console import OK
from edge_runtime.settings import from_arguments
from training.commands.common import SpeakerSettings, _config, _folds, _speakers


def table_command(arguments: argparse.Namespace) -> int:
    """Every variant over the paper's folds."""
    from rich.console import Console

    from training.corpora import incomplete, load_corpora
    from training.data.features import FeatureSettings
    from training.data.folds import check_classes
    from training.evaluate.crossval import default_jobs
    from training.evaluate.table import PAPER_FOLDS, Protocol, TableSettings, choose, run
    from training.fit.settings import FitSettings
    from training.speech.transcribe import with_transcripts
    from training.words.settings import WordSettings

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
