"""Engines that hear words, one a file, and the one registry of them.

To add one: a file here that ends in its `ENGINE`, and its name in `NAMES`. The forms of `--text`,
what `doctor` looks for, the extras of the package and the table in docs/words.md follow from that.
The package of an engine is imported when it is loaded, never before.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import MissingPackageError, TextError
from edge_runtime.text import GIVEN_FORMS, OFF, TextSource, without_password

NAMES = ("keywords", "asr", "vosk", "sherpa", "whisper", "faster-whisper", "wyoming")
"""Modules of this folder, "-" for "_", in the order in which they are told."""


@dataclass(frozen=True)
class Engine:
    """What there is to know of an engine without loading it."""

    forms: tuple[str, ...]
    """What `--text` takes for it, such as "vosk:DIR"."""
    package: str
    """The module that it imports."""
    extra: str
    """The extra of this package that installs it."""
    requirement: str
    """What that extra asks pip for."""
    hears: str
    """What hears the words, in a table's cell."""
    proven: str
    """How far it was run here, in a table's cell."""
    load: Callable[[str, Path | None], TextSource]
    """From what stands after the colon, and the bundle's key phrases, to the engine."""
    model: str = ""
    """What has to be named after the colon; empty where nothing need be."""
    check: Callable[[str, Path | None], object] | None = None
    """Refuses what `load` cannot take, as far as that is seen without loading."""

    @property
    def distribution(self) -> str:
        """The name that pip knows the package by."""
        return self.requirement.partition(">")[0]


def engine_named(kind: str) -> Engine | None:
    """What stands before the colon of `--text`; None where there is no such engine."""
    if kind not in NAMES:
        return None
    found: Engine = importlib.import_module(f"{__name__}.{kind.replace('-', '_')}").ENGINE
    return found


def engines() -> dict[str, Engine]:
    """Every engine, by name."""
    return {name: engine for name in NAMES if (engine := engine_named(name)) is not None}


def forms() -> tuple[str, ...]:
    """What `--text` takes for an engine."""
    return tuple(form for engine in engines().values() for form in engine.forms)


def check_source(name: str, keywords: Path | None = None) -> None:
    """Refuse what `source_named` cannot load, as far as that is seen without loading anything.

    Raises as `source_named` does.
    """
    kind, _, argument = name.partition(":")
    engine = engine_named(kind)
    if engine is None:
        raise unknown(name)
    if importlib.util.find_spec(engine.package) is None:
        raise MissingPackageError(f"text source {kind}", engine.distribution, engine.extra)
    if engine.model and not argument:
        raise TextError(f"text source {kind} needs {engine.model}: --text {kind}:PATH")
    if engine.model and not Path(argument).expanduser().exists():
        raise TextError(f"text source {kind}: there is no {argument}; it needs {engine.model}")
    if engine.check is not None:
        engine.check(argument, keywords)


def source_named(name: str, keywords: Path | None = None) -> TextSource:
    """Load the engine of that name, into this process; takes seconds for some.

    Parameters
    ----------
    name : one of `forms()`.
    keywords : the list that "keywords" spots, such as the bundle's.

    Raises
    ------
    TextError : an unknown name, or a model that is missing, damaged or of another kind.
    MissingPackageError : the engine's package is not installed.
    """
    check_source(name, keywords)
    kind, _, argument = name.partition(":")
    engine = engine_named(kind)
    assert engine is not None  # check_source has seen it
    return engine.load(argument, keywords)


def unknown(name: str) -> TextError:
    """The error for a name that is none."""
    if not name:
        return TextError("the text source has no name")
    there_is = ", ".join((OFF, *forms(), *GIVEN_FORMS))
    return TextError(f"unknown text source {without_password(name)!r}; there is {there_is}")
