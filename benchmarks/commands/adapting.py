"""`python -m benchmarks adapting`: what adapting is worth, beside fitting and an SVM."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from benchmarks.output import add_count, add_jobs, add_json
from benchmarks.trial import WAYS, Trial
from edge_runtime.console import OK
from training.commands.common import add_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.adapting import Figure


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "adapting",
        help="adapt to few clips, beside training from nothing and beside an SVM",
        description="Of each corpus and draw a quarter of the speakers tests; so many clips of the "
        "others, of each class alike, train: adapt, large (adapt with the pre-trained encoder "
        "beside), fit (a network of the default shape and schedule from nothing; a minute or more "
        "each) and compare (openSMILE's ComParE_2016 + SVM). UA, mean and deviation of the draws.",
    )
    command.add_argument(
        "corpora",
        nargs="+",
        metavar="NAME=PATH",
        help="labelled speech of known speakers, of which nothing trained the base",
    )
    command.add_argument(
        "--base",
        default=Trial.base,
        metavar="RUN",
        help="the finished run that adapt and large start from (default: the shipped one)",
    )
    command.add_argument(
        "--seen",
        action="store_true",
        help="take corpora that trained the base as well: its figures will flatter",
    )
    command.add_argument(
        "--clips",
        type=_counts,
        default=Trial.clips,
        metavar="N,...",
        help="clips that train (default: 20,60,200,600)",
    )
    add_count(
        command, "--draws", "draws of speakers and clips, seeds from 0 on", default=Trial.draws
    )
    command.add_argument(
        "--only",
        type=_ways,
        default=Trial.ways,
        metavar="WAY,...",
        help=f"what learns, of {', '.join(WAYS)} (default: adapt,fit,compare)",
    )
    add_json(
        command,
        "write each figure as JSON as soon as it is there; what F holds already of "
        "the same is not measured again",
    )
    add_classes(command)
    add_jobs(command)
    command.set_defaults(command=_run)


def _counts(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) >= 6 for part in parts):
        raise argparse.ArgumentTypeError(
            f"expected numbers of clips, 6 at least, apart by commas, not {text!r}"
        )
    return tuple(int(part) for part in parts)


def _ways(text: str) -> tuple[str, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not set(parts) <= set(WAYS):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(WAYS)}, not {text!r}")
    return tuple(way for way in WAYS if way in parts)


def _run(arguments: argparse.Namespace) -> int:
    from benchmarks.adapting import worth
    from training.corpora import load_corpora
    from training.corpora.class_map import open_classes

    found = load_corpora(arguments.corpora, classes=open_classes(arguments.classes))
    trial = Trial(
        arguments.clips,
        arguments.draws,
        arguments.only,
        arguments.base,
        arguments.seen,
        jobs=arguments.jobs,
    )
    figures = worth(found, trial, arguments.json, _tell)
    _print(figures)
    return OK


def _tell(line: str) -> None:
    print(line, flush=True)


def _print(figures: Sequence[Figure]) -> None:
    from rich.table import Table

    from benchmarks.adapting import PROTOCOL, gains, means
    from edge_runtime.terminal import Tables

    found, compared = means(figures), gains(figures)
    ways = [way for way in WAYS if any(way in row for row in found.values())]
    rivals = [way for way in ways if any(way in row for row in compared.values())]
    table = Table("UA %", "clips", *ways, *(f"adapt - {way}" for way in rivals))
    for (corpus, clips), row in found.items():
        less = compared.get((corpus, clips), {})
        table.add_row(
            corpus,
            str(clips),
            *(row[way].text() if way in row else "-" for way in ways),
            *(less[way].text(sign=True) if way in less else "-" for way in rivals),
        )
    Tables(30 + 14 * (len(ways) + len(rivals))).print(table)
    counts = sorted({spread.draws for row in found.values() for spread in row.values()})
    print(f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} draws; {PROTOCOL}")
