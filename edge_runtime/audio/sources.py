"""What can be listened to, opened by what was asked: one file a source, one line here."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_runtime.audio import AudioSource
from edge_runtime.audio.raw import RawFormat
from edge_runtime.errors import AudioError


@dataclass(frozen=True)
class Asked:
    """How a live source is to be opened; each takes what concerns it."""

    value: Any = None
    """What follows the option that names it."""
    raw: RawFormat | None = None
    """How raw samples are read."""
    device: str | None = None
    """Which microphone."""
    channel: int | None = None
    """Which of its channels, from 1."""
    wait: bool = False
    """Whether to wait where it is not there yet."""
    name: str | None = None
    """What people call this device."""


def _class(module: str, name: str) -> Any:
    return getattr(import_module(f"edge_runtime.audio.{module}"), name)


LIVE: dict[str, Callable[[Asked], AudioSource]] = {
    "mic": lambda a: _class("microphone", "MicrophoneSource")(a.device, a.channel, a.wait),
    "stdin": lambda a: _class("stdin", "PipeSource")(raw=a.raw),
    "mic_command": lambda a: _class("command", "CommandSource")(a.value, a.raw, a.channel, a.wait),
    "listen": lambda a: _class("sockets", "SocketSource")(a.value, a.raw, a.channel),
    "wyoming": lambda a: _class("wyoming", "WyomingSource")(a.value, a.name, a.channel),
}
"""By the option that names it."""


def file_source(file: str, raw: RawFormat | None) -> AudioSource:
    """A file; raw samples, a named pipe or a shell's <(...), which are read once from the front."""
    try:
        mode = Path(file).stat().st_mode
        once = not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        if once or (raw and stat.S_ISREG(mode)):
            from edge_runtime.audio.stdin import PipeSource

            return PipeSource(Path(file).open("rb"), raw, file)
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            raise AudioError(f"{file} cannot be read: {error.strerror}") from None
    from edge_runtime.audio.file import FileSource

    return FileSource(file)
