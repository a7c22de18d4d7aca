"""Utterances of several lengths as one padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(eq=False)
class Batch:
    """Examples padded to one length; what a modality needs is None where it is not there."""

    labels: Tensor
    """Class indices, (B,); -1 where there is no class."""
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
    """The teachers' states at every frame, int8 (B, T, width); a target, not an input."""
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


def cuts_of(lengths: Sequence[int], crop: tuple[int, int] | None) -> list[slice]:
    """What `collate` takes of clips of these lengths in frames."""
    frames = None if crop is None else int(torch.randint(crop[0], crop[1] + 1, ()))
    cuts = []
    for length in lengths:
        start, end = 0, length
        if frames is not None and length > frames:
            start = int(torch.randint(length - frames + 1, ()))
            end = start + frames
        cuts.append(slice(start, end))
    return cuts


def collate(items: Sequence[tuple[Tensor, int, int]], crop: tuple[int, int] | None = None) -> Batch:
    """Pad clips to the longest.

    With `crop`, a length between its two numbers is drawn for the batch, and every longer clip is
    cut to it at a random place.
    """
    cuts = cuts_of([len(clip) for clip, _, _ in items], crop)
    # What is cut away need not be made float32.
    clips = [clip[cut].float() for (clip, _, _), cut in zip(items, cuts, strict=True)]
    return Batch(
        labels=torch.tensor([label for _, label, _ in items]),
        corpora=torch.tensor([corpus for _, _, corpus in items]),
        features=torch.nn.utils.rnn.pad_sequence(clips, batch_first=True),
        lengths=torch.tensor([len(clip) for clip in clips]),
    )
