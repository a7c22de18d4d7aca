"""Resemblyzer's speaker encoder as teacher: the states of its second layer.

The encoder (Apache-2.0) is the LSTM of "Generalized End-to-End Loss for Speaker Verification" (Wan
et al. 2018), trained on thousands of speakers, its weights in its wheel.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Float32, Int16
from training.data.teachers import Int8, Teacher, packaged

WIDTH = 256  # of a layer of the encoder
_LAYERS = 2  # the second of three: what comes later is about the speaker alone
_MELS, _FFT, _HOP = 40, 400, 160  # the encoder's own features, at 16 kHz
_LEVEL_DB = -30.0  # quieter clips are raised to this RMS level, relative to full scale
_STEPS = 127  # states lie between -1 and 1; int8 steps to 1
_PACKAGE, _WEIGHTS = "Resemblyzer", "resemblyzer/pretrained.pt"


def states_of(samples: Int16) -> Int8:
    """The states of layer 2, times 127: int8 (max(1, n // 160), 256)."""
    with torch.no_grad():
        states, _ = _encoder()(torch.from_numpy(_mels(samples))[None])
    return np.asarray(np.rint(states[0].numpy() * _STEPS), np.int8)


def weights() -> Path:
    """The encoder's weights in the installed package; TrainingError without it or librosa."""
    return packaged("resemblyzer", _PACKAGE, "0.1.4", _WEIGHTS, ("librosa",))


def _mels(samples: Int16) -> Float32:
    """The encoder's own features, as Resemblyzer computes them: (max(1, n // 160), 40).

    Its first frame is centred at the first sample: it is left out.
    """
    import librosa

    signal = samples.astype(np.float32) / FULL_SCALE
    level = 10 * math.log10(max(float(np.mean(signal**2)), 1e-12)) if signal.size else 0.0
    signal = signal * np.float32(10 ** (max(0.0, _LEVEL_DB - level) / 20))
    power = librosa.feature.melspectrogram(
        y=signal, sr=SAMPLE_RATE, n_fft=_FFT, hop_length=_HOP, n_mels=_MELS
    )
    frames = np.asarray(power.T, np.float32)
    return frames[1:] if len(frames) > 1 else frames


@lru_cache(maxsize=1)
def _encoder() -> nn.LSTM:
    """The first layers of the encoder's LSTM."""
    state = torch.load(weights(), map_location="cpu", weights_only=True)["model_state"]
    encoder = nn.LSTM(_MELS, WIDTH, _LAYERS, batch_first=True)
    encoder.load_state_dict({name: state[f"lstm.{name}"] for name in encoder.state_dict()})
    return encoder.eval()


TEACHER = Teacher("resemblyzer", WIDTH, 2, True, weights, states_of)
