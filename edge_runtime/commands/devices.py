"""`edge-emotion devices`: list microphones, or show a level meter."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from edge_runtime.commands.common import add_command
from edge_runtime.commands.settings import effective_settings
from edge_runtime.console import OK
from edge_runtime.settings import Settings, setting


@dataclass(frozen=True)
class DevicesSettings(Settings):
    """Options of `devices`."""

    meter: bool = setting(False, "Show how loud it is there, until Ctrl-C.")
    device: str | None = setting(None, "Of the meter: index or part of a name.")
    channel: int | None = setting(None, "Of the meter: its channel.", minimum=1, maximum=64)
    seconds: float | None = setting(None, "Of the meter: how long.", above=0)


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    add_command(
        commands, "devices", DevicesSettings, devices, "list microphones, or show a level meter"
    )


def devices(arguments: argparse.Namespace) -> int:
    """List or meter; the exit code."""
    from edge_runtime.devices import device_table, meter

    settings = effective_settings(DevicesSettings, arguments).settings
    if not settings.meter:
        for line in device_table():
            print(line)
        print("* is the default; choose another with: edge-emotion run --mic --device INDEX")
        return OK
    from edge_runtime.audio.microphone import MicrophoneSource

    with closing(MicrophoneSource(settings.device, settings.channel)) as source:
        meter(source, settings.seconds)
    return OK
