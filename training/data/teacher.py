"""Frozen encoders as teachers: their states over time are a second target of the audio maps.

A linear probe on the audio maps learns to predict the states (knowledge distillation by hints,
Romero et al. 2015, arXiv 1412.6550). Whatever was done to a clip, the target is what the teachers
hear in the clip as it is, at the same place: so the maps learn to hear through rooms and lines.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from edge_runtime.audio.file import read_file
from training.corpora import Utterance
from training.data.batch import Batch, collate
from training.data.cache import (
    cache_folder,
    cache_key,
    content_of,
    opened_cache,
    parallel,
    read_cache,
    write_cache,
)
from training.data.features import FeatureSet, Places
from training.data.teachers import ROW, Int8, teachers_of


class StateProbe(nn.Module):
    """Linear prediction of the teachers' standardized states from the maps of all scales."""

    mean: Tensor
    std: Tensor

    def __init__(self, maps: int, states: Sequence[Int8]) -> None:
        """`maps` is the width of all maps of a step; `states` (frames, width) are typical ones."""
        super().__init__()
        known = np.concatenate(states).astype(np.float32)
        self.linear = nn.Linear(maps, known.shape[1])
        self.register_buffer("mean", torch.from_numpy(known.mean(axis=0)))
        self.register_buffer("std", torch.from_numpy(known.std(axis=0) + 0.1))

    def forward(self, maps: list[Tensor], mask: Tensor, states: Tensor) -> Tensor:
        """Mean squared error over the valid steps, 1 for a probe that knows nothing.

        Maps per scale (B, P, C), mask (B, P), states (B, P, width) in int8 steps.
        """
        found = self.linear(torch.cat(maps, dim=2))
        error = ((found - (states - self.mean) / self.std) ** 2).mean(dim=2)
        loss: Tensor = (error * mask).sum() / mask.sum()
        return loss


class TaughtDataset(Dataset[tuple[Tensor, int, int]]):
    """Training clips as `ClipDataset` draws them, the teachers' states behind the features.

    (features, then states (frames, F + width), label index, corpus index)
    """

    def __init__(self, features: FeatureSet, labels: Sequence[str], corpora: Sequence[str]) -> None:
        assert features.states is not None
        self._features, self._states = features, features.states
        self._labels = [labels.index(u.label) for u in features.utterances]
        self._corpora = [corpora.index(u.corpus) for u in features.utterances]
        self._shares = torch.tensor(features.shares)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        pick = int(torch.multinomial(self._shares, 1))
        states = states_at(self._states[index], self._features.places[index][pick])
        features = self._features.variants[index][pick]
        both = np.concatenate([features, states], axis=1, dtype=np.float32)
        return torch.from_numpy(both), self._labels[index], self._corpora[index]


def states_at(states: Int8, places: Places) -> Int8:
    """The rows of a recording's states for frames centred at these samples: int8 (frames, width).

    The recording's first and last row stand for what lies beyond them.
    """
    rows = np.rint(places / ROW).astype(np.int64) - 1
    return states[np.clip(rows, 0, len(states) - 1)]


def collate_taught(
    items: Sequence[tuple[Tensor, int, int]], width: int, crop: tuple[int, int]
) -> Batch:
    """`collate`, then features and states, `width` wide, apart: those go into `Batch.states`."""
    batch = collate(items, crop)
    assert batch.features is not None
    both = batch.features
    batch.features, batch.states = both[:, :, :-width], both[:, :, -width:]
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
    for teacher in teachers_of(teachers):
        ask = partial(_ask, teacher.name, folder)
        title = f"asking {teacher.name}"
        columns.append(list(parallel(ask, features.utterances, workers, title, progress)))
    features.states = [np.concatenate(rows, axis=1) for rows in zip(*columns, strict=True)]


def _ask(name: str, folder: Path, utterance: Utterance) -> Int8:
    """The states of one recording."""
    (teacher,) = teachers_of(name)
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # there is a process a core
    made_from = [content_of(utterance.audio), utterance.start, utterance.end]
    path = folder / cache_key(teacher.name, teacher.version, *made_from)
    known = read_cache(path)
    if known is None:
        states = teacher.states(read_file(utterance.audio, utterance.start, utterance.end))
        write_cache(path, states)
        return states
    return known.astype(np.int8)
