"""How alike an utterance is to those that trained: of what sounds otherwise, less is certain.

A model errs more on other voices, microphones and rooms than on such as it learned from, and its
own scores do not tell. So the temperature grows with the distance to the nearest of the corpora
that trained, where these are told apart best (linear discriminant analysis, Fisher 1936; the
distance to the nearest class mean by a common scatter, Lee et al. 2018, arXiv 1807.03888; a
temperature for each sample, Joy et al. 2023, arXiv 2207.06211). It changes no label: only how sure
a verdict is.
"""

from __future__ import annotations

from math import exp, log

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError
from edge_runtime.model.fusion import joined
from edge_runtime.pcm import Float32

SMALLEST, LARGEST = 0.5, 4.0  # factor of the temperature
_LEAST = 1e-6  # a squared distance of which the logarithm is taken


class Familiarity:
    """The familiarity part of a bundle, running.

    Raises BundleError when there is none.
    """

    def __init__(self, bundle: Bundle) -> None:
        part, arrays = bundle.manifest.familiarity, bundle.familiarity()
        if part is None or arrays is None:
            raise BundleError(f"bundle {bundle.source} has no familiarity part")
        self._part = part
        width = len(arrays.projection)
        self._mean = bundle.manifest.pooled_mean[:width]
        self._gain = np.float32(1) / bundle.manifest.pooled_std[:width]
        # Rows in memory as they are multiplied.
        self._axes = np.ascontiguousarray(arrays.projection.T)
        self._centres = arrays.centres

    def factor(self, audio: Float32) -> float:
        """What log probabilities of an utterance are to be divided by, 0.5 to 4.

        `audio` are statistics of the audio maps, (scales, 3, filters).
        """
        standard = np.subtract(audio.reshape(-1), self._mean)
        standard *= self._gain
        return self.factor_of(standard)

    def factor_of(self, standard: Float32) -> float:
        """Likewise, of standardized statistics (width,)."""
        return factor(self.distance(standard), self._part.usual, self._part.slope)

    def distance(self, standard: Float32) -> float:
        """Logarithm of the squared distance to the nearest corpus, of standardized statistics."""
        limit = self._part.limit
        return nearest(self._axes @ np.clip(standard, -limit, limit), self._centres)


def nearest(place: Float32, centres: Float32) -> float:
    """Logarithm of the squared distance of a `place` (axes,) to the nearest of (corpora, axes)."""
    away = place - centres
    return log(max(_LEAST, float(np.einsum("ij,ij->i", away, away).min())))


def factor(distance: float, usual: float, slope: float) -> float:
    """Factor of the temperature: 1 at the `usual` distance, see `Familiarity.distance`."""
    return min(LARGEST, max(SMALLEST, exp(min(slope * (distance - usual), LARGEST))))


def tempered(scores: Float32, factor: float) -> Float32:
    """Class probabilities (classes,) whose logarithms are divided by `factor`."""
    return joined(scores, (0.0,) * len(scores), 0.0, factor)
