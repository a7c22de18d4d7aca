"""The arrays of a bundle's reference part as a file: read with care, written by training."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, fields

import numpy as np

from edge_runtime.pcm import Float32

MOST_BYTES = 4_000_000  # unpacked
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
        file = io.BytesIO()
        arrays = {item.name: getattr(self, item.name).astype(np.float16) for item in fields(self)}
        np.savez(file, **arrays)
        return file.getvalue()


def read_reference(content: bytes, width: int, classes: int) -> ReferenceArrays:
    """The arrays of a file, for statistics of that width. ValueError, in words, if they do not fit.

    Nothing of the file is run (no pickles), and no more is unpacked than `MOST_BYTES`.
    """
    names = {item.name for item in fields(ReferenceArrays)}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > MOST_BYTES:
                raise ValueError(f"{size:,} bytes are more than the {MOST_BYTES:,} of a reference")
            found = sorted(archive.namelist())
            if found != sorted(f"{name}.npy" for name in names):
                raise ValueError(f"holds {', '.join(found)[:80]}, not the arrays of a reference")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, MemoryError) as error:
        raise ValueError(f"is no .npz file: {error}") from None
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
    for name, expected in shapes.items():
        value = values[name]
        if value.dtype not in (np.float16, np.float32) or value.shape != expected:
            raise ValueError(
                f"{name} is {value.dtype} {value.shape}, expected float16 or float32 {expected}"
            )
        if not np.isfinite(value).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    if (values["voice_spread"] < 0).any():
        raise ValueError("voice_spread holds numbers below 0")
    return ReferenceArrays(**{name: value.astype(np.float32) for name, value in values.items()})
