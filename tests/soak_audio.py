"""Hours of audio for a soak, mixed as they are needed from short recordings; always the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.audio.file import read_file
from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE
from training.corpora import audio_files
from training.corpora.noise import noise_files
from training.corpora.rooms import read_room, room_files
from training.data.channel import at_level, excerpt, mix, reverberate

Float32 = npt.NDArray[np.float32]
Int16 = npt.NDArray[np.int16]

_SPEECH = ("ravdess", "emodb", "nemo", "librispeech")
_ROOMS = 12  # of those that there are; they are kept
_KINDS = {"speech": 0.7, "noise": 0.12, "silence": 0.18}
"""What follows one another, and how often."""
_TONE_DB = -72.0  # of the microphone's own noise, below full scale


def stretches(corpora: Path, seed: int) -> Iterator[tuple[str, Int16]]:
    """Without end: speech in rooms and among noises, noises alone, silence; each with its kind.

    `corpora` is the folder of the shared recordings. A stretch has at most some ten seconds, at
    16 kHz, shape (n,).
    """
    rng = np.random.default_rng(seed)
    voices = [path for name in _SPEECH for path in audio_files(corpora / name, name, name)]
    noises = noise_files(corpora / "noise")
    found = room_files(corpora / "rooms")
    rooms = [read_room(found[i]) for i in rng.permutation(len(found))[:_ROOMS]]
    while True:
        kind = str(rng.choice(list(_KINDS), p=list(_KINDS.values())))
        if kind == "speech":
            sound = _spoken(_read(voices, rng), rooms, noises, rng)
        elif kind == "noise":
            length = _samples(rng.uniform(2, 8))
            sound = at_level(excerpt(_read(noises, rng), length, rng), 10 ** rng.uniform(-2.5, -1))
        else:
            sound = np.zeros(_samples(rng.uniform(1, 10)), np.float32)
        if kind != "silence" or rng.random() < 0.7:  # or else it is digital
            tone = rng.normal(0, 10 ** (_TONE_DB / 20), sound.size)
            sound = sound + tone.astype(np.float32)
        scaled = np.clip(np.rint(sound * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
        yield kind, scaled.astype(np.int16)


def _spoken(
    voice: Float32, rooms: list[Float32], noises: list[Path], rng: np.random.Generator
) -> Float32:
    """A clip with the pause behind it; every other one in a room, every other one among noise."""
    pause = np.zeros(_samples(rng.uniform(0.2, 2.5)), np.float32)
    sound = np.concatenate([voice[: _samples(10)], pause])
    if rng.random() < 0.5:
        sound = reverberate(sound, rooms[rng.integers(len(rooms))])
    if rng.random() < 0.5:
        noise = excerpt(_read(noises, rng), sound.size, rng)
        sound = mix(sound, noise, rng.uniform(5, 25))
    return at_level(sound, 10 ** rng.uniform(-1.7, -0.8))


def _read(paths: list[Path], rng: np.random.Generator) -> Float32:
    samples: Any = read_file(paths[rng.integers(len(paths))])
    return np.asarray(samples, np.float32) / FULL_SCALE


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
