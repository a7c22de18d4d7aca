"""Speaker embeddings of utterances: Kaldi x-vectors, NumPy files, or an encoder on the spot.

The paper's x-vectors are 512-d, of a Kaldi TDNN trained on VoxCeleb (Snyder et al. 2018); any width
will do. The encoder is Resemblyzer's (Apache-2.0), 256-d: the LSTM of "Generalized End-to-End Loss
for Speaker Verification" (Wan et al. 2018), whose weights ship in its wheel.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from edge_runtime.pcm import Float32
from training.corpora import Clip, Utterance
from training.data.batch import Batch
from training.errors import TrainingError
from training.network.config import MODALITIES, SPEAKER

_NAMED = 3  # examples that an error message names
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SpeakerVectors:
    """The speaker embeddings of clips, and of whoever spoke a text that has no sound."""

    width: int
    """Values of an embedding."""
    vectors: Mapping[Clip | str, Float32 | None]
    """`speaker_key` to an embedding, float32 (width,); None for a clip in which no voice is."""
    source: str
    """Where they are from."""

    def of(self, utterances: Sequence[Utterance]) -> Float32:
        """Embeddings, float32 (n, width); a row of NaN for a clip in which no voice is.

        Raises TrainingError for an utterance of which nobody has looked whether it has one.
        """
        rows = np.full((len(utterances), self.width), np.nan, np.float32)
        absent = []
        for index, utterance in enumerate(utterances):
            key = speaker_key(utterance)
            if key not in self.vectors:
                absent.append(_title(utterance))
            elif (vector := self.vectors[key]) is not None:
                rows[index] = vector
        if absent:
            raise TrainingError(
                f"the speaker embeddings of {self.source} lack {len(absent)} of {len(utterances)} "
                f"utterances: {some(absent)}; load them for all that a model is trained and "
                "judged on"
            )
        return rows

    def known(self, utterances: Sequence[Utterance]) -> int:
        """How many of `utterances` have an embedding. Raises as `of` does."""
        return int(np.isfinite(self.of(utterances)).all(axis=1).sum())

    def digest(self, utterances: Sequence[Utterance]) -> str:
        """What tells these embeddings of `utterances` from others, in hexadecimal."""
        return hashlib.sha256(self.of(utterances).tobytes()).hexdigest()


def speaker_key(utterance: Utterance) -> Clip | str:
    """What the speaker embedding of an utterance goes by: its clip, or who speaks, without sound.

    The words do not count: those put to a clip by pairing, or heard by an engine, change no voice.
    """
    return utterance.speaker or "" if utterance.path is None else utterance.clip


class SpeakerDataset(Dataset[tuple[Any, Tensor]]):
    """Each example of `examples` with its speaker embedding, (width,); NaN where it has none."""

    def __init__(self, examples: Dataset[Any], rows: Float32) -> None:
        self._examples = examples
        self._rows = torch.from_numpy(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return self._examples[index], self._rows[index]


def with_speakers(
    examples: Dataset[Any], collate: Callable[[Any], Batch], rows: Float32
) -> tuple[Dataset[Any], Callable[[Any], Batch]]:
    """`examples` and their `collate` with embeddings `rows` (n, width), NaN where there is none."""
    return SpeakerDataset(examples, rows), partial(_collate_speaker, collate=collate)


def attach(batch: Batch, rows: Tensor) -> Batch:
    """Give `batch` its embeddings `rows` (B, width), NaN where there is none; returns it."""
    known = torch.isfinite(rows).all(dim=1)
    batch.speaker = torch.where(known.unsqueeze(1), rows, 0.0)
    if not bool(known.all()):
        batch.modalities = torch.ones(len(known), len(MODALITIES), dtype=torch.bool)
        batch.modalities[:, MODALITIES.index(SPEAKER)] = known
    return batch


def _collate_speaker(items: Sequence[tuple[Any, Tensor]], collate: Callable[[Any], Batch]) -> Batch:
    return attach(collate([item for item, _ in items]), torch.stack([row for _, row in items]))


def _title(utterance: Utterance) -> str:
    """What a message calls an utterance."""
    return utterance.path.stem if utterance.path else utterance.speaker or utterance.text[:40]


def some(names: Sequence[str]) -> str:
    """The first few of many names, for a message."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
