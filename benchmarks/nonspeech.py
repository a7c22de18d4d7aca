"""Sounds that are no speech, made here: whatever is said of their emotion is wrong."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_runtime.pcm import SAMPLE_RATE, Float32

Floats = npt.NDArray[np.float64]

SECONDS = 3.0
_A4, _LEVEL = 440.0, 0.2


def sounds() -> dict[str, Float32]:
    """By name, float32 (3 s at 16 kHz,) each in [-1, 1]."""
    t = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    rng = np.random.default_rng(0)
    white = rng.standard_normal(t.size)
    pink = np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.arange(t.size // 2 + 1) + 1.0), t.size)
    made = {
        "silence": np.zeros(t.size),
        "tone": np.sin(2 * np.pi * _A4 * t),
        "chord": sum(np.sin(2 * np.pi * _A4 * 2 ** (k / 12) * t) for k in (-9, -5, -2)),
        "sweep": np.sin(2 * np.pi * (100 * t + 0.5 * (4000 - 100) / SECONDS * t**2)),
        "melody": _melody(t),
        "white noise": white,
        "pink noise": pink,
        "clicks": (np.arange(t.size) % 4000 < 8).astype(float),
    }
    return {
        name: np.asarray(_LEVEL * wave / max(float(np.abs(wave).max()), 1e-9), np.float32)
        for name, wave in made.items()
    }


def _melody(t: Floats) -> Floats:
    """Plucked notes of a third of a second with five partials each."""
    note = np.floor(3 * t).astype(int)
    pitch = _A4 * 2 ** (np.array([-9, -7, -5, -4, -2, 0, 2, 3, 5])[note % 9] / 12)
    fading = np.exp(-6 * (3 * t - note))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    return np.asarray(fading * sum(np.sin(k * phase) / k for k in range(1, 6)))
