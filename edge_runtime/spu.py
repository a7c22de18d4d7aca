"""Statistical pooling that runs along with the audio: max, mean and standard deviation over time.

The audio MSCNN sees a fixed number of frames around each map, so its outputs can be pooled as they
appear. Count, maximum, sum and sum of squares of two stretches of time merge exactly, which makes
the pooled statistics of an utterance independent of how it was cut into chunks (Peng et al. 2021,
section 2.2, gives the statistics; the merging is elementary).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

STD_EPSILON = 1e-5  # added to the variance, as in training


class RunningStatistics:
    """Statistics of `channels` values per step over any number of steps, in constant memory."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._maximum = np.full(channels, -np.inf)
        self._sum = np.zeros(channels)
        self._sum_of_squares = np.zeros(channels)

    def update(self, maps: npt.NDArray[Any], offset: float = 0.0) -> None:
        """Take maps of shape (steps, channels), integer or float, as `maps - offset`.

        Integer maps are summed without rounding.
        """
        if len(maps) == 0:
            return
        values = maps.astype(np.float32)
        values -= np.float32(offset)
        self.count += len(values)
        np.maximum(self._maximum, values.max(axis=0), out=self._maximum)
        # Int8 steps and their squares stay below 2^24 over 250 steps: float32 sums are exact.
        self._sum += values.sum(axis=0)
        self._sum_of_squares += np.einsum("tc,tc->c", values, values)

    def merge(self, other: RunningStatistics) -> None:
        """Add the steps that `other` has seen."""
        self.count += other.count
        np.maximum(self._maximum, other._maximum, out=self._maximum)
        self._sum += other._sum
        self._sum_of_squares += other._sum_of_squares

    def result(self, scale: float = 1.0) -> npt.NDArray[np.float32]:
        """Max, mean, std of the values times `scale`: float32, shape (3, channels).

        Raises ValueError before the first step.
        """
        if self.count == 0:
            raise ValueError("no steps to pool")
        mean = self._sum / self.count
        variance = np.maximum(self._sum_of_squares / self.count - mean**2, 0.0) * scale**2
        return np.stack(
            [self._maximum * scale, mean * scale, np.sqrt(variance + STD_EPSILON)]
        ).astype(np.float32)
