"""The one form samples have inside the runtime: int16, mono, 16 kHz."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int16 = npt.NDArray[np.int16]

SAMPLE_RATE = 16_000  # Hz, mono
FULL_SCALE = 32768.0  # int16 steps in 1.0
# Louder than any float audio is by accident: filters and resamplers overshoot 1.0 by decibels.
_NOT_UNIT = 64.0


def to_pcm(samples: npt.ArrayLike) -> tuple[Int16, int]:
    """Samples as int16, and how many were NaN or infinite and became 0.

    Parameters
    ----------
    samples : float in [-1, 1] (beyond: clipped) or int16, of either byte order, shape (n,) or, as
        some libraries hand over mono, (n, 1).

    Raises
    ------
    ValueError : another shape or type, or floats beyond 64, which are int16 values in disguise;
        the message names the remedy.
    """
    if isinstance(samples, (bytes, bytearray, memoryview)):
        raise ValueError("samples are bytes: np.frombuffer(samples, np.int16) reads 16-bit PCM")
    array = np.asarray(samples)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        remedy = "; samples.mean(axis=1) mixes channels" if array.ndim == 2 else ""
        raise ValueError(f"samples must be mono, shape (n,) or (n, 1), not {array.shape}{remedy}")
    if array.dtype.kind == "i" and array.dtype.itemsize == 2:
        return array.astype(np.int16, copy=False), 0
    if array.dtype.kind != "f":
        remedy = {
            "i": "; divide by the type's full scale, such as samples / 2**31 for int32",
            "u": "; unsigned PCM is (samples - 128.0) / 128 for uint8",
        }.get(array.dtype.kind, "")
        raise ValueError(f"samples must be float or int16, not {array.dtype}{remedy}")
    finite = np.isfinite(array)
    invalid = int(array.size - np.count_nonzero(finite))
    scaled = np.where(finite, array, 0) if invalid else array
    peak = float(np.abs(scaled).max()) if scaled.size else 0.0
    if peak > _NOT_UNIT:
        raise ValueError(
            f"float samples must be in [-1, 1], and one is {peak:g}: divide int16 values by 32768"
        )
    return np.clip(np.rint(scaled * FULL_SCALE), -32768, 32767).astype(np.int16), invalid


def amplified(samples: Int16, decibels: float) -> Int16:
    """Samples (n,) so much louder, dB; clipped, not wrapped."""
    if decibels == 0:
        return samples
    louder: Int16 = np.clip(np.rint(samples * 10 ** (decibels / 20)), -32768, 32767).astype(
        np.int16
    )
    return louder
