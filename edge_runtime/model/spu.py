"""Statistical pooling that runs along with the audio: max, mean and standard deviation over time.

The audio MSCNN sees a fixed number of frames around each map, so its outputs can be pooled as they
appear. Count, maximum, sum and sum of squares go on from one stretch of time to the next exactly,
which makes the pooled statistics of an utterance independent of how it was cut into chunks (Peng et
al. 2021, section 2.2, gives the statistics).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

STD_EPSILON = 1e-5  # added to the variance, in training too: d sqrt(v)/dv is infinite at 0
_STEPS = 256  # summed at a time: int8 values less their zero point, squared, stay below 2^24

PerChannel = float | npt.NDArray[Any]


class RunningStatistics:
    """Statistics of `channels` values per step over any number of steps, in constant memory."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._maximum = np.full(channels, -np.inf)
        self._sum = np.zeros(channels)
        self._sum_of_squares = np.zeros(channels)
        self._values = np.empty((0, channels), np.float32)

    def update(
        self, maps: npt.NDArray[Any] | Sequence[npt.NDArray[Any]], offset: PerChannel = 0.0
    ) -> None:
        """Take maps of shape (steps, channels), integer or float, as `maps - offset`.

        Several maps with the same steps stand side by side, and are pooled in one go: small arrays
        cost by the call. `offset` is one number or one per channel. Integer maps and offsets are
        summed without rounding.
        """
        scales = maps if isinstance(maps, Sequence) else (maps,)
        for start in range(0, len(scales[0]), _STEPS):
            self._take([scale[start : start + _STEPS] for scale in scales], offset)

    def _take(self, scales: Sequence[npt.NDArray[Any]], offset: PerChannel) -> None:
        steps = len(scales[0])
        if len(self._values) < steps:
            self._values = np.empty((steps, self._sum.size), np.float32)
        values = self._values[:steps]
        begin = 0
        for scale in scales:
            end = begin + scale.shape[1]
            values[:, begin:end] = scale
            begin = end
        if np.ndim(offset) or offset:
            values -= np.asarray(offset, np.float32)
        self.count += steps
        np.maximum(self._maximum, np.maximum.reduce(values), out=self._maximum)
        # Of int8 maps exact in float32, whatever the order of the terms.
        self._sum += np.add.reduce(values)
        np.square(values, out=values)
        self._sum_of_squares += np.add.reduce(values)

    def result(self, scale: PerChannel = 1.0) -> npt.NDArray[np.float32]:
        """Max, mean, std of the values times `scale`: float32, shape (3, channels).

        `scale` is one number or one per channel. Raises ValueError before the first step.
        """
        if self.count == 0:
            raise ValueError("no steps to pool")
        mean = self._sum / self.count
        variance = np.maximum(self._sum_of_squares / self.count - mean * mean, 0.0)
        result = np.empty((3, mean.size))
        np.multiply(self._maximum, scale, out=result[0])
        np.multiply(mean, scale, out=result[1])
        variance *= np.square(scale)
        variance += STD_EPSILON
        np.sqrt(variance, out=result[2])
        return result.astype(np.float32)
