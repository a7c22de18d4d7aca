"""Fit how sure a model is of what sounds unlike all that trained it.

Of the clips that trained, clean and as some device hears them, come the directions in which corpora
are told apart best: linear discriminant analysis of what the device pools, each corpus counting
alike, its scatter regularized (Friedman 1989, doi 10.1080/01621459.1989.10478752). How fast
certainty falls with the distance to the nearest corpus is fitted on clips that did not train: by
speakers of these corpora who did not, and of corpora of which nothing did. See
`edge_runtime.model.familiarity`, and docs/experiments.md for what else was tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.bundle import Bundle
from edge_runtime.familiarity_arrays import FamiliarityArrays
from edge_runtime.manifest import AUDIO, FAMILIARITY, Calibration, FamiliarityPart, FileSpec
from edge_runtime.model.familiarity import Familiarity, factor
from edge_runtime.model.fusion import softmax
from edge_runtime.pcm import Float32
from training.corpora import Utterance
from training.data.augment import Augmentation
from training.evaluate.discriminant import told_apart
from training.evaluate.judge import DEGRADED, Verdicts
from training.evaluate.metrics import calibration_error
from training.evaluate.reference import LIMIT, Heard, hear
from training.run import FAMILIARITY_FILE

Floats = npt.NDArray[np.float64]

_STEEPEST = 2.0


def fit_arrays(heard: Sequence[Heard]) -> FamiliarityArrays:
    """Where the corpora that trained are, of their clips in several variants.

    Raises TrainingError with fewer than two corpora: there is nothing to tell apart.
    """
    values = np.concatenate([np.clip(part.standard, -LIMIT, LIMIT) for part in heard])
    return told_apart(values, np.array([u.corpus for part in heard for u in part.utterances]))


def settings_of(
    usual: float = 0.0, slope: float = 0.0, without: Mapping[str, Calibration] | None = None
) -> dict[str, Any]:
    """The numbers of the part, as JSON; without the arguments as before anything is fitted."""
    plain = {name: asdict(chosen) for name, chosen in (without or {}).items()}
    return {"limit": LIMIT, "usual": usual, "slope": slope, "without": plain}


def with_familiarity(bundle: Bundle, arrays: FamiliarityArrays) -> Bundle:
    """`bundle` with that part, of which only distances mean anything yet."""
    part = FamiliarityPart(FileSpec(FAMILIARITY_FILE, ""), **settings_of())
    contents = {**bundle.contents, FAMILIARITY: arrays.content()}
    return replace(bundle, manifest=replace(bundle.manifest, familiarity=part), contents=contents)


def forms_of(variants: Sequence[Augmentation]) -> dict[str, Augmentation]:
    """Of each form of a verdict how its clips are heard; with one variant, none are degraded."""
    return dict(zip(("int8", DEGRADED), variants[:2], strict=False))


def hear_forms(
    source: str,
    utterances: Sequence[Utterance],
    forms: Mapping[str, Augmentation],
    jobs: int | None,
) -> dict[str, tuple[Heard, list[int]]]:
    """`training.evaluate.reference.hear`, by form."""
    title = "hearing how alike clips are"
    return {
        form: hear(source, utterances, jobs, title=title, variant=variant)
        for form, variant in forms.items()
    }


def distances(bundle: Bundle, standard: Float32) -> Floats:
    """Of standardized statistics (n, width) how far each is away, see `Familiarity.distance`."""
    known = Familiarity(bundle)
    return np.array([known.distance(row) for row in standard])


def factors_in(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    variants: Sequence[Augmentation],
    jobs: int | None,
) -> dict[str, Floats]:
    """Of the temperature, by form, (utterances,), by the bundle's own part; none without one.

    1 of what could not be heard. Raises TrainingError where nothing could.
    """
    if bundle.manifest.familiarity is None:
        return {}
    known = Familiarity(bundle)
    result: dict[str, Floats] = {}
    for form, (part, places) in hear_forms(
        bundle.source, utterances, forms_of(variants), jobs
    ).items():
        result[form] = np.ones(len(utterances))
        result[form][places] = [known.factor_of(row) for row in part.standard]
    return result


@dataclass(frozen=True, eq=False)
class FarVerdicts:
    """Verdicts of one crossval, and how far away the clips were from what trained."""

    verdicts: Verdicts
    """Logits (n, classes) by "modality/form"; see `training.evaluate.judge`."""
    truth: npt.NDArray[np.int64]
    """Class of each, (n,)."""
    corpora: npt.NDArray[np.str_]
    """Corpus of each, (n,)."""
    away: dict[str, Floats]
    """By form the distances, (n,); NaN of what could not be heard."""

    def sound(self, form: str) -> Float32:
        """Logits by sound alone, (n, classes)."""
        return self.verdicts[f"{AUDIO}/{form}"]

    def factors(self, by: Fitted) -> dict[str, Floats]:
        """Of the temperature, by form, (n,); 1 of what could not be heard."""
        return {form: factors_of(away, by.usual, by.slope) for form, away in self.away.items()}

    def take(self, rows: npt.NDArray[np.bool_]) -> FarVerdicts:
        """Some of them."""
        return FarVerdicts(
            {key: values[rows] for key, values in self.verdicts.items()},
            self.truth[rows],
            self.corpora[rows],
            {form: values[rows] for form, values in self.away.items()},
        )


def factors_of(away: Floats, usual: float, slope: float) -> Floats:
    """Of the temperature, of distances (n,); 1 where that is NaN."""
    known = np.where(np.isnan(away), usual, away)
    return np.array([factor(float(value), usual, slope) for value in known])


def tempered_verdicts(verdicts: Verdicts, factors: Mapping[str, Floats]) -> Verdicts:
    """Logits by "modality/form" as they are worth, those of a form without factors as they are."""
    result = {}
    for key, logits in verdicts.items():
        _, _, form = key.partition("/")
        by = factors.get(form)
        result[key] = logits if by is None else (logits / by[:, None]).astype(np.float32)
    return result


@dataclass(frozen=True)
class Fitted:
    """How sure verdicts may be."""

    usual: float
    """Distance at which the factor is 1."""
    slope: float
    """How fast it grows."""
    temperature: float
    """Of sound alone, at that distance."""


def fit(judged: Sequence[FarVerdicts], steepest: float = _STEEPEST) -> Fitted:
    """Temperature and slope by verdicts on sound that did not train.

    The first are those by which "usual" is meant: of corpora that trained. They have the least
    cross-entropy, all crossvals and forms counting alike; `steepest` bounds the slope.
    """
    from scipy.optimize import minimize

    usual = float(np.nanmean(judged[0].away["int8"]))
    parts = [
        (np.where(np.isnan(away), usual, away) - usual, one.sound(form), one.truth)
        for one in judged
        for form, away in one.away.items()
    ]

    def loss(chosen: Floats) -> float:
        found = []
        for away, logits, truth in parts:
            scaled = logits / np.exp(chosen[0] + chosen[1] * away)[:, None]
            scaled -= scaled.max(axis=1, keepdims=True)
            own = scaled[np.arange(len(truth)), truth]
            found.append((np.log(np.exp(scaled).sum(axis=1)) - own).mean())
        return float(np.mean(found))

    bounds = [(-2.0, 3.0), (0.0, steepest)]
    found = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=bounds)
    return Fitted(round(usual, 4), round(float(found.x[1]), 4), float(np.exp(found.x[0])))


def probabilities(one: FarVerdicts, form: str, by: Fitted) -> Float32:
    """Of the classes by sound alone, (n, classes)."""
    factors = factors_of(one.away[form], by.usual, by.slope)
    return softmax(one.sound(form) / factors[:, None], by.temperature)


def errors_of(
    judged: Mapping[str, FarVerdicts], fitted: Fitted
) -> dict[str, dict[str, list[float]]]:
    """Expected calibration error of sound alone, 0 to 1, by the names of crossvals, and form.

    By one temperature for all; by distance as well, as `fitted` to all of them; and so where no
    verdict on the corpus that is judged was among those it was fitted on.
    """
    every = list(judged.values())
    plain = fit(every, steepest=0.0)
    corpora = sorted({name for one in every for name in one.corpora.tolist()})
    without = {}
    for corpus in corpora:
        others = [one.take(one.corpora != corpus) for one in every]
        if all(len(one.truth) for one in others):
            without[corpus] = fit(others)
    result: dict[str, dict[str, list[float]]] = {}
    for name, one in judged.items():
        for form in one.away:
            nested = probabilities(one, form, fitted)
            for corpus, by in without.items():
                of_it = one.corpora == corpus
                nested[of_it] = probabilities(one.take(of_it), form, by)
            scores = (probabilities(one, form, plain), probabilities(one, form, fitted), nested)
            errors = [round(calibration_error(found, one.truth), 4) for found in scores]
            result.setdefault(name, {})[form] = errors
    return result
