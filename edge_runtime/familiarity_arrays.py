"""The arrays of a bundle's familiarity part as a file: read with care, written by training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.arrays import check_arrays, packed, unpacked
from edge_runtime.pcm import Float32

NAMES = ("projection", "centres")
"""Of the arrays in a file."""
_MOST_CORPORA = 256


@dataclass(frozen=True, eq=False)
class FamiliarityArrays:
    """What `edge_runtime.model.familiarity` computes with."""

    projection: Float32
    """Statistics to a place, (width, axes): of one corpus these scatter by 1."""
    centres: Float32
    """Where each corpus that trained has its middle, (corpora, axes)."""

    def content(self) -> bytes:
        """The file: an .npz of float32, the projection float16."""
        return packed(self.kept())

    def kept(self) -> dict[str, npt.NDArray[Any]]:
        """What a file holds of them."""
        return {"projection": self.projection.astype(np.float16), "centres": self.centres}


def read_familiarity(content: bytes, width: int) -> FamiliarityArrays:
    """The arrays of a file, for statistics of that width. ValueError, in words, if they do not fit.

    See `edge_runtime.arrays.unpacked`.
    """
    return familiarity_of(unpacked(content, NAMES, "a familiarity"), width)


def familiarity_of(values: dict[str, npt.NDArray[Any]], width: int) -> FamiliarityArrays:
    """Of arrays called as in `NAMES`, for statistics of that width. ValueError as above."""
    corpora, axes = (*values["centres"].shape, 0, 0)[:2]
    if not (1 <= corpora <= _MOST_CORPORA and 1 <= axes <= width):
        raise ValueError(
            f"centres are {values['centres'].shape}, expected 1 to {_MOST_CORPORA} of 1 to {width}"
        )
    shapes: dict[str, tuple[int, ...]] = {"projection": (width, axes), "centres": (corpora, axes)}
    return FamiliarityArrays(**check_arrays(values, shapes))
