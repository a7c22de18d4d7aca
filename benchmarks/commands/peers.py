"""`python -m benchmarks peers`: the same clips through what people use today."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from benchmarks.output import add_bundle, add_json, add_run, write_json
from benchmarks.peers.rules import PeerSettings
from edge_runtime.console import OK
from edge_runtime.settings import add_arguments, from_arguments

if TYPE_CHECKING:
    from rich.table import Table

    from benchmarks.peers import Accuracy


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
    add_arguments(command, PeerSettings)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from benchmarks.errors import BenchmarkError
    from benchmarks.peers import compare, compare_accuracy
    from edge_runtime.bundle import load_bundle
    from edge_runtime.terminal import Tables
    from training.run import load_run_of

    settings = from_arguments(PeerSettings, arguments)
    if settings.all_at_once and not arguments.corpora:
        raise BenchmarkError("there is nothing to train on together: name --corpora NAME=PATH ...")
    bundle = load_bundle(arguments.bundle)
    run = load_run_of(arguments.bundle, arguments.run)
    result: dict[str, Any] = {}
    if arguments.corpora:
        accuracy = compare_accuracy(bundle, arguments.corpora, settings)
        _print_accuracy(accuracy)
        result["accuracy"] = accuracy.to_dict()
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


def _print_accuracy(accuracy: Accuracy) -> None:
    """The accuracy table on the terminal, and what it rests on."""
    from edge_runtime.terminal import Tables

    corpora = accuracy.corpora
    if accuracy.together:
        from training.evaluate.metrics import INTERVAL

        Tables(34 + 22 * len(accuracy.standings)).print(_by_corpus(accuracy))
    else:
        Tables(90 + 48 * len(corpora)).print(_by_peer(accuracy))
    for who, protocol in accuracy.protocols.items():
        print(f"{who}: {protocol}")
    if accuracy.together and not accuracy.same_folds:
        print("ours are not of the same clips and folds as peers': compare with care")
    figures = "UA" if accuracy.together else "UA / WA"
    print(
        f"{figures} over the clips of all test folds together; ms: features alone of peers with an "
        "SVM, all of networks and of ours, medians of alternating runs, one thread; MB: without "
        "Python packages, of a network float32 in ONNX"
    )
    if accuracy.together:
        print(INTERVAL)


def _by_peer(accuracy: Accuracy) -> Table:
    """A row a peer: corpora that were trained on by themselves."""
    from rich.table import Table

    columns = [
        column
        for name in accuracy.corpora
        for column in (f"{name}\nUA [95 %] / WA %", "mean of\nfolds UA", "clips")
    ]
    table = Table("who", *columns, *accuracy.standings[0].costs())
    for standing in accuracy.standings:
        table.add_row(*standing.cells(accuracy.corpora))
    return table


def _by_corpus(accuracy: Accuracy) -> Table:
    """A row a corpus, and the mean: corpora that were trained on together, which may be many."""
    from rich.table import Table

    standings = accuracy.standings
    table = Table("UA % [95 %]", *(standing.who for standing in standings))
    for name in accuracy.corpora:
        judged = standings[-1].metrics[name]
        cells = [s.metrics[name].ua_text() if name in s.metrics else "-" for s in standings]
        table.add_row(f"{name}, {judged.speakers_text()}, {judged.n} clips", *cells)
    table.add_section()
    means = [standing.mean_ua(accuracy.complete) for standing in standings]
    table.add_row(
        f"mean of the {len(accuracy.complete)} with every class",
        *("-" if mean is None else f"{100 * mean:.1f}" for mean in means),
    )
    costs = [standing.costs() for standing in standings]
    for head in costs[0]:
        table.add_row(head, *(cost[head] for cost in costs))
    return table
