"""Cross-validation inside the clips at hand: how strict the head shall be, and what it is worth."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from edge_runtime.model.fusion import softmax
from edge_runtime.pcm import Float32
from training.adapt.head import PRIOR, STRENGTHS, Indices, Linear, View, fit_linear
from training.corpora import Utterance, speakers_of
from training.data.folds import Fold, fold_protocol
from training.errors import TrainingError
from training.evaluate.metrics import fit_temperature

FOLDS = 5
FOLD_SEED = 0
_SIZES, _REPEATS = (0.25, 0.5, 1.0), 3
_LEAST_CURVE = 40  # clips, below which a curve through parts of them is noise

Judge = Callable[[Linear, Indices, Indices], Float32]
"""Logits of the test clips, of a head, the places of the clips that fitted it, and of those."""


@dataclass(frozen=True)
class Plan:
    """How clips are cut to be judged."""

    folds: list[Fold]
    protocol: str
    """What figures over them rest on, one phrase."""
    by_speaker: bool


def plan_folds(utterances: Sequence[Utterance], truth: Indices) -> Plan:
    """Speaker-independent folds where that can be, else by clip; the protocol says which.

    Raises TrainingError where not even two folds by clip leave every class to both training sides.
    """
    known = speakers_of(utterances)
    if known is not None:
        folds = cut_groups([str(u.speaker) for u in utterances], truth, FOLDS)
        if folds:
            return Plan(folds, fold_protocol(utterances, len(folds), len(folds)), True)
    folds = cut_groups([repr(u.clip[0]) for u in utterances], truth, FOLDS)
    if not folds:
        raise TrainingError(
            "the clips cannot be cut into two parts that both have every class: cut from more "
            "files, or record more"
        )
    if known is None:
        return Plan(folds, fold_protocol(utterances, len(folds), len(folds)), False)
    why = "one speaker" if known == 1 else "some class has one speaker alone"
    protocol = f"{why}: {len(folds)} folds by clip, not speaker-independent: others will be worse"
    return Plan(folds, protocol, False)


def cut_groups(groups: Sequence[str], truth: Indices, most: int) -> list[Fold]:
    """Up to `most` folds that keep groups together; none where there are not two to be had.

    Every training side has every class. Unlike corpora (`training.data.folds`) few clips are cut
    with an eye to their classes, or a part would have none of one.
    """
    classes, count = len(set(truth.tolist())), min(most, len(set(groups)), np.bincount(truth).max())
    for parts in range(count, 1, -1):
        cutter = StratifiedGroupKFold(parts, shuffle=True, random_state=FOLD_SEED)
        with warnings.catch_warnings():
            # A class of fewer clips than parts is judged in as many as it has.
            warnings.filterwarnings("ignore", message="The least populated class")
            cut = list(cutter.split(truth, truth, list(groups)))
        if all(len(set(truth[train].tolist())) == classes and len(test) for train, test in cut):
            return [Fold(train.tolist(), test.tolist()) for train, test in cut]
    return []


def out_of_fold(
    views: Sequence[View],
    truth: Indices,
    folds: Sequence[Fold],
    strength: float,
    judge: Judge | None = None,
    keep: Callable[[Indices], Indices] = lambda train: train,
) -> Float32:
    """Logits of every clip by layers that did not learn from its fold, (n, classes).

    Parameters
    ----------
    views : what encoders make of the clips; the logits of their layers are added up.
    truth, strength : as for `fit_linear`.
    judge : what judges, by default the layer in float.
    keep : which of a training side train.
    """
    classes = int(truth.max()) + 1
    logits = np.zeros((len(truth), classes), np.float32)
    for fold in folds:
        train, test = keep(np.array(fold.train)), np.array(fold.test)
        for view in views:
            linear = fit_linear(view, train, truth, classes, strength)
            said = judge(linear, train, test) if judge else linear.logits(view.values[test])
            logits[test] += said
    return logits


def choose_strength(views: Sequence[View], truth: Indices, folds: Sequence[Fold]) -> float:
    """`PRIOR`, unless another of `STRENGTHS` is better by more than chance.

    Judged by the cross-entropy out of fold, each class of the same weight, each at its own best
    temperature, for that is fitted anyway.
    """
    weight = 1 / np.bincount(truth)[truth]
    losses = {}
    for strength in STRENGTHS:
        logits = out_of_fold(views, truth, folds, strength)
        chances = softmax(logits, fit_temperature(logits, truth))
        own = np.maximum(chances[np.arange(len(truth)), truth], 1e-6)
        losses[strength] = -np.log(own) * weight / weight.mean()
    best = min(STRENGTHS, key=lambda strength: float(losses[strength].mean()))
    gain = losses[PRIOR] - losses[best]
    return best if gain.mean() > gain.std() / np.sqrt(len(gain)) else PRIOR


@dataclass(frozen=True)
class Curve:
    """UA by the number of clips that train."""

    clips: list[int]
    ua: list[float]
    """Out of fold, 0 to 1; means of draws."""

    def expected(self, clips: int) -> float:
        """UA with so many clips, 0 to 1: the error is taken to fall as a power of their number.

        Hestness et al. 2017, arXiv 1712.00409. An estimate for more clips of the same kind.
        """
        errors = np.log(np.maximum(1 - np.array(self.ua), 1e-3))
        slope = float(np.polyfit(np.log(self.clips), errors, 1)[0])
        # More clips do not harm: what rises is noise. Begin at the last point, which is known best.
        return float(1 - np.exp(errors[-1] + min(slope, 0.0) * np.log(clips / self.clips[-1])))


def learning_curve(
    views: Sequence[View], truth: Indices, folds: Sequence[Fold], strength: float
) -> Curve | None:
    """UA out of fold of heads that learn from parts of the clips; None for too few of them."""
    if len(truth) < _LEAST_CURVE:
        return None
    trained = float(np.mean([len(fold.train) for fold in folds]))
    curve = Curve([], [])
    for share in _SIZES:
        found = []
        for repeat in range(_REPEATS if share < 1 else 1):
            keep = partial(_some, truth=truth, share=share, rng=np.random.default_rng(repeat))
            logits = out_of_fold(views, truth, folds, strength, keep=keep)
            found.append(_ua(truth, logits.argmax(axis=1)))
        curve.clips.append(round(share * trained))
        curve.ua.append(float(np.mean(found)))
    return curve


def _some(train: Indices, truth: Indices, share: float, rng: np.random.Generator) -> Indices:
    """A share of the places `train`, of each class alike, one of each at least."""
    parts = []
    for label in np.unique(truth[train]):
        mine = rng.permutation(train[truth[train] == label])
        parts.append(mine[: max(1, round(share * len(mine)))])
    return np.sort(np.concatenate(parts))


def _ua(truth: Indices, guess: npt.NDArray[np.int64]) -> float:
    return float(np.mean([(guess[truth == label] == label).mean() for label in np.unique(truth)]))
