"""`python -m training corpora`: what is there."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from edge_runtime.console import OK
from edge_runtime.errors import EdgeError
from training.commands.common import add_classes, add_corpora

ORDINARY = "ordinary speech"  # in place of a class


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser("corpora", help="what is there: clips, hours, speakers, classes")
    add_corpora(command)
    add_classes(command)
    command.set_defaults(
        command=lambda arguments: print_corpora(arguments.corpora, arguments.classes)
    )


def print_corpora(corpora: Sequence[str], classes: str = "") -> int:
    """Print what is there; `corpora` are NAME=PATH each, `classes` the map of their labels."""
    from rich.table import Table

    from edge_runtime.audio.file import FileSource
    from edge_runtime.terminal import Tables
    from training.corpora import incomplete, kind_of, load_corpora, speakers_of
    from training.corpora.class_map import open_classes

    columns = ("corpus", "utterances", "text only", "hours", "speakers", "classes", "left out")
    table = Table(*columns, "unreadable")
    notes, chosen = [], open_classes(classes)
    for name, found in load_corpora(corpora, "", chosen).items():
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
            _counts(_by_name(kind_of(name), found.left_out)) or "-",
            str(unreadable),
        )
        notes += [f"{name}: {note}" for note in found.notes]
        if warning := incomplete(name, found):
            logging.warning("%s", warning)
    console = Tables()
    console.print(table)
    console.print(f"classes: {chosen.name}")
    for note in notes:
        console.print(note)
    return OK


def _by_name(corpus: str, left_out: Counter[str]) -> Counter[str]:
    """What was left out, with the plain names of labels that do not say it themselves."""
    from training.corpora.class_map import own_labels

    names = own_labels().get(corpus, {})
    told = ((own, names.get(own, own), count) for own, count in left_out.items())
    return Counter({own if own == name else f"{own} ({name})": n for own, name, n in told})


def _counts(counter: Counter[str]) -> str:
    return "  ".join(f"{key} {count}" for key, count in sorted(counter.items()))
