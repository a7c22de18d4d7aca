"""`python -m training table`: every variant over the paper's folds."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK, counted
from edge_runtime.settings import add_arguments, from_arguments, setting
from training.commands.common import (
    FoldSettings,
    Recipe,
    add_corpora,
    add_preset,
    config_of,
    speakers_of,
)
from training.evaluate.settings import PAPER_FOLDS, TableSettings

if TYPE_CHECKING:
    from training.evaluate.paper import PaperTable


@dataclass(frozen=True)
class TableRecipe(Recipe):
    """Everything that the table needs to know beside its corpora."""

    out: Path = setting(Path("runs/table"), "Folder to write.", metavar="RUN")
    table: TableSettings = field(default_factory=TableSettings)
    folds: FoldSettings = field(default_factory=FoldSettings)


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser("table", help="every variant over the paper's folds, as a table")
    add_corpora(command)
    add_preset(command)
    add_arguments(command, TableRecipe)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from edge_runtime.terminal import Tables

    recipe = from_arguments(TableRecipe, arguments)
    table = make_table(arguments.corpora, recipe)
    console = Tables()
    for part in table.tables():
        console.print(part)
    for line in table.explanation():
        print(line)
    print(f"table in {recipe.out}: table.json, table.md, table.png")
    return OK


def make_table(corpora: Sequence[str], recipe: TableRecipe) -> PaperTable:
    """Train and judge every variant; `recipe.out` holds the table as well.

    Parameters
    ----------
    corpora : NAME=PATH each.

    Raises TrainingError for data or settings that cannot be used.
    """
    from training.corpora import incomplete, load_corpora
    from training.corpora.class_map import open_classes
    from training.data.features import FeatureSettings
    from training.data.folds import check_classes
    from training.evaluate.crossval import default_jobs
    from training.evaluate.table import Protocol, choose, run
    from training.fit.fit import accelerator_of
    from training.speech.transcribe import with_transcripts

    accelerator_of(recipe.schedule.device)  # refuses before any work
    words, speaker = recipe.words, recipe.speaker_embedding
    folds = recipe.folds.cut(PAPER_FOLDS)
    found = load_corpora(corpora, recipe.ordinary or None, open_classes(recipe.classes))
    utterances = [u for f in found.values() for u in f.utterances]
    if words.text == "asr":
        utterances = with_transcripts(utterances, words.transcripts)
    chosen, notes = choose(recipe.table.variants, utterances, recipe.pair, bool(speaker.speaker))
    notes = [*filter(None, (incomplete(name, f) for name, f in found.items())), *notes]
    spoken = [u for u in utterances if u.path is not None]
    if not recipe.pair and len(spoken) < len(utterances):
        notes.append(
            f"left out: {counted(len(utterances) - len(spoken), 'text')} without sound; see --pair"
        )
        utterances = spoken
    for note in notes:
        logging.warning("%s", note)
    protocol = Protocol(
        utterances,
        config_of(recipe.model, "audio", check_classes(spoken)),
        recipe.schedule,
        FeatureSettings(),
        words,
        folds,
        recipe.folds.jobs or default_jobs(),
        recipe.pair,
        speakers_of(speaker, spoken),
    )
    return run(protocol, chosen, recipe.table, recipe.out, notes, logging.warning)
