"""Speaker embeddings computed here, by Resemblyzer's encoder."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import warnings
from collections.abc import Sequence
from functools import cache as remember
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_runtime.console import counted
from edge_runtime.errors import AudioError
from edge_runtime.pcm import Float32, Int16
from training.corpora import Clip, Utterance
from training.data.cache import cache_folder, kept, opened_cache, parallel
from training.data.speaker import SpeakerVectors, log, speaker_key
from training.data.speaker_files import RESEMBLYZER, read_speakers
from training.errors import TrainingError

_CACHE_VERSION = 1  # raise when the code below changes what `embed_clip` computes

_FULL_SCALE = 32768  # of int16


def load_speakers(
    source: str,
    utterances: Sequence[Utterance],
    utt2spk: Path | None = None,
    workers: int | None = None,
) -> SpeakerVectors:
    """Embeddings of `utterances` from `source`: `resemblyzer`, or what `read_speakers` reads.

    Raises TrainingError like `embed` and `read_speakers`.
    """
    if source == RESEMBLYZER:
        if utt2spk is not None:
            raise TrainingError(f"--utt2spk needs a file of vectors, not --speaker {RESEMBLYZER}")
        return embed(utterances, workers=workers)
    return read_speakers(Path(source), utterances, utt2spk)


def embed(
    utterances: Sequence[Utterance],
    cache: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> SpeakerVectors:
    """Resemblyzer's 256-d embedding of each clip, on all cores, from the cache where it is known.

    Clips that cannot be read or hold no voice, and utterances that are text only, get none; they
    are counted in the log. Raises TrainingError where no clip has one, or without the package.

    Parameters
    ----------
    utterances : whose clips to read, as they are: not augmented.
    cache : folder of cached embeddings; by default `cache_folder("speaker")`.
    workers : processes; by default one per core; 1 stays in this process.
    progress : show a progress bar.
    """
    version = _resemblyzer_version()
    folder = opened_cache(cache or cache_folder("speaker"))
    heard = [u for u in utterances if u.path is not None]
    tasks = [(u, version, folder) for u in heard]
    outcomes = parallel(_embed_one, tasks, workers, "speaker embeddings", progress)
    vectors: dict[Clip | str, Float32 | None] = {}
    for utterance, outcome in zip(heard, outcomes, strict=True):
        if isinstance(outcome, str):
            log.warning("no speaker embedding of %s: %s", utterance.path, outcome)
            vectors[utterance.clip] = None
        else:
            vectors[utterance.clip] = outcome
    if len(heard) < len(utterances):
        without = len(utterances) - len(heard)
        log.warning("no speaker embedding of %s without sound", counted(without, "utterance"))
        vectors |= {speaker_key(u): None for u in utterances if u.path is None}
    widths = [len(vector) for vector in vectors.values() if vector is not None]
    if not widths:
        raise TrainingError("no clip has a speaker embedding")
    return SpeakerVectors(widths[0], vectors, f"{RESEMBLYZER} {version}")


def embed_clip(samples: Int16) -> Float32 | None:
    """Resemblyzer's embedding of a clip: float32 (256,), length 1, no value below 0.

    `samples` are int16, mono, 16 kHz, (n,). Levelling and the removal of pauses are Resemblyzer's
    own. None where its voice activity detection finds no voice.
    """
    voice = resemblyzer().preprocess_wav(samples.astype(np.float32) / _FULL_SCALE)
    if len(voice) == 0:
        return None
    return np.asarray(encoder().embed_utterance(voice), np.float32)


def _embed_one(task: tuple[Utterance, str, Path]) -> Float32 | str:
    """The embedding of one clip, or why it has none."""
    utterance, version, folder = task
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # there is a process a core
    try:
        vector = kept(
            folder,
            utterance,
            # Levelling divides by the level: nothing must not be levelled.
            lambda samples: embed_clip(samples) if samples.any() else None,
            *(_CACHE_VERSION, RESEMBLYZER, version),
        )
    except AudioError as error:
        return str(error)
    except OSError as error:
        return str(error.strerror)
    return "no voice in it" if vector is None else vector


@remember
def encoder() -> Any:
    """The pre-trained encoder, on the CPU; one a process."""
    return resemblyzer().VoiceEncoder("cpu", verbose=False)


def resemblyzer() -> Any:
    """The package; importing it takes seconds."""
    with warnings.catch_warnings():
        # It imports a part of SciPy by the name that goes with SciPy 2, and says so each time.
        warnings.simplefilter("ignore", DeprecationWarning)
        import resemblyzer
    return resemblyzer


def _resemblyzer_version() -> str:
    try:
        return importlib.metadata.version(RESEMBLYZER)
    except importlib.metadata.PackageNotFoundError:
        raise TrainingError(
            "speaker embeddings need Resemblyzer: pip install 'edge-emotion[speaker]' && "
            "pip install --no-deps resemblyzer (with its dependencies it would need a compiler)"
        ) from None
