"""The directions in which corpora are told apart best, by statistics of their clips.

Linear discriminant analysis (Fisher 1936), each corpus counting alike, its scatter regularized
(Friedman 1989, doi 10.1080/01621459.1989.10478752).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_runtime.familiarity_arrays import FamiliarityArrays
from edge_runtime.pcm import Float32
from training.errors import TrainingError

_SHRINKAGE = 0.1  # of the mean scatter of a statistic, added to that of each


def told_apart(values: Float32, corpora: npt.NDArray[np.str_]) -> FamiliarityArrays:
    """Where `corpora`, of each of n clips, are by statistics of the clips, (n, width).

    Raises TrainingError with fewer than two.
    """
    names = np.unique(corpora)
    if len(names) < 2:
        raise TrainingError(
            "familiarity needs clips of two and more corpora that trained, to know by what they "
            f"differ; there {'is only ' + str(names[0]) if len(names) else 'are none'}"
        )
    means, scatter = [], np.zeros((values.shape[1], values.shape[1]))
    for name in names:
        of_it = values[corpora == name].astype(np.float64)
        means.append(of_it.mean(axis=0))
        away = of_it - means[-1]
        scatter += away.T @ away / len(of_it) / len(names)
    scatter += _SHRINKAGE * np.trace(scatter) / len(scatter) * np.eye(len(scatter))
    spread, directions = np.linalg.eigh(scatter)
    whiten = directions / np.sqrt(spread)
    middles = np.stack(means) @ whiten
    _, _, axes = np.linalg.svd(middles - middles.mean(axis=0), full_matrices=False)
    projection = whiten @ axes[: len(names) - 1].T
    # As it is kept: the centres follow from what the device multiplies by.
    kept = projection.astype(np.float16).astype(np.float32)
    return FamiliarityArrays(kept, (np.stack(means) @ kept).astype(np.float32))
