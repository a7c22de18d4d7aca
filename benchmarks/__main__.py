"""`python -m benchmarks`: accuracy and latency of a bundle, and what others need for the same."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK, OURS, command_parser, run_command
from edge_runtime.errors import EdgeError

if TYPE_CHECKING:
    from benchmarks.peers import Standing
    from edge_runtime.bundle import Bundle

_EPILOG = """examples:
  python -m benchmarks accuracy --bundle default --manifest clips.csv --json accuracy.json
  python -m benchmarks latency --check
  python -m benchmarks peers
  python -m benchmarks peers --corpora ravdess=data/ravdess emodb=data/emodb --folds 5
  python -m benchmarks text meld=data/meld --run runs/meld
  python -m benchmarks report --out report.html --manifest clips.csv
"""


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; the exit code."""
    parser, commands = command_parser(
        "python -m benchmarks",
        "Measure a bundle with the code that runs on the device.",
        _EPILOG,
    )
    accuracy = commands.add_parser(
        "accuracy", help="UA, WA and confusion on labelled clips and texts"
    )
    latency = commands.add_parser("latency", help="milliseconds per stage")
    peers = commands.add_parser("peers", help="the same clips through what people use today")
    report = commands.add_parser("report", help="all of it as one HTML page")
    for command, function in (
        (accuracy, _accuracy),
        (latency, _latency),
        (peers, _peers),
        (report, _report),
    ):
        command.add_argument("--bundle", default="default", help="folder, .zip, or default")
        command.set_defaults(command=function)
    text = commands.add_parser(
        "text", help="words alone: TF-IDF + logistic regression beside a run"
    )
    text.add_argument("corpora", nargs="+", metavar="NAME=PATH", help="a corpus that comes split")
    text.set_defaults(command=_text)
    for command in (accuracy, latency, peers, text):
        command.add_argument("--json", type=Path, metavar="F", help="write the figures as JSON")
    built_from = "the run that the bundle was built from"
    for command, whose in (
        (latency, built_from),
        (peers, built_from),
        (report, built_from),
        (text, "a run that reads"),
    ):
        command.add_argument("--run", type=Path, metavar="RUN", help=whose)
    peers.add_argument(
        "--corpora",
        nargs="+",
        metavar="NAME=PATH",
        help="labelled clips to judge peers on, beside the bundle's own figures",
    )
    peers.add_argument(
        "--folds", type=int, default=5, metavar="K", help="folds by speaker (default: 5)"
    )
    peers.add_argument("--jobs", type=int, metavar="N", help="processes at a time (default: cores)")
    latency.add_argument(
        "--check", action="store_true", help="fail where a ratio or a time left its bound"
    )
    report.add_argument("--out", type=Path, required=True, metavar="HTML", help="page to write")
    report.add_argument("--manifest", type=Path, metavar="CSV", help="labelled clips for accuracy")
    accuracy.add_argument(
        "--manifest",
        type=Path,
        required=True,
        metavar="CSV",
        help="path,label[,speaker,session,text,split,start,end]",
    )
    accuracy.add_argument(
        "--text",
        choices=("transcript", "asr", "off"),
        help="whose words the bundle reads (default: transcript where it reads and the manifest "
        "has words, else off)",
    )
    accuracy.add_argument("--predictions", type=Path, metavar="CSV", help="write every verdict")
    accuracy.add_argument("--plot", type=Path, metavar="PNG", help="draw the confusion matrix")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from benchmarks.errors import BenchmarkError
    from training.errors import TrainingError

    return run_command(
        "benchmarks",
        lambda: int(parsed.command(parsed)),
        (BenchmarkError, TrainingError, EdgeError),
    )


def _accuracy(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.accuracy import accuracy
    from edge_runtime.bundle import load_bundle
    from training.corpora.manifest import load

    bundle = load_bundle(arguments.bundle)
    result = accuracy(bundle, load(arguments.manifest).utterances, arguments.text)
    metrics = result.metrics()
    table = Table("true \\ predicted", *metrics.labels, "recall %")
    for label, row in zip(metrics.labels, metrics.confusion, strict=True):
        recall = metrics.per_class_recall.get(label)
        table.add_row(label, *map(str, row), "-" if recall is None else f"{100 * recall:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"{metrics.n} utterances, UA {100 * metrics.ua:.1f} %, WA {100 * metrics.wa:.1f} %, "
        f"{result.skipped} skipped; bundle {bundle.manifest.name}, {arguments.manifest}, "
        f"text {result.text}"
    )
    groups = result.by_modality()
    for modality, part in groups.items():
        console.print(
            f"by {modality}: {part.n} utterances, UA {100 * part.ua:.1f} %, "
            f"WA {100 * part.wa:.1f} %"
        )
    if arguments.predictions:
        result.write_predictions(arguments.predictions)
    if arguments.plot:
        from training.report import plot_confusion

        plot_confusion(
            [(f"{bundle.manifest.name}, {arguments.manifest.stem}", metrics)], arguments.plot
        )
    content = {
        **metrics.to_dict(),
        "skipped": result.skipped,
        "text": result.text,
        "by_modality": {modality: part.to_dict() for modality, part in groups.items()},
    }
    _write_json(arguments.json, content)
    return OK


def _latency(arguments: argparse.Namespace) -> int:
    from edge_runtime.bench import format_table, measure
    from edge_runtime.bundle import load_bundle

    bundle = load_bundle(arguments.bundle)
    result = measure(bundle)
    print(format_table(result))
    from benchmarks.limit import measure_rate  # brings PyTorch: not before memory is measured

    rate = measure_rate(bundle)
    print(rate.line())
    result["int8_rate"] = rate.to_dict()
    code = OK
    if arguments.check:
        code, result["guards"] = _check(arguments, bundle, result)
    _write_json(arguments.json, result)
    return code


def _check(
    arguments: argparse.Namespace, bundle: Bundle, result: dict[str, Any]
) -> tuple[int, list[dict[str, Any]]]:
    """Hold the figures against their bounds; the exit code, and the guards."""
    from rich.console import Console
    from rich.table import Table

    from benchmarks.guards import guards
    from benchmarks.peers import compare
    from training.run import load_run_of

    found = guards(result, compare(bundle, load_run_of(arguments.bundle, arguments.run)))
    table = Table("guard", "measured", "goal", "bound", "")
    for guard in found:
        table.add_row(*guard.cells())
    Console().print(table)
    broken = [guard for guard in found if not guard.holds]
    for guard in broken:
        print(
            f"benchmarks: {guard.what} is {guard.measured:.4g}, above its bound {guard.bound:g}",
            file=sys.stderr,
        )
    return OURS if broken else OK, [guard.to_dict() for guard in found]


def _peers(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.peers import compare, compare_accuracy
    from edge_runtime.bundle import load_bundle
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
    Console().print(table)
    print("medians of alternating runs on 7.5 s of audio, one thread")
    if not arguments.corpora:
        print("accuracy is left out: name labelled clips, as in --corpora ravdess=DIR emodb=DIR")
    _write_json(arguments.json, {"rows": [row.to_dict() for row in rows], **result})
    return OK


def _print_standings(
    standings: Sequence[Standing], ours: dict[str, Any], folds: int
) -> dict[str, Any]:
    """The accuracy table on the terminal; the same for JSON."""
    from rich.console import Console
    from rich.table import Table

    corpora = list(standings[-1].metrics)
    columns = [c for name in corpora for c in (f"{name}\nUA / WA %", "mean of\nfolds UA", "clips")]
    table = Table("who", *columns, "ms per\n7.5 s", "MB")
    for standing in standings:
        table.add_row(*standing.cells(corpora))
    # Wide enough for its cells wherever it goes: a row that wraps is not read at a glance.
    Console(width=max(Console().width, 60 + 34 * len(corpora))).print(table)
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


def _text(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.peers.tfidf import compare_texts
    from training.run import load

    rows = compare_texts(arguments.corpora, load(arguments.run) if arguments.run else None)
    table = Table("corpus", "what", "texts", "UA %", "WA %", "recall %")
    for corpus, what, metrics in rows:
        recalls = "  ".join(f"{k} {100 * v:.0f}" for k, v in metrics.per_class_recall.items())
        figures = f"{100 * metrics.ua:.1f}", f"{100 * metrics.wa:.1f}"
        table.add_row(corpus, what, str(metrics.n), *figures, recalls)
    Console().print(table)
    print("trained on the official training split, judged on the development split")
    result = [{"corpus": c, "what": w, **m.to_dict()} for c, w, m in rows]
    _write_json(arguments.json, {"rows": result})
    return OK


def _report(arguments: argparse.Namespace) -> int:
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


def _write_json(path: Path | None, content: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
