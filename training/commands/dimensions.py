"""`python -m training dimensions`: valence and arousal beside the classes of a finished run."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK, counted
from training.commands.common import add_classes, add_jobs
from training.commands.fit import WATCHED, classes_of, watched_clips

if TYPE_CHECKING:
    from training.corpora import Utterance
    from training.run import Dimensions, Run


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "dimensions",
        help="valence and arousal beside the classes of a finished run",
        description="Give each class of a finished run a valence and an arousal, of which a device "
        "takes the mean by its scores, and write them into the run, where conversion build finds "
        "them. Without corpora, or where nobody rated their clips, they are those of the words, by "
        "a table; from clips that people rated (IEMOCAP, MSP-Podcast, a manifest with columns "
        "valence and arousal) they are fitted. Only clips that the run kept out are used, where "
        "there are such.",
    )
    command.add_argument("run", type=Path, metavar="RUN", help="a finished run")
    command.add_argument("corpora", nargs="*", metavar="NAME=PATH", help="a corpus on disk")
    add_classes(command, "as RUN was trained")
    command.add_argument(
        "--table",
        default="circumplex",
        metavar="circumplex|FILE",
        help="of classes that nobody rated: Russell's circumplex, or a TOML file of the same form "
        "as training/corpora/circumplex.toml (default: circumplex)",
    )
    add_jobs(command, "processes that hear clips")
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from training.corpora import load_corpora
    from training.run import load

    run = load(arguments.run)
    utterances: list[Utterance] = []
    if arguments.corpora:
        classes = classes_of(arguments.run, arguments.classes)
        found = load_corpora(arguments.corpora, "", classes)
        utterances = [u for part in found.values() for u in part.utterances if u.path is not None]
    run.dimensions = find(run, arguments, utterances)
    run.save(arguments.run)
    _tell(run.dimensions)
    print(f"{arguments.run}: next: python -m conversion build {arguments.run} --out BUNDLE")
    return OK


def find(run: Run, arguments: argparse.Namespace, utterances: list[Utterance]) -> Dimensions:
    """What the table or the ratings say; figures of it are printed. Raises TrainingError."""
    from training.evaluate.dimensions import fit_ratings, from_table, rated, signs

    labels = list(run.config.labels)
    if not utterances:
        return from_table(labels, arguments.table)
    with_ratings = [utterances[i] for i in rated(utterances)]
    table = None if with_ratings else from_table(labels, arguments.table)
    chosen = _kept_out(arguments.run, with_ratings or utterances)
    scores, heard = _scores(arguments.run, chosen, arguments.jobs)
    if table is None:
        return fit_ratings(scores, heard, labels)
    print(
        "none of these clips is rated: the table of words is taken, and judged by its own classes"
    )
    for name, (share, count) in signs(scores, heard, labels, table).items():
        print(f"{name}: sign as that of the clip's class {100 * share:.1f} % of {count} clips")
    return table


def _kept_out(folder: Path, utterances: list[Utterance]) -> list[Utterance]:
    """Those that the run kept out; all of them where there is none, with a warning."""
    watched = watched_clips(folder)
    kept_out = [u for u in utterances if u.clip in watched]
    if kept_out:
        print(f"{counted(len(kept_out), 'clip')} that {folder} kept out ({WATCHED})")
        return kept_out
    logging.warning(
        "warning: %s kept none of these clips out: where they trained it, the figures flatter it",
        folder,
    )
    return utterances


def _scores(folder: Path, utterances: list[Utterance], jobs: int | None) -> tuple[Any, Any]:
    """Calibrated class probabilities (n, classes) by int8 steps, and the clips that were heard."""
    from edge_runtime.manifest import AUDIO
    from edge_runtime.model.fusion import softmax
    from training.adapt.base import open_base
    from training.adapt.head import quantized_logits

    with tempfile.TemporaryDirectory() as work:
        base = open_base(str(folder), Path(work))
        heard, _ = base.hear(utterances, jobs)
    logits = quantized_logits(base.run.model().head, heard.standard)
    chosen = base.run.calibration.get(AUDIO)
    return softmax(logits, chosen.temperature if chosen else 1.0), heard.utterances


def _tell(found: Dimensions) -> None:
    from rich.table import Table

    from edge_runtime.terminal import Tables

    table = Table("class", "valence", "arousal")
    for label, valence in found.valence.items():
        table.add_row(label, f"{valence:+.2f}", f"{found.arousal[label]:+.2f}")
    console = Tables()
    console.print(table)
    print(found.source)
    if found.metrics:
        figures = Table("corpus", "clips", "dimension", "CCC", "RMSE")
        for corpus, names in found.metrics["corpora"].items():
            for name, values in names.items():
                cells = f"{values['ccc']:.3f}", f"{values['rmse']:.3f}"
                figures.add_row(corpus, str(values["n"]), name, *cells)
        console.print(figures)
        print(f"{found.metrics['protocol']}; RMSE on the scale from -1 to 1")
