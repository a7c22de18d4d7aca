"""`python -m training adapt`: classes of one's own, from few clips, on a finished run."""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK, counted
from edge_runtime.settings import add_arguments, from_arguments, setting
from training.commands.common import (
    CLASSES,
    FOUR,
    add_corpora,
    explain,
    refuse_filled,
    refuse_finished,
)
from training.tiers import SMALL
from training.tracking import MLFLOW, tracked

if TYPE_CHECKING:
    from training.adapt.adapt import Adapted
    from training.run import Run

DOUBTFUL = "doubtful.csv"
_SHOWN = 5  # doubtful clips that are printed


@dataclass(frozen=True)
class AdaptRecipe:
    """How a run is adapted."""

    out: Path = setting(Path("runs/adapted"), "Folder to write.", metavar="RUN")
    classes: str = setting(FOUR, CLASSES, metavar="MAP")
    strength: float | None = setting(
        None,
        "How far the head's weights may go: 0.001 holds them small, 0.1 lets them go (default: by "
        "cross-validation).",
        above=0,
        maximum=100,
    )
    jobs: int | None = setting(
        None, "Processes that hear clips (default: one a core).", metavar="N", minimum=1
    )
    mlflow: str = setting("", MLFLOW, metavar="URI|DIR")


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "adapt",
        help="classes of your own, from few clips",
        description="Fit a head for the classes of these clips, 2 to 20 of them, to the encoder of "
        "a finished run, and say what it is worth and which clips to listen to again. The head "
        "judges sound alone. The data of that run, and their licence, are the new one's as well.",
    )
    add_corpora(command)
    command.add_argument(
        "--from",
        dest="source",
        default=SMALL,
        metavar="small|medium|large|RUN",
        help="what to start from: the shipped model alone (small, the default), with the "
        "pre-trained encoder of a larger tier, or any finished run",
    )
    add_arguments(command, AdaptRecipe)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from training.adapt.adapt import adapt
    from training.adapt.clips import LongClipsError
    from training.commands.segment import command_for
    from training.corpora import load_corpora
    from training.corpora.class_map import open_classes
    from training.evaluate.verdicts import errors_by_corpus
    from training.run import RUN_FILE

    recipe = from_arguments(AdaptRecipe, arguments)
    refuse_finished(recipe.out)
    refuse_filled(recipe.out)
    found = load_corpora(arguments.corpora, classes=open_classes(recipe.classes))
    with tracked(recipe.mlflow, recipe.out, remember=False) as tracking:
        try:
            adapted = adapt(found, arguments.source, recipe.strength, recipe.jobs)
        except LongClipsError as error:
            command = command_for(arguments.corpora, recipe.classes)
            raise LongClipsError(f"{error}; cut to utterances: {command}") from None
        _write(adapted, recipe.out)
        tracking.begin(adapted.run.training, asdict(adapted.run.config))
        metrics = _of_what_ships(adapted.run)
        tracking.end(metrics, errors_by_corpus(adapted.rows), recipe.out / RUN_FILE)
    _tell(adapted, recipe.out)
    return OK


def _of_what_ships(run: Run) -> dict[str, Any]:
    """Figures of the head, or of it and the pre-trained encoder together."""
    for joined in run.pretrained.values():
        return joined.metrics
    return run.metrics


def _write(adapted: Adapted, out: Path) -> None:
    from training.adapt.doubtful import write_doubts
    from training.data.fingerprint import TRAINED, write_trained
    from training.evaluate import verdicts
    from training.output import at_once

    run = adapted.run
    with at_once(out, folder=True) as new:
        complete = write_trained(new / TRAINED, adapted.trained, adapted.origins)
        run.training["data"]["complete"] = complete
        verdicts.write(new / verdicts.FILE, adapted.rows, run.config.labels)
        write_doubts(new / DOUBTFUL, adapted.doubts)
        run.save(new)
        refuse_filled(out)  # what came meanwhile would be lost with it


def _tell(adapted: Adapted, out: Path) -> None:
    from edge_runtime.terminal import Tables
    from training.evaluate.metrics import Metrics
    from training.evaluate.report import print_metrics

    run, console = adapted.run, Tables()
    print_metrics(console, run.metrics)
    explain(run.metrics, run.calibration, run.training)
    for note in adapted.notes:
        logging.warning("warning: %s", note)
    metrics = _of_what_ships(run)
    if run.pretrained:
        console.print("with the pre-trained encoder:")
        print_metrics(console, metrics)
    found = Metrics.of(metrics["all"])
    print(
        f"UA {found.ua_text()} % of {counted(found.n, 'clip')} by heads that did not learn from "
        f"them; always the largest class: {100 / len(found.labels):.1f} % (WA "
        f"{100 * adapted.majority:.1f} %); calibration error "
        f"{100 * metrics['calibration_error']['audio']:.1f} %"
    )
    if adapted.base:
        settings = run.training["settings"]
        print(f"{settings['adapted_from']} on the same clips: UA {adapted.base.ua_text()} %")
    if adapted.curve:
        # The curve is of logits in float, what stands above of what ships: its rise is added.
        rise = adapted.curve.expected(2 * found.n) - adapted.curve.ua[-1]
        expected = min(1.0, found.ua + rise)
        print(
            f"with twice the clips expect about {100 * expected:.0f} % UA: an estimate, by how the "
            f"error fell from {adapted.curve.clips[0]} to {adapted.curve.clips[-1]} of these"
        )
    else:
        print("too few clips to say what more of them would bring")
    if adapted.doubts:
        print(f"listen to {counted(len(adapted.doubts), 'clip')} again: {out / DOUBTFUL}")
        for doubt in adapted.doubts[:_SHOWN]:
            print(f"  {doubt.utterance.path}: {doubt.reason}")
    tier = "".join(f" --tier {tier}" for tier in run.pretrained)
    print(f"run in {out}; next: python -m conversion build {out}{tier} --out BUNDLE")
