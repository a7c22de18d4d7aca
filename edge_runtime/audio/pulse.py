"""What PulseAudio or PipeWire knows of its sources, where one of them runs and `pactl` is there.

PortAudio sees the sound server as one device, without its microphones' rates, names and switches.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEVICES = ("pulse", "pipewire", "default")
"""PortAudio's names of the way to the server, best first."""
_LOW = 60  # %; of speech it leaves less than 13 dB below what the microphone gives
_SECONDS = 2.0  # a server that is asked answers within


@dataclass(frozen=True)
class Source:
    """Something that the server listens to."""

    name: str
    """As `pactl` and `--device` take it."""
    description: str
    """For people."""
    rate: int
    """Its own sample rate, Hz."""
    channels: int
    """Channels."""
    muted: bool
    """Whether it is switched off."""
    volume: int
    """Of its loudest channel, %."""
    monitor: bool
    """Whether it is what is played, and no microphone."""
    default: bool
    """Whether it is the server's choice."""


def sources() -> list[Source]:
    """All of them; none where nobody answers."""
    try:
        default = _pactl("get-default-source").strip()
        return [_source(entry, default) for entry in json.loads(_pactl("-f", "json", *_LIST))]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return []


def source_named(name: str) -> Source | None:
    """The source of that name, or where it is the name of the way to the server, the default."""
    for source in sources():
        if source.name == name or (name in DEVICES and source.default):
            return source
    return None


def trouble(source: Source) -> str:
    """Why nobody is heard by it, as far as the server knows, and what helps; or nothing."""
    if source.muted:
        return f"the sound server has it muted: pactl set-source-mute {source.name} 0"
    if source.monitor:
        return f"{source.name} is no microphone, but what is played"
    if source.volume < _LOW:
        return (
            f"the sound server has it at {source.volume} %: "
            f"pactl set-source-volume {source.name} 100%"
        )
    return ""


def advice(name: str) -> str:
    """What helps where a device is silent: what the server says, or how to look at it."""
    source = source_named(name)
    return trouble(source) if source else "alsamixer (F4, space) switches it on, and turns it up"


def surroundings() -> tuple[str, ...]:
    """What changes when a sound card, the server, or one of its sources comes or goes; cheap."""
    try:
        found = sorted(path.name for path in Path("/dev/snd").iterdir())
    except OSError:
        found = []
    if _answers():
        found += ["server", *sorted(source.name for source in sources())]
    return tuple(found)


def hangs() -> bool:
    """Whether the server is there and takes nobody any more; of one elsewhere it is not known.

    As long as a few can still wait at its socket, they do, and nothing shows.
    """
    return isinstance(_refusal(), BlockingIOError | TimeoutError)


def _answers() -> bool:
    """Whether somebody listens at the server's socket; of one elsewhere it is not known."""
    return _refusal() is None


def _refusal() -> OSError | None:
    """Why the server's socket cannot be connected to; None where it can, or is no file."""
    where = os.environ.get("PULSE_SERVER", "")
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    path = where.removeprefix("unix:") or f"{runtime}/pulse/native"
    try:
        with socket.socket(socket.AF_UNIX) as trial:
            trial.settimeout(_SECONDS)
            trial.connect(path)
    except OSError as error:
        return error if path.startswith("/") else None
    return None


_LIST = ("list", "sources")


def _pactl(*arguments: str) -> str:
    return subprocess.run(
        ["pactl", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_SECONDS,
        check=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},
    ).stdout


def _source(entry: dict[str, Any], default: str) -> Source:
    # "s16le 1ch 16000Hz"
    _, channels, rate = str(entry["sample_specification"]).split()
    return Source(
        name=entry["name"],
        description=entry.get("description") or entry["name"],
        rate=int(rate.removesuffix("Hz")),
        channels=int(channels.removesuffix("ch")),
        muted=bool(entry["mute"]),
        volume=max(int(v["value_percent"].rstrip("%")) for v in entry["volume"].values()),
        monitor=bool(entry.get("monitor_source")) or entry["name"].endswith(".monitor"),
        default=entry["name"] == default,
    )
