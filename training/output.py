"""What a command writes takes the place of what was there at once, or not at all.

Everything is made beside its place, on the same file system, and renamed when it is whole: a
failure, Ctrl-C or a full disk leaves the old as it was, and nothing beside it.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.console import writing


@contextmanager
def at_once(path: Path, folder: bool = False) -> Iterator[Path]:
    """Where to make what takes the place of `path` when the block ends: a file, or a whole folder.

    What is given has the same name. A file does not exist yet, a folder is made and empty; so are
    the parents of `path`. A device or a pipe, such as /dev/stdout, is given as it is. Raises
    OSError where `path` is of the other kind, or cannot be replaced, such as a mount point.
    """
    if not folder and _is_stream(path):
        yield path
        return
    target = path.resolve()  # a link stays one
    if target.exists() and target.is_dir() != folder:
        number = errno.ENOTDIR if folder else errno.EISDIR
        raise OSError(number, os.strerror(number), str(path))
    # A full disk names what was to be, not the file beside it.
    with writing(path), _beside(target) as work:
        new = work / target.name
        if folder:
            new.mkdir()
        yield new
        if folder:
            _swap(new, target, work / "old")
        else:
            if target.exists():
                shutil.copymode(target, new)
            new.replace(target)


def new_file(text: str) -> Path:
    """A `type` for argparse: a file to write, refused before any work where it is a folder."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file in it")
    return path


@contextmanager
def into_at_once(folder: Path, last: str) -> Iterator[Path]:
    """A folder whose files go into `folder`, among what is there, when the block ends.

    `last` is the name of the file that says that the others are there and belong together: it is
    the first to go and the last to come. `folder` is made.
    """
    with writing(folder), _beside(folder / last) as new:
        yield new
        (folder / last).unlink(missing_ok=True)
        for file in sorted(new.iterdir(), key=lambda file: file.name == last):
            file.replace(folder / file.name)


def sweep(path: Path) -> None:
    """Remove what a process left beside `path` that was killed while it wrote there."""
    for left in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(left, ignore_errors=True)


def _swap(new: Path, target: Path, old: Path) -> None:
    """Rename the folder `new` to `target`, and what is there to `old`."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if not target.exists():
            old.rename(target)
        raise


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_stream(path: Path) -> bool:
    """Whether it is no place to rename to: /dev/stdout can be a link to a file that is open."""
    if path.absolute().parts[:2] in (("/", "dev"), ("/", "proc")):
        return True
    return path.exists() and not path.is_file() and not path.is_dir()
