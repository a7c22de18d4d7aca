"""What rooms, microphones, lines and codecs do to a voice; one small function each.

Every signal is float32 at 16 kHz, mono, shape (n,), of finite samples, full scale at 1; no function
changes what it is given. Levels are root mean squares over the parts where there is sound
(`active_level`), so that a pause in a clip does not make it a quiet one. Whatever is random comes
from the generator that is given.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # whose parts are loaded when they are first used
import soundfile
import soxr

from edge_runtime.pcm import SAMPLE_RATE, Float32
from training.corpora.rooms import direct_path

Sections = npt.NDArray[np.float64]
"""Second-order sections of a filter, (k, 6), as scipy.signal has them."""

FRAME = round(0.02 * SAMPLE_RATE)
MARGIN_DB = 15.9
"""How far below the active level a part counts as a pause, dB, as in ITU-T P.56."""
TELEPHONE_HZ = (300.0, 3400.0)
TELEPHONE_RATE = 8000
LAWS = ("ULAW", "ALAW")
MP3_KBPS = (8, 160)
MP3_DELAY = 576 + 529
"""Samples that an MP3 is late, by its encoder and its decoder. Frames of few bits have no room for
the header that says so; without it, the reader leaves the delay in."""
OPUS_KBPS = (6, 256)
MAINS_HZ = (50, 60)


def active_level(samples: Float32) -> float:
    """Root mean square of the parts of a signal (n,) where there is sound; 0 for digital silence.

    An offset is no sound. Parts are 20 ms; those `MARGIN_DB` below the level that they leave are
    pauses.
    """
    if samples.size == 0:
        return 0.0
    varying = samples - samples.mean()
    count = max(1, samples.size // FRAME)
    energy = (varying[: count * FRAME].reshape(count, -1) ** 2).mean(axis=1, dtype=np.float64)
    level = float(energy.mean())
    while level > 0:
        active = energy[energy > level * 10 ** (-MARGIN_DB / 10)]
        risen = float(active.mean())
        if risen <= level * 1.001:
            break
        level = risen
    return float(np.sqrt(level))


def at_level(samples: Float32, level: float) -> Float32:
    """A signal (n,) scaled to an active level; digital silence as it is."""
    own = active_level(samples)
    return samples * np.float32(level / own) if own > 0 else samples


def excerpt(source: Float32, length: int, rng: np.random.Generator) -> Float32:
    """`length` samples of a longer or shorter recording (m,), from a random place; it may repeat.

    Raises ValueError for a recording without samples.
    """
    if source.size == 0:
        raise ValueError("a recording without samples")
    if source.size >= length:
        start = int(rng.integers(source.size - length + 1))
        return source[start : start + length]
    start = int(rng.integers(source.size))
    return np.resize(np.roll(source, -start), length)


def mix(samples: Float32, noise: Float32, snr_db: float) -> Float32:
    """Voice and noise, both (n,), the noise's active level `snr_db` below the voice's.

    The voice alone where either is digital silence.
    """
    voice, other = active_level(samples), active_level(noise)
    if voice == 0 or other == 0:
        return samples
    return samples + noise * np.float32(voice / other * 10 ** (-snr_db / 20))


def babble(
    voices: Sequence[Float32], length: int, speakers: int, rng: np.random.Generator
) -> Float32:
    """So many voices at once, each as loud as the others, float32 (length,) at active level 1.

    Parts of `voices`, each (m,), are drawn at random; each is used once where there are enough.
    """
    chosen = rng.choice(len(voices), speakers, replace=len(voices) < speakers)
    parts = [at_level(excerpt(voices[i], length, rng), 1.0) for i in chosen]
    return at_level(np.sum(parts, axis=0, dtype=np.float32), 1.0)


def reverberate(samples: Float32, response: Float32) -> Float32:
    """A voice (n,) in a room of impulse response (m,), float32 (n,): as loud, and at the same time.

    The direct sound stays where it was; what the room adds behind the last sample is cut.
    """
    if not samples.any():
        return samples
    start = direct_path(response)
    heard = scipy.signal.fftconvolve(samples, response)[start : start + samples.size]
    return at_level(np.asarray(heard, np.float32), active_level(samples))


def shelf(hz: float, gain_db: float, high: bool) -> Sections:
    """A filter that lifts all below `hz`, or above if `high`, by `gain_db`, (1, 6).

    Those of the Audio EQ Cookbook (Bristow-Johnson), of slope 1: half of the gain at `hz`.
    """
    a, w = 10 ** (gain_db / 40), 2 * np.pi * hz / SAMPLE_RATE
    sign = -1.0 if high else 1.0
    c, root = sign * np.cos(w), 2 * np.sqrt(a) * np.sin(w) * np.sqrt(0.5)
    b = [
        a * ((a + 1) - (a - 1) * c + root),
        sign * 2 * a * ((a - 1) - (a + 1) * c),
        a * ((a + 1) - (a - 1) * c - root),
    ]
    d = [
        (a + 1) + (a - 1) * c + root,
        sign * -2 * ((a - 1) + (a + 1) * c),
        (a + 1) + (a - 1) * c - root,
    ]
    return np.asarray(np.array([[*b, *d]]) / d[0])


def peak(hz: float, gain_db: float, q: float) -> Sections:
    """A filter that lifts what is near `hz` by `gain_db`, as narrow as `q` is large, (1, 6)."""
    a, w = 10 ** (gain_db / 40), 2 * np.pi * hz / SAMPLE_RATE
    alpha, c = np.sin(w) / (2 * q), np.cos(w)
    d = 1 + alpha / a
    rows = [[1 + alpha * a, -2 * c, 1 - alpha * a, d, -2 * c, 1 - alpha / a]]
    return np.asarray(np.array(rows) / d)


def tilt(gain_db: float) -> Sections:
    """A filter from `-gain_db / 2` in the lows to `gain_db / 2` in the highs, (2, 6)."""
    return np.concatenate(
        [shelf(1000.0, -gain_db / 2, high=False), shelf(1000.0, gain_db / 2, high=True)]
    )


def response_db(sections: Sections, hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Gain of a filter at frequencies (m,), dB (m,)."""
    _, response = scipy.signal.freqz_sos(sections, worN=np.asarray(hz, float), fs=SAMPLE_RATE)
    return np.asarray(20 * np.log10(np.maximum(np.abs(response), 1e-9)))


def microphone(rng: np.random.Generator, most_db: float = 12.0) -> Sections:
    """The frequency response of a random cheap microphone in its case, (7, 6).

    A shelf at either end, a tilt and three peaks or dips, each of up to `most_db`; where they add
    up to more, all are made smaller together.
    """
    low, high = rng.uniform(80, 400), rng.uniform(2500, 6500)
    peaks = [
        (float(np.exp(rng.uniform(np.log(150), np.log(6500)))), float(rng.uniform(0.7, 4)))
        for _ in range(3)
    ]
    gains = rng.uniform(-most_db, most_db, 6)

    def build(share: float) -> Sections:
        g = share * gains
        parts = [shelf(low, g[0], high=False), shelf(high, g[1], high=True), tilt(g[2])]
        parts += [peak(hz, g[3 + i], q) for i, (hz, q) in enumerate(peaks)]
        return np.concatenate(parts)

    grid = np.concatenate([np.geomspace(50, 7500, 128), [hz for hz, _ in peaks]])
    share = 1.0
    for _ in range(8):  # gains of filters add up nearly, not quite, in proportion
        reached = float(np.abs(response_db(build(share), grid)).max())
        if reached <= most_db:
            break
        share *= 0.99 * most_db / reached
    return build(share)


def equalize(samples: Float32, sections: Sections) -> Float32:
    """A signal (n,) through a filter, float32 (n,)."""
    return np.asarray(scipy.signal.sosfilt(sections, samples), np.float32)


def band(samples: Float32, low_hz: float, high_hz: float) -> Float32:
    """What of a signal (n,) lies between two frequencies, float32 (n,); 24 dB an octave outside."""
    return equalize(samples, _band(low_hz, high_hz))


def telephone(samples: Float32, law: str) -> Float32:
    """A voice (n,) over a telephone line: 300 to 3400 Hz at 8 kHz in 8 bits, float32 (n,).

    `law` is one of `LAWS`, by which G.711 spreads the steps. What is beyond full scale is clipped.
    """
    narrow = soxr.resample(band(samples, *TELEPHONE_HZ), SAMPLE_RATE, TELEPHONE_RATE)
    heard = _through(narrow, TELEPHONE_RATE, format="AU", subtype=law)
    return _fit(soxr.resample(heard, TELEPHONE_RATE, SAMPLE_RATE), samples.size)


def mp3(samples: Float32, kbps: float) -> Float32:
    """A signal (n,) through an MP3 of a constant bit rate in `MP3_KBPS`, float32 (n,), in time."""
    least, most = MP3_KBPS
    # At 1 itself, the encoder finds no bit rate.
    level = min(0.99, (most - np.clip(kbps, least, most)) / (most - least))
    heard = _through(
        samples, SAMPLE_RATE, format="MP3", compression_level=level, bitrate_mode="CONSTANT"
    )
    return _fit(heard[MP3_DELAY:] if heard.size > samples.size else heard, samples.size)


def opus(samples: Float32, kbps: float) -> Float32:
    """A signal (n,) through Opus at a bit rate in `OPUS_KBPS`, float32 (n,), in time."""
    least, most = OPUS_KBPS
    level = (most - np.clip(kbps, least, most)) / (most - least)
    heard = _through(samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=level)
    return _fit(heard, samples.size)


def hum(length: int, mains_hz: int, rng: np.random.Generator, harmonics: int = 12) -> Float32:
    """Hum of the mains and its multiples, weaker the higher, float32 (length,) of level 1.

    Each multiple has a random phase, and a share of its own. `mains_hz` is one of `MAINS_HZ`, which
    both repeat after 0.1 s.
    """
    if mains_hz not in MAINS_HZ:
        raise ValueError(f"{mains_hz} Hz: mains have {MAINS_HZ[0]} or {MAINS_HZ[1]} Hz")
    t = np.arange(SAMPLE_RATE // 10) / SAMPLE_RATE
    orders = np.arange(1, harmonics + 1)
    sizes = rng.uniform(0.1, 1.0, harmonics) / orders
    phases = rng.uniform(0, 2 * np.pi, harmonics)
    waves = np.sin(2 * np.pi * mains_hz * orders[:, None] * t + phases[:, None])
    wave = sizes @ waves
    return np.resize(np.asarray(wave / np.sqrt((wave**2).mean()), np.float32), length)


def amplify(samples: Float32, gain_db: float) -> Float32:
    """A signal (n,) louder by `gain_db`; it may go beyond full scale."""
    return samples * np.float32(10 ** (gain_db / 20))


def overload(samples: Float32, depth_db: float) -> Float32:
    """A signal (n,) clipped `depth_db` below its own peak, as by an input that is set too high."""
    limit = float(np.abs(samples).max(initial=0)) * 10 ** (-depth_db / 20)
    return np.clip(samples, -limit, limit)


def change_speed(samples: Float32, factor: float) -> Float32:
    """A signal (n,) played `factor` times as fast, pitch with it, float32 (about n / factor,)."""
    return np.asarray(soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE), np.float32)


def stretch(samples: Float32, factor: float) -> Float32:
    """A voice (n,) `factor` times as long at the same pitch, float32 (round(n * factor),).

    By overlapping parts of 40 ms where they fit best (WSOLA, Verhelst & Roelands 1993).
    """
    half, reach = round(0.02 * SAMPLE_RATE), round(0.0125 * SAMPLE_RATE)  # a period of 80 Hz
    length = round(samples.size * factor)
    count = length // half + 2
    tail = np.zeros(3 * half + 2 * reach, np.float32)
    padded = np.concatenate([np.zeros(reach, np.float32), samples, tail])
    window = scipy.signal.windows.hann(2 * half, sym=False).astype(np.float32)
    result = np.zeros((count + 1) * half, np.float32)
    last = padded.size - 2 * half - 2 * reach
    place = 0
    for part in range(count):
        wanted = min(round(part * half / factor), last)  # in padded, `reach` before the place
        if part:
            follows = padded[place + half : place + 2 * half]  # what came next, had nothing changed
            field = padded[wanted : wanted + 2 * reach + half]
            fit = np.correlate(field, follows, "valid")
            power = np.cumsum(np.concatenate([np.zeros(1), field.astype(np.float64) ** 2]))
            power = power[half:] - power[:-half]
            place = wanted + int((fit / np.sqrt(power + 1e-9)).argmax())
        else:
            place = wanted + reach
        result[part * half : (part + 2) * half] += window * padded[place : place + 2 * half]
    # The first half part has nothing to overlap with: its window is taken back.
    result[1:half] /= window[1:half]
    result[0] = padded[reach]
    return result[:length]


def shift_pitch(samples: Float32, semitones: float) -> Float32:
    """A voice (n,) higher by `semitones`, formants with it, as long as it was, float32 (n,)."""
    ratio = 2 ** (semitones / 12)
    return _fit(change_speed(stretch(samples, ratio), ratio), samples.size)


@lru_cache
def _band(low_hz: float, high_hz: float) -> Sections:
    return np.asarray(
        scipy.signal.butter(4, (low_hz, high_hz), "bandpass", fs=SAMPLE_RATE, output="sos")
    )


def _through(samples: Float32, rate: int, **codec: Any) -> Float32:
    """A signal (n,) written and read again in memory, float32 (m,)."""
    if samples.size == 0:
        return samples
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), rate, **codec)
    file.seek(0)
    heard, _ = soundfile.read(file, dtype="float32")
    return np.asarray(heard, np.float32)


def _fit(samples: Float32, length: int) -> Float32:
    """A signal of that length: cut, or silence behind it."""
    if samples.size >= length:
        return samples[:length]
    return np.pad(samples, (0, length - samples.size))
