"""Files anywhere under a folder, each once, and clips that are copies of others by what they hold.

Public mirrors nest a corpus in itself, link to it, or hold it twice under other names. A clip that
is counted twice trains twice, and is on both sides of a fold.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path


def files_under(folder: Path) -> Iterator[Path]:
    """Files anywhere under `folder`; links to folders are followed, and no folder is read twice.

    Within a folder, names are in order and links come last, so that a file has the same path
    whatever the order on the disk.
    """
    seen: set[tuple[int, int]] = set()
    for name, folders, files in os.walk(folder, followlinks=True):
        here = Path(name)
        status = here.stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort(key=lambda inner: ((here / inner).is_symlink(), inner))
        yield from (here / file for file in sorted(files))


def contents(paths: Iterable[Path]) -> dict[Path, Hashable]:
    """What tells the files apart: files with the same bytes have the same value.

    Only files of the same size as another are read. One that cannot be, or is empty, is like no
    other.
    """
    sizes: dict[Path, tuple[int, int]] = {}
    by_size: defaultdict[int, list[Path]] = defaultdict(list)
    result: dict[Path, Hashable] = {}
    for path in dict.fromkeys(paths):
        try:
            status = path.stat()
        except OSError:
            result[path] = path
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            result[path] = path
            continue
        sizes[path] = status.st_size, status.st_mtime_ns
        by_size[status.st_size].append(path)
    for size, group in by_size.items():
        for path in group:
            result[path] = (size, _digest(path, *sizes[path]) if len(group) > 1 else b"")
    return result


@lru_cache(maxsize=1 << 18)
def _digest(path: Path, size: int, modified: int) -> Hashable:
    """The hash of a file; its size and time are there for the cache."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return path
