"""Files that somebody else made: read within bounds, and no further than they promise.

What is wrong is raised as ValueError, in words that fit behind "cannot read NAME: "; what the
system says stays OSError.
"""

from __future__ import annotations

import json
import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

try:
    # As the standard library's own random does: hashlib loads OpenSSL, 4 MB for this one sum.
    from _sha2 import sha256  # type: ignore[import-not-found]
except ImportError:  # CPython 3.11
    from hashlib import sha256

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MOST_RATIO = 200  # unpacked to packed, of a member; graphs and tables come to 5
_SMALL = 1_000_000  # bytes of a member that no ratio makes dangerous
_ENCRYPTED = 1  # bit of a member's flags


def read_regular(path: Path, most: int, inside: Path | None = None) -> bytes:
    """The bytes of an ordinary file, at most `most`.

    Never waits, as opening a pipe would. With `inside`, a folder, a link that leads out of it is
    refused.
    """
    real = Path(os.path.realpath(path))
    if inside is not None and not real.is_relative_to(os.path.realpath(inside)):
        raise ValueError("it is a link that leads out of its folder")
    # Looked at before it is opened: to open a device may set it going.
    _check_ordinary(real.stat())
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _check_ordinary(os.fstat(descriptor))
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than the {most:,} bytes that are read")
    return content


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """The bytes of a member of a .zip, at most `most`; no more than it promises is unpacked.

    Raises what `zipfile` raises, too (`ZIP_ERRORS`).
    """
    if member.compress_type not in _METHODS:
        raise ValueError("it is packed in another way than deflate")  # which unpack without bounds
    if member.flag_bits & _ENCRYPTED:
        raise ValueError("it is encrypted")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ValueError("it is a link")
    if member.file_size > most:
        raise ValueError(f"it is larger than the {most:,} bytes that are read")
    if member.file_size > max(_SMALL, _MOST_RATIO * member.compress_size):
        raise ValueError(f"{member.compress_size:,} bytes that unpack to {member.file_size:,}")
    with archive.open(member) as file:
        # Asked for a number, zipfile unpacks so much; asked for all, whatever is packed.
        return file.read(member.file_size + 1)


ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError)
"""What `zipfile` raises for an archive that is damaged, or that this Python cannot unpack."""


def parse_json(content: bytes) -> Any:
    """The value of a JSON text. ValueError for one with a name twice, or that nests too deeply."""
    try:
        return json.loads(content, object_pairs_hook=_without_twins)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def digest_of(content: bytes) -> str:
    """SHA-256, hexadecimal."""
    return str(sha256(content).hexdigest())


def shown(value: object, most: int = 60) -> str:
    """`value` for a message: escaped, on one line, cut."""
    text = ascii(value)
    return text if len(text) <= most else f"{text[:most]}..."


def printable(text: str) -> str:
    """`text` on one line, without what steers a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in made if names.count(name) > 1)
        raise ValueError(f"{shown(twin)} is there twice")
    return made


def _check_ordinary(state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is no ordinary file")
