"""Frozen encoders as teachers: their states over time are a second target of the audio maps.

A linear probe on the audio maps learns to predict the states (knowledge distillation by hints,
Romero et al. 2015, arXiv 1412.6550). Whatever was done to a clip, the target is what the teachers
hear in the clip as it is, at the same place: so the maps learn to hear through rooms and lines.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from training.corpora import Utterance, class_indices
from training.data.batch import Batch, collate, cuts_of
from training.data.cache import cache_folder, kept, opened_cache, parallel
from training.data.features import FeatureSet, Places, feature_statistics
from training.data.teachers import ROW, TEACHERS, Int8, teachers_of

_LEAST_STD = 0.1  # int8 steps: what does not move is nothing to learn


class StateProbe(nn.Module):
    """Linear prediction of the teachers' standardized states from the audio maps.

    Frame by frame from the maps of all scales, for the first `by_frame` columns; and the mean of
    every column over an utterance from its pooled statistics, for teachers that hear more than a
    map does.
    """

    mean: Tensor
    std: Tensor
    utterance_mean: Tensor
    utterance_std: Tensor

    def __init__(self, maps: int, pooled: int, states: Sequence[Int8], by_frame: int) -> None:
        """`maps` is the width of all maps of a step, `pooled` that of their statistics.

        `states` (frames, width) are those of typical clips.
        """
        super().__init__()
        means = np.stack([clip.mean(axis=0, dtype=np.float32) for clip in states])
        self.frames = nn.Linear(maps, by_frame)
        self.utterance = nn.Linear(pooled, means.shape[1])
        clips = [clip[:, :by_frame] for clip in states]
        for name, values in (("", clips), ("utterance_", [means])):
            mean, std = feature_statistics(values)
            self.register_buffer(f"{name}mean", torch.from_numpy(mean))
            self.register_buffer(f"{name}std", torch.from_numpy(std + np.float32(_LEAST_STD)))

    def forward(
        self, maps: list[Tensor], pooled: Tensor, mask: Tensor, states: Tensor
    ) -> dict[str, Tensor]:
        """Mean squared errors, 1 for a probe that knows nothing: `frames` and `utterance`.

        Maps per scale (B, P, C), their statistics (B, pooled), mask of the valid steps (B, P),
        states (B, P, width), int8. Without columns that are learned by frame, no `frames`.
        """
        errors = {}
        weights = mask.float()
        by_frame = self.frames.out_features
        if by_frame:
            target = (states[:, :, :by_frame].float() - self.mean) / self.std
            found = self.frames(torch.cat(maps, dim=2)).float()
            error = ((found - target) ** 2).mean(dim=2)
            errors["frames"] = (error * weights).sum() / weights.sum()
        mean = (weights.unsqueeze(1) @ states.float()).squeeze(1)
        mean = mean / weights.sum(dim=1, keepdim=True)
        target = (mean - self.utterance_mean) / self.utterance_std
        levelled = nn.functional.layer_norm(pooled, pooled.shape[1:])
        errors["utterance"] = ((self.utterance(levelled).float() - target) ** 2).mean()
        return errors


@dataclass(frozen=True, eq=False)
class TaughtClip:
    """A variant of a recording, and what the teachers hear in the recording as it is."""

    features: Tensor
    """(frames, F)."""
    states: Int8
    """Of the recording, (rows, width)."""
    places: Places
    """Where each frame stands in the recording, samples (frames,)."""


class TaughtDataset(Dataset[tuple[TaughtClip, int, int]]):
    """(clip, label index or -1, corpus index) of training clips as `ClipDataset` draws them."""

    def __init__(self, features: FeatureSet, labels: Sequence[str], corpora: Sequence[str]) -> None:
        assert features.states is not None
        self._features, self._states = features, features.states
        self._labels = class_indices(features.utterances, labels)
        self._corpora = [corpora.index(u.corpus) for u in features.utterances]
        self._shares = torch.tensor(features.shares)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[TaughtClip, int, int]:
        pick = int(torch.multinomial(self._shares, 1))
        features = torch.from_numpy(self._features.variants[index][pick])
        clip = TaughtClip(features, self._states[index], self._features.places[index][pick])
        return clip, self._labels[index], self._corpora[index]


def states_at(states: Int8, places: Places) -> Int8:
    """The rows of a recording's states for frames centred at these samples: int8 (frames, width).

    The recording's first and last row stand for what lies beyond them.
    """
    rows = np.rint(places / ROW).astype(np.int64) - 1
    return states[np.clip(rows, 0, len(states) - 1)]


def collate_taught(
    items: Sequence[tuple[TaughtClip, int, int]], crop: tuple[int, int] | None = None
) -> Batch:
    """`collate`, with the states of what it took of each clip."""
    cuts = cuts_of([len(clip.features) for clip, _, _ in items], crop)
    taken = [clip.features[cut] for (clip, _, _), cut in zip(items, cuts, strict=True)]
    batch = collate(
        [(part, label, corpus) for part, (_, label, corpus) in zip(taken, items, strict=True)]
    )
    states = [
        torch.from_numpy(states_at(clip.states, clip.places[cut]))
        for (clip, _, _), cut in zip(items, cuts, strict=True)
    ]
    batch.states = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
    return batch


def teach(
    features: FeatureSet, teachers: str, workers: int | None = None, progress: bool = True
) -> None:
    """Give `features` the states of `teachers`, names apart by commas, side by side.

    They are kept in the cache, 256 to 640 bytes a row of 10 ms. `workers` are processes, one per
    core by default; 1 stays in this process.
    Raises SettingError for a name that is none, TrainingError for a teacher that is not installed.
    """
    folder = opened_cache(cache_folder("teacher"))
    columns = []
    ordered = sorted(teachers_of(teachers), key=lambda teacher: not teacher.by_frame)
    features.frame_states = sum(teacher.width for teacher in ordered if teacher.by_frame)
    for teacher in ordered:
        ask = partial(_ask, teacher.name, folder)
        title = f"asking {teacher.name}"
        columns.append(list(parallel(ask, features.utterances, workers, title, progress)))
    features.states = [np.concatenate(rows, axis=1) for rows in zip(*columns, strict=True)]


def _ask(name: str, folder: Path, utterance: Utterance) -> Int8:
    """The states of one recording."""
    teacher = TEACHERS[name]()  # `teach` has seen that it is there
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # there is a process a core
    states = kept(folder, utterance, teacher.states, teacher.name, teacher.version)
    return np.asarray(states, np.int8)
