"""`python -m training crossval`: a model for each fold, judged by who it never heard."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.console import OK
from edge_runtime.settings import add_arguments, from_arguments, setting
from training.commands.common import (
    FoldSettings,
    VariantRecipe,
    add_corpora,
    add_preset,
    explain,
    load_data,
    with_speakers,
)
from training.commands.fit import calibration_of
from training.errors import TrainingError
from training.tracking import MLFLOW, tracked

FOLDS = 5


@dataclass(frozen=True)
class CrossvalRecipe(VariantRecipe):
    """Everything that a cross-validation needs to know beside its corpora."""

    out: Path = setting(Path("runs/crossval"), "Folder to write.", metavar="RUN")
    mlflow: str = setting("", MLFLOW, metavar="URI|DIR")
    audio_runs: Path | None = setting(
        None,
        "Audio + text: start each fold from the audio encoder of the same fold of a finished "
        "crossval, and keep it.",
        metavar="CROSSVAL",
    )
    text_run: Path | None = setting(
        None,
        "Audio + text: start from the text encoder of this run, and keep it.",
        metavar="RUN",
    )
    folds: FoldSettings = field(default_factory=FoldSettings)


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser("crossval", help="speaker-independent folds, UA/WA, plots")
    add_corpora(command)
    add_preset(command)
    add_arguments(command, CrossvalRecipe)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    cross_validate(arguments.corpora, from_arguments(CrossvalRecipe, arguments))
    return OK


def cross_validate(corpora: Sequence[str], recipe: CrossvalRecipe) -> dict[str, Any]:
    """Train and judge a model for each fold; the summary, which `recipe.out` holds as well.

    Parameters
    ----------
    corpora : NAME=PATH each.

    Raises TrainingError for data or settings that cannot be used.
    """
    from edge_runtime.terminal import Tables
    from training.corpora.class_map import record_of
    from training.data.features import FeatureSettings
    from training.evaluate import verdicts
    from training.evaluate.crossval import (
        Training,
        crossval,
        default_jobs,
        write_summary,
    )
    from training.evaluate.crossval_files import SUMMARY
    from training.evaluate.metrics import Metrics
    from training.evaluate.report import curves_of, plot_confusion, plot_curves, print_metrics

    out, settings = recipe.out, recipe.schedule
    folds = recipe.folds.cut(FOLDS)
    found, usable, words, config = load_data(corpora, recipe)
    config, known = with_speakers(config, recipe.speaker_embedding, usable)
    for path in (recipe.audio_runs, recipe.text_run):
        if path and not path.exists():
            raise TrainingError(f"there is no {path}")
    training = Training(
        config,
        settings,
        FeatureSettings(),
        words,
        recipe.audio_runs,
        recipe.text_run,
        known,
        classes=record_of(found),
    )
    with tracked(recipe.mlflow, out, resume=True) as tracking:
        result = crossval(usable, training, folds, out, recipe.folds.jobs or default_jobs())
        summary = write_summary(result, training, out, folds, bool(words.train))
        tracking.begin(summary, summary["model"])
        for number in range(1, len(set(result.folds)) + 1):
            curves = curves_of(out / f"fold{number}")
            tracking.curves({f"fold{number}/{name}": curve for name, curve in curves.items()})
        errors = verdicts.errors_by_corpus(verdicts.read(out))
        tracking.end(summary["metrics"], errors, out / SUMMARY)
    metrics = summary["metrics"]["corpora"]
    for corpus, modalities in metrics.items():
        main_modality, forms = list(modalities.items())[-1]
        panels = [
            (f"{corpus}, {main_modality}, {form}", Metrics.of(forms[form]))
            for form in ("float", "int8")
        ]
        plot_confusion(panels, out / f"confusion_{corpus}.png")
    plot_curves(sorted(out.glob("fold*")), out / "curves.png", settings.float_epochs)
    console = Tables()
    print_metrics(console, summary["metrics"])
    explain(summary["metrics"], calibration_of(summary))
    for name, chosen in summary["calibration"].items():
        error = summary["metrics"]["calibration_error"][name]
        console.print(
            f"{name}: calibration error {100 * error:.1f} % at temperature "
            f"{chosen['temperature']:.2f}"
        )
    console.print(f"plots and predictions in {out}")
    return summary
