"""Robustness as a picture: where the figure of a corpus under a condition is low, it is dark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.output import at_once

if TYPE_CHECKING:
    from benchmarks.robustness import Robustness


def plot(result: Robustness, title: str, path: Path) -> None:
    """Draw UA of each corpus (rows) under each condition (columns) into a PNG. Raises OSError."""
    from matplotlib.figure import Figure

    corpora = list(result.cells)
    conditions = list(result.cells[corpora[0]])
    ua = np.array(
        [[100 * result.cells[c][name].metrics.ua for name in conditions] for c in corpora]
    )
    figure = Figure(figsize=(2.5 + 0.75 * len(conditions), 2.2 + 0.5 * len(corpora)))
    axes = figure.add_subplot()
    image = axes.imshow(ua, vmin=25, vmax=100, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(conditions)), conditions, rotation=40, ha="right")
    axes.set_yticks(range(len(corpora)), corpora)
    for (row, column), value in np.ndenumerate(ua):
        colour = "white" if value < 70 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
    axes.set_title(title)
    figure.colorbar(image, label="UA %; four classes by chance: 25")
    figure.tight_layout()
    with at_once(path) as new:
        figure.savefig(new, format="png", dpi=120)
