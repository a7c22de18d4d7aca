"""Arrays of a part of a bundle as an .npz file: read with care, whoever the bundle is from."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_BYTES = 4_000_000  # unpacked


def packed(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """The file that `unpacked` reads."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # its stubs take the names for options
    return file.getvalue()


def unpacked(content: bytes, names: Collection[str], what: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays `names` of a file of `what`. ValueError, in words, where it holds anything else.

    Nothing of the file is run (no pickles), and no more is unpacked than `MOST_BYTES`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > MOST_BYTES:
                raise ValueError(f"{size:,} bytes are more than the {MOST_BYTES:,} of {what}")
            found = sorted(archive.namelist())
            if found != sorted(f"{name}.npy" for name in names):
                raise ValueError(f"holds {', '.join(found)[:80]}, not the arrays of {what}")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, MemoryError) as error:
        raise ValueError(f"is no .npz file: {error}") from None


def check_arrays(
    values: dict[str, npt.NDArray[Any]], shapes: dict[str, tuple[int, ...]]
) -> dict[str, npt.NDArray[np.float32]]:
    """`values` as float32, held against `shapes`. ValueError, in words, where they do not fit."""
    for name, expected in shapes.items():
        value = values[name]
        if value.dtype not in (np.float16, np.float32) or value.shape != expected:
            raise ValueError(
                f"{name} is {value.dtype} {value.shape}, expected float16 or float32 {expected}"
            )
        if not np.isfinite(value).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    return {name: value.astype(np.float32) for name, value in values.items()}
