"""Weighted and unweighted accuracy, as the field reports them, how sure they are, and calibration.

NumPy and audmetric alone, so that a device measures itself without PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import audmetric
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

_Z = 1.959964
"""The 97.5 % point of the normal distribution: intervals are 95 %."""
INTERVAL = (
    "In brackets, the 95 % interval of UA: over speakers where they are known, else over clips as "
    "if each were by a speaker of its own, which is narrower than it should be. It says what other "
    "speakers of the same data would give, not what another training or another corpus would."
)
"""What a reader should know of the intervals, for pages that print some."""
_BINS = 15

_UNSURE = 0.05  # share of the clips that calibrate, the least certain, that is told as unsure


@dataclass(frozen=True)
class Metrics:
    """Accuracy of predictions over one set of utterances."""

    n: int
    """Utterances."""
    ua: float
    """Unweighted accuracy: mean of the per-class recalls of the classes that occur, 0 to 1."""
    wa: float
    """Weighted accuracy: share of utterances that are right, 0 to 1."""
    labels: list[str]
    """Classes, in the order of the confusion matrix."""
    confusion: list[list[int]]
    """Rows: true class; columns: predicted class."""
    per_class_recall: dict[str, float]
    """Recall of each class that occurs, 0 to 1."""
    ua_interval: tuple[float, float]
    """Lower and upper end of the 95 % interval of `ua`, 0 to 1; see `ua_interval`."""
    speakers: int | None
    """Speakers of the utterances; None where that is not known of each."""

    @classmethod
    def of(cls, values: dict[str, Any]) -> Metrics:
        """What `to_dict` wrote, other keys aside.

        Figures that were written before there were intervals get that over clips.
        """
        known = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        lower, upper = known.get("ua_interval") or ua_interval(np.array(values["confusion"]))
        return cls(**{"speakers": None, **known, "ua_interval": (lower, upper)})

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract of `accuracy`."""
        return {
            "n": self.n,
            "ua": round(self.ua, 4),
            "ua_interval": [round(end, 4) for end in self.ua_interval],
            "wa": round(self.wa, 4),
            "speakers": self.speakers,
            "labels": self.labels,
            "confusion": self.confusion,
            "per_class_recall": {k: round(v, 4) for k, v in self.per_class_recall.items()},
        }

    def speakers_text(self) -> str:
        """How many speak, or that it is not known."""
        return "speakers unknown" if self.speakers is None else f"{self.speakers} speakers"

    def ua_text(self) -> str:
        """UA and its interval in per cent, such as `71.1 [66.0, 75.7]`."""
        lower, upper = self.ua_interval
        return f"{100 * self.ua:.1f} [{100 * lower:.1f}, {100 * upper:.1f}]"


def ua_text(values: dict[str, Any]) -> str:
    """`Metrics.ua_text` of what `to_dict` wrote."""
    return Metrics.of(values).ua_text()


def measure(
    truth: npt.NDArray[np.integer[Any]],
    predicted: npt.NDArray[np.integer[Any]],
    labels: list[str],
    speakers: Sequence[str | None] | None = None,
) -> Metrics:
    """Metrics of class indices.

    Raises ValueError for n = 0, and for arrays of different lengths.

    Parameters
    ----------
    truth, predicted : indices into `labels`, each of shape (n,).
    labels : the classes.
    speakers : who speaks in each, None where that is not known; None: not known of any.
    """
    if len(truth) == 0:
        raise ValueError("no predictions to measure")
    if speakers is not None and len(speakers) != len(truth):
        raise ValueError(f"{len(speakers)} speakers of {len(truth)} predictions")
    classes = list(range(len(labels)))
    recalls = audmetric.recall_per_class(truth, predicted, classes)
    occur = [index for index in classes if (np.asarray(truth) == index).any()]
    counts = _counts(np.asarray(truth), np.asarray(predicted), len(labels), speakers)
    names = set(speakers or [None])
    return Metrics(
        n=len(truth),
        ua=float(np.mean([recalls[index] for index in occur])),
        wa=float(audmetric.accuracy(truth, predicted, classes)),
        labels=list(labels),
        confusion=audmetric.confusion_matrix(truth, predicted, classes),
        per_class_recall={labels[index]: recalls[index] for index in occur},
        ua_interval=ua_interval(counts),
        speakers=None if None in names else len(names),
    )


def ua_interval(confusions: npt.NDArray[np.integer[Any]]) -> tuple[float, float]:
    """The 95 % interval of the mean recall over other speakers of the same kind, 0 to 1.

    `confusions` has shape (speakers, classes, classes), or (classes, classes) where clips count as
    if each were by a speaker of its own.

    Each recall has its Wilson interval, and those of the classes are joined as those of independent
    shares are (MOVER: Zou & Donner 2008, doi 10.1002/sim.3095). Clips of one speaker are alike, so
    that n of them tell less than n: how much less is the ratio of UA's variance between speakers to
    that of as many independent clips, never below 1, by which counts are divided (Korn & Graubard
    1998), and Student's t replaces the normal distribution. Unlike a bootstrap's, the interval of
    20 right verdicts of 20 is not a point.
    """
    grouped = confusions if confusions.ndim == 3 else confusions[np.newaxis]
    totals = grouped.sum(axis=0).sum(axis=1)
    present = totals > 0
    totals = totals[present].astype(float)
    right = np.diagonal(grouped, axis1=1, axis2=2)[:, present].astype(float)  # (speakers, classes)
    recalls = right.sum(axis=0) / totals
    z, effect = _Z, 1.0
    speakers = len(grouped)
    if speakers > 1:
        z = _student(speakers - 1)
        clips = grouped.sum(axis=2)[:, present]
        # What each speaker adds to or takes from UA (the linearized mean of ratios).
        pulls = ((right - recalls * clips) / totals).mean(axis=1)
        between = speakers / (speakers - 1) * float((pulls**2).sum())
        independent = float((recalls * (1 - recalls) / totals).sum()) / len(totals) ** 2
        effect = max(1.0, between / independent) if independent > 0 else 1.0
    lower, upper = _wilson(recalls, totals / effect, z)
    ua = float(recalls.mean())
    reach = [float(np.sqrt(((recalls - end) ** 2).sum())) / len(totals) for end in (lower, upper)]
    return max(0.0, ua - reach[0]), min(1.0, ua + reach[1])


def calibration_error(probabilities: Floats, truth: npt.NDArray[Any]) -> float:
    """Expected calibration error over 15 bins (Guo et al. 2017), of (n, classes) probabilities."""
    scores = np.asarray(probabilities, np.float64)
    confidence = scores.max(axis=1)
    right = scores.argmax(axis=1) == np.asarray(truth)
    edges = np.linspace(0.0, 1.0, _BINS + 1)[1:-1]
    bins = np.searchsorted(edges, confidence, side="left")
    gaps = np.bincount(bins, weights=right - confidence, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def fit_temperature(logits: Floats, truth: npt.NDArray[Any]) -> float:
    """The temperature, 0.2 to 10, whose softmax has the least cross-entropy (Guo et al. 2017).

    `logits` (n, classes) must come from clips the model was not trained on.
    """
    scores = np.asarray(logits, np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    own = scores[np.arange(len(scores)), np.asarray(truth)]
    candidates = np.geomspace(0.2, 10.0, 400)
    losses = [float((np.log(np.exp(scores / t).sum(axis=1)) - own / t).mean()) for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def unsure_threshold(confidence: Floats, correct: npt.NDArray[np.bool_]) -> float:
    """The confidence, 0 to 0.6, below which a verdict is "unsure".

    Both arrays have shape (n,). Going up in confidence, it is where the share of right verdicts
    among neighbouring clips (a tenth of them, at least 20) first reaches one half; but at least
    where the least certain twentieth of these clips ends. Speakers of the corpora that trained are
    right more often than not even there, which gave a threshold of 0: a model that never says that
    it does not know, whatever it is given.
    """
    least = round(min(float(np.quantile(confidence, _UNSURE)), 0.6), 3) if len(confidence) else 0.0
    return max(least, _even_odds(confidence, correct))


def _even_odds(confidence: Floats, correct: npt.NDArray[np.bool_]) -> float:
    """Where, going up in confidence, verdicts begin to be right as often as wrong."""
    order = np.argsort(confidence)
    width = max(20, len(order) // 10)
    for start in range(len(order) - width + 1):
        if correct[order[start : start + width]].mean() >= 0.5:
            return (
                round(min(float(confidence[order[start + width // 2]]), 0.6), 3) if start else 0.0
            )
    return 0.6


def _counts(
    truth: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    classes: int,
    speakers: Sequence[str | None] | None,
) -> npt.NDArray[np.int64]:
    """Confusion matrices (speakers, classes, classes), or one where a speaker is not known."""
    if speakers is None or None in speakers:
        speakers = [""] * len(truth)
    names, rows = np.unique(np.array(speakers), return_inverse=True)
    counts = np.zeros((len(names), classes, classes), np.int64)
    np.add.at(counts, (rows, truth, predicted), 1)
    return counts


def _wilson(shares: Floats, n: Floats, z: float) -> tuple[Floats, Floats]:
    """Ends of the score interval of `shares` of `n`, both of shape (classes,)."""
    middle = (shares + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(shares * (1 - shares) / n + z * z / (4 * n * n))
    return middle - reach, middle + reach


def _student(freedom: int) -> float:
    """The 97.5 % point of Student's t, within 1 %: exact for 1 and 2, else Cornish and Fisher."""
    if freedom == 1:
        return math.tan(0.475 * math.pi)
    if freedom == 2:
        return math.sqrt(2 / (0.05 * 1.95) - 2)
    z, v = _Z, float(freedom)
    terms = (
        (z**3 + z) / (4 * v),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3),
    )
    return z + sum(terms)
