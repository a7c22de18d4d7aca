"""python_speech_features: the usual MFCC of small speech projects."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from python_speech_features import delta
from python_speech_features import mfcc as reference_mfcc

from benchmarks.peers import Contest
from edge_runtime.mfcc import DEFAULT_PARAMS, Int16, MfccParams, mfcc


def reference(samples: Int16, params: MfccParams = DEFAULT_PARAMS) -> npt.NDArray[np.float64]:
    """The features of `edge_runtime.mfcc` by python_speech_features, (frames, features)."""
    static = reference_mfcc(
        samples,
        params.sample_rate,
        params.window / params.sample_rate,
        params.hop / params.sample_rate,
        params.cepstra,
        params.mels,
        params.fft,
        params.low_hz,
        params.high_hz,
        params.preemphasis,
        params.lifter,
        appendEnergy=True,
        winfunc=np.hamming,
    )
    first = delta(static, 2)
    return np.hstack([static, first, delta(first, 2)])


def contest(signal: Int16) -> Contest:
    """MFCC, delta and delta-delta."""
    return Contest(
        "MFCC + deltas",
        "edge_runtime.mfcc",
        "python_speech_features",
        lambda: mfcc(signal),
        lambda: reference(signal),
    )
