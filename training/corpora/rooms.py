"""Folders of room impulse responses: what a room does to a sound between a mouth and a microphone.

Any folder of audio files will do, such as the RIRS_NOISES collection (Ko et al. 2017, doi
10.1109/ICASSP.2017.7953152; Apache-2.0) or responses measured where a device will stand. Of several
channels, the first is taken: the average of microphones that stand apart is no room's response.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edge_runtime.pcm import SAMPLE_RATE, Float32
from training.corpora import audio_files
from training.errors import TrainingError

LAYOUT = "a folder of room impulse responses"
LONGEST_SECONDS = 3.0
"""Length of a response behind its direct sound; what comes later is cut."""
LARGEST_CUT = 0.01
"""Share of the energy that cutting may take. A cathedral that sounds for 8 s loses 0.6 %; a
recording that is no impulse response loses most of itself."""
_EARLIEST = 0.5  # of the peak: a direct sound may be weaker than a focused reflection behind it


def room_files(folder: Path) -> list[Path]:
    """Audio files anywhere under `folder`, sorted.

    Raises TrainingError where it is no folder, or holds none.
    """
    return audio_files(folder, "rooms", LAYOUT)


def direct_path(response: Float32) -> int:
    """Index of the direct sound in a response (m,): the first peak of half the highest or more."""
    size = np.abs(response)
    first = int((size >= _EARLIEST * size.max()).argmax())
    falls = size[first + 1 :] <= size[first:-1]
    return first + int(falls.argmax()) if falls.any() else len(size) - 1


def read_room(path: Path) -> Float32:
    """An impulse response at 16 kHz, float32 of unit energy, shape (m,), direct sound first.

    Other rates are converted. What stands before the direct sound is the way of the sound and the
    noise of measuring, and is cut, as is what comes `LONGEST_SECONDS` behind it.

    Raises TrainingError for a file that is no audio, has no energy or samples that are no numbers,
    comes at less than 16 kHz, which would make every room a muffled one, or is no impulse response:
    one that keeps sounding where it is cut.
    """
    import soundfile
    import soxr

    try:
        samples, rate = soundfile.read(os.fsencode(path), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise TrainingError(f"rooms: {path} is no audio that can be read: {error}") from None
    if rate < SAMPLE_RATE:
        raise TrainingError(
            f"rooms: {path} comes at {rate} Hz; expected {SAMPLE_RATE} Hz or more: nothing above "
            f"{rate // 2} Hz is known of the room"
        )
    response = samples[:, 0]
    if not np.isfinite(response).all():
        raise TrainingError(f"rooms: {path} holds samples that are no numbers; measure it again")
    if not response.any():
        raise TrainingError(f"rooms: {path} has no energy: it is silent throughout; leave it out")
    if rate != SAMPLE_RATE:
        response = soxr.resample(response, rate, SAMPLE_RATE)
    response = response[direct_path(response) :]
    kept = response[: round(LONGEST_SECONDS * SAMPLE_RATE)]
    energy = float((response.astype(np.float64) ** 2).sum())
    lost = 1 - float((kept.astype(np.float64) ** 2).sum()) / energy
    if lost > LARGEST_CUT:
        raise TrainingError(
            f"rooms: {path} is no impulse response: {len(response) / SAMPLE_RATE:.1f} s long, with "
            f"{100 * lost:.0f} % of its energy later than {LONGEST_SECONDS:g} s after the first "
            "sound; is it a recording of a noise?"
        )
    return np.asarray(kept / np.sqrt(energy * (1 - lost)), np.float32)


def load_rooms(folders: Iterable[Path]) -> list[Float32]:
    """Every response of `folders`, sorted within each. Raises like `room_files`, `read_room`."""
    return [read_room(path) for folder in folders for path in room_files(folder)]
