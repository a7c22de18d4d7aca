"""The files of a bundle, a folder or a .zip, read by name: within bounds, and out of nowhere else.

A name cannot lead out of the bundle, nor a link; pipes and devices are not opened; what unpacks to
more than it may is not unpacked.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path, PurePosixPath

from edge_runtime.errors import BundleError
from edge_runtime.manifest import MANIFEST
from edge_runtime.untrusted import ZIP_ERRORS, read_member, read_regular, shown

MOST_MANIFEST = 4_000_000
"""Bytes of a manifest; that in the box has 0.3 MB."""
MOST_FILE = 128_000_000
"""Bytes of any other file."""
MOST_TOTAL = 256_000_000
"""Bytes of all together, and of a .zip."""
_MOST_MEMBERS = 1000  # of a .zip
_MOST_DIRECTORY = 512 * _MOST_MEMBERS  # bytes of its list of them
_LONGEST_NAME = 255


class BundleFiles:
    """A bundle's files; BundleError, in one line, for one that must not or cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._left = MOST_TOTAL

    def read(self, name: str) -> bytes:
        """The file of that name."""
        most = MOST_MANIFEST if name == MANIFEST else min(MOST_FILE, self._left)
        if not _is_inside(name):
            raise BundleError(f"bundle {self.path}: {shown(name)} points outside the bundle")
        try:
            content = self._read(name, most)
        except OSError as error:
            raise self._error(name, error.strerror or error) from None
        except (ValueError, *ZIP_ERRORS) as error:
            raise self._error(name, error) from None
        self._left -= len(content)
        return content

    def has(self, name: str) -> bool:
        """Whether there is something of that name, be it nothing that can be read."""
        return os.path.lexists(self.path / name)

    def close(self) -> None:
        """Close what is open."""

    def _read(self, name: str, most: int) -> bytes:
        return read_regular(self.path / name, most, self.path)

    def _error(self, name: str, why: object) -> BundleError:
        return BundleError(f"bundle {self.path}: cannot read {name}: {why}")


class _Archive(BundleFiles):
    """Those of a .zip of a folder, or of its files."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file: _Bounded | None = None
        try:
            self._file = _opened(path)
            self._archive = zipfile.ZipFile(self._file)
        except (ValueError, *ZIP_ERRORS) as error:
            if self._file:
                self._file.close()
            why = f": {error}" if isinstance(error, _TooMuchError) else ""
            raise BundleError(
                f"{path} is neither a bundle directory nor a .zip of one{why}"
            ) from None
        self._file.most = MOST_FILE  # what it is asked for from now on is bounded by who asks
        self._members = self._archive.infolist()
        # A zip of the directory itself holds everything under one folder.
        names = [member.filename for member in self._members]
        manifests = [name for name in names if PurePosixPath(name).name == MANIFEST]
        self._prefix = min(manifests, key=len)[: -len(MANIFEST)] if manifests else ""
        if len(names) > _MOST_MEMBERS:
            self.close()
            raise BundleError(f"bundle {path}: {len(names):,} files are no bundle's")

    def has(self, name: str) -> bool:
        """See BundleFiles."""
        return bool(self._found(name))

    def close(self) -> None:
        """See BundleFiles."""
        self._archive.close()
        if self._file:
            self._file.close()

    def _read(self, name: str, most: int) -> bytes:
        found = self._found(name)
        if not found:
            raise ValueError("not in the archive")
        if len(found) > 1:
            raise ValueError(f"it is in the archive {len(found)} times")
        return read_member(self._archive, found[0], most)

    def _found(self, name: str) -> list[zipfile.ZipInfo]:
        return [member for member in self._members if member.filename == self._prefix + name]


class _TooMuchError(ValueError):
    """What would be read at once is more than any bundle's archive has."""


class _Bounded(io.FileIO):
    """A file of which at most `most` bytes are read at once: zipfile reads lists whole."""

    most = _MOST_DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        """The next `size` bytes, all where it is below 0."""
        rest = os.fstat(self.fileno()).st_size - self.tell()
        wanted = rest if size is None or size < 0 else min(size, rest)
        if wanted > self.most:
            raise _TooMuchError("its list of files is too long")
        return super().read(max(0, wanted)) or b""


def _opened(path: Path) -> _Bounded:
    """The archive; what is no ordinary file, or larger than a bundle, is not opened."""
    if not path.is_file() or path.stat().st_size > MOST_TOTAL:
        raise _TooMuchError(f"expected a file of at most {MOST_TOTAL:,} bytes")
    return _Bounded(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def open_files(path: Path) -> BundleFiles:
    """The files of the bundle at `path`. BundleError where there is none."""
    if path.is_dir():
        return BundleFiles(path)
    if not path.exists():
        raise BundleError(f"no bundle at {path}: expected a directory or a .zip")
    return _Archive(path)


def _is_inside(name: str) -> bool:
    """Whether `name` can be that of a file in a bundle."""
    place = PurePosixPath(name)
    leads = place.is_absolute() or ".." in place.parts or "\\" in name
    return not leads and name.isprintable() and len(name) <= _LONGEST_NAME
