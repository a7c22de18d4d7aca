"""What tells clips, and data as a whole, apart by what they hold, wherever they lie."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from training.corpora import Utterance, kind_of
from training.data.cache import content_of
from training.errors import TrainingError
from training.output import at_once

TRAINED = "trained.csv"  # in a run's folder: the clips that trained it, and who speaks
DIGITS = 32  # of a clip's key, hexadecimal: 128 bits


def clip_keys(utterances: Iterable[Utterance]) -> list[str]:
    """A key of `DIGITS` for each: of its file's bytes, start and end; of words alone, of those.

    The same sound under another name, in another folder or with another label has the same key.
    Each file is read once. Raises OSError for one that cannot be.
    """
    return [_key(utterance) for utterance in utterances]


def fingerprint(utterances: Sequence[Utterance]) -> str:
    """SHA-256, hexadecimal, of clips with their labels, speakers and words, in whatever order.

    Folders, file names and names of corpora are no part of it. Raises OSError as `clip_keys`.
    """
    rows = [
        json.dumps([key, u.label, u.speaker, u.text])
        for key, u in zip(clip_keys(utterances), utterances, strict=True)
    ]
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()


def data_record(trained: Sequence[Utterance], judged: Sequence[Utterance] = ()) -> dict[str, Any]:
    """What a run keeps of its data: fingerprints of the clips that trained and were judged."""
    record = {"clips": len(trained), "fingerprint": fingerprint(trained)}
    return record | ({"judged": fingerprint(judged)} if judged else {})


Origins = Mapping[Path, Mapping[str, Any]]
"""The training records of the runs that a model began with, by their folders."""


def write_trained(path: Path, utterances: Sequence[Utterance], origins: Origins) -> bool:
    """Write the keys and speakers of the clips that trained a run, and of those of `origins`.

    False where one of those does not say all that trained it: then the list is not complete.
    """
    rows = set(zip(clip_keys(utterances), (u.speaker or "" for u in utterances), strict=True))
    known = [read_trained(folder) for folder in origins]
    for more in known:
        rows |= set((more or {}).items())
    with at_once(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("clip", "speaker"), *sorted(rows)])
    return all(_complete(*origin) for origin in origins.items())


def seen_before(utterances: Sequence[Utterance], origins: Origins) -> list[str]:
    """The corpora of `utterances` of which clips, or people who speak in them, trained `origins`.

    Where a run keeps no whole list of its clips, all of a corpus that it names is taken to have
    trained. Raises OSError as `clip_keys`.
    """
    found: set[str] = set()
    keys = clip_keys(utterances) if origins else []
    for folder, record in origins.items():
        known = read_trained(folder) or {}
        people = set(known.values()) - {""}
        named: set[str] = set()
        if not _complete(folder, record):
            # Two manifests are of one kind, and need have nothing in common.
            named = {kind_of(name) for name in record.get("corpora", {})} - {"manifest"}
        found |= {
            u.corpus
            for u, key in zip(utterances, keys, strict=True)
            if key in known or u.speaker in people or kind_of(u.corpus) in named
        }
    return sorted(found)


def _complete(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether a run's list of its clips is of all that ever trained it."""
    return (folder / TRAINED).exists() and bool(record.get("data", {}).get("complete"))


def read_trained(folder: Path) -> Mapping[str, str] | None:
    """Speaker, or "", by the key of each clip that trained the run in `folder`; None: not known.

    Raises TrainingError for a list that cannot be read.
    """
    path = folder / TRAINED
    if not path.exists():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["clip"]: row["speaker"] for row in csv.DictReader(file)}
    except (KeyError, ValueError, csv.Error) as error:
        raise TrainingError(f"{path} is no list of clips that can be read: {error}") from None


def _key(utterance: Utterance) -> str:
    if utterance.path is None:
        made_from: list[Any] = ["words", utterance.text]
    else:
        status = utterance.path.stat()
        content = _content(utterance.path, status.st_size, status.st_mtime_ns)
        made_from = ["sound", content, utterance.start, utterance.end]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:DIGITS]


@lru_cache(maxsize=1 << 18)
def _content(path: Path, size: int, modified: int) -> str:
    """The hash of a file; its size and time are there for the cache."""
    return content_of(path)
