"""Folders of noises, rooms and other people, among which training puts its clips."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from training.corpora import NO_CLASS, Utterance, audio_files
from training.corpora.noise import noise_files
from training.corpora.rooms import room_files
from training.data.degrade import Sources, load_sources

LAYOUT = "a folder of ordinary speech, such as LibriSpeech"


@dataclass(frozen=True)
class Surroundings:
    """What `degrade` puts clips among, by name: cheap to hand to another process."""

    noises: tuple[str, ...] = ()
    """Folders of noises."""
    rooms: tuple[str, ...] = ()
    """Folders of impulse responses of rooms."""
    babble: tuple[str, ...] = ()
    """Folders of ordinary speech, a folder a speaker within them."""
    digest: str = ""
    """Of the names and sizes of their files: other files make other versions of a clip."""

    def __bool__(self) -> bool:
        return bool(self.noises or self.rooms or self.babble)


def surroundings(noises: str = "", rooms: str = "", babble: str = "") -> Surroundings:
    """Folders apart by commas, opened once. Raises TrainingError where one cannot be used."""
    sounds, responses, voices = map(folders_of, (noises, rooms, babble))
    chosen = Surroundings(sounds, responses, voices, _digest(sounds, responses, voices))
    if chosen:
        sources(chosen)
    return chosen


def folders_of(text: str) -> tuple[str, ...]:
    """The folders of an option that takes several, apart by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


@lru_cache(maxsize=1)
def sources(chosen: Surroundings) -> Sources:
    """The recordings themselves, read once a process.

    Raises TrainingError for a folder or file that cannot be used, AudioError for a voice that
    cannot be read.
    """
    voices = [
        Utterance(path, NO_CLASS, str(path.parent), "babble")
        for folder in chosen.babble
        for path in audio_files(Path(folder), "babble", LAYOUT)
    ]
    return load_sources(map(Path, chosen.noises), map(Path, chosen.rooms), voices)


def _digest(noises: Sequence[str], rooms: Sequence[str], babble: Sequence[str]) -> str:
    files = [path for folder in noises for path in noise_files(Path(folder))]
    files += [path for folder in rooms for path in room_files(Path(folder))]
    files += [p for folder in babble for p in audio_files(Path(folder), "babble", LAYOUT)]
    names = "\n".join(f"{path.name} {path.stat().st_size}" for path in files)
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:16]
