"""Where events go. One file a sink, one line of registration here."""

from __future__ import annotations

import importlib.util
import sys
from typing import Protocol, runtime_checkable

from edge_runtime.audio.levels import Level
from edge_runtime.errors import EdgeError
from edge_runtime.events import Event

AUTO = "auto"
NAMES = (AUTO, "pretty", "jsonl")


class Sink(Protocol):
    """Takes events one by one, in order."""

    def write(self, event: Event) -> None:
        """Show or send one event."""
        ...

    def close(self) -> None:
        """Leave the terminal or connection as it was found."""
        ...


@runtime_checkable
class LevelSink(Protocol):
    """A sink that shows how loud a live source is, too."""

    def hear(self, t: float, form: str, level: Level) -> None:
        """The level at second `t` of the stream; rate and channels in words."""
        ...


def open_sink(name: str) -> Sink:
    """The sink of that name; "auto" is pretty on a terminal where rich is installed, else jsonl.

    Raises EdgeError for an unknown name or a closed standard output, MissingPackageError for a
    missing package.
    """
    if sys.__stdout__ is None:
        raise EdgeError(
            "standard output is closed, and events go there: name a file (> FILE) or a pipe"
        )
    if name == AUTO:
        seen = sys.stdout.isatty() and importlib.util.find_spec("rich") is not None
        name = "pretty" if seen else "jsonl"
    if name == "pretty":
        from edge_runtime.sinks.pretty import PrettySink

        return PrettySink()
    if name == "jsonl":
        from edge_runtime.sinks.jsonl import JsonLinesSink

        return JsonLinesSink()
    raise EdgeError(f"unknown output {name!r}; there is {', '.join(NAMES)}")
