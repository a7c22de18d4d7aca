"""Whether two models differ on the same clips by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

DRAWS = 10_000
SURE = 0.05
"""Above this p a difference is one that chance makes as well."""
_EXACT = 13  # clusters, up to which all 2 ** clusters exchanges are counted
_PIECE = 1000  # draws at a time

Indices = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """The difference of two models on the same clips."""

    first: float
    """UA of the first, 0 to 1."""
    second: float
    """UA of the second."""
    interval: tuple[float, float]
    """95 % interval of second - first, over other speakers of the same kind."""
    p: float
    """How often exchanging the two at random makes as large a difference."""
    least_p: float
    """The smallest p that so many clusters can give."""
    clusters: int
    """Speakers, or clips where speakers are not known."""
    by_speaker: bool

    @property
    def difference(self) -> float:
        """UA of the second less that of the first."""
        return self.second - self.first

    @property
    def sure(self) -> bool:
        """Whether the difference is beyond chance."""
        return self.p <= SURE


def paired_test(
    truth: Indices,
    first: Indices,
    second: Indices,
    speakers: Sequence[str | None],
    seed: int = 0,
    draws: int = DRAWS,
) -> Paired:
    """Compare two models' verdicts on the same clips; classes as indices, each of shape (n,).

    Clips of one speaker are alike, so speakers are drawn, not clips: the interval is the bootstrap
    of clusters (Field & Welsh 2007, doi 10.1111/j.1467-9868.2007.00593.x), the same draw for both
    models. p is that of a permutation test in which, if the models were equals, the verdicts of
    both on all clips of a speaker might as well be exchanged (approximate randomization: Noreen
    1989; Yeh 2000, aclanthology.org/C00-2137; in blocks: Winkler et al. 2015,
    doi 10.1016/j.neuroimage.2015.05.092). Of up to 13 clusters all exchanges are counted.

    Clips count as clusters where a speaker is not known, or all are by one: then it holds for other
    clips of these alone. With few speakers the bootstrap is too narrow; the test is exact.
    """
    by_speaker = None not in speakers and len(set(speakers)) > 1
    groups: Sequence[Any] = list(speakers) if by_speaker else list(range(len(truth)))
    names, rows = np.unique(np.array(groups), return_inverse=True)
    labels, places = np.unique(truth, return_inverse=True)
    shape = (len(names), len(labels))
    clips, rights = np.zeros(shape), [np.zeros(shape), np.zeros(shape)]
    np.add.at(clips, (rows, places), 1)
    for right, guess in zip(rights, (first, second), strict=True):
        np.add.at(right, (rows, places), guess == truth)
    totals = clips.sum(axis=0)
    pulls = ((rights[1] - rights[0]) / totals).mean(axis=1)  # what each adds to the difference
    rng = np.random.default_rng(seed)
    p, least_p = _exchanged(pulls, rng, draws)
    return Paired(
        first=float((rights[0].sum(axis=0) / totals).mean()),
        second=float((rights[1].sum(axis=0) / totals).mean()),
        interval=_interval(clips, rights[1] - rights[0], rng, draws),
        p=p,
        least_p=least_p,
        clusters=len(names),
        by_speaker=by_speaker,
    )


def _interval(
    clips: Floats, gains: Floats, rng: np.random.Generator, draws: int
) -> tuple[float, float]:
    """Percentiles of the difference over draws of clusters; both arrays (clusters, classes)."""
    found = []
    for start in range(0, draws, _PIECE):
        count = min(_PIECE, draws - start)
        times = rng.multinomial(len(clips), np.full(len(clips), 1 / len(clips)), count)
        totals, gained = times @ clips, times @ gains
        share = np.divide(gained, totals, out=np.zeros(gained.shape), where=totals > 0)
        found.append(share.sum(axis=1) / (totals > 0).sum(axis=1))
    low, high = np.quantile(np.concatenate(found), (0.025, 0.975))
    return float(low), float(high)


def _exchanged(pulls: Floats, rng: np.random.Generator, draws: int) -> tuple[float, float]:
    """p, and the smallest that there can be, of a sum whose parts (clusters,) may change sign."""
    moved = pulls[pulls != 0]  # the others count alike in every exchange
    enough = abs(float(pulls.sum())) * (1 - 1e-9)
    if len(moved) <= _EXACT:
        signs = 1 - 2 * (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1)
        sums = np.abs(signs @ moved) if len(moved) else np.zeros(1)
        return float((sums >= enough).mean()), 2.0 ** (1 - min(len(pulls), _EXACT))
    count = 0
    for start in range(0, draws, _PIECE):
        signs = rng.integers(0, 2, (min(_PIECE, draws - start), len(moved))) * 2 - 1
        count += int((np.abs(signs @ moved) >= enough).sum())
    return (count + 1) / (draws + 1), 1 / (draws + 1)
