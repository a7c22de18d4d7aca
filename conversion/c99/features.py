"""Tables of the fixed-point front end: int16 samples to int8 frames (`edge_runtime.mfcc`).

Numbers carry as many bits after the point as their name or docstring says. The window, the filters
and the transforms are those of `edge_runtime.mfcc`; `sources/edge_emotion_features.c` uses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import floor, log2

import numpy as np
import numpy.typing as npt

from conversion.errors import ConversionError
from edge_runtime.graph import TensorSpec
from edge_runtime.manifest import AudioPart
from edge_runtime.mfcc import ENERGY_FLOOR, MfccParams, cepstral_matrix, mel_edges

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

LOG_BITS = 24  # of logarithms to base 2
SINE_BITS = 31
WEIGHT_BITS = 16  # of the weight of a bin in a filter
_TABLE_STEPS = 256  # of the mantissa, for logarithms
_INT32_BITS, _INT64_BITS = 31, 63
_SMALLEST_FFT = 8


@dataclass(frozen=True, eq=False)
class Features:
    """Everything the front end needs beside the samples."""

    params: MfccParams
    preemphasis: int
    """30 bits."""
    window: Int32
    """Hamming, 31 bits, (window,)."""
    sine: Int32
    """`SINE_BITS`, of 3/4 of a turn in `fft` steps: cosines start a quarter later."""
    edges: Int32
    """Bins at the edges of the filters, (mels + 2,)."""
    rising: Int32
    """Weight of a bin in the filter that rises there; the one that falls takes the rest; 16 bits,
    from the first edge to the last."""
    logarithm: Int32
    """log2(1 + i / 256), 30 bits, (257,)."""
    floor: int
    """The log energy that stands for none, `LOG_BITS`."""
    cepstral: Int32
    """Logarithms to base 2 to cepstra, `cepstral_bits`, (cepstra - 1, mels); the first cepstrum is
    the log energy."""
    cepstral_bits: int
    feature_bits: int
    """Bits after the point of cepstra and deltas in an int32."""
    gain: Int32
    """Steps of int8 for 1 of a feature, `gain_bits`, (features,)."""
    offset: Int64
    """What is added to that, `gain_bits` + `feature_bits`, (features,)."""
    gain_bits: int


def features_of(params: MfccParams, part: AudioPart, frames: TensorSpec) -> Features:
    """The tables of `params` for an encoder's input `frames`, normalized as `part` says.

    Raises ConversionError for what the fixed-point front end does not compute.
    """
    if params.fft & (params.fft - 1) or params.fft < _SMALLEST_FFT:
        raise ConversionError(
            f"an fft of {params.fft} points: the C99 front end takes powers of two from "
            f"{_SMALLEST_FFT} on"
        )
    cepstral = (cepstral_matrix(params)[:-1, 1:] * np.log(2)).T  # (cepstra - 1, mels)
    deepest = -log2(ENERGY_FLOOR)
    highest = np.linalg.norm(cepstral, axis=1).max() * deepest * np.sqrt(params.mels)
    cepstral_bits = min(
        _bits(np.abs(cepstral).max(), _INT32_BITS), _bits(highest, _INT64_BITS) - LOG_BITS
    )
    feature_bits = _bits(max(highest, deepest), _INT32_BITS)
    gain = 1 / (part.feature_std.astype(float) * frames.scale)
    offset = frames.zero_point - part.feature_mean * gain
    gain_bits = min(
        _bits(gain.max(), _INT32_BITS), _bits(np.abs(offset).max(), _INT64_BITS) - feature_bits - 1
    )
    edges = mel_edges(params)
    return Features(
        params=params,
        preemphasis=round(params.preemphasis * 2**30),
        window=_fixed(np.hamming(params.window), 31),
        sine=_fixed(np.sin(2 * np.pi * np.arange(3 * params.fft // 4 + 1) / params.fft), SINE_BITS),
        edges=edges.astype(np.int32),
        rising=_rising(edges),
        logarithm=_fixed(np.log2(1 + np.arange(_TABLE_STEPS + 1) / _TABLE_STEPS), 30),
        floor=round(-deepest * 2**LOG_BITS),
        cepstral=_fixed(cepstral, cepstral_bits),
        cepstral_bits=cepstral_bits,
        feature_bits=feature_bits,
        gain=_fixed(gain, gain_bits),
        offset=np.rint(offset * 2.0 ** (gain_bits + feature_bits)).astype(np.int64),
        gain_bits=gain_bits,
    )


def _rising(edges: npt.NDArray[np.int64]) -> Int32:
    weights = [
        (k - left) / (right - left) for left, right in pairwise(edges) for k in range(left, right)
    ]
    return np.asarray(np.rint(np.array(weights) * 2**WEIGHT_BITS), np.int32)


def _bits(highest: float, width: int) -> int:
    """Bits after the point that numbers up to `highest` may have in `width` bits."""
    return width - 1 - floor(log2(highest))


def _fixed(values: npt.NDArray[np.floating], bits: int) -> Int32:
    return np.asarray(np.clip(np.rint(values * 2.0**bits), -(2**31), 2**31 - 1), np.int32)
