"""Valence and arousal of a run: for each class two numbers, of which a device takes the mean.

They are from a table of words (the circumplex of affect), which says where people put the classes
and nothing of speech; or fitted to clips that people rated, by ridge regression on the class
probabilities, and then judged on speakers that did not fit them.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.console import counted
from edge_runtime.pcm import Float32
from training.corpora import Utterance, speakers_of
from training.errors import TrainingError
from training.run import Dimensions

NAMES = ("valence", "arousal")
CIRCUMPLEX = "circumplex"
_TABLE = Path(__file__).parent.parent / "corpora" / "circumplex.toml"
FEWEST = 20  # rated clips, below which nothing can be fitted and judged
FOLDS = 5
_RIDGE = 1.0  # in clips of each class that were rated 0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How predicted values agree with rated ones."""

    n: int
    ccc: float
    """Concordance correlation coefficient (Lin 1989): 1 for the same values, 0 for no relation."""
    rmse: float
    """Root mean square error, on the scale from -1 to 1."""

    def to_dict(self) -> dict[str, Any]:
        """For a run's figures."""
        return {"n": self.n, "ccc": round(self.ccc, 4), "rmse": round(self.rmse, 4)}


def agreement(rated: Floats, predicted: Floats) -> Agreement:
    """Of values (n,) each; where neither varies, CCC is 0."""
    spread = rated.var() + predicted.var() + (rated.mean() - predicted.mean()) ** 2
    shared = ((rated - rated.mean()) * (predicted - predicted.mean())).mean()
    error = math.sqrt(float(((rated - predicted) ** 2).mean()))
    return Agreement(len(rated), float(2 * shared / spread) if spread > 0 else 0.0, error)


def from_table(labels: Sequence[str], source: str = CIRCUMPLEX) -> Dimensions:
    """Valence and arousal of classes by a table: circumplex, or a TOML file of the same form.

    Raises TrainingError for a file that is none, and for a class that the table does not have.
    """
    path = _TABLE if source == CIRCUMPLEX else Path(source).expanduser()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        points = {k: (math.cos(a), math.sin(a)) for k, a in _radians(raw.get("degrees", {}))}
        for label, (valence, arousal) in raw.get("points", {}).items():
            points[label] = float(valence), float(arousal)
    except OSError as error:
        raise TrainingError(f"--table {source}: {error.strerror}; expected a TOML file") from None
    except (tomllib.TOMLDecodeError, ValueError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"--table {source}: {error}; expected [degrees], class = 0 to 360, or [points], class "
            "= [valence, arousal]"
        ) from None
    missing = [label for label in labels if label not in points]
    if missing:
        raise TrainingError(
            f"--table {source} does not say where {', '.join(missing)} is; a TOML file of your own "
            f"may: [points], then {missing[0]} = [valence, arousal]"
        )
    beyond = [label for label in labels if not all(-1 <= x <= 1 for x in points[label])]
    if beyond:
        raise TrainingError(f"--table {source}: {beyond[0]} is not from -1 to 1")
    told = "the circumplex of affect (Russell 1980)" if source == CIRCUMPLEX else path.name
    return Dimensions(
        {label: round(points[label][0], 4) for label in labels},
        {label: round(points[label][1], 4) for label in labels},
        f"from classes, by {told}: nobody rated speech for it",
    )


def _radians(degrees: dict[str, Any]) -> list[tuple[str, float]]:
    return [(label, math.radians(float(angle))) for label, angle in degrees.items()]


def rated(utterances: Sequence[Utterance]) -> list[int]:
    """The places of those that people rated on both dimensions."""
    return [i for i, u in enumerate(utterances) if None not in (u.valence, u.arousal)]


def fit_ratings(
    scores: Float32, utterances: Sequence[Utterance], labels: Sequence[str], seed: int = 0
) -> Dimensions:
    """The table that fits ratings best, and how well one of other speakers does, by corpus.

    Parameters
    ----------
    scores : calibrated class probabilities, (n, classes).
    utterances : the n clips, all of them rated.

    Raises TrainingError for too few.
    """
    if len(utterances) < FEWEST:
        raise TrainingError(
            f"{counted(len(utterances), 'clip')} with valence and arousal; at least {FEWEST} are "
            "needed"
        )
    truth = np.array([[u.valence, u.arousal] for u in utterances], np.float64)
    speakers = speakers_of(utterances)
    whose = [str(u.speaker) if (speakers or 0) > 1 else repr(u.clip[0]) for u in utterances]
    names = sorted(set(whose))
    if len(names) < 2:
        raise TrainingError(
            "the rated clips are all of one recording; ratings of others are needed to judge by"
        )
    np.random.default_rng(seed).shuffle(names)
    fold_of = {name: place % min(FOLDS, len(names)) for place, name in enumerate(names)}
    folds = np.array([fold_of[name] for name in whose])
    predicted = np.zeros_like(truth)
    for fold in range(folds.max() + 1):
        test = folds == fold
        predicted[test] = scores[test] @ _ridge(scores[~test], truth[~test])
    table = _ridge(scores, truth)
    corpora = np.array([u.corpus for u in utterances])
    figures = {
        corpus: {
            name: agreement(truth[mine, i], predicted[mine, i]).to_dict()
            for i, name in enumerate(NAMES)
        }
        for corpus in sorted(set(corpora.tolist()))
        for mine in [corpora == corpus]
    }
    by = "speaker" if (speakers or 0) > 1 else "file"
    metrics = {"protocol": f"{folds.max() + 1} folds by {by}", "corpora": figures}
    valence, arousal = (
        {label: round(float(x), 4) for label, x in zip(labels, column, strict=True)}
        for column in table.T
    )
    used = ", ".join(f"{name} {count}" for name, count in sorted(Counter(corpora.tolist()).items()))
    return Dimensions(valence, arousal, f"fitted to ratings of clips: {used}", metrics)


def _ridge(scores: Float32, truth: Floats) -> Floats:
    """A table (classes, 2) within -1 and 1, of probabilities (n, classes) and ratings (n, 2)."""
    from scipy.optimize import lsq_linear

    width = scores.shape[1]
    rows = np.concatenate([scores.astype(np.float64), math.sqrt(_RIDGE) * np.eye(width)])
    columns = [
        lsq_linear(rows, np.concatenate([column, np.zeros(width)]), (-1.0, 1.0)).x
        for column in truth.T
    ]
    return np.stack(columns, axis=1)


def signs(
    scores: Float32, utterances: Sequence[Utterance], labels: Sequence[str], table: Dimensions
) -> dict[str, tuple[float, int]]:
    """By dimension: how often its sign is that of the clip's own class, and of how many clips.

    The mean of the shares of clips above and below 0 (chance is 0.5), of classes farther than 0.25
    from the middle. It says what the classes are worth for it, not whether the table is right.
    """
    found = {}
    for name in NAMES:
        values: dict[str, float] = getattr(table, name)
        own = np.array([values.get(u.label, 0.0) for u in utterances])
        said = scores @ np.array([values[label] for label in labels])
        sides = [side for side in (own > _FAR, own < -_FAR) if side.any()]
        if len(sides) == 2:
            right = np.mean([((said > 0) == (own > 0))[side].mean() for side in sides])
            found[name] = float(right), int(sum(side.sum() for side in sides))
    return found


_FAR = 0.25
