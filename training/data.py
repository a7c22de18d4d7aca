"""Utterances to feature tensors: decoding, trimming, augmentation, MFCC, and a cache on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from edge_runtime.audio.file import FileSource
from edge_runtime.errors import AudioError
from edge_runtime.mfcc import DEFAULT_PARAMS, Float32, MfccParams, mfcc
from edge_runtime.segment import SegmentParams, speech_of
from training.augment import CLEAN, Augmentation, augment, share
from training.corpora import Utterance
from training.errors import TrainingError

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

_CACHE_VERSION = 1  # raise when the code below, mfcc.py or segment.py changes what it computes
_SILENT_PEAK = 8  # int16 steps: below this a clip is called silent


@dataclass(frozen=True)
class FeatureSettings:
    """What fixes the features of a clip."""

    mfcc: MfccParams = DEFAULT_PARAMS
    segment: SegmentParams = field(default_factory=SegmentParams)
    trim: bool = True
    """Keep the speech only, as the device's end-pointing does."""


@dataclass
class FeatureSet:
    """Features of the utterances that could be read."""

    utterances: list[Utterance]
    """Those that could be read, in the order given."""
    variants: list[list[Float32]]
    """Per utterance, one float32 (frames, features) per augmentation; the first is clean."""
    skipped: list[tuple[Utterance, str]]
    """Those that could not, and why."""
    shares: list[float] = field(default_factory=lambda: [1.0])
    """How often training draws each variant."""
    states: list[list[npt.NDArray[np.int8]]] | None = None
    """The teacher's states of every variant, (frames, 256) each; None without a teacher."""


def extract(
    utterances: Sequence[Utterance],
    settings: FeatureSettings | None = None,
    augmentations: Sequence[Augmentation] = (CLEAN,),
    cache: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> FeatureSet:
    """Features of every utterance, on all cores, from the cache where they are known.

    Unreadable and silent files are skipped, counted, and named in the log; utterances that are text
    only are skipped and counted. Raises TrainingError when all are text only.

    Parameters
    ----------
    utterances : what to read.
    settings : feature and trimming parameters.
    augmentations : one variant of each utterance per entry.
    cache : folder of cached features; by default `cache_folder()`.
    workers : processes; by default one per core; 1 stays in this process.
    progress : show a progress bar.
    """
    settings = settings or FeatureSettings()
    folder = cache or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    if utterances and all(u.path is None for u in utterances):
        corpora = ", ".join(sorted({u.corpus for u in utterances}))
        raise TrainingError(f"{corpora}: all {len(utterances)} utterances are text only, no audio")
    tasks = [(u, settings, tuple(augmentations), folder) for u in utterances]
    result = FeatureSet([], [], [], [share(a) for a in augmentations])
    text_only = Counter(u.corpus for u in utterances if u.path is None)
    for corpus, count in sorted(text_only.items()):
        log.warning("%s: skipped %d utterances that are text only", corpus, count)
    extracted = parallel(_extract_one, tasks, workers, "extracting features", progress)
    for utterance, outcome in zip(utterances, extracted, strict=True):
        if isinstance(outcome, str):
            if utterance.path is not None:
                log.warning("skipped %s: %s", utterance.path, outcome)
            result.skipped.append((utterance, outcome))
        else:
            result.utterances.append(utterance)
            result.variants.append(outcome)
    return result


def parallel(
    function: Callable[[Task], Outcome],
    tasks: Sequence[Task],
    workers: int | None,
    title: str,
    progress: bool = True,
) -> Iterator[Outcome]:
    """`function` of each of `tasks`, in their order, behind a progress bar with `title`.

    `workers` are processes; None for one per core; 1 stays in this process.
    """
    with contextlib.ExitStack() as stack:
        outcomes: Iterator[Outcome]
        if workers == 1:
            outcomes = map(function, tasks)
        else:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers or os.cpu_count(), mp_context=context)
            outcomes = stack.enter_context(pool).map(function, tasks, chunksize=4)
        yield from track(
            outcomes,
            title,
            total=len(tasks),
            transient=True,
            disable=not progress,
            console=Console(stderr=True),
        )


def cache_folder(kind: str = "features") -> Path:
    """Where `kind` is cached: $XDG_CACHE_HOME/edge-emotion/KIND, else under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edge-emotion" / kind


def feature_statistics(features: Sequence[Float32]) -> tuple[Float32, Float32]:
    """Mean and standard deviation over all frames of all clips, each float32 (features,)."""
    frames = sum(len(f) for f in features)
    mean = sum(f.sum(axis=0, dtype=np.float64) for f in features) / frames
    variance = sum(((f - mean) ** 2).sum(axis=0) for f in features) / frames
    return (
        np.asarray(mean, np.float32),
        np.sqrt(np.maximum(variance, 1e-8)).astype(np.float32),
    )


class ClipDataset(Dataset[tuple[Tensor, int, int]]):
    """(features (frames, F), label index, corpus index) of each clip.

    In training, each access draws one of the clip's variants at random; otherwise the clean one.
    """

    def __init__(
        self, features: FeatureSet, labels: Sequence[str], corpora: Sequence[str], training: bool
    ) -> None:
        self._variants = features.variants
        self._labels = [labels.index(u.label) for u in features.utterances]
        self._corpora = [corpora.index(u.corpus) for u in features.utterances]
        self._training = training
        self._shares = torch.tensor(features.shares)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        variants = self._variants[index]
        pick = int(torch.multinomial(self._shares, 1)) if self._training else 0
        return torch.from_numpy(variants[pick]), self._labels[index], self._corpora[index]


@dataclass
class Batch:
    """Examples padded to one length; what a modality needs is None where it is not there."""

    labels: Tensor
    """Class indices, (B,)."""
    corpora: Tensor
    """Corpus indices, (B,)."""
    features: Tensor | None = None
    """Float (B, T, F), zero beyond each clip's end."""
    lengths: Tensor | None = None
    """Valid frames, (B,)."""
    tokens: Tensor | None = None
    """Rows of the embedding table, (B, N), padding beyond each text's end."""
    words: Tensor | None = None
    """Valid tokens, (B,)."""
    speaker: Tensor | None = None
    """Speaker embeddings, (B, width), zero where there is none."""
    modalities: Tensor | None = None
    """Bool (B, 3), false where the model shall ignore one of its `MODALITIES`; None: nowhere."""
    states: Tensor | None = None
    """The teacher's states at every frame, (B, T, 256); a target, not an input."""
    targets: Tensor | None = None
    """Probabilities (B, classes) to learn in place of the labels."""

    def inputs(self) -> dict[str, Tensor]:
        """The model's inputs by name."""
        named = {
            "features": self.features,
            "lengths": self.lengths,
            "tokens": self.tokens,
            "words": self.words,
            "speaker": self.speaker,
            "modalities": self.modalities,
        }
        return {name: value for name, value in named.items() if value is not None}


def collate(items: Sequence[tuple[Tensor, int, int]], crop: tuple[int, int] | None = None) -> Batch:
    """Pad clips to the longest.

    With `crop`, a length between its two numbers is drawn for the batch, and every longer clip is
    cut to it at a random place.
    """
    clips = []
    frames = None if crop is None else int(torch.randint(crop[0], crop[1] + 1, ()))
    for clip, _, _ in items:
        if frames is not None and len(clip) > frames:
            start = int(torch.randint(len(clip) - frames + 1, ()))
            clip = clip[start : start + frames]
        clips.append(clip)
    return Batch(
        labels=torch.tensor([label for _, label, _ in items]),
        corpora=torch.tensor([corpus for _, _, corpus in items]),
        features=torch.nn.utils.rnn.pad_sequence(clips, batch_first=True),
        lengths=torch.tensor([len(clip) for clip in clips]),
    )


def _extract_one(
    task: tuple[Utterance, FeatureSettings, tuple[Augmentation, ...], Path],
) -> list[Float32] | str:
    """The variants of one clip, or why it is skipped."""
    utterance, settings, augmentations, folder = task
    if utterance.path is None:
        return "text only"
    try:
        source = FileSource(utterance.path, utterance.start, utterance.end)
        content = hashlib.sha256(utterance.path.read_bytes()).hexdigest()
        paths = [folder / _key(content, utterance, settings, a) for a in augmentations]
        known = [read_cache(path) for path in paths]
        if all(k is not None for k in known):
            return [k for k in known if k is not None]
        samples = source.read()
    except (AudioError, OSError) as error:
        return str(error)
    if source.warnings:
        return source.warnings[0]
    if samples.size == 0 or np.abs(samples.astype(np.int32)).max() < _SILENT_PEAK:
        return "it is silent"
    seed = int(content[:8], 16)
    result = []
    for path, augmentation in zip(paths, augmentations, strict=True):
        varied = augment(samples, augmentation, seed)
        speech = speech_of(varied, settings.segment) if settings.trim else varied
        features = mfcc(speech, settings.mfcc)
        write_cache(path, features)
        result.append(features)
    return result


def _key(
    content: str, utterance: Utterance, settings: FeatureSettings, augmentation: Augmentation
) -> str:
    identity = json.dumps(
        [
            _CACHE_VERSION,
            content,
            utterance.start,
            utterance.end,
            asdict(settings),
            asdict(augmentation),
        ],
        sort_keys=True,
    )
    return hashlib.sha256(identity.encode()).hexdigest() + ".npy"


def read_cache(path: Path) -> Float32 | None:
    try:
        return np.asarray(np.load(path), np.float32)
    except (OSError, ValueError, EOFError):
        return None


def write_cache(path: Path, features: npt.NDArray[Any]) -> None:
    """Whole or not at all, also with several writers and on a disk that fills up."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.save(file, features)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        log.warning("cannot cache in %s: %s", path.parent, error)
