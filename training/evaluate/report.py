"""Pictures and tables of a training run.

Pictures are drawn on a `Figure` alone: no window system is asked for, and no state is shared.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.metrics import ConfusionMatrixDisplay

from training.evaluate.metrics import INTERVAL, Metrics, ua_text
from training.run import LOG_FOLDER

INK = "#22313f"
COLORS = ("#3b6ea8", "#d1495b", "#5f9e6e", "#8d6a9f")


def plot_confusion(panels: Sequence[tuple[str, Metrics]], path: Path) -> None:
    """Confusion matrices side by side as PNG: rows are true classes, cells show share and count."""
    figure = Figure(figsize=(4.4 * len(panels) + 0.4, 4.8), layout="compressed")
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, (title, metrics) in zip(axes[0], panels, strict=True):
        counts = np.array(metrics.confusion)
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
        display = ConfusionMatrixDisplay(shares, display_labels=metrics.labels).plot(
            ax=axis, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1}
        )
        for place, text in np.ndenumerate(display.text_):
            text.set_text(f"{100 * shares[place]:.0f} %\n{counts[place]}")
        axis.tick_params(axis="y", labelrotation=90)
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
        axis.set_title(
            f"{title}\nUA {metrics.ua_text()} %   WA {100 * metrics.wa:.1f} %   n = {metrics.n}",
            fontsize=11,
            color=INK,
        )
    figure.savefig(path, dpi=130)


def plot_curves(runs: Sequence[Path], path: Path, float_epochs: int) -> None:
    """Learning curves of one or more runs as PNG; a line marks where quantization begins."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    known = [curves_of(run) for run in runs]
    for axis, name, title in (
        (axes[0], "loss", "cross-entropy"),
        (axes[1], "ua", "unweighted accuracy"),
    ):
        for (side, color), style in zip(
            (("train", COLORS[0]), ("watch", COLORS[1])), ("-", "-"), strict=True
        ):
            found = [curves[f"{side}_{name}"] for curves in known if f"{side}_{name}" in curves]
            curves = [[curve[epoch] for epoch in sorted(curve)] for curve in found]
            if not curves:
                continue
            label = {"train": "training clips (augmented)", "watch": "clips kept out"}[side]
            length = min(map(len, curves))
            values = np.array([curve[:length] for curve in curves])
            epochs = np.arange(1, length + 1)
            axis.plot(epochs, values.mean(axis=0), style, color=color, label=label)
            if len(values) > 1:
                axis.fill_between(
                    epochs, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, lw=0
                )
        axis.axvline(float_epochs + 0.5, color=INK, lw=0.8, ls=":")
        axis.annotate(
            "int8",
            (float_epochs + 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -12),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
        axis.set_title(title, fontsize=11, color=INK)
        axis.set_xlabel("epoch")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)


def print_metrics(console: Console, metrics: dict[str, Any]) -> None:
    """The figures of a run as a table: a line for each corpus, modality and form."""
    if not metrics.get("corpora"):
        return
    table = Table(
        "corpus", "from", "form", "n", "UA %\n[95 %]", "mean of\nfolds", "WA %", "recall %"
    )
    for corpus, modalities in metrics["corpora"].items():
        for modality, forms in modalities.items():
            for form, values in forms.items():
                recalls = values["per_class_recall"]
                table.add_row(
                    corpus,
                    modality,
                    form,
                    str(values["n"]),
                    ua_text(values),
                    f"{100 * np.mean(values['ua_folds']):.1f}" if "ua_folds" in values else "-",
                    f"{100 * values['wa']:.1f}",
                    "  ".join(f"{label} {100 * recall:.0f}" for label, recall in recalls.items()),
                )
    console.print(table)
    console.print(metrics["protocol"])
    console.print(INTERVAL)


def curves_of(run: Path) -> dict[str, dict[int, float]]:
    """Learning curves of a run by name and epoch, of its CSV logs: one each time it was started."""
    curves: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for log in sorted(run.glob(f"{LOG_FOLDER}/*/metrics.csv"), key=lambda p: p.stat().st_mtime):
        with log.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):  # each quantity has a row of its own
                for name in row.keys() - {"epoch", "step"}:
                    if row[name]:
                        curves[name][int(row["epoch"])] = float(row[name])
    return dict(curves)
