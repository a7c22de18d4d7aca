"""The one form samples have inside the runtime: int16, mono, 16 kHz."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

pass


def to_pcm(samples: npt.ArrayLike) -> tuple[Int16, int]:
    """Samples as int16, and how many were NaN or infinite and became 0.

    float in [-1, 1] (beyond: clipped) or int16, shape (n,). ValueError for anything else.
    """
    array = np.asarray(samples)
    if array.ndim != 1:
        raise ValueError(f"samples must be mono, shape (n,), not {array.shape}")
    if array.dtype == np.int16:
        return array, 0
    if array.dtype.kind != "f":
        raise ValueError(f"samples must be float or int16, not {array.dtype}")
    finite = np.isfinite(array)
    invalid = int(array.size - np.count_nonzero(finite))
    scaled = np.where(finite, array, 0) if invalid else array
    return np.clip(np.rint(scaled * 32768.0), -32768, 32767).astype(np.int16), invalid


Float32 = npt.NDArray[np.float32]

Int16 = npt.NDArray[np.int16]

SAMPLE_RATE = 16_000  # Hz, mono
