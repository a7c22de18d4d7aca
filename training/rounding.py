"""What a model loses where its float form becomes int8, and how much of it is chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.console import counted

NOTABLE = 0.02  # of UA, 0 to 1: more is not rounding, something is wrong
BROKEN = 0.10  # of UA: it is another model
COLLAPSED = 0.40  # of one class's recall: it does not know that class any more
_SURELY = 1.645  # standard errors: one side of 90 % of what chance does
CHANGED = "changed"
"""In the figures of a rounded form: utterances of each class that this one alone, or the form that
is not rounded alone, has right."""

Indices = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Loss:
    """What one form has lost to another, by class of those that occur, on the same utterances."""

    labels: tuple[str, ...]
    n: npt.NDArray[np.int64]
    """Utterances of the class, (classes,)."""
    lost: npt.NDArray[np.int64]
    """How many of them fewer are right, (classes,); negative where more are."""
    changed: npt.NDArray[np.int64]
    """How many of them one of both forms alone has right, (classes,)."""

    @property
    def ua(self) -> float:
        """Points of UA, 0 to 1."""
        return float((self.lost / self.n).mean()) if len(self.n) else 0.0

    @property
    def sure(self) -> bool:
        """Whether UA is lost by more than chance.

        Were both forms as good, each verdict that changed would have been lost or won alike
        (McNemar 1947, doi 10.1007/BF02295996).
        """
        error = float(np.sqrt((self.changed / self.n**2).sum())) / max(1, len(self.n))
        return self.ua > _SURELY * error

    @property
    def notable(self) -> bool:
        """Whether more than `NOTABLE` is lost, chance or not."""
        return round(self.ua, 4) > NOTABLE

    @property
    def broken(self) -> bool:
        """Whether it is another model: more than `BROKEN` of UA, or `COLLAPSED` of a class.

        By more than chance, either.
        """
        of_class = (self.lost > COLLAPSED * self.n) & (self.lost > _SURELY * self.changed**0.5)
        return (self.ua > BROKEN and self.sure) or bool(of_class.any())

    @property
    def worst(self) -> int:
        """Place of the class that lost the largest share."""
        return int((self.lost / self.n).argmax())


def loss_of(truth: Indices, before: Indices, after: Indices, labels: Sequence[str]) -> Loss:
    """Of class indices, each (n,): the true ones, and what both forms say."""
    occur = [place for place in range(len(labels)) if (truth == place).any()]
    right = before == truth, after == truth
    lost = right[0].astype(np.int64) - right[1]
    counts = [(truth == place, lost[truth == place]) for place in occur]
    return Loss(
        tuple(labels[place] for place in occur),
        np.array([of.sum() for of, _ in counts], np.int64),
        np.array([found.sum() for _, found in counts], np.int64),
        np.array([np.abs(found).sum() for _, found in counts], np.int64),
    )


def recorded(before: Mapping[str, Any], after: Mapping[str, Any]) -> Loss:
    """The same of two forms' figures (`training.evaluate.metrics.Metrics.to_dict`).

    Where they do not say which verdicts changed, no more than had to.
    """
    labels = tuple(label for label in before["labels"] if label in before["per_class_recall"])
    places = [before["labels"].index(label) for label in labels]
    table = np.array(before["confusion"]), np.array(after["confusion"])
    lost = np.array([table[0][place, place] - table[1][place, place] for place in places])
    n = np.array([table[0][place].sum() for place in places])
    known = after.get(CHANGED)
    changed = np.array([known[label] for label in labels]) if known else np.abs(lost)
    return Loss(labels, n, lost, changed)


def changes(
    truth: Indices, before: Indices, after: Indices, labels: Sequence[str]
) -> dict[str, Any]:
    """What `recorded` reads beside the figures of the form `after`."""
    loss = loss_of(truth, before, after, labels)
    return {CHANGED: dict(zip(loss.labels, loss.changed.tolist(), strict=True))}


def described(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """A loss in words: points of UA, of what to what, and of which class the most."""
    loss = recorded(before, after)
    worst = loss.labels[loss.worst]
    fall = " to ".join(f"{100 * form['per_class_recall'][worst]:.0f}" for form in (before, after))
    return (
        f"int8 loses {100 * loss.ua:.1f} points of UA ({100 * before['ua']:.1f} to "
        f"{100 * after['ua']:.1f} % of {counted(after['n'], 'utterance')}; {worst} {fall} %)"
    )
