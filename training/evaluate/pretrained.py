"""Fit what follows a pre-trained encoder, by what the device computes of the clips that trained.

The encoder is as it is published, or trained further (`training.fit.encoder`). Mean and standard
deviation of its states go through one linear layer, a logistic regression held to small weights,
and to smaller ones along what devices and rooms change of a clip. Every class of every corpus
counts alike; sounds that say nothing are each clip of all classes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import AudioError
from edge_runtime.familiarity_arrays import FamiliarityArrays
from edge_runtime.graph import Graph
from edge_runtime.manifest import AUDIO, PRETRAINED, Calibration
from edge_runtime.model.familiarity import nearest
from edge_runtime.model.fusion import joined, log_softmax, softmax
from edge_runtime.model.pretrained import PretrainedStatistics
from edge_runtime.pcm import Float32, Int16
from edge_runtime.pretrained_arrays import PretrainedArrays
from edge_runtime.segment import SegmentParams, speech_of
from training.corpora import NO_CLASS, Utterance, class_indices
from training.data.augment import CLEAN, Augmentation, augment
from training.data.balance import cells, check_every_class
from training.data.cache import cache_folder, content_of, kept, opened_cache, rows_of, seed_of
from training.data.teachers.whisper import FRAMES, weights
from training.evaluate.discriminant import told_apart
from training.evaluate.judge import DEGRADED, Verdicts, ask_converter
from training.tiers import Extent

Floats = npt.NDArray[np.float64]

STRENGTH = 1.0
"""Weight of what the published encoder says: that of the model's own scores, as an expert."""
TUNED_STRENGTH = 1.5
"""Of one that is trained further, which errs less than the model; see docs/tiers.md."""
PENALTY = 0.02
"""Of the squared weights, beside the mean loss of the clips; how it was found: docs/tiers.md."""
_NOTHING = 2.0  # weight of all sounds that say nothing, in classes of a corpus
_PIECE = 16  # clips a task
_VERSION = 1  # raise when what is computed of a clip changes


@dataclass(eq=False)
class States:
    """What the encoder makes of clips."""

    utterances: list[Utterance]
    """Those that could be heard."""
    values: Float32
    """Statistics of its states, (utterances, variants, width); the first variant is clean."""

    def take(self, places: Sequence[int]) -> States:
        """Some of them."""
        return States([self.utterances[i] for i in places], self.values[list(places)])

    def with_more(self, others: States | None) -> States:
        """These and `others`, of the same variants."""
        if others is None:
            return self
        values = np.concatenate([self.values, others.values])
        return States([*self.utterances, *others.utterances], values)


@dataclass(frozen=True)
class Ear:
    """A pre-trained encoder that hears along."""

    graph: Path
    """As a device runs it."""
    frames: int
    """Length of a window, frames of 10 ms."""
    strength: float
    """Weight of what it says, beside 1 of the model's scores."""
    weights: bytes | None = None
    """Of one that is trained further, see `training.run.Pretrained`; None as it is published."""

    @property
    def trained_further(self) -> bool:
        """Whether it is not as it is published."""
        return self.weights is not None


def ear_of(extent: Extent, trained_further: bytes | None = None) -> Ear:
    """So much of the published encoder, or one of other weights: made once by the converter,
    and kept.

    Raises TrainingError where that fails, such as without the package that has published weights.
    """
    folder = opened_cache(cache_folder("encoder"))
    if trained_further is None:
        blocks, units = extent.blocks, extent.units
        identity = f"{content_of(weights())[:12]}-{blocks}-{units}-{FRAMES}"
        path = _graph(folder, identity, ["--blocks", str(blocks), "--units", str(units)])
        return Ear(path, FRAMES, STRENGTH)
    identity = hashlib.sha256(trained_further).hexdigest()[:24]
    with tempfile.TemporaryDirectory() as work:
        kept_there = Path(work) / "encoder.npz"
        kept_there.write_bytes(trained_further)
        path = _graph(folder, identity, ["--weights", str(kept_there)])
    return Ear(path, Graph(path).inputs[0].shape[2], TUNED_STRENGTH, trained_further)


def _graph(folder: Path, identity: str, options: list[str]) -> Path:
    path = folder / f"{PRETRAINED}-{identity}-{_VERSION}.tflite"
    if not path.exists():
        ask_converter("encoder", "--out", str(path), *options, what="making the encoder")
    return path


def hear_states(
    utterances: Sequence[Utterance],
    segment: SegmentParams,
    variants: Sequence[Augmentation] = (CLEAN,),
    jobs: int | None = None,
    progress: bool = True,
    *,
    graph: Path,
) -> tuple[States, list[int]]:
    """Clips through an encoder as a device hears them, and the places of those heard.

    What comes of a clip is cached. `jobs` are processes; by default one a core. `graph` is of the
    encoder. Raises TrainingError where nothing can be heard.
    """
    given, title = (graph, segment, tuple(variants)), "hearing by the encoder"
    values, places = rows_of(_states, given, utterances, _PIECE, jobs, title, progress)
    return States([utterances[place] for place in places], values), places


_Task = tuple[Path, SegmentParams, tuple[Augmentation, ...], list[Utterance]]


def _states(task: _Task) -> list[Float32 | None]:
    """Of each clip its variants' statistics, (variants, width); None if it cannot be heard."""
    path, segment, variants, utterances = task
    graph = Graph(path)
    frames, width = graph.inputs[0].shape[2], graph.outputs[0].shape[2]
    statistics = PretrainedStatistics(graph, frames, width)
    folder = opened_cache(cache_folder("states"))
    made_from = [_VERSION, content_of(path), repr(segment), [v.identity() for v in variants]]
    rows: list[Float32 | None] = []
    for utterance in utterances:

        def make(samples: Int16, of: Utterance = utterance) -> Float32 | None:
            seed, found = seed_of(content_of(of.audio)), []
            for variant in variants:
                statistics.feed(speech_of(augment(samples, variant, seed), segment))
                found.append(statistics.finish())
            whole = [row for row in found if row is not None]
            return np.stack(whole) if len(whole) == len(variants) else None

        try:
            rows.append(kept(folder, utterance, make, *made_from))
        except (AudioError, OSError):
            rows.append(None)  # whoever trained on it has said so
    return rows


def fit_layer(states: States, labels: Sequence[str]) -> PretrainedArrays:
    """The linear layer behind the encoder, of clips that train, all their variants alike.

    What tells a clip from itself as devices hear it says nothing of how it is felt, so weights cost
    more along it: the covariance of these differences is added to the penalty, counted once (as
    within-class covariance normalization does in verifying speakers: Hatch, Kajarekar and Stolcke,
    Interspeech 2006). Raises TrainingError where a class is missing.
    """
    from sklearn.linear_model import LogisticRegression

    known = [u.label in (*labels, NO_CLASS) for u in states.utterances]
    chosen = states.take([place for place, of in enumerate(known) if of])
    truth = np.array(class_indices(chosen.utterances, labels))
    check_every_class(truth, labels, "the encoder's layer")
    weight = np.zeros(len(truth))
    for label, cell in cells(chosen.utterances, truth):
        weight[cell] = (1.0 if label >= 0 else _NOTHING) / len(cell)
    variants = chosen.values.shape[1]
    rows = chosen.values.reshape(-1, chosen.values.shape[2]).astype(np.float64)
    target, share = np.repeat(truth, variants), np.repeat(weight, variants)
    mean, std = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    spoken = chosen.values[truth >= 0].astype(np.float64)
    turned = _less_of((spoken[:, 1:] - spoken[:, :1]) / std)
    standard, nothing = (rows - mean) / std @ turned, target < 0
    classes = np.arange(len(labels))
    # A sound that says nothing is a clip of each class, at a share of its weight.
    every = len(classes)
    inputs = np.concatenate([standard[~nothing], *[standard[nothing]] * every])
    targets = np.concatenate([target[~nothing], np.repeat(classes, nothing.sum())])
    shares = np.concatenate([share[~nothing], *[share[nothing] / every] * every])
    model = LogisticRegression(C=1 / (2 * PENALTY), max_iter=300)
    model.fit(inputs, targets, sample_weight=shares / shares.sum())
    weights, bias = rows_of_classes(model, every)
    folded = np.ascontiguousarray((weights @ turned / std).T)
    return PretrainedArrays(
        folded.astype(np.float32), (bias - mean @ folded).astype(np.float32), _known(chosen, truth)
    )


def _known(states: States, truth: npt.NDArray[Any]) -> FamiliarityArrays | None:
    """Where the corpora of what is spoken are, all variants alike; None of one corpus alone."""
    spoken = states.take(np.flatnonzero(truth >= 0).tolist())
    corpora = np.array([u.corpus for u in spoken.utterances])
    if len(set(corpora.tolist())) < 2:
        return None
    rows = spoken.values.reshape(-1, spoken.values.shape[2])
    every = np.repeat(corpora, spoken.values.shape[1])
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    std[std < 1e-6] = np.inf  # what never differs tells nothing
    told = told_apart((rows - mean) / std, every)
    # Standardized by the same product; the centres follow from it as it is kept.
    axes = (told.projection / std[:, None]).astype(np.float16).astype(np.float32)
    middles = np.stack([rows[every == name].mean(axis=0) for name in np.unique(corpora)])
    return FamiliarityArrays(axes, (middles @ axes).astype(np.float32))


def distances(arrays: PretrainedArrays, states: States) -> dict[str, Floats]:
    """By form, how far clips are from the corpora that trained, (clips,); none where unknown.

    See `edge_runtime.model.familiarity`.
    """
    known = arrays.familiarity
    if known is None:
        return {}
    forms = ("int8", DEGRADED)[: states.values.shape[1]]
    return {
        form: np.array(
            [nearest(row, known.centres) for row in states.values[:, variant] @ known.projection]
        )
        for variant, form in enumerate(forms)
    }


def _less_of(differences: Floats) -> Floats:
    """What inputs are multiplied by, (width, width): along `differences` they become small.

    One penalty on all weights is then more of one in these directions. Differences are of clips,
    (clips, variants - 1, width).
    """
    rows = differences.reshape(-1, differences.shape[2])
    penalty = np.eye(rows.shape[1]) + rows.T @ rows / max(1, len(rows))
    sizes, directions = np.linalg.eigh(penalty)
    return np.asarray(directions / np.sqrt(sizes) @ directions.T)


def rows_of_classes(model: Any, classes: int) -> tuple[Floats, Floats]:
    """Weights (classes, width) and bias (classes,) of a fitted logistic regression."""
    weights, bias = model.coef_, model.intercept_
    if classes == 2:  # of two classes the regression has one row
        return np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return weights, bias


def opinions(arrays: PretrainedArrays, values: Float32) -> Float32:
    """Log probabilities of clips by the encoder, (clips, classes), of statistics (clips, width)."""
    return log_probabilities(values @ arrays.weights + arrays.bias)


def log_probabilities(logits: Float32) -> Float32:
    """Of logits (clips, classes), the same shape."""
    return np.array([log_softmax(row) for row in logits.tolist()])


def together(
    logits: Float32, temperature: float, said: Float32, strength: float = STRENGTH
) -> Float32:
    """Probabilities by a model and the encoder as one, (clips, classes), not yet tempered.

    Parameters
    ----------
    logits, temperature : of the model alone.
    said : log probabilities by the encoder, (clips, classes).
    strength : of the encoder's part, see `edge_runtime.model.fusion.joined`.
    """
    own = softmax(logits, temperature)
    pairs = zip(own, said.tolist(), strict=True)
    return np.array([joined(scores, opinion, strength, 1.0) for scores, opinion in pairs])


def join_verdicts(
    verdicts: Verdicts,
    temperatures: dict[str, float],
    states: States,
    arrays: PretrainedArrays,
    strength: float = STRENGTH,
) -> Verdicts:
    """Logits of the model and what the encoder says of the same clips, as one, not yet tempered.

    Parameters
    ----------
    verdicts : logits by "modality/form"; those of int8 and of degraded clips are joined.
    temperatures : of the model alone, by modality.
    states : of the clips in the same order; the second variant, if there is one, is the degraded.
    arrays : the layer behind the encoder.
    strength : of what that says.
    """
    result = {}
    for key, logits in verdicts.items():
        modality, _, form = key.partition("/")
        variant = 1 if form == DEGRADED else 0
        if not modality.startswith(AUDIO) or form not in ("int8", DEGRADED):
            continue
        if variant >= states.values.shape[1]:
            continue
        said = opinions(arrays, states.values[:, variant])
        both = together(logits, temperatures[modality], said, strength)
        result[key] = np.log(np.maximum(both, 1e-9)).astype(np.float32)
    return result


def part_settings(
    calibration: Mapping[str, Calibration], frames: int = FRAMES, strength: float = STRENGTH
) -> dict[str, Any]:
    """The numbers of a manifest's pre-trained part, for what was calibrated together."""
    return {
        "frames": frames,
        "strength": dict.fromkeys(calibration, strength),
        "temperature": {name: chosen.temperature for name, chosen in calibration.items()},
    }
