"""What a voice goes through before a device hears it: one condition a line, each always the same.

They are those that training draws at random (`training.data.degrade`), here at fixed strengths, so
that figures of two bundles compare. Noises, rooms and voices should be others than trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from edge_runtime.pcm import Float32, Int16, to_pcm
from training.data import channel
from training.data.degrade import Sources, generator

Change = Callable[[Float32, np.random.Generator, Sources], Float32]

_SPEAKERS = 4  # who talk behind
_OFFSET = 0.02  # of full scale


@dataclass(frozen=True)
class Condition:
    """One way to hear a clip."""

    name: str
    change: Change
    """Samples float32 (n,), a generator of the clip's own, and sources, to samples (n,)."""
    needs: str = ""
    """What of `Sources` it draws from: noises, rooms, voices; nothing if empty."""


def _noise(snr_db: float) -> Change:
    def change(samples: Float32, rng: np.random.Generator, sources: Sources) -> Float32:
        noise = sources.noises[int(rng.integers(len(sources.noises)))]
        return channel.mix(samples, channel.excerpt(noise, samples.size, rng), snr_db)

    return change


def _babble(samples: Float32, rng: np.random.Generator, sources: Sources) -> Float32:
    behind = channel.babble(sources.voices, samples.size, _SPEAKERS, rng)
    return channel.mix(samples, behind, 10.0)


def _room(samples: Float32, rng: np.random.Generator, sources: Sources) -> Float32:
    return channel.reverberate(samples, sources.rooms[int(rng.integers(len(sources.rooms)))])


def _hum(samples: Float32, rng: np.random.Generator, _: Sources) -> Float32:
    return channel.mix(samples, channel.hum(samples.size, 50, rng), 10.0)


def _tilt(gain_db: float) -> Change:
    def change(samples: Float32, rng: np.random.Generator, _: Sources) -> Float32:
        tilted = channel.equalize(samples, channel.tilt(gain_db))
        return channel.at_level(tilted, channel.active_level(samples))

    return change


def _rising(samples: Float32) -> Float32:
    """A microphone whose response rises by 6 dB an octave: the difference from sample to sample."""
    rising = np.diff(samples, prepend=samples[:1])
    return channel.at_level(rising, channel.active_level(samples))


def _plain(function: Callable[[Float32], Float32]) -> Change:
    """A condition that draws nothing."""
    return lambda samples, rng, sources: function(samples)


CONDITIONS = (
    Condition("clean", _plain(lambda samples: samples)),
    Condition("noise 20 dB", _noise(20.0), "noises"),
    Condition("noise 10 dB", _noise(10.0), "noises"),
    Condition("noise 0 dB", _noise(0.0), "noises"),
    Condition("people talking 10 dB", _babble, "voices"),
    Condition("room", _room, "rooms"),
    Condition("hum 10 dB", _hum),
    Condition("telephone", _plain(partial(channel.telephone, law="ULAW"))),
    Condition("MP3 16 kbit/s", _plain(partial(channel.mp3, kbps=16.0))),
    Condition("Opus 12 kbit/s", _plain(partial(channel.opus, kbps=12.0))),
    Condition("wide band 4 kHz", _plain(partial(channel.band, low_hz=100.0, high_hz=4000.0))),
    Condition("+6 dB an octave", _plain(_rising)),
    Condition("highs +12 dB", _tilt(12.0)),
    Condition("lows +12 dB", _tilt(-12.0)),
    Condition("20 dB softer", _plain(partial(channel.amplify, gain_db=-20.0))),
    Condition("clipped by 6 dB", _plain(partial(channel.overload, depth_db=6.0))),
    Condition("offset 0.02", _plain(lambda samples: samples + np.float32(_OFFSET))),
)


def possible(sources: Sources) -> list[Condition]:
    """The conditions for which `sources` has what they need."""
    return [c for c in CONDITIONS if not c.needs or getattr(sources, c.needs)]


def heard(samples: Int16, condition: Condition, clip: str, sources: Sources) -> Int16:
    """A clip (n,) under a condition, (n,); `clip` names it, and fixes what is drawn."""
    signal = np.float32(1 / 32768) * samples
    changed = condition.change(signal, generator(0, f"{condition.name} {clip}", 0), sources)
    return to_pcm(np.clip(changed, -1, 1))[0]
