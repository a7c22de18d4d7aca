"""`python -m training compare`: what differs between two runs, beyond chance or not."""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK, counted
from edge_runtime.settings import add_arguments, from_arguments, setting
from training.commands.common import add_classes

if TYPE_CHECKING:
    from training.evaluate.compare import Comparison

_WIDE = 60  # characters of a value


@dataclass(frozen=True)
class CompareRecipe:
    """What is done with the comparison."""

    json: Path | None = setting(None, "Write it as JSON.", metavar="FILE")


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "compare",
        help="what differs between two runs, and whether that is more than chance",
        description="Say in what two runs of fit, adapt or crossval differ: settings, versions, "
        "revision, data, seeds, shape; and whether their UA on the same clips does by more than "
        "chance: speakers are drawn anew for an interval, and the runs' verdicts exchanged speaker "
        "by speaker for a p. By the verdicts that the runs keep of clips that did not train, or "
        "on corpora that are named.",
    )
    command.add_argument("first", type=Path, metavar="RUN", help="one run")
    command.add_argument("second", type=Path, metavar="RUN", help="the other")
    command.add_argument(
        "corpora", nargs="*", metavar="NAME=PATH", help="clips to judge both runs on, here and now"
    )
    add_classes(command, "as the first RUN was trained")
    add_arguments(command, CompareRecipe)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from training.commands.fit import classes_of
    from training.corpora import load_corpora
    from training.evaluate.compare import as_json, compare
    from training.output import at_once

    recipe = from_arguments(CompareRecipe, arguments)
    found = {}
    if arguments.corpora:
        classes = classes_of(arguments.first, arguments.classes)
        found = load_corpora(arguments.corpora, classes=classes)
    clips = [utterance for part in found.values() for utterance in part.utterances]
    comparison = compare((arguments.first, arguments.second), clips)
    _print(comparison, arguments.first, arguments.second)
    if recipe.json:
        with at_once(recipe.json) as new:
            text = json.dumps(as_json(comparison), indent=1, default=str)
            new.write_text(text + "\n", encoding="utf-8")
    return OK


def _print(found: Comparison, first: Path, second: Path) -> None:
    from rich.table import Table

    from edge_runtime.terminal import Tables
    from training.evaluate.paired import SURE

    if found.differences:
        table = Table("differs", str(first), str(second))
        for name, one, other in found.differences:
            table.add_row(name, _short(one), _short(other))
        Tables().print(table)
    else:
        print("the runs were made alike: same settings, versions, revision, data and seeds")
    for note in found.notes:
        logging.warning("warning: %s", note)
    result = found.result
    for folder, ua, form in zip(
        (first, second), (result.first, result.second), found.forms, strict=True
    ):
        print(f"{folder}: UA {100 * ua:.1f} % of {counted(found.clips, 'clip')} ({form})")
    low, high = result.interval
    groups = "speaker" if result.by_speaker else "clip"
    print(
        f"difference: {100 * result.difference:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], "
        f"p = {result.p:.2g}, by {counted(result.clusters, groups)}"
    )
    if result.sure:
        print(f"beyond chance (p up to {SURE}), for other {groups}s of the same kind")
    elif result.least_p > SURE:
        print(
            f"{counted(result.clusters, groups)} cannot tell: whatever the verdicts, p is "
            f"{result.least_p:.2g} at least; judge both on more (NAME=PATH)"
        )
    else:
        print(f"chance makes as much (p above {SURE}): not shown to differ")
    print("It is of these two trainings: another seed may move UA by as much again.")


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 3]}..."
