"""The arrays of a bundle's reference part as a file: read with care, written by training."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from edge_runtime.arrays import check_arrays, packed, unpacked
from edge_runtime.pcm import Float32

_MOST_VOICES = 256  # width of the space of voices


@dataclass(frozen=True, eq=False)
class ReferenceArrays:
    """What `edge_runtime.model.reference` computes with."""

    weights: Float32
    """Of the class scores, (2 x width, classes): of an utterance, then of the reference."""
    bias: Float32
    """Of the class scores, (classes,)."""
    voice_mean: Float32
    """Mean of the clipped standardized statistics, (width,)."""
    voice: Float32
    """Statistics less that mean to a voice, (width, voices): of one speaker these scatter by 1."""
    voice_spread: Float32
    """Variance of the speakers' own voices, (voices,)."""

    def content(self) -> bytes:
        """The file: an .npz of float16."""
        return packed(
            {item.name: getattr(self, item.name).astype(np.float16) for item in fields(self)}
        )


def read_reference(content: bytes, width: int, classes: int) -> ReferenceArrays:
    """The arrays of a file, for statistics of that width. ValueError, in words, if they do not fit.

    See `edge_runtime.arrays.unpacked`.
    """
    values = unpacked(content, [item.name for item in fields(ReferenceArrays)], "a reference")
    voices = values["voice_spread"].size
    shapes = {
        "weights": (2 * width, classes),
        "bias": (classes,),
        "voice_mean": (width,),
        "voice": (width, voices),
        "voice_spread": (voices,),
    }
    if not 1 <= voices <= _MOST_VOICES:
        raise ValueError(f"voices are {voices} wide, expected 1 to {_MOST_VOICES}")
    arrays = check_arrays(values, shapes)
    if (arrays["voice_spread"] < 0).any():
        raise ValueError("voice_spread holds numbers below 0")
    return ReferenceArrays(**arrays)
