"""Clips in which two people speak, by a pre-trained speaker encoder; and none without it.

Short stretches of a clip are embedded (Resemblyzer, GE2E), and the clip is cut where the two sides
are least alike. A side of few stretches is unlike anything by chance, so it counts for less. How
well that works, and where not, is in docs/your-own-data.md.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np
import torch

from edge_runtime.errors import AudioError
from edge_runtime.pcm import FULL_SCALE, Float32, Int16
from edge_runtime.segment import speech_of
from training.corpora import Utterance
from training.data.cache import cache_folder, kept, opened_cache, rows_of
from training.data.speaker_encoder import encoder, resemblyzer
from training.data.speaker_files import RESEMBLYZER
from training.errors import TrainingError

THRESHOLD = 0.45
"""Distance beyond which a clip is doubtful: the least that no single voice of EMO-DB reaches."""
_CACHE_VERSION = 1  # raise when the code below changes what `distance` computes
_WINDOW, _HOP = 60, 20  # frames of 10 ms: an embedded stretch, and from one to the next
_LEAST = 2  # stretches on either side of a cut
_LEVEL_DB = -30  # to which soft clips are raised, as Resemblyzer does
_PIECE = 32  # utterances a task
_FEW = 100  # clips


def two_voices(
    utterances: Sequence[Utterance], jobs: int | None = None, progress: bool = True
) -> list[int]:
    """The places of clips in which more than one person seems to speak, the surest first.

    `jobs` are processes; by default one a core. What is computed is cached. Raises TrainingError
    without Resemblyzer.
    """
    if not importlib.util.find_spec(RESEMBLYZER):
        raise TrainingError(
            "clips of two voices are not looked for: pip install 'edge-emotion[speaker]' && "
            "pip install --no-deps resemblyzer"
        )
    title = "telling voices apart"
    if len(utterances) <= _FEW:
        jobs = 1  # processes that begin take longer
    found, places = rows_of(_distances, (), utterances, _PIECE, jobs, title, progress)
    order = np.argsort(-found[:, 0], kind="stable")
    return [places[row] for row in order if found[row, 0] > THRESHOLD]


def _distances(task: tuple[list[Utterance]]) -> list[Float32 | None]:
    """Of each utterance its `distance`, (1,); None where it cannot be read."""
    (utterances,) = task
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # there is a process a core, and windows are short
    folder = opened_cache(cache_folder("voices"))
    rows: list[Float32 | None] = []
    try:
        for utterance in utterances:
            try:
                rows.append(kept(folder, utterance, _distance_of, _CACHE_VERSION))
            except (AudioError, OSError):
                rows.append(None)
    finally:
        torch.set_num_threads(threads)
    return rows


def _distance_of(samples: Int16) -> Float32:
    return np.array([distance(speech_of(samples))], np.float32)


def distance(speech: Int16) -> float:
    """How unlike the two sides of speech are, cut where they are least alike; 0 to about 3.

    int16 (n,), mono, 16 kHz, without pauses. 1 - cosine of the mean embeddings of both sides, times
    the root of the stretches on them (half their harmonic mean). 0 for less than 1.6 s.
    """
    if not speech.any():
        return 0.0
    audio = resemblyzer().audio
    level = audio.normalize_volume(
        speech.astype(np.float32) / FULL_SCALE, _LEVEL_DB, increase_only=True
    )
    mel = audio.wav_to_mel_spectrogram(level)  # (frames, 40)
    begins = range(0, len(mel) - _WINDOW + 1, _HOP)
    apart = _WINDOW // _HOP  # windows from one to the next that shares nothing with it
    if len(begins) < 2 * _LEAST + apart - 1:
        return 0.0
    windows = torch.from_numpy(np.stack([mel[at : at + _WINDOW] for at in begins]))
    with torch.no_grad():
        embedded = encoder()(windows).numpy()  # (windows, 256)
    most = 0.0
    for at in range(_LEAST + apart - 1, len(embedded) - _LEAST + 1):
        left, right = embedded[: at - apart + 1], embedded[at:]
        one, other = left.mean(axis=0), right.mean(axis=0)
        cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-9)
        weight = len(left) * len(right) / (len(left) + len(right))
        most = max(most, float((1 - cosine) * np.sqrt(weight)))
    return most
