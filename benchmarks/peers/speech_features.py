"""python_speech_features: the usual MFCC of small speech projects.

Timed in a process of its own that imports this peer and our features, and numpy for both, as on a
device. glibc lets a process that has converted models with PyTorch keep the memory of numpy's large
temporary arrays; elsewhere it goes back after each, and the next call faults in 3,000 pages again,
nearly half of the peer's time. Ours has no such arrays.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
from python_speech_features import delta
from python_speech_features import mfcc as reference_mfcc

from benchmarks.contest import Comparison, Contest, report, time_in_fresh_process
from edge_runtime.mfcc import DEFAULT_PARAMS, MfccParams, mfcc
from edge_runtime.pcm import Int16


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


def compare(signal: Int16) -> Comparison:
    """Time both on `signal` in a fresh process."""
    return time_in_fresh_process("benchmarks.peers.speech_features", signal.tobytes())


def contest(signal: Int16) -> Contest:
    """MFCC, delta and delta-delta."""
    return Contest(
        "MFCC + deltas",
        "edge_runtime.mfcc",
        "python_speech_features",
        lambda: mfcc(signal),
        lambda: reference(signal),
    )


if __name__ == "__main__":
    report(contest(np.frombuffer(sys.stdin.buffer.read(), np.int16)))
