"""`python -m benchmarks accuracy`: UA, WA and confusion on labelled clips and texts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.output import add_bundle, add_json, write_json
from edge_runtime.console import OK
from training.output import new_file


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "accuracy", help="UA, WA and confusion on labelled clips and texts"
    )
    add_bundle(command)
    add_json(command)
    command.add_argument(
        "--manifest",
        type=Path,
        required=True,
        metavar="CSV",
        help="path,label[,speaker,session,text,split,start,end]",
    )
    command.add_argument(
        "--text",
        metavar="SOURCE",
        help="whose words the bundle reads: transcript, the manifest's; off, none; asr, keywords, "
        "faster-whisper:DIR and so on, as edge-emotion run --text, what that engine hears "
        "(default: transcript where it reads and the manifest has words, else off)",
    )
    command.add_argument("--predictions", type=new_file, metavar="CSV", help="write every verdict")
    command.add_argument("--plot", type=new_file, metavar="PNG", help="draw the confusion matrix")
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from benchmarks.accuracy import accuracy
    from edge_runtime.bundle import load_bundle
    from edge_runtime.terminal import Tables
    from training.corpora.manifest import load

    if arguments.plot:
        from training.evaluate.report import (
            plot_confusion,  # what it needs is missed before any work
        )
    bundle = load_bundle(arguments.bundle)
    result = accuracy(bundle, load(arguments.manifest).utterances, arguments.text)
    metrics = result.metrics()
    table = Table("true \\ predicted", *metrics.labels, "recall %")
    for label, row in zip(metrics.labels, metrics.confusion, strict=True):
        recall = metrics.per_class_recall.get(label)
        table.add_row(label, *map(str, row), "-" if recall is None else f"{100 * recall:.1f}")
    console = Tables()
    console.print(table)
    console.print(
        f"{metrics.n} utterances, UA {metrics.ua_text()} %, WA {100 * metrics.wa:.1f} %, "
        f"{result.skipped} skipped; {metrics.speakers_text()}; bundle {bundle.manifest.name}, "
        f"{arguments.manifest}, text {result.text}"
    )
    groups = result.by_modality()
    for modality, part in groups.items():
        console.print(
            f"by {modality}: {part.n} utterances, UA {part.ua_text()} %, WA {100 * part.wa:.1f} %"
        )
    if arguments.predictions:
        result.write_predictions(arguments.predictions)
    if arguments.plot:
        plot_confusion(
            [(f"{bundle.manifest.name}, {arguments.manifest.stem}", metrics)], arguments.plot
        )
    content = {
        **metrics.to_dict(),
        "skipped": result.skipped,
        "text": result.text,
        "by_modality": {modality: part.to_dict() for modality, part in groups.items()},
    }
    write_json(arguments.json, content)
    return OK
