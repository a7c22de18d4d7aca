"""`python -m training corpora`: what is there."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from edge_runtime.console import OK
from edge_runtime.errors import EdgeError
from training.commands.common import add_corpora

ORDINARY = "ordinary speech"  # in place of a class


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser("corpora", help="what is there: clips, hours, speakers, classes")
    add_corpora(command)
    command.set_defaults(command=lambda arguments: print_corpora(arguments.corpora))


def print_corpora(corpora: Sequence[str]) -> int:
    """Print what is there; `corpora` are NAME=PATH each."""
    from rich.table import Table

    from edge_runtime.audio.file import FileSource
    from edge_runtime.terminal import Tables
    from training.corpora import incomplete, load_corpora, speakers_of

    columns = ("corpus", "utterances", "text only", "hours", "speakers", "classes", "left out")
    table = Table(*columns, "unreadable")
    notes = []
    for name, found in load_corpora(corpora, ordinary="").items():
        utterances = [*found.utterances, *found.ordinary]
        seconds, unreadable, text_only = 0.0, 0, 0
        for utterance in utterances:
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
            str(len(utterances)),
            str(text_only),
            f"{seconds / 3600:.2f}",
            "unknown" if (known := speakers_of(utterances)) is None else str(known),
            _counts(Counter(u.label or ORDINARY for u in utterances)),
            _counts(found.left_out) or "-",
            str(unreadable),
        )
        notes += [f"{name}: {note}" for note in found.notes]
        if warning := incomplete(name, found):
            logging.warning("%s", warning)
    console = Tables()
    console.print(table)
    for note in notes:
        console.print(note)
    return OK


def _counts(counter: Counter[str]) -> str:
    return "  ".join(f"{key} {count}" for key, count in sorted(counter.items()))
