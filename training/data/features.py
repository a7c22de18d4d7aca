"""Utterances to feature tensors: decoding, trimming, augmentation, MFCC, and a cache on disk."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from edge_runtime.audio.file import FileSource
from edge_runtime.console import counted
from edge_runtime.errors import AudioError
from edge_runtime.mfcc import DEFAULT_PARAMS, MfccParams, mfcc
from edge_runtime.pcm import Float32
from edge_runtime.segment import SegmentParams, Speech, is_silent, pieces_of
from training.corpora import NO_CLASS, Utterance, class_indices
from training.data.augment import CLEAN, Augmentation, augment, shares, timing_of
from training.data.cache import (
    cache_folder,
    cache_key,
    content_of,
    opened_cache,
    parallel,
    read_cache,
    seed_of,
    write_cache,
)
from training.data.degrade import Timing
from training.errors import TrainingError

log = logging.getLogger(__name__)

_SILENT = "it is silent"
_CACHE_VERSION = 2  # raise when the code below, mfcc.py or segment.py changes what it computes

Features = npt.NDArray[np.float32] | npt.NDArray[np.float16]

Places = npt.NDArray[np.int32]


@dataclass(frozen=True)
class FeatureSettings:
    """What fixes the features of a clip."""

    mfcc: MfccParams = DEFAULT_PARAMS
    segment: SegmentParams = field(default_factory=SegmentParams)
    trim: bool = True
    """Keep the speech only, as the device's end-pointing does."""


@dataclass(eq=False)
class FeatureSet:
    """Features of the utterances that could be read."""

    utterances: list[Utterance]
    """Those that could be read, in the order given."""
    variants: list[list[Features]]
    """Per utterance, one (frames, features) per augmentation. The first, clean, is float32; the
    others are float16, for they are many: off by a thousandth, where int8 is by a hundredth."""
    skipped: list[tuple[Utterance, str]]
    """Those that could not, and why."""
    shares: list[float] = field(default_factory=lambda: [1.0])
    """How often training draws each variant."""
    places: list[list[Places]] = field(default_factory=list)
    """Per variant, the sample of the recording as it is that each frame is centred at: int32
    (frames,). Where training needs to know what of the clip a frame of a variant is."""
    states: list[npt.NDArray[np.int8]] | None = None
    """The teachers' states of each recording as it is; None without a teacher."""
    frame_states: int = 0
    """How many columns of those, the first ones, are learned frame by frame."""

    @property
    def clean(self) -> list[Float32]:
        """The first variant of each utterance, float32 (frames, features)."""
        return self.variant(0)

    def variant(self, number: int) -> list[Float32]:
        """A variant of each utterance, float32 (frames, features); none where there is none."""
        if any(len(variants) <= number for variants in self.variants):
            return []
        return [np.asarray(variants[number], np.float32) for variants in self.variants]


def extract(
    utterances: Sequence[Utterance],
    settings: FeatureSettings | None = None,
    augmentations: Sequence[Augmentation] = (CLEAN,),
    cache: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> FeatureSet:
    """Features of every utterance, on all cores, from the cache where they are known.

    Unreadable and silent files are skipped, counted, and named in the log, but silent ones without
    a class; utterances that are text only are skipped and counted. Raises TrainingError when
    all are text only.

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
    folder = opened_cache(cache or cache_folder())
    if utterances and all(u.path is None for u in utterances):
        corpora = ", ".join(sorted({u.corpus for u in utterances}))
        raise TrainingError(
            f"{corpora}: no audio, {counted(len(utterances), 'utterance')} of text only"
        )
    tasks = [(u, settings, tuple(augmentations), folder) for u in utterances]
    result = FeatureSet([], [], [], shares(augmentations))
    text_only = Counter(u.corpus for u in utterances if u.path is None)
    for corpus, count in sorted(text_only.items()):
        log.warning("%s: skipped %s without sound", corpus, counted(count, "utterance"))
    with closing(
        parallel(_extract_one, tasks, workers, "extracting features", progress)
    ) as extracted:
        for utterance, outcome in zip(utterances, extracted, strict=True):
            if isinstance(outcome, str):
                if utterance.label == NO_CLASS and outcome == _SILENT:
                    continue  # what a device does not take for speech needs no verdict
                if utterance.path is not None:
                    log.warning("skipped %s: %s", utterance.path, outcome)
                result.skipped.append((utterance, outcome))
            else:
                result.utterances.append(utterance)
                result.variants.append([features for features, _ in outcome])
                result.places.append([places for _, places in outcome])
    return result


def feature_statistics(features: Sequence[npt.NDArray[Any]]) -> tuple[Float32, Float32]:
    """Mean and standard deviation over all frames of all clips, each float32 (features,)."""
    frames = sum(len(f) for f in features)
    mean = sum(f.sum(axis=0, dtype=np.float64) for f in features) / frames
    variance = sum(((f - mean) ** 2).sum(axis=0) for f in features) / frames
    return (
        np.asarray(mean, np.float32),
        np.sqrt(np.maximum(variance, 1e-8)).astype(np.float32),
    )


class ClipDataset(Dataset[tuple[Tensor, int, int]]):
    """(features (frames, F), label index or -1, corpus index) of each clip, as they are kept.

    In training, each access draws one of the clip's variants at random; otherwise the clean one.
    """

    def __init__(
        self, features: FeatureSet, labels: Sequence[str], corpora: Sequence[str], training: bool
    ) -> None:
        self._variants = features.variants
        self._labels = class_indices(features.utterances, labels)
        self._corpora = [corpora.index(u.corpus) for u in features.utterances]
        self._training = training
        self._shares = torch.tensor(features.shares)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        variants = self._variants[index]
        pick = int(torch.multinomial(self._shares, 1)) if self._training else 0
        return torch.from_numpy(variants[pick]), self._labels[index], self._corpora[index]


def _extract_one(
    task: tuple[Utterance, FeatureSettings, tuple[Augmentation, ...], Path],
) -> list[tuple[Features, Places]] | str:
    """The variants of one clip, or why it is skipped."""
    utterance, settings, augmentations, folder = task
    if utterance.path is None:
        return "text only"
    try:
        source = FileSource(utterance.path, utterance.start, utterance.end)
        content = content_of(utterance.path)
        made_from = [content, utterance.start, utterance.end, asdict(settings)]
        paths = [
            folder / cache_key(_CACHE_VERSION, *made_from, augmentation.identity())
            for augmentation in augmentations
        ]
        known = [read_cache(path) for path in paths]
        if all(k is not None for k in known):
            return _held([k for k in known if k is not None])
        samples = source.read()
    except (AudioError, OSError) as error:
        return str(error)
    # What is there is heard; what is missing or mended is said, and no reason to leave it out.
    for warning in source.warnings:
        log.warning("%s", warning)
    if is_silent(samples):
        return _SILENT
    seed = seed_of(content)
    result = []
    for path, augmentation in zip(paths, augmentations, strict=True):
        varied = augment(samples, augmentation, seed)
        pieces = pieces_of(varied, settings.segment) if settings.trim else []
        pieces = pieces or [Speech(varied)]
        features = mfcc(np.concatenate([piece.samples for piece in pieces]), settings.mfcc)
        places = _places(
            pieces, timing_of(samples.size, augmentation, seed), len(features), settings.mfcc
        )
        joined = np.column_stack([features, places.astype(np.float32)])
        write_cache(path, joined)
        result.append(joined)
    return _held(result)


def _places(pieces: Sequence[Speech], timing: Timing, frames: int, params: MfccParams) -> Places:
    """Sample of the recording that each frame of its varied speech is centred at."""
    centres = np.arange(frames) * params.hop + params.window // 2
    ends = np.cumsum([piece.samples.size for piece in pieces])
    # Before the first sample of each piece that many were left out.
    gaps = np.array([piece.start for piece in pieces]) - np.concatenate([[0], ends[:-1]])
    piece = np.minimum(np.searchsorted(ends, centres, side="right"), len(pieces) - 1)
    places = timing.start + (centres + gaps[piece]) * timing.speed
    return np.asarray(np.rint(places), np.int32)


def _held(variants: Sequence[Float32]) -> list[tuple[Features, Places]]:
    """The variants of a clip as memory holds them; places are the last column of what is cached.

    A float32 holds them exactly, up to 17 minutes.
    """
    return [
        (
            # A copy, not a view of more.
            variant[:, :-1].copy() if index == 0 else variant[:, :-1].astype(np.float16),
            variant[:, -1].astype(np.int32),
        )
        for index, variant in enumerate(variants)
    ]
