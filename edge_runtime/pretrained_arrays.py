"""The arrays of a bundle's pre-trained parts as files: read with care, written by training."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from edge_runtime.arrays import check_arrays, packed, unpacked
from edge_runtime.familiarity_arrays import NAMES, FamiliarityArrays, familiarity_of
from edge_runtime.pcm import Float32

MELS = 80  # bands of a frame that the encoder hears
STRIDE = 2  # frames from one of its states to the next: 20 ms


@dataclass(frozen=True, eq=False)
class PretrainedArrays:
    """The linear layer behind a pre-trained encoder (`edge_runtime.model.pretrained`)."""

    weights: Float32
    """Of the class scores, (2 x width, classes): of the means of the states, then of their
    standard deviations."""
    bias: Float32
    """Of the class scores, (classes,)."""
    familiarity: FamiliarityArrays | None = None
    """Where the corpora that trained are, by the same statistics; None where nothing says so."""

    def content(self) -> bytes:
        """The file: an .npz of float32, what tells corpora apart float16."""
        also = self.familiarity.kept() if self.familiarity else {}
        return packed({"weights": self.weights, "bias": self.bias, **also})


def read_pretrained(content: bytes, width: int, classes: int) -> PretrainedArrays:
    """The arrays of a file, for states of that width. ValueError, in words, if they do not fit.

    See `edge_runtime.arrays.unpacked`.
    """
    shapes = {"weights": (2 * width, classes), "bias": (classes,)}
    values = unpacked(content, [*shapes], "a pre-trained part", NAMES)
    known = {name: values.pop(name) for name in NAMES if name in values}
    familiarity = familiarity_of(known, 2 * width) if known else None
    return PretrainedArrays(**check_arrays(values, shapes), familiarity=familiarity)


@dataclass(frozen=True, eq=False)
class PretrainedReferenceArrays:
    """How the encoder's statistics are judged beside a speaker's (`edge_runtime.model.reference`).

    Statistics are the means of the states, then their standard deviations, 2 x width.
    """

    mean: Float32
    """Of the statistics of the clips that trained, (2 x width,)."""
    std: Float32
    """Their standard deviation, positive, (2 x width,)."""
    weights: Float32
    """Of the class scores, (4 x width, classes): of an utterance, then of the reference."""
    bias: Float32
    """Of the class scores, (classes,)."""

    def content(self) -> bytes:
        """The file: an .npz of float32, the weights float16."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return packed({**values, "weights": self.weights.astype(np.float16)})


def read_pretrained_reference(
    content: bytes, width: int, classes: int
) -> PretrainedReferenceArrays:
    """The arrays of a file, for states of that width. ValueError, in words, if they do not fit.

    See `edge_runtime.arrays.unpacked`.
    """
    names = [item.name for item in fields(PretrainedReferenceArrays)]
    values = unpacked(content, names, "a reference of a pre-trained part")
    shapes = {
        "mean": (2 * width,),
        "std": (2 * width,),
        "weights": (4 * width, classes),
        "bias": (classes,),
    }
    arrays = check_arrays(values, shapes)
    if (arrays["std"] <= 0).any():
        raise ValueError("std holds numbers that are not above 0")
    return PretrainedReferenceArrays(**arrays)
