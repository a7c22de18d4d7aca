"""The arrays of a bundle's pre-trained part as a file: read with care, written by training."""

from __future__ import annotations

from dataclasses import dataclass, fields

from edge_runtime.arrays import check_arrays, packed, unpacked
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

    def content(self) -> bytes:
        """The file: an .npz of float32."""
        return packed({item.name: getattr(self, item.name) for item in fields(self)})


def read_pretrained(content: bytes, width: int, classes: int) -> PretrainedArrays:
    """The arrays of a file, for states of that width. ValueError, in words, if they do not fit.

    See `edge_runtime.arrays.unpacked`.
    """
    names = [item.name for item in fields(PretrainedArrays)]
    values = unpacked(content, names, "a pre-trained part")
    shapes = {"weights": (2 * width, classes), "bias": (classes,)}
    return PretrainedArrays(**check_arrays(values, shapes))
