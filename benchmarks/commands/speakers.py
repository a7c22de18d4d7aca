"""`python -m benchmarks speakers`: what it is worth to know the speaker's plain voice."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.output import add_jobs, add_json, add_tier, write_json
from edge_runtime.console import OK
from training.commands.common import add_classes

if TYPE_CHECKING:
    from benchmarks.speakers import Worth


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "speakers", help="verdicts after what a speaker said before, beside cold ones"
    )
    command.add_argument(
        "crossval",
        type=Path,
        metavar="CROSSVAL",
        help="a finished crossval, after python -m training reference",
    )
    command.add_argument(
        "corpora",
        nargs="+",
        metavar="NAME=PATH",
        help="its labelled corpora; and ordinary speech such as librispeech=DIR, to see whether "
        "that stays calm",
    )
    add_tier(command)
    add_classes(command, "as CROSSVAL was trained")
    add_json(command)
    add_jobs(command)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from benchmarks.errors import BenchmarkError
    from benchmarks.speakers import worth
    from training.commands.fit import classes_of
    from training.corpora import load_corpora

    classes = classes_of(arguments.crossval, arguments.classes)
    found = load_corpora(arguments.corpora, "", classes)
    labelled = [u for part in found.values() for u in part.utterances if u.path and u.speaker]
    if not labelled:
        raise BenchmarkError("name a corpus with audio, labels and speakers, such as ravdess=DIR")
    ordinary = [u for part in found.values() for u in part.ordinary]
    result = worth(arguments.crossval, labelled, ordinary, arguments.jobs, arguments.tier)
    _print(result)
    write_json(arguments.json, result.to_dict())
    return OK


def _print(result: Worth) -> None:
    from rich.table import Table

    from benchmarks.speakers import COLD
    from edge_runtime.terminal import Tables

    cold = result.cells[COLD]
    table = Table("UA % after", *cold, "mean", "gain", "ECE", "another?")
    for kind, row in result.cells.items():
        mean = 100 * sum(row[corpus].ua for corpus in cold) / len(cold)
        doubted = result.doubted.get(kind)
        table.add_row(
            kind,
            *(f"{100 * row[corpus].ua:.1f}" for corpus in cold),
            f"{mean:.1f}",
            "" if kind == COLD else f"{result.gain(kind):+.1f}",
            f"{100 * result.calibration_error[kind]:.1f}",
            "" if doubted is None else f"{100 * doubted:.1f}",
        )
    Tables(60 + 10 * len(cold)).print(table)
    print(
        "another?: per cent of the verdicts before which it was more likely than not that somebody "
        "else speaks than before"
    )
    refused = ", ".join(f"{100 * v:.0f} % of {name}" for name, v in result.enrolments.items())
    print(f"enrolments refused as of two people: {refused}")
    if result.calm:
        calm = ", ".join(f"{name} {100 * value:.1f} %" for name, value in result.calm.items())
        print(f"ordinary speech, neutral or unsure: {calm}")
    print(f"cost: {100 * result.cost:.1f} % of the graphs' time")
