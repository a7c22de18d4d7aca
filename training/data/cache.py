"""Results of slow work on clips, kept on disk under what they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from edge_runtime.audio.file import READER_VERSION, read_file
from edge_runtime.pcm import Float32, Int16
from training.corpora import Utterance
from training.errors import TrainingError
from training.workers import beginning, end_at_ctrl_c

log = logging.getLogger(__name__)

Task = TypeVar("Task")

Outcome = TypeVar("Outcome")


def parallel(
    function: Callable[[Task], Outcome],
    tasks: Sequence[Task],
    workers: int | None,
    title: str,
    progress: bool = True,
    chunk: int = 4,
) -> Generator[Outcome, None, None]:
    """`function` of each of `tasks`, in their order, behind a progress bar with `title`.

    `workers` are processes; None for one per core; 1 stays in this process. Each takes `chunk`
    tasks at a time.

    Closed, it gives up what is not under way: who loops over it does so (`contextlib.closing`), for
    interrupted, it would keep its processes at work until somebody collects it.
    """
    with contextlib.ExitStack() as stack:
        outcomes: Iterator[Outcome]
        if workers == 1:
            outcomes = map(function, tasks)
        else:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers or os.cpu_count(), context, end_at_ctrl_c)
            stack.callback(pool.shutdown, cancel_futures=True)
            with beginning():
                outcomes = pool.map(function, tasks, chunksize=chunk)
        yield from track(
            outcomes,
            title,
            total=len(tasks),
            transient=True,
            disable=not progress,
            console=Console(stderr=True),
        )


def rows_of(
    function: Callable[[Any], list[npt.NDArray[Any] | None]],
    given: Sequence[Any],
    utterances: Sequence[Utterance],
    piece: int,
    workers: int | None,
    title: str,
    progress: bool = True,
) -> tuple[npt.NDArray[Any], list[int]]:
    """What `function` makes of each utterance, stacked, and the places of those it could hear.

    It is asked with (*given, utterances), `piece` of them at a time, and says None of one that
    cannot be heard. `workers` are as for `parallel`. Raises TrainingError where nothing can be.
    """
    pieces = [list(utterances[start : start + piece]) for start in range(0, len(utterances), piece)]
    tasks = [(*given, some) for some in pieces]
    with contextlib.closing(parallel(function, tasks, workers, title, progress, chunk=1)) as found:
        rows = [row for some in found for row in some]
    places = [place for place, row in enumerate(rows) if row is not None]
    if not places:
        raise TrainingError("no clip could be heard")
    return np.stack([row for row in rows if row is not None]), places


def cache_folder(kind: str = "features") -> Path:
    """Where `kind` is cached: $XDG_CACHE_HOME/edge-emotion/KIND, else under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edge-emotion" / kind


def opened_cache(folder: Path) -> Path:
    """`folder`, made where it can be; a home that cannot be written to costs time, not the run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("nothing is cached: cannot make %s: %s", folder, error.strerror)
    return folder


def content_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def seed_of(content: str) -> int:
    """Seed by which a clip of that `content_of` is varied: everywhere the same versions of it."""
    return int(content[:8], 16)


def cache_key(*made_from: Any) -> str:
    """Name of the file of a cache that holds what was made from these, which JSON can hold.

    How a clip is read (`READER_VERSION`) is always among them.
    """
    identity = json.dumps([READER_VERSION, *made_from], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest() + ".npy"


def kept(
    folder: Path,
    utterance: Utterance,
    make: Callable[[Int16], npt.NDArray[Any] | None],
    *made_from: Any,
) -> npt.NDArray[Any] | None:
    """What is made of a clip's samples, int16 (n,), from the cache in `folder` where it is known.

    `made_from` is what else fixes it. What is not made (None) is not kept.
    Raises AudioError or OSError for a clip that cannot be read.
    """
    part = [content_of(utterance.audio), utterance.start, utterance.end]
    path = folder / cache_key(*made_from, *part)
    known = read_cache(path)
    if known is not None:
        return known
    made = make(read_file(utterance.audio, utterance.start, utterance.end))
    if made is not None:
        write_cache(path, made)
    return made


def read_cache(path: Path) -> Float32 | None:
    try:
        return np.asarray(np.load(path), np.float32)
    except (OSError, ValueError, EOFError):
        return None


def write_cache(path: Path, features: npt.NDArray[Any]) -> None:
    """Whole or not at all, also with several writers and on a disk that fills up."""
    if not path.parent.is_dir():
        return  # `opened_cache` has said so, once
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.save(file, features)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        log.warning("cannot cache in %s: %s", path.parent, error)
