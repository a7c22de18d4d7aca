"""Variations of a clip that leave the emotion alone: speed, colour, room and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # whose parts are loaded when they are first used

from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Int16, to_pcm
from training.data.degrade import DegradeSettings, Timing, degrade, generator, timing
from training.data.surroundings import Surroundings, sources

Float64 = npt.NDArray[np.float64]

NOWHERE = Surroundings()

VERSION = DegradeSettings(clean=0.0)  # the clip itself is among the variants already


@dataclass(frozen=True)
class Augmentation:
    """One way to vary a clip; the numbers drawn depend on the clip's content and `seed` alone."""

    speed: float = 1.0
    """Playing speed; pitch goes with it, as in Kaldi's speed perturbation (Ko et al. 2015)."""
    degrade: bool = False
    """Random equalization, reverberation and coloured noise."""
    seed: int = 0
    """Distinguishes variants of the same kind."""
    surroundings: Surroundings = NOWHERE
    """Where a device stands that hears the clip (`training.data.degrade`); then nothing of the
    above is done to it."""

    def identity(self) -> dict[str, Any]:
        """What fixes the varied clip, beside the clip, as JSON can hold it."""
        settings = asdict(VERSION) if self.surroundings else None
        return {**asdict(self), "surroundings": self.surroundings.digest, "degrade": settings}


CLEAN = Augmentation()


def versions(surroundings: Surroundings, count: int) -> tuple[Augmentation, ...]:
    """A clip as it is, then `count` times as some device might hear it in `surroundings`."""
    heard = (Augmentation(seed=n, surroundings=surroundings) for n in range(1, count + 1))
    return (CLEAN, *heard)


SPEEDS = (0.85, 0.9, 0.95, 1.05, 1.1, 1.15)
TRAINING = (
    CLEAN,
    Augmentation(degrade=True),
    *(Augmentation(speed) for speed in SPEEDS),
    *(Augmentation(speed, degrade=True) for speed in SPEEDS),
)

_SPEED_SHARE, _DEGRADE_SHARE = 0.7, 0.3  # of the clips that training draws


def shares(augmentations: Sequence[Augmentation]) -> list[float]:
    """How often training draws each: alike, but for `TRAINING`; the shares sum to 1."""
    if tuple(augmentations) != TRAINING:
        return [1 / len(augmentations)] * len(augmentations)
    return [_share(augmentation) for augmentation in augmentations]


def _share(augmentation: Augmentation) -> float:
    speed = _SPEED_SHARE / len(SPEEDS) if augmentation.speed != 1.0 else 1.0 - _SPEED_SHARE
    return speed * (_DEGRADE_SHARE if augmentation.degrade else 1.0 - _DEGRADE_SHARE)


def augment(samples: Int16, augmentation: Augmentation, seed: int) -> Int16:
    """The varied clip, int16 (m,); `seed` is the clip's own."""
    if augmentation == CLEAN:
        return samples
    if augmentation.surroundings:
        signal = np.float32(1 / FULL_SCALE) * samples
        rng = _generator(augmentation, seed)
        heard = degrade(signal, rng, sources(augmentation.surroundings), VERSION)
        return to_pcm(heard)[0]
    rng = np.random.default_rng([seed, augmentation.seed, round(1000 * augmentation.speed)])
    signal = samples / FULL_SCALE
    if augmentation.speed != 1.0:
        import soxr

        signal = soxr.resample(signal, SAMPLE_RATE * augmentation.speed, SAMPLE_RATE)
    if augmentation.degrade:
        signal = _noise(_reverberate(_equalize(signal, rng), rng), rng)
    return to_pcm(signal)[0]


def timing_of(samples: int, augmentation: Augmentation, seed: int) -> Timing:
    """What `augment` does to the time of a clip of so many samples."""
    if augmentation.surroundings:
        return timing(samples, _generator(augmentation, seed), VERSION)
    return Timing(speed=augmentation.speed)


def _generator(augmentation: Augmentation, seed: int) -> np.random.Generator:
    return generator(augmentation.seed, f"{seed:08x}", 0)


def _equalize(signal: Float64, rng: np.random.Generator) -> Float64:
    """A smooth random frequency response, 4 dB standard deviation at 7 octave-spaced points."""
    if rng.random() > 0.6:
        return signal
    points = np.array([50.0, 200.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0])
    gains = rng.normal(0.0, 4.0, len(points))
    size = 1 << int(np.ceil(np.log2(signal.size + 1024)))  # a power of two: zeros behind the clip
    hz = scipy.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    response = 10 ** (np.interp(np.log(hz + 30), np.log(points), gains) / 20)
    return np.asarray(scipy.fft.irfft(scipy.fft.rfft(signal, size) * response, size)[: signal.size])


def _reverberate(signal: Float64, rng: np.random.Generator) -> Float64:
    """A room as exponentially decaying noise behind the direct sound, RT60 0.1 to 0.5 s."""
    if rng.random() > 0.5:
        return signal
    length = int(rng.uniform(0.1, 0.5) * SAMPLE_RATE)
    response = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    response[:40] = 0
    response *= rng.uniform(0.1, 0.5) / np.sqrt((response**2).sum())
    response[0] = 1
    return np.asarray(scipy.signal.fftconvolve(signal, response)[: signal.size])


def _noise(signal: Float64, rng: np.random.Generator) -> Float64:
    """Noise between white and pink at 10 to 40 dB below the louder third of the clip."""
    if rng.random() > 0.8:
        return signal
    spectrum = scipy.fft.rfft(rng.standard_normal(signal.size))
    spectrum /= (np.arange(spectrum.size) + 20.0) ** rng.uniform(0, 1)
    noise = scipy.fft.irfft(spectrum, signal.size)
    loud = np.sort(signal**2)[-max(1, signal.size // 3) :].mean()
    ratio = 10 ** (-rng.uniform(10, 40) / 20)
    gain = float(np.sqrt(loud / max((noise**2).mean(), 1e-20))) * ratio
    return np.asarray(signal + gain * noise)
