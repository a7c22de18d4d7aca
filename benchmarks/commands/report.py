"""`python -m benchmarks report`: all of it as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.output import add_bundle, add_run
from edge_runtime.console import OK
from training.output import new_file


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser("report", help="all of it as one HTML page")
    add_bundle(command)
    add_run(command)
    command.add_argument(
        "--out", type=new_file, required=True, metavar="HTML", help="page to write"
    )
    command.add_argument("--manifest", type=Path, metavar="CSV", help="labelled clips for accuracy")
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from benchmarks.accuracy import accuracy
    from benchmarks.peers import compare
    from benchmarks.report import Report, write
    from edge_runtime.bench import measure
    from edge_runtime.bundle import load_bundle
    from training.corpora.manifest import load
    from training.run import load_run_of

    bundle = load_bundle(arguments.bundle)
    judged = None
    if arguments.manifest:
        judged = accuracy(bundle, load(arguments.manifest).utterances).metrics()
    rows = compare(bundle, load_run_of(arguments.bundle, arguments.run))
    source = arguments.manifest.name if arguments.manifest else ""
    write(Report(bundle.manifest, measure(bundle), rows, judged, source), arguments.out)
    print(f"report in {arguments.out}")
    return OK
