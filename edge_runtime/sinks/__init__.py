"""Where events go. One file a sink, one line of registration here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edge_runtime.audio.levels import Level
from edge_runtime.errors import EdgeError
from edge_runtime.events import EmotionEvent, Event, StorageEvent
from edge_runtime.pcm import Int16

AUTO = "auto"
NONE = "none"
NAMES = (AUTO, "pretty", "jsonl", NONE)


class Sink(Protocol):
    """Takes events one by one, in order."""

    def write(self, event: Event) -> None:
        """Show or send one event."""
        ...

    def close(self) -> None:
        """Leave the terminal or connection as it was found."""
        ...


@dataclass(frozen=True)
class Context:
    """What sinks may tell of the program that they are part of."""

    name: str
    """What people call this device."""
    version: str
    """Of this program."""
    bundle: str
    """Name of the bundle that judges."""
    labels: tuple[str, ...]
    """Its classes."""


@runtime_checkable
class LevelSink(Protocol):
    """A sink that shows how loud a live source is, too."""

    def hear(self, t: float, form: str, level: Level) -> None:
        """The level at second `t` of the stream; rate and channels in words."""
        ...


@runtime_checkable
class KeepingSink(Protocol):
    """A sink that keeps on disk what it is given."""

    stored: StorageEvent
    """What, where and for how long; its second does not count."""


@runtime_checkable
class SoundSink(Protocol):
    """A sink that keeps the sound of utterances."""

    def take(self, position: int, samples: Int16) -> None:
        """Samples (n,) of the stream, the first of which is number `position`; not kept yet."""
        ...

    def keep(self, event: EmotionEvent) -> str:
        """Keep the sound of the utterance of a final verdict; its file, "" where it is not kept."""
        ...


@dataclass(frozen=True)
class Part:
    """One place to which events go."""

    settings: object
    """What it is opened with; equal settings need no new one."""
    start: Callable[[], Sink | None]
    """Opens it; None where it is off. Raises EdgeError where it cannot be opened."""


Parts = Mapping[str, Part]
"""By name, in the order in which they get an event."""


class Outputs:
    """Several sinks as one. Raises EdgeError where one of them cannot be opened."""

    def __init__(self, parts: Parts) -> None:
        self._open: dict[str, tuple[Part, Sink | None]] = {}
        # Asked ten times a second, each of which would look at what every sink can do.
        self._levels: list[LevelSink] = []
        self._sounds: list[SoundSink] = []
        try:
            for name, part in parts.items():
                self._open[name] = part, part.start()
            self._know()
        except BaseException:
            self.close()
            raise

    @property
    def sinks(self) -> list[Sink]:
        """Those that are open."""
        return [sink for _, sink in self._open.values() if sink is not None]

    @property
    def show_level(self) -> bool:
        """Whether one of them shows how loud a live source is."""
        return bool(self._levels)

    @property
    def queued(self) -> int:
        """Events that wait to be sent, in all of them."""
        return sum(getattr(sink, "queued", 0) for sink in self.sinks)

    @property
    def dropped(self) -> int:
        """Events that were not sent, and will not be, in all of them."""
        return sum(getattr(sink, "dropped", 0) for sink in self.sinks)

    @property
    def stored(self) -> list[StorageEvent]:
        """What they keep on disk."""
        return [sink.stored for sink in self.sinks if isinstance(sink, KeepingSink)]

    def write(self, event: Event) -> None:
        """Show or send one event."""
        for sink in self.sinks:
            sink.write(event)

    def hear(self, t: float, form: str, level: Level) -> None:
        """The level at second `t` of the stream, for those that show it."""
        for sink in self._levels:
            sink.hear(t, form, level)

    def take(self, position: int, samples: Int16) -> None:
        """Samples (n,) of the stream from number `position` on, for those that keep sound."""
        for sink in self._sounds:
            sink.take(position, samples)

    def keep(self, event: EmotionEvent) -> str:
        """Have the sound of a final verdict kept where that is wanted; its file, or ""."""
        return next(filter(None, [sink.keep(event) for sink in self._sounds]), "")

    def change(self, parts: Parts) -> list[str]:
        """Close what is not in `parts`, open what is new or has other settings; what failed.

        What cannot be opened with its new settings is opened again with those that it had.
        """
        before = dict(self._open)
        for name, (part, sink) in before.items():
            if name not in parts or parts[name].settings != part.settings:
                del self._open[name]
                if sink is not None:
                    sink.close()
        new = {name: part for name, part in parts.items() if name not in self._open}
        troubles = self._start(new)
        old = {name: before[name][0] for name in new if name in before and name not in self._open}
        troubles += self._start(old)
        self._open = {name: self._open[name] for name in parts if name in self._open}
        self._know()
        return troubles

    def _start(self, parts: Parts) -> list[str]:
        """Open all of `parts` that can be; what failed."""
        troubles = []
        for name, part in parts.items():
            try:
                self._open[name] = part, part.start()
            except (EdgeError, OSError) as error:
                troubles.append(f"{name}: {error}")
        return troubles

    def close(self) -> None:
        """Close all, the last opened first; all of them, whatever one of them raises."""
        with ExitStack() as closing:
            for sink in self.sinks:
                closing.callback(sink.close)
            self._open = {}
            self._know()

    def _know(self) -> None:
        """What those that are open can do beside taking events."""
        self._levels = [sink for sink in self.sinks if isinstance(sink, LevelSink)]
        self._sounds = [sink for sink in self.sinks if isinstance(sink, SoundSink)]


def open_sink(name: str) -> Sink | None:
    """The sink of that name; None for "none".

    "auto" is pretty on a terminal where rich is installed, else jsonl.

    Raises EdgeError for an unknown name or a closed standard output, MissingPackageError for a
    missing package.
    """
    if name == NONE:
        return None
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
