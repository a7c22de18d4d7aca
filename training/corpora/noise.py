"""Folders of noises: sounds of things and places, without speech that matters, to train beside.

Any folder of audio files will do, such as ESC-10 or ESC-50 (Piczak 2015, doi
10.1145/2733373.2806390; CC BY 3.0 for ESC-10, CC BY-NC 3.0 for the whole), Speech Commands'
`_background_noise_` (Warden 2018, arXiv 1804.03209; CC BY 4.0), or recordings of where a device
will stand. They have no label and no speaker, so they are no corpus of `NAME=PATH`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edge_runtime.audio.file import FileSource
from edge_runtime.errors import AudioError
from edge_runtime.pcm import FULL_SCALE, Float32
from training.corpora import NO_CLASS, Utterance, audio_files
from training.errors import TrainingError

LAYOUT = "a folder of recordings of noise"
CORPUS = "nonspeech"
"""The corpus of what `nonspeech` finds."""
LONGEST_SECONDS = 60.0
"""How much is read of a noise: more of one adds little and takes memory."""
_FAINTEST = 2.0**-15  # a step of 16 bits


def noise_files(folder: Path) -> list[Path]:
    """Audio files anywhere under `folder`, sorted.

    Raises TrainingError where it is no folder, or holds none.
    """
    return audio_files(folder, "noise", LAYOUT)


def read_noise(path: Path) -> Float32:
    """The first minute of a noise at 16 kHz, mono, float32 in [-1, 1], shape (n,).

    Channels are averaged and other rates converted. Raises TrainingError for a file that is no
    audio, or that has no energy: digital silence, with an offset or without.
    """
    try:
        samples = np.float32(1 / FULL_SCALE) * FileSource(path, end=LONGEST_SECONDS).read()
    except AudioError as error:
        raise TrainingError(f"noise: {error}") from None
    if samples.size == 0 or samples.std() < _FAINTEST:
        raise TrainingError(f"noise: {path} has no energy: it is silent throughout; leave it out")
    return samples


def load_noises(folders: Iterable[Path]) -> list[Float32]:
    """Every noise of `folders`, sorted within each. Raises like `noise_files` and `read_noise`."""
    return [read_noise(path) for folder in folders for path in noise_files(folder)]


def nonspeech(folders: Iterable[Path]) -> list[Utterance]:
    """Every recording of `folders` as an utterance without a class, which says nothing.

    A model that trains on them learns to be unsure where a device takes them for speech. Raises
    like `noise_files`.
    """
    paths = [path for folder in folders for path in noise_files(folder)]
    return [Utterance(path, NO_CLASS, None, CORPUS, end=LONGEST_SECONDS) for path in paths]
