"""A bundle as one file, the same bytes from the same files."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path

from edge_runtime.bundle import Bundle, load_bundle

_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a .zip can hold: the day of packing is no content
_READABLE = 0o644 << 16


def sha256_of(file: Path) -> str:
    """Hash of a file, hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def pack(bundle: Path, archive: Path) -> Bundle:
    """Write a bundle, a folder or a .zip, to `archive`; the bundle. Raises BundleError."""
    loaded = load_bundle(bundle)
    if not bundle.is_dir():
        shutil.copyfile(bundle, archive)
        return loaded
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
            member = zipfile.ZipInfo(path.relative_to(bundle).as_posix(), _DATE)
            member.external_attr = _READABLE
            member.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(member, path.read_bytes())
    return loaded
