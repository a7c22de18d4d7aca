"""Log-mel frames of clips for a pre-trained encoder to train on, as a device hears them; cached."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import AudioError
from edge_runtime.model.pretrained import BEFORE, FFT, HOP, mel_levels
from edge_runtime.pcm import FULL_SCALE, Float32, Int16
from edge_runtime.pretrained_arrays import MELS
from edge_runtime.segment import SegmentParams, speech_of
from training.corpora import Utterance
from training.data.augment import Augmentation, augment
from training.data.cache import cache_folder, content_of, kept, opened_cache, parallel, seed_of
from training.errors import TrainingError

Float16 = npt.NDArray[np.float16]

_PIECE = 16  # clips a task
_VERSION = 1  # raise when what is computed of a clip changes


@dataclass(eq=False)
class LogMels:
    """Frames of clips in all their variants, one after the other in one file.

    So they are on disk, and several processes read them.
    """

    utterances: list[Utterance]
    """Those that could be heard."""
    file: Path
    """Levels (`edge_runtime.model.pretrained.mel_levels`), float16, (frames of all, 80)."""
    ends: npt.NDArray[np.int64]
    """Behind the last frame of each, (utterances, variants)."""

    def opened(self) -> Float16:
        """The file as an array."""
        return np.memmap(self.file, np.float16, "r").reshape(-1, MELS)

    def of(self, frames: Float16, place: int, variant: int) -> Float16:
        """Of the opened file those of one clip in one variant, (n, 80)."""
        flat = place * self.ends.shape[1] + variant
        start = int(self.ends.ravel()[flat - 1]) if flat else 0
        return frames[start : self.ends[place, variant]]


def levels_of(samples: Int16) -> Float32:
    """Levels of an utterance, each 10 ms, (n, 80): divided by the power of all of it.

    A device divides by the power of what it has heard so far, which is the same in the first window
    of an utterance that is not longer than that.
    """
    signal = samples.astype(np.float32) / np.float32(FULL_SCALE)
    real = signal.astype(np.float64)
    held = np.zeros(BEFORE + signal.size + FFT, np.float32)
    held[BEFORE : BEFORE + signal.size] = signal
    return mel_levels(held, max(1, signal.size // HOP), float(real @ real) / max(1, signal.size))


def hear_log_mels(
    utterances: Sequence[Utterance],
    segment: SegmentParams,
    variants: Sequence[Augmentation],
    file: Path,
    jobs: int | None = None,
    progress: bool = True,
) -> LogMels:
    """What the encoder would read of clips, written to `file`; what cannot be heard is left out.

    3,700 clips of 3 s in six variants take 1.1 GB. `jobs` are processes; by default one a core.
    Raises TrainingError where nothing can be heard, and OSError.
    """
    pieces = [utterances[start : start + _PIECE] for start in range(0, len(utterances), _PIECE)]
    tasks = [(segment, tuple(variants), list(piece)) for piece in pieces]
    known, lengths = [], []
    found = parallel(_levels, tasks, jobs, "hearing for the encoder", progress)
    with contextlib.closing(found), file.open("wb") as out:
        for piece, rows in zip(pieces, found, strict=True):
            for utterance, row in zip(piece, rows, strict=True):
                if row is None:
                    continue
                known.append(utterance)
                lengths.append([len(levels) for levels in row])
                for levels in row:
                    out.write(levels.tobytes())
    if not known:
        raise TrainingError("no clip could be heard")
    ends = np.cumsum(lengths).reshape(-1, len(variants))
    return LogMels(known, file, ends)


def _made(
    samples: Int16, utterance: Utterance, variant: Augmentation, segment: SegmentParams
) -> Float16 | None:
    seed = seed_of(content_of(utterance.audio))
    speech = speech_of(augment(samples, variant, seed), segment)
    return levels_of(speech).astype(np.float16) if speech.size else None


_Task = tuple[SegmentParams, tuple[Augmentation, ...], list[Utterance]]


def _levels(task: _Task) -> list[list[Float16] | None]:
    """Of each clip the levels of its variants; None where one cannot be heard."""
    segment, variants, utterances = task
    folder = opened_cache(cache_folder("log-mels"))
    rows: list[list[Float16] | None] = []
    for utterance in utterances:
        found: list[Float16] = []
        for variant in variants:
            make = partial(_made, utterance=utterance, variant=variant, segment=segment)
            try:
                made = kept(folder, utterance, make, _VERSION, repr(segment), variant.identity())
            except (AudioError, OSError):
                break  # whoever trained on it has said so
            if made is None:
                break
            found.append(made.astype(np.float16))
        rows.append(found if len(found) == len(variants) else None)
    return rows
