"""A speaker's earlier utterances as a reference for the next: his plain voice, what is felt.

The state is a weighted sum of standardized audio statistics and its weight: constant memory,
however long somebody speaks. An utterance is judged once more by a linear layer that sees it beside
the reference, and both judgements are joined, the more by the second the more is known of the
speaker. Whether it still is the same speaker is asked of every utterance, by the likelihood ratio
of two Gaussians of voices (PLDA, Ioffe 2006): where it is doubtful the reference counts less, and
is forgotten by as much. In the large tier the same is done with the statistics of the pre-trained
encoder's states, by the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf

import numpy as np
import numpy.typing as npt

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError
from edge_runtime.model.fusion import joined, log_softmax
from edge_runtime.pcm import Float32
from edge_runtime.profile import Profile

PRIOR = 1.0  # utterances of the average voice that a reference begins with
FULL_SECONDS = 1.0  # an utterance that is shorter counts for less: it carries little of a voice
_LARGEST_RATIO = 50.0  # of a log likelihood ratio that becomes a probability


@dataclass(frozen=True)
class Opinion:
    """What the reference says of one utterance."""

    share: float
    """How much it counts, 0 to 1."""
    scores: tuple[float, ...]
    """Log probability of each class."""
    ratio: float
    """Log likelihood ratio that it is by the speaker of the reference; 0 is even."""
    changed: float
    """Probability that it is by somebody else, 0 to 1."""
    encoded: tuple[float, ...] | None = None
    """Log probability of each class by what the pre-trained encoder hears; None without."""


class _Beside:
    """Statistics of one kind that are known of a speaker, and a layer that judges the next by them.

    Parameters
    ----------
    mean, std : by which they are standardized, (width,).
    limit : to which they are clipped then.
    weights, bias : of the layer, (2 x width, classes): of an utterance, then of the reference.
    further : what else is asked of an utterance by itself, (width, answers).
    """

    def __init__(
        self,
        mean: Float32,
        std: Float32,
        limit: float,
        weights: Float32,
        bias: Float32,
        further: Float32 | None = None,
    ) -> None:
        self.width = mean.size
        self._mean, self._gain = mean, np.float32(1) / std
        self._limit = limit
        self._clipped = np.empty(self.width, np.float32)
        own, self._beside = weights[: self.width], weights[self.width :]
        asked = [own] if further is None else [own, further]
        self._asked = np.ascontiguousarray(np.concatenate(asked, axis=1).T)
        self._bias = bias
        self.enrolled = np.zeros(self.width, np.float64)
        """Sum over the utterances that were enrolled; it stays."""
        self.forget()

    def forget(self) -> None:
        self._sum = np.zeros(self.width, np.float64)

    @property
    def known(self) -> npt.NDArray[np.float64]:
        """Sum over the utterances of the speaker, those that fade by what is left of them."""
        return self._sum + self.enrolled

    def standardize(self, statistics: Float32) -> Float32:
        standard = np.subtract(statistics.reshape(-1), self._mean)
        standard *= self._gain
        return standard

    def ask(self, standard: Float32) -> list[float]:
        """What the utterance says by itself: its part of the class scores, and further answers."""
        found: list[float] = (self._asked @ self._clip(standard)).tolist()
        return found

    def log_probabilities(self, found: list[float]) -> tuple[float, ...]:
        """Of the classes, by what `ask` found, beside the reference."""
        return log_softmax([a + b for a, b in zip(found, self._offset, strict=False)])

    def learn(self, standard: Float32 | None, kept: float, new: float) -> None:
        """Keep a share of what is known, and add an utterance by its weight, if it is known."""
        self._sum *= kept
        if standard is not None:
            self._sum += new * self._clip(standard)

    def prepare(self, weight: float) -> None:
        """For the next opinion; `weight` is that of all that is known."""
        beside = (self.known / (weight + PRIOR)).astype(np.float32)
        self._offset: list[float] = (beside @ self._beside + self._bias).tolist()

    def _clip(self, standard: Float32) -> Float32:
        np.minimum(standard, self._limit, out=self._clipped)
        return np.maximum(self._clipped, -self._limit, out=self._clipped)


class Reference:
    """What is known of who speaks.

    Parameters
    ----------
    bundle : one with the part `reference` in its manifest.
    profile : an enrolled voice; it neither fades nor is it forgotten.
    running : whether `learn` learns.

    Raises
    ------
    BundleError : the bundle has no such part.
    EdgeError : the profile was made with another bundle.
    """

    def __init__(
        self, bundle: Bundle, profile: Profile | None = None, running: bool = False
    ) -> None:
        part, arrays = bundle.manifest.reference, bundle.reference()
        if part is None or arrays is None:
            raise BundleError(
                f"bundle {bundle.source} cannot be adapted to a speaker: it has no reference part; "
                "python -m training reference makes one of its run"
            )
        self._part, self._running = part, running
        width, classes = arrays.voice_mean.size, len(bundle.manifest.labels)
        mean, std = bundle.manifest.pooled_mean[:width], bundle.manifest.pooled_std[:width]
        self._own = _Beside(mean, std, part.limit, arrays.weights, arrays.bias, arrays.voice)
        beside = [self._own]
        self._encoded = None
        of_encoder = bundle.pretrained_reference()
        if of_encoder is not None:
            self._encoded = _Beside(
                of_encoder.mean, of_encoder.std, part.limit, of_encoder.weights, of_encoder.bias
            )
            beside.append(self._encoded)
        self._beside = tuple(beside)
        self._classes = classes
        self._voice, self._voice_mean = arrays.voice, arrays.voice_mean
        self._origin = (arrays.voice_mean @ arrays.voice).astype(np.float64)
        self._spread = arrays.voice_spread.astype(np.float64)
        self._enrolled_weight = 0.0
        if profile is not None:
            widths = [one.width for one in self._beside]
            profile.check_bundle(bundle.identity, sum(widths))
            means = np.split(profile.mean, np.cumsum(widths)[:-1])
            for one, mean in zip(self._beside, means, strict=True):
                one.enrolled += mean * np.float64(profile.weight)
            self._enrolled_weight = profile.weight
        self.reset()

    @property
    def weight(self) -> float:
        """Utterances that are known of the speaker, those that fade counted as what is left."""
        return self._weight + self._enrolled_weight

    def reset(self) -> None:
        """Forget what was heard; a profile stays."""
        for one in self._beside:
            one.forget()
        self._weight = 0.0
        self._prepare()

    def standardize(self, audio: Float32) -> Float32:
        """Statistics of the audio maps, (scales, 3, filters), as the head reads them, (width,)."""
        return self._own.standardize(audio)

    def standardize_encoded(self, states: Float32 | None) -> Float32 | None:
        """Statistics of the pre-trained encoder's states, (2 x width,), likewise.

        None where there are none, or the bundle has no reference for them.
        """
        if states is None or self._encoded is None:
            return None
        return self._encoded.standardize(states)

    def opinion(self, standard: Float32, encoded: Float32 | None = None) -> Opinion | None:
        """What the reference says of an utterance; None where it is empty.

        Parameters
        ----------
        standard : its standardized statistics, (width,).
        encoded : those of the encoder's states, if they are known.
        """
        if self.weight == 0:
            return None
        found = self._own.ask(standard)
        # Log likelihood ratio, a polynomial of the voice; see `_prepare`.
        ratio, place = self._constant, self._classes
        for linear, square in self._terms:
            value = found[place]
            ratio += (square * value + linear) * value
            place += 1
        odds = self._part.change / (1 - self._part.change)
        scaled = max(-_LARGEST_RATIO, min(_LARGEST_RATIO, self._part.trust * ratio))
        changed = odds / (odds + exp(scaled))
        share = self.weight / (self.weight + PRIOR) * (1 - changed)
        said = None
        if self._encoded is not None and encoded is not None:
            said = self._encoded.log_probabilities(self._encoded.ask(encoded))
        return Opinion(share, self._own.log_probabilities(found), ratio, changed, said)

    def join(self, scores: Float32, opinion: Opinion, modality: str) -> Float32:
        """Class probabilities of a model, (classes,), and of the reference, as one, calibrated."""
        part = self._part
        temperature = 1 + (part.temperature.get(modality, 1.0) - 1) * opinion.share
        return joined(scores, opinion.scores, part.strength * opinion.share, temperature)

    def learn(
        self,
        standard: Float32,
        opinion: Opinion | None,
        seconds: float,
        encoded: Float32 | None = None,
    ) -> None:
        """Take a finished utterance of so many seconds, and what `opinion` said of it, for known.

        A reference that does not run stays as it is.
        """
        if not self._running:
            return
        kept = self._part.keep * (1 - opinion.changed) if opinion else 1.0
        new = min(1.0, seconds / FULL_SECONDS)
        self._own.learn(standard, kept, new)
        if self._encoded is not None:
            self._encoded.learn(encoded, kept, new)
        self._weight = self._weight * kept + new
        self._prepare()

    def profile(self, seconds: float, made: str, identity: str) -> Profile:
        """What was learned, as a profile of a bundle of that identity."""
        sums = np.concatenate([one.known - one.enrolled for one in self._beside])
        mean = (sums / max(self._weight, 1e-9)).astype(np.float32)
        return Profile(identity, made, seconds, self._weight, mean)

    def _prepare(self) -> None:
        """All of an opinion that does not depend on the utterance."""
        weight = self.weight
        if weight == 0:
            return
        for one in self._beside:
            one.prepare(weight)
        # Voices of one speaker scatter by 1 around his own, and those around 0 by `spread`. Of a
        # voice x, with what is known of the speaker: N(mean, within); of anybody: N(0, any).
        voice = (self._own.known / weight - self._voice_mean) @ self._voice
        spread = self._spread
        mean = spread * weight / (spread * weight + 1) * voice
        within, anybody = spread / (spread * weight + 1) + 1, spread + 1
        # log N(x; mean, within) - log N(x; 0, any), x less the origin, as a polynomial of x.
        square: npt.NDArray[np.float64] = 0.5 / anybody - 0.5 / within
        linear = mean / within
        constant = 0.5 * (np.log(anybody / within) - mean * linear).sum()
        origin = self._origin
        self._constant = float(constant + (square * origin * origin - linear * origin).sum())
        self._terms = list(
            zip((linear - 2 * square * origin).tolist(), square.tolist(), strict=True)
        )


def least_alike(bundle: Bundle, utterances: Sequence[Float32]) -> float:
    """The lowest log likelihood ratio of an utterance to be by the speaker of all the others.

    `utterances` are standardized statistics, two or more; with fewer there is nothing to compare,
    and infinity comes back.
    """
    reference, lowest = Reference(bundle, running=True), inf
    for tested in range(len(utterances)):
        reference.reset()
        for number, standard in enumerate(utterances):
            if number != tested:
                reference.learn(standard, None, FULL_SECONDS)
        opinion = reference.opinion(utterances[tested])
        lowest = min(lowest, opinion.ratio) if opinion else lowest
    return lowest
