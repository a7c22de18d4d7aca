"""Fit how a model adapts to a speaker: from the clips that trained it, by the device's own path.

What is compared is what the device pools; so a bundle of the run hears every clip. The network
stays as it is: an utterance and what is known of its speaker go through one linear layer (balanced
logistic regression), and a Gaussian model of voices (PLDA) tells one speaker from another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.errors import AudioError
from edge_runtime.manifest import AUDIO_ENCODER
from edge_runtime.model.audio_branch import AudioBranch, StageTimes
from edge_runtime.pcm import SAMPLE_RATE, Float32, Int16
from edge_runtime.reference_arrays import ReferenceArrays
from edge_runtime.segment import speech_of
from training.corpora import Utterance, class_indices
from training.data.augment import CLEAN, Augmentation, augment
from training.data.cache import cache_folder, content_of, kept, opened_cache, rows_of, seed_of
from training.errors import TrainingError
from training.evaluate.histories import TRAINED, Speakers
from training.evaluate.pretrained import rows_of_classes

LIMIT = 4.0  # standard deviations to which statistics are clipped
DRAWS = 3  # histories a clip
INVERSE_PENALTY = 1e-3  # C of the logistic regression
BESIDE = 0.5  # scale of the reference beside the difference to it: it is held to less
COMPONENTS, VOICES = 40, 16  # principal components, and of these the best at telling speakers apart
_LEAST = 0.01  # of the mean scatter of a speaker, that of any component
_MOST = 1e4  # spread of the speakers' voices: beyond, it is one by few clips
PRIOR = 1.0  # as `edge_runtime.model.reference`


@dataclass(eq=False)
class Heard:
    """Utterances as the device pools them."""

    utterances: list[Utterance]
    """Those that could be heard."""
    standard: Float32
    """Standardized statistics, (utterances, width)."""
    seconds: npt.NDArray[np.float64]
    """Speech of each, s."""

    def take(self, places: Sequence[int]) -> Heard:
        """Some of them."""
        utterances = [self.utterances[i] for i in places]
        return Heard(utterances, self.standard[list(places)], self.seconds[list(places)])


def hear(
    source: str,
    utterances: Sequence[Utterance],
    jobs: int | None = None,
    progress: bool = True,
    title: str = "listening to speakers",
    variant: Augmentation = CLEAN,
) -> tuple[Heard, list[int]]:
    """Utterances through the audio branch of the bundle `source`, and the places of those heard.

    Clips are taken whole, as `accuracy` takes them, in one variant, and what is pooled is cached.
    `jobs` are processes; by default one a core. Raises TrainingError where nothing can be heard.
    """
    bundle = load_bundle(source)
    if bundle.manifest.audio is None:
        raise TrainingError(f"bundle {source} hears nothing: there is no voice to adapt to")
    values, places = rows_of(_pool, (source, variant), utterances, _PIECE, jobs, title, progress)
    width = values.shape[1] - 1
    gain = np.float32(1) / bundle.manifest.pooled_std[:width]
    standard = (values[:, :width] - bundle.manifest.pooled_mean[:width]) * gain
    usable = [utterances[place] for place in places]
    return Heard(usable, standard, values[:, width].astype(np.float64)), places


_PIECE = 64  # utterances a task


def _pool(task: tuple[str, Augmentation, list[Utterance]]) -> list[Float32 | None]:
    """Of each utterance its statistics and, last, its seconds; None if it cannot be heard."""
    source, variant, utterances = task
    bundle = load_bundle(source)
    segment = bundle.manifest.segment
    branch = AudioBranch(bundle, StageTimes())
    folder = opened_cache(cache_folder("pooled"))

    def make(samples: Int16, of: Utterance) -> Float32 | None:
        seed = seed_of(content_of(of.audio)) if variant != CLEAN else 0
        speech = speech_of(augment(samples, variant, seed), segment)
        branch.feed(speech)
        pooled = branch.finish()
        if pooled is None:
            return None
        return np.append(pooled.reshape(-1), np.float32(len(speech) / SAMPLE_RATE))

    made_from: list[Any] = [repr(segment), repr(bundle.manifest.mfcc), _encoder(bundle)]
    if variant != CLEAN:
        made_from.append(variant.identity())
    rows: list[Float32 | None] = []
    for utterance in utterances:
        try:
            make_it = partial(make, of=utterance)
            rows.append(kept(folder, utterance, make_it, *made_from))
        except (AudioError, OSError):
            rows.append(None)  # whoever trained on it has said so
    return rows


def _encoder(bundle: Bundle) -> list[Any]:
    """All that fixes what its encoder makes of a clip."""
    audio = bundle.manifest.audio
    assert audio is not None
    statistics = [audio.feature_mean.tolist(), audio.feature_std.tolist()]
    return [bundle.manifest.graphs[AUDIO_ENCODER].sha256, statistics]


def fit_arrays(heard: Heard, labels: Sequence[str], seed: int = 0) -> ReferenceArrays:
    """Class scores beside a reference, and the model of voices, of utterances that trained.

    Raises TrainingError where no speaker is known, or a class is missing.
    """
    known = heard.take(of_speakers(heard.utterances, labels))
    clipped = np.clip(known.standard, -LIMIT, LIMIT)
    corpora = np.array([u.corpus for u in known.utterances])
    weights, bias = fit_beside(clipped, known.utterances, labels, INVERSE_PENALTY, seed)
    return ReferenceArrays(weights, bias, *_voices(known, clipped, corpora))


def of_speakers(utterances: Sequence[Utterance], labels: Sequence[str]) -> list[int]:
    """The places of those of the classes by a speaker who is named.

    Raises TrainingError where there are not two speakers and every class.
    """
    chosen = [p for p, u in enumerate(utterances) if u.label in labels and u.speaker is not None]
    missing = set(labels) - {utterances[place].label for place in chosen}
    if missing or len({utterances[place].speaker for place in chosen}) < 2:
        raise TrainingError(
            "adapting to speakers needs clips of two and more speakers who are named, in every "
            f"class{'; there is no ' + ', '.join(sorted(missing)) if missing else ''}"
        )
    return chosen


def fit_beside(
    clipped: Float32,
    utterances: Sequence[Utterance],
    labels: Sequence[str],
    inverse_penalty: float,
    seed: int,
) -> tuple[Float32, Float32]:
    """Weights (2 x width, classes) and bias of the classes, of statistics beside a reference.

    Parameters
    ----------
    clipped : standardized statistics, (utterances, width), clipped at `LIMIT`.
    utterances : of whom they are; of each histories are drawn.
    labels : the classes.
    inverse_penalty : C of the logistic regression.
    seed : of the histories.
    """
    from sklearn.linear_model import LogisticRegression

    truth = np.array(class_indices(utterances, labels))
    corpora = np.array([u.corpus for u in utterances])
    weight = np.ones(len(truth))
    for corpus in np.unique(corpora):
        weight[corpora == corpus] /= np.sqrt((corpora == corpus).sum())
    speakers = Speakers(utterances, labels, seed)
    kinds, rng = list(TRAINED.values()), np.random.default_rng(seed)
    places = np.tile(np.arange(len(truth)), DRAWS)
    beside = np.zeros((len(places), clipped.shape[1]), np.float32)
    for row, place in enumerate(places):
        history = kinds[rng.integers(len(kinds))](speakers, int(place))
        beside[row] = clipped[history].sum(axis=0) / (len(history) + PRIOR)
    model = LogisticRegression(C=inverse_penalty, max_iter=150, class_weight="balanced")
    model.fit(
        np.concatenate([clipped[places] - beside, BESIDE * beside], axis=1),
        truth[places],
        sample_weight=weight[places] / weight[places].mean(),
    )
    return _of_classes(model, clipped.shape[1], len(labels))


def _of_classes(model: Any, width: int, classes: int) -> tuple[Float32, Float32]:
    """Weights (2 x width, classes) and bias of a fitted regression, as the device uses them."""
    coefficients, bias = rows_of_classes(model, classes)
    weights = coefficients.T.copy()
    # What was fitted sees the difference and the reference; the device the two as they are.
    weights[width:] = BESIDE * weights[width:] - weights[:width]
    return weights.astype(np.float32), bias.astype(np.float32)


def _voices(
    heard: Heard, clipped: Float32, corpora: npt.NDArray[Any]
) -> tuple[Float32, Float32, Float32]:
    """Mean, projection and spread of voices (PLDA): within a speaker they scatter by 1.

    Speakers are compared with those of their own corpus: rooms and microphones tell nothing.
    """
    mean = clipped.mean(axis=0)
    components = min(COMPONENTS, *clipped.shape)
    _, _, directions = np.linalg.svd(clipped - mean, full_matrices=False)
    basis = directions[:components].T
    places = (clipped - mean) @ basis
    names = np.array([str(u.speaker) for u in heard.utterances])
    (scatter, spread), count = np.zeros((2, components, components)), 0
    for name in np.unique(names):
        of_one = names == name
        if of_one.sum() < 2:
            continue
        own = places[of_one]
        own_mean = own.mean(axis=0)
        corpus = corpora == corpora[of_one][0]
        scatter += (own - own_mean).T @ (own - own_mean) / len(own)
        away = own_mean - places[corpus].mean(axis=0)
        spread += np.outer(away, away)
        count += 1
    if not count:
        raise TrainingError("adapting to speakers needs two and more clips of a speaker")
    values, vectors = np.linalg.eigh(scatter / count)
    # Where few clips do not scatter at all, nothing may be divided by that.
    whiten = vectors / np.sqrt(np.maximum(values, _LEAST * values.mean()) + 1e-3)
    values, vectors = np.linalg.eigh(whiten.T @ (spread / count) @ whiten)
    best = np.argsort(values)[::-1][: min(VOICES, components)]
    voice = basis @ whiten @ vectors[:, best]
    return (
        mean.astype(np.float32),
        voice.astype(np.float32),
        np.clip(values[best], 0, _MOST).astype(np.float32),
    )
