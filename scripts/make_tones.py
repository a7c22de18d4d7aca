"""Writes tones, chords, melodies and noises into a folder: `scripts/make_tones.py OUT`.

Sounds that are no speech, for `--nonspeech`: pitch, loudness, timbre and rhythm are drawn at
random, the same at every run. What `python -m benchmarks robustness` plays is made elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from edge_runtime.pcm import SAMPLE_RATE

COUNT = 20  # of each kind
_SECONDS = (1.0, 5.0)
_PITCH = (60.0, 2000.0)  # Hz
_LEVEL_DB = (-40.0, -3.0)  # of the peak, relative to full scale

Floats = npt.NDArray[np.float64]


def tone(t: Floats, rng: np.random.Generator) -> Floats:
    """A sine, a square or a sawtooth, perhaps trembling."""
    phase = 2 * np.pi * _pitch(rng) * t
    wave = _partials(phase, rng)
    return wave * (1 + rng.uniform(0, 1) * np.sin(2 * np.pi * rng.uniform(0.5, 12) * t))


def chord(t: Floats, rng: np.random.Generator) -> Floats:
    """Two to five tones at once."""
    root = _pitch(rng) / 2
    steps = rng.choice(25, rng.integers(2, 6), replace=False)
    return np.sum([_partials(2 * np.pi * root * 2 ** (k / 12) * t, rng) for k in steps], axis=0)


def sweep(t: Floats, rng: np.random.Generator) -> Floats:
    """A glide between two pitches, or a siren that goes to and fro."""
    low, high = np.log([_pitch(rng), _pitch(rng)])
    place = (
        t / t[-1] if rng.random() < 0.5 else 0.5 + 0.5 * np.sin(2 * np.pi * rng.random() * 2 * t)
    )
    return _partials(2 * np.pi * np.cumsum(np.exp(low + (high - low) * place)) / SAMPLE_RATE, rng)


def melody(t: Floats, rng: np.random.Generator) -> Floats:
    """Notes one after the other, held or plucked."""
    rate = rng.uniform(1.5, 8)
    note = np.floor(rate * t).astype(int)
    pitch = _pitch(rng) / 2 * 2 ** (rng.integers(0, 20, note[-1] + 1) / 12)
    phase = 2 * np.pi * np.cumsum(pitch[note]) / SAMPLE_RATE
    return _partials(phase, rng) * np.exp(-rng.uniform(0, 8) * (rate * t - note))


def noise(t: Floats, rng: np.random.Generator) -> Floats:
    """White to brown noise, steady or in bursts."""
    spectrum = np.fft.rfft(rng.standard_normal(t.size))
    wave = np.fft.irfft(spectrum / (np.arange(spectrum.size) + 1.0) ** rng.uniform(0, 1), t.size)
    return wave * (np.sin(2 * np.pi * rng.uniform(0.2, 6) * t) > rng.uniform(-1.5, 0.8))


KINDS: tuple[Callable[[Floats, np.random.Generator], Floats], ...] = (
    tone,
    chord,
    sweep,
    melody,
    noise,
)


def main() -> None:
    """Write the sounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the FLAC files")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        for number in range(COUNT):
            rng = np.random.default_rng([number, KINDS.index(kind)])
            t = np.arange(round(rng.uniform(*_SECONDS) * SAMPLE_RATE)) / SAMPLE_RATE
            wave = kind(t, rng)
            wave *= 10 ** (rng.uniform(*_LEVEL_DB) / 20) / max(float(np.abs(wave).max()), 1e-9)
            soundfile.write(out / f"{kind.__name__}-{number:02}.flac", wave, SAMPLE_RATE)


def _pitch(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(_PITCH))))


def _partials(phase: Floats, rng: np.random.Generator) -> Floats:
    """A tone of up to twelve partials that fall off as they rise."""
    fall, count = rng.uniform(0.5, 2.5), rng.integers(1, 13)
    return np.sum([np.sin(k * phase) / k**fall for k in range(1, count + 1)], axis=0)


if __name__ == "__main__":
    main()
