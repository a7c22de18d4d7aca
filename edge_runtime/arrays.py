"""Arrays of a part of a bundle as .npy and .npz files: read with care, whoever made the bundle."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Collection
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.untrusted import ZIP_ERRORS, read_member, shown

MOST_BYTES = 4_000_000  # unpacked

# What np.save writes, and nothing else: to np.load a header is an expression of Python, and it
# makes an array of whatever shape that names before it looks whether the file holds as much.
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '(\|i1|<f2|<f4)', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,9}, ?)*\d{0,9})\), \} *\n"
)


def packed(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """The file that `unpacked` reads."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # its stubs take the names for options
    return file.getvalue()


def unpacked(
    content: bytes, names: Collection[str], what: str, or_also: Collection[str] = ()
) -> dict[str, npt.NDArray[Any]]:
    """The arrays `names` of a file of `what`. ValueError, in words, where it holds anything else.

    It may have those of `or_also` as well: all or none.

    Nothing of the file is run (no pickles), and no more is unpacked than `MOST_BYTES`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > MOST_BYTES:
                raise ValueError(f"{size:,} bytes are more than the {MOST_BYTES:,} of {what}")
            found = sorted(archive.namelist())
            if found == sorted(f"{name}.npy" for name in (*names, *or_also)):
                names = (*names, *or_also)
            elif found != sorted(f"{name}.npy" for name in names):
                listed = shown(", ".join(found), 80)
                raise ValueError(f"holds {listed}, not the arrays of {what}")
            return {
                name: read_npy(read_member(archive, archive.getinfo(f"{name}.npy"), MOST_BYTES))
                for name in names
            }
    except ZIP_ERRORS as error:
        raise ValueError(f"is no .npz file: {error}") from None


def read_npy(content: bytes) -> npt.NDArray[Any]:
    """The array of a .npy file of int8, float16 or float32, row after row: a view of `content`.

    ValueError, in words, for any other, and where the file is longer or shorter than its shape.
    """
    size = int.from_bytes(content[8:10], "little")
    header = _HEADER.fullmatch(content[10 : 10 + size])
    if not content.startswith(_MAGIC) or header is None:
        raise ValueError("is no .npy file of int8, float16 or float32, row after row")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(axis) for axis in header[2].decode().split(",") if axis.strip())
    expected, found = prod(shape) * dtype.itemsize, len(content) - 10 - size
    if expected != found:
        raise ValueError(f"{dtype} {shape} are {expected:,} bytes, but {found:,} are there")
    return np.frombuffer(content, dtype, offset=10 + size).reshape(shape)


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
