"""`python -m training crossval`: a model for each fold, judged by who it never heard."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_runtime.console import OK
from edge_runtime.settings import from_arguments
from training.commands.common import _config, _folds, _with_speakers, _word_plan


def crossval_command(arguments: argparse.Namespace) -> int:
    """Train and judge a model for each fold."""
    from rich.console import Console

    from training.corpora import load_corpora
    from training.data.features import FeatureSettings
    from training.data.folds import check_classes
    from training.errors import TrainingError
    from training.evaluate.crossval import crossval, default_jobs, write_summary
    from training.evaluate.metrics import Metrics
    from training.evaluate.report import plot_confusion, plot_curves, print_metrics
    from training.fit.settings import FitSettings

    out = arguments.out or Path("runs/crossval")
    settings = from_arguments(FitSettings, arguments)
    folds = _folds(arguments, 5)
    found = load_corpora(arguments.corpora)
    utterances = [u for f in found.values() for u in f.utterances]
    labels = check_classes(utterances)
    config, known = _with_speakers(
        arguments, _config(arguments, arguments.variant, labels), utterances
    )
    usable, words = _word_plan(arguments, utterances, config)
    for path in (arguments.audio_runs, arguments.text_run):
        if path and not path.exists():
            raise TrainingError(f"there is no {path}")
    result = crossval(
        usable,
        config,
        settings,
        FeatureSettings(),
        folds,
        out,
        arguments.jobs or default_jobs(),
        words,
        arguments.audio_runs,
        arguments.text_run,
        known,
    )
    summary = write_summary(result, config, out, folds is None, bool(words.train))
    metrics = summary["metrics"]["corpora"]
    for corpus, modalities in metrics.items():
        main_modality, forms = list(modalities.items())[-1]
        panels = [
            (f"{corpus}, {main_modality}, {form}", Metrics.of(forms[form]))
            for form in ("float", "int8")
        ]
        plot_confusion(panels, out / f"confusion_{corpus}.png")
    plot_curves(sorted(out.glob("fold*")), out / "curves.png", settings.float_epochs)
    console = Console()
    print_metrics(console, summary["metrics"])
    for name, chosen in summary["calibration"].items():
        error = summary["metrics"]["calibration_error"][name]
        console.print(
            f"{name}: calibration error {100 * error:.1f} % at temperature "
            f"{chosen['temperature']:.2f}"
        )
    console.print(f"plots and predictions in {out}")
    return OK
