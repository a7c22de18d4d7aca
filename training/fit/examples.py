"""What one model is trained on: sets of utterances as data loaders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from training.corpora import Utterance, class_indices
from training.data.batch import Batch, collate
from training.data.features import ClipDataset, FeatureSet
from training.data.folds import check_classes
from training.data.pairs import PairDataset, PairSet, collate_pairs
from training.data.speaker import SpeakerVectors, with_speakers
from training.data.teacher import TaughtDataset, collate_taught
from training.data.tokens import (
    SoftTextDataset,
    TextDataset,
    TextSet,
    collate_soft,
    collate_text,
    mark_rows,
)
from training.fit.settings import FitSettings
from training.fit.warmstart import Branches
from training.run import Run
from training.words.asrnoise import AsrNoise
from training.words.embeddings import Vocabulary

Examples = FeatureSet | TextSet | PairSet


@dataclass
class FitData:
    """What one model is trained and watched on."""

    train: Examples
    watch: Examples | None
    """Other speakers' clips for the learning curves; never used to choose anything. They may be why
    rounding is learned once more (`training.fit.remedy`), not whether that is kept."""
    labels: list[str]
    vocabulary: Vocabulary | None = None
    """What the tokens mean, for a model that reads."""
    branches: Branches = field(default_factory=Branches)
    """Runs whose encoders a bimodal model starts from, and keeps."""
    start: Run | None = None
    """A run of the same shape that training goes on from."""
    speakers: SpeakerVectors | None = None
    """Speaker embeddings, for a model that takes them."""
    noise: AsrNoise | None = None
    """Corrupts the words of training, also those that statistics and ranges are measured on."""
    corpora: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_classes(self.train.utterances)
        sets = [self.train, *([self.watch] if self.watch else [])]
        self.corpora = sorted({u.corpus for s in sets for u in s.utterances})


def loss_weights(
    utterances: Sequence[Utterance],
    labels: Sequence[str],
    corpora: Sequence[str],
    settings: FitSettings,
) -> Tensor:
    """Weight of an example in the loss by its corpus and class, (corpora, classes); 1 on average.

    With `balance` all classes count the same; `corpus_balance` says how alike corpora count, those
    without classes among them.
    """
    counts, sizes = torch.zeros(len(corpora), len(labels)), torch.zeros(len(corpora))
    for utterance, label in zip(utterances, class_indices(utterances, labels), strict=True):
        corpus = corpora.index(utterance.corpus)
        sizes[corpus] += 1
        if label >= 0:
            counts[corpus, label] += 1
    rare = sizes.clamp_min(1) ** -settings.corpus_balance
    weights = rare[:, None].expand_as(counts)
    if settings.balance:
        weights = weights / (weights * counts).sum(dim=0).clamp_min(1e-9)
    return weights * (counts.sum() / (weights * counts).sum())


def _labelled(examples: Examples) -> list[Utterance]:
    """The utterances whose labels count."""
    if isinstance(examples, TextSet):
        return examples.utterances[: len(examples.utterances) - examples.unlabelled]
    return examples.utterances


def _dataset(
    data: FitData, examples: Examples, training: FitSettings | None, varied: bool | None = None
) -> tuple[Dataset[Any], Callable[[Any], Batch]]:
    """A dataset of `examples`, and what makes its batches; augmented with `training`.

    `varied` clips are any of their variants, by default where training hears them.
    """
    varied = training is not None if varied is None else varied
    dataset, collate_fn = _modalities_dataset(data, examples, training, varied)
    if data.speakers is not None:
        return with_speakers(dataset, collate_fn, data.speakers.of(examples.utterances))
    return dataset, collate_fn


def _modalities_dataset(
    data: FitData, examples: Examples, training: FitSettings | None, varied: bool
) -> tuple[Dataset[Any], Callable[[Any], Batch]]:
    """What `_dataset` makes of sound and words."""
    if isinstance(examples, TextSet):
        if training and examples.targets is not None:
            soft = SoftTextDataset(examples, data.labels, data.corpora)
            return soft, partial(collate_soft, read=_text_collate(data, training))
        return TextDataset(examples, data.labels, data.corpora), _text_collate(data, training)
    crop = (training.min_frames, training.max_frames) if training else None
    if training and training.teacher and isinstance(examples, FeatureSet):
        taught = TaughtDataset(examples, data.labels, data.corpora)
        return taught, partial(collate_taught, crop=crop)
    if isinstance(examples, PairSet):
        pairs = PairDataset(examples, data.labels, data.corpora, varied)
        return pairs, partial(collate_pairs, crop=crop, read=_text_collate(data, training))
    clips = ClipDataset(examples, data.labels, data.corpora, varied)
    return clips, partial(collate, crop=crop)


def _text_collate(data: FitData, training: FitSettings | None) -> Callable[[Any], Batch]:
    """What makes batches of texts; with `training` as a recognizer might return them."""
    if training is None:
        return collate_text
    marks = None
    if training.punctuation_dropout > 0 and data.vocabulary is not None:
        marks = mark_rows(data.vocabulary.words)
    return partial(
        collate_text,
        marks=marks,
        punctuation_dropout=training.punctuation_dropout,
        noise=data.noise,
    )
