"""`python -m benchmarks peers`: the same clips through what people use today."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.output import add_bundle, add_count, add_jobs, add_json, add_run, write_json
from edge_runtime.console import OK

if TYPE_CHECKING:
    from benchmarks.peers import Standing


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser("peers", help="the same clips through what people use today")
    add_bundle(command)
    add_json(command)
    add_run(command)
    command.add_argument(
        "--corpora",
        nargs="+",
        metavar="NAME=PATH",
        help="labelled clips to judge peers on, beside the bundle's own figures",
    )
    add_count(command, "--folds", "folds by speaker", minimum=2, default=5)
    add_jobs(command)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from benchmarks.peers import compare, compare_accuracy
    from edge_runtime.bundle import load_bundle
    from edge_runtime.terminal import Tables
    from training.run import load_run_of

    bundle = load_bundle(arguments.bundle)
    run = load_run_of(arguments.bundle, arguments.run)
    result: dict[str, Any] = {}
    if arguments.corpora:
        standings = compare_accuracy(bundle, arguments.corpora, arguments.folds, arguments.jobs)
        result["accuracy"] = _print_standings(standings, bundle.manifest.metrics, arguments.folds)
    rows = compare(bundle, run)
    table = Table("what", "ours", "peer", "ours ms", "peer ms", "ours / peer")
    for row in rows:
        table.add_row(*row.cells())
    Tables().print(table)
    print("medians of alternating runs on 7.5 s of audio, one thread")
    if not arguments.corpora:
        print("accuracy is left out: name labelled clips, as in --corpora ravdess=DIR emodb=DIR")
    write_json(arguments.json, {"rows": [row.to_dict() for row in rows], **result})
    return OK


def _print_standings(
    standings: Sequence[Standing], ours: dict[str, Any], folds: int
) -> dict[str, Any]:
    """The accuracy table on the terminal; the same for JSON."""
    from rich.table import Table

    from edge_runtime.terminal import Tables

    corpora = list(standings[-1].metrics)
    columns = [
        c for name in corpora for c in (f"{name}\nUA [95 %] / WA %", "mean of\nfolds UA", "clips")
    ]
    table = Table("who", *columns, "ms per\n7.5 s", "MB")
    for standing in standings:
        table.add_row(*standing.cells(corpora))
    Tables(60 + 48 * len(corpora)).print(table)
    protocols = {
        "peers": f"{folds} speaker-independent folds, each corpus by itself; features of whole "
        "clips, standardized; SVC of scikit-learn, its defaults, balanced classes",
        "ours": str(ours.get("protocol", "none in this bundle")),
    }
    for who, protocol in protocols.items():
        print(f"{who}: {protocol}")
    print(
        "UA / WA over the clips of all test folds together; ms: features alone of peers, "
        "all of ours, medians of alternating runs, one thread; MB: without Python packages"
    )
    return {"protocols": protocols, "standings": [s.to_dict() for s in standings]}
