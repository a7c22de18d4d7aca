"""Clips as devices hear them: a random chain of what `channel` has, drawn anew for every epoch.

The order is that of the world: a voice, its room, other sounds in it, the microphone and its
amplifier, and what carries or stores the sound. Each of these draws from a generator of its own, so
that turning one off leaves the others as they were.

With the settings as they are, a clip of 3 s takes 5.3 ms of one thread of an x86-64 machine with
AVX-512: 190 clips a second. A third of it is Opus, which takes 60 ms when it is drawn. Sources are
held once: 15 minutes of noise, 31 rooms and 131 voices of 6 s take 110 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from edge_runtime.audio.file import read_file
from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Float32
from training.corpora import Utterance
from training.corpora.noise import load_noises
from training.corpora.rooms import load_rooms
from training.data import channel

Range = tuple[float, float]

GRID_SECONDS = 0.03
"""Length of the frames by which a device's voice activity detector cuts a stream."""
VOICE_SECONDS = 10.0
MOST_VOICES = 200


@dataclass(frozen=True)
class DegradeSettings:
    """How often each thing happens to a clip, 0 to 1, and how much of it: ranges to draw from."""

    clean: float = 0.2
    """Clips that nothing happens to."""
    phase: float = 1.0
    """The clip begins anywhere within the first 30 ms: a device's frames fall as they will."""
    speed: float = 0.3
    speed_factor: Range = (0.85, 1.15)
    """Playing speed; pitch goes with it."""
    pitch: float = 0.1
    pitch_semitones: Range = (-2.0, 2.0)
    """Pitch alone. Both it and speed are small: they are part of what tells an emotion."""
    room: float = 0.4
    noise: float = 0.4
    babble: float = 0.1
    babble_speakers: tuple[int, int] = (3, 8)
    snr_db: Range = (0.0, 30.0)
    """Voice above noise or babble, by their active levels, dB."""
    microphone: float = 0.5
    microphone_db: float = 12.0
    """Most that a microphone's response is off, up or down."""
    gain: float = 0.7
    gain_db: Range = (-20.0, 20.0)
    """Loudness; only as much is added as there is room for below full scale."""
    hum: float = 0.1
    hum_snr_db: Range = (10.0, 40.0)
    offset: float = 0.2
    offset_most: float = 0.05
    """Offset up or down, as a share of full scale."""
    overload: float = 0.1
    overload_db: Range = (1.0, 10.0)
    """How far below its peak the clip is clipped."""
    telephone: float = 0.1
    mp3: float = 0.07
    mp3_kbps: Range = (16.0, 64.0)
    opus: float = 0.05
    opus_kbps: Range = (8.0, 48.0)
    wide_band: float = 0.05
    wide_band_low_hz: Range = (50.0, 200.0)
    wide_band_high_hz: Range = (3800.0, 7000.0)
    """Band of a wide-band voice line or of a cheap recorder. One codec or line at most is drawn."""

    def __post_init__(self) -> None:
        """Raises ValueError for a share outside 0 to 1 or a range that runs backwards."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                if value[0] > value[1]:
                    raise ValueError(f"{item.name} {value}: expected the lower end first")
            elif item.name not in ("microphone_db", "offset_most") and not 0 <= value <= 1:
                raise ValueError(f"{item.name} {value}: expected a share of clips, from 0 to 1")
        for names in (_NOISES, _CARRIERS):
            total = sum(getattr(self, name) for name in names)
            if total > 1 + 1e-9:
                raise ValueError(
                    f"{' + '.join(names)} is {total:g}; of these one is drawn: at most 1"
                )


@dataclass(frozen=True, eq=False)
class Sources:
    """Recordings that clips are put among; a stage whose sources are not there does not happen."""

    noises: Sequence[Float32] = ()
    """Sounds of things and places at 16 kHz, float32 (n,) each."""
    rooms: Sequence[Float32] = ()
    """Impulse responses at 16 kHz, float32 (m,) each."""
    voices: Sequence[Float32] = ()
    """Ordinary speech at 16 kHz, float32 (n,) each, for babble."""

    @property
    def bytes(self) -> int:
        """Memory that they take."""
        return sum(s.nbytes for part in (self.noises, self.rooms, self.voices) for s in part)


@dataclass(frozen=True)
class Timing:
    """Where the samples of a varied clip come from: number n from `start` + n x `speed`."""

    start: int = 0
    speed: float = 1.0


_NOISES = ("noise", "babble")
_CARRIERS = ("telephone", "mp3", "opus", "wide_band")


def load_sources(
    noise: Iterable[Path] = (), rooms: Iterable[Path] = (), voices: Sequence[Utterance] = ()
) -> Sources:
    """Folders of noises and of room responses, and ordinary speech, read whole.

    Of each voice the first `VOICE_SECONDS` are taken, and at most `MOST_VOICES` speakers, one clip
    of each, evenly from the sorted ones. Raises TrainingError for a folder or file that cannot be
    used, AudioError for a voice that cannot be read.
    """
    first: dict[str, Utterance] = {}
    for utterance in voices:
        first.setdefault(str(utterance.speaker), utterance)
    speakers = sorted(first)
    places = np.linspace(0, len(speakers) - 1, min(MOST_VOICES, len(speakers))).astype(int)
    chosen = [first[speakers[place]] for place in places]
    return Sources(load_noises(noise), load_rooms(rooms), [_voice(u) for u in chosen])


def generator(seed: int, clip: str, epoch: int) -> np.random.Generator:
    """The generator of a clip in an epoch: the same whichever worker asks, in whatever order."""
    digest = hashlib.sha256(clip.encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng([seed, epoch, int.from_bytes(digest[:8], "little")])


def degrade(
    samples: Float32, rng: np.random.Generator, sources: Sources, settings: DegradeSettings
) -> Float32:
    """A clip as some device might hear it.

    Parameters
    ----------
    samples : float32 (n,) at 16 kHz, in [-1, 1]; left as it is.
    rng : what is drawn depends on its state alone (`generator`).
    sources : what the clip is put among.
    settings : how often, and how much.

    Returns
    -------
    float32 (m,) in [-1, 1]; m is n, but for the 30 ms that a new phase takes off at most and for
    another speed. Nothing else moves in time.
    """
    first, *others = rng.spawn(6)
    if samples.size == 0 or first.random() < settings.clean:
        return np.array(samples, np.float32)
    heard = np.asarray(samples, np.float32)
    stages = (_speak, _stand, _hear_others, _pick_up, _carry)
    for stage, own in zip(stages, others, strict=True):
        heard = stage(heard, own, sources, settings)
    return np.clip(heard, -1, 1)


def timing(samples: int, rng: np.random.Generator, settings: DegradeSettings) -> Timing:
    """What `degrade` does to time, given a generator in the same state: see `Timing`."""
    first, own, *_ = rng.spawn(6)
    if samples == 0 or first.random() < settings.clean:
        return Timing()
    return _draw_timing(samples, own, settings)[0]


def _draw_timing(
    samples: int, rng: np.random.Generator, settings: DegradeSettings
) -> tuple[Timing, bool]:
    """When a clip of so many samples begins, how fast it goes, and whether its pitch moves."""
    phase, speed, pitch = rng.random(3)
    start, factor = 0, 1.0
    if phase < settings.phase:
        start = min(int(rng.integers(round(GRID_SECONDS * SAMPLE_RATE))), samples - 1)
    if speed < settings.speed:
        factor = rng.uniform(*settings.speed_factor)
    return Timing(start, factor), pitch < settings.pitch


def _speak(
    samples: Float32, rng: np.random.Generator, sources: Sources, settings: DegradeSettings
) -> Float32:
    """Another phase, speed and pitch."""
    drawn, pitched = _draw_timing(samples.size, rng, settings)
    samples = samples[drawn.start :]
    if drawn.speed != 1.0:
        samples = channel.change_speed(samples, drawn.speed)
    if pitched:
        samples = channel.shift_pitch(samples, rng.uniform(*settings.pitch_semitones))
    return samples


def _stand(
    samples: Float32, rng: np.random.Generator, sources: Sources, settings: DegradeSettings
) -> Float32:
    """A room."""
    if not sources.rooms or rng.random() >= settings.room:
        return samples
    return channel.reverberate(samples, sources.rooms[int(rng.integers(len(sources.rooms)))])


def _hear_others(
    samples: Float32, rng: np.random.Generator, sources: Sources, settings: DegradeSettings
) -> Float32:
    """A noise, or other people."""
    draw, snr_db = rng.random(), rng.uniform(*settings.snr_db)
    if draw < settings.noise:
        if not sources.noises:
            return samples
        noise = sources.noises[int(rng.integers(len(sources.noises)))]
        return channel.mix(samples, channel.excerpt(noise, samples.size, rng), snr_db)
    if draw < settings.noise + settings.babble and sources.voices:
        low, high = settings.babble_speakers
        speakers = int(rng.integers(low, high + 1))
        return channel.mix(
            samples, channel.babble(sources.voices, samples.size, speakers, rng), snr_db
        )
    return samples


def _pick_up(
    samples: Float32, rng: np.random.Generator, sources: Sources, settings: DegradeSettings
) -> Float32:
    """A microphone and its amplifier."""
    colour, hum, gain, overload, offset = rng.random(5)
    if colour < settings.microphone:
        level = channel.active_level(samples)
        response = channel.microphone(rng, settings.microphone_db)
        samples = channel.at_level(channel.equalize(samples, response), level)
    if hum < settings.hum:
        wave = channel.hum(samples.size, int(rng.choice(channel.MAINS_HZ)), rng)
        samples = channel.mix(samples, wave, rng.uniform(*settings.hum_snr_db))
    if gain < settings.gain:
        highest = float(np.abs(samples).max())
        room_db = -20 * np.log10(max(highest, 1e-6))
        samples = channel.amplify(samples, min(rng.uniform(*settings.gain_db), room_db))
    if overload < settings.overload:
        samples = channel.overload(samples, rng.uniform(*settings.overload_db))
    if offset < settings.offset:
        samples = samples + np.float32(rng.uniform(-1, 1) * settings.offset_most)
    return samples


def _carry(
    samples: Float32, rng: np.random.Generator, sources: Sources, settings: DegradeSettings
) -> Float32:
    """A line or a codec, one at most."""
    draw = rng.random()
    for name in _CARRIERS:
        share: float = getattr(settings, name)
        if draw < share:
            break
        draw -= share
    else:
        return samples
    if name == "telephone":
        return channel.telephone(samples, str(rng.choice(channel.LAWS)))
    if name == "mp3":
        return channel.mp3(samples, rng.uniform(*settings.mp3_kbps))
    if name == "opus":
        return channel.opus(samples, rng.uniform(*settings.opus_kbps))
    low, high = (
        rng.uniform(*settings.wide_band_low_hz),
        rng.uniform(*settings.wide_band_high_hz),
    )
    return channel.band(samples, low, high)


def _voice(utterance: Utterance) -> Float32:
    end = utterance.start + VOICE_SECONDS
    if utterance.end is not None:
        end = min(end, utterance.end)
    return np.float32(1 / FULL_SCALE) * read_file(utterance.audio, utterance.start, end)
