"""Corpora on disk as lists of utterances. One file a corpus, one line of registration here.

A corpus is a function from a directory to utterances. It knows the official layout and nothing
else; which of its emotions become which class stands in `labels.toml`.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from training.errors import TrainingError

AUDIO_SUFFIXES = (".wav", ".flac")


@dataclass(frozen=True)
class Utterance:
    """One labelled stretch of speech, or its words alone, as the manifest contract has it."""

    path: Path | None
    """Audio file; None where only the words are there."""
    label: str
    """Class."""
    speaker: str
    """Who speaks; unique across corpora."""
    corpus: str
    """Name of the corpus it comes from."""
    session: str = ""
    """Recording session, where the corpus has sessions."""
    text: str = ""
    """Words spoken, where known."""
    split: str = ""
    """Official split, where the corpus has one."""
    start: float = 0.0
    """Second at which the utterance begins in the file."""
    end: float | None = None
    """Second at which it ends; None: the end of the file."""

    @property
    def audio(self) -> Path:
        """The audio file; TrainingError for an utterance that is text only."""
        if self.path is None:
            raise TrainingError(f"{self.corpus}: {self.text[:40]!r} has no audio: it is text only")
        return self.path


@dataclass(frozen=True)
class Found:
    """What a corpus loader found in a directory."""

    utterances: list[Utterance]
    """Utterances of the classes in `labels.toml`."""
    left_out: Counter[str]
    """Clips left out, by the corpus's own label."""
    licence: str = ""
    """Terms of the data; weights trained on it follow them."""
    citation: str = ""
    """What to cite."""


def _loaders() -> dict[str, Callable[[Path], Found]]:
    from training.corpora import emodb, manifest, ravdess

    return {"ravdess": ravdess.load, "emodb": emodb.load, "manifest": manifest.load}


def corpus_names() -> list[str]:
    """Corpora that can be named on the command line."""
    return list(_loaders())


def load_corpora(arguments: Iterable[str]) -> dict[str, Found]:
    """Corpora of `NAME=PATH` arguments, by name.

    Raises TrainingError for an argument of another form, an unknown name, a folder that is
    missing, empty or not that corpus, or one of which no clip has a wanted label.
    """
    result = {}
    for argument in arguments:
        name, _, folder = argument.partition("=")
        loaders = _loaders()
        if name not in loaders or not folder:
            raise TrainingError(
                f"{argument!r}: expected NAME=PATH with NAME one of {', '.join(loaders)}"
            )
        path = Path(folder)
        if not path.exists():
            raise TrainingError(f"{name}: there is no {path}")
        found = loaders[name](path)
        if not found.utterances:
            raise TrainingError(f"{name}: no clip under {path} has a label of labels.toml")
        result[name] = found
    if not result:
        raise TrainingError("name at least one corpus, such as ravdess=DIR")
    return result


@cache
def label_map(corpus: str) -> dict[str, str]:
    """The corpus's own labels and their classes."""
    with (Path(__file__).parent / "labels.toml").open("rb") as file:
        maps: dict[str, dict[str, str]] = tomllib.load(file)
    return maps[corpus]


def audio_files(folder: Path, corpus: str, expected: str) -> list[Path]:
    """Audio files anywhere under `folder`, sorted; TrainingError where there is none."""
    if not folder.is_dir():
        raise TrainingError(f"{corpus}: {folder} is not a folder; expected {expected}")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise TrainingError(f"{corpus}: no .wav or .flac under {folder}; expected {expected}")
    return files
