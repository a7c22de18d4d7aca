"""What can be listened to, and how loud it is there: `edge-emotion devices`."""

from __future__ import annotations

import sys
import time
from contextlib import closing

from edge_runtime.audio import pulse
from edge_runtime.audio.endless import EndlessSource
from edge_runtime.audio.levels import SILENT_DB, Level
from edge_runtime.audio.microphone import list_devices
from edge_runtime.errors import EdgeError

_BAR = 30  # columns of a full bar
_LOWEST_DB = -60.0  # at its left end
_NAME = 40  # columns
_MONITOR = "monitor: what is played, no microphone"


def device_table() -> list[str]:
    """Lines on all devices, and on the sound server's sources. Raises EdgeError without any."""
    devices = list_devices()
    sources = pulse.sources()
    if not any(device.channels for device in devices):
        raise EdgeError("no microphone found: is one plugged in, and is the user in group audio?")
    lines = []
    for device in devices:
        kind = "" if device.channels else "output"
        kind = _MONITOR if device.channels and "monitor" in device.name.lower() else kind
        lines.append(
            _line(
                device.default, str(device.index), device.name, device.rate, device.channels, kind
            )
        )
    if sources:
        lines.append("sources of the sound server, by name (--device takes part of one, too):")
    for source in sources:
        notes = [_MONITOR if source.monitor else source.description]
        if source.muted or source.volume < 100:
            notes.append("muted" if source.muted else f"at {source.volume} %")
        lines.append(
            _line(source.default, "", source.name, source.rate, source.channels, ", ".join(notes))
        )
    lines.append("* is the default; choose another with: edge-emotion run --mic --device INDEX")
    return lines


def meter(source: EndlessSource, seconds: float | None = None) -> None:
    """Show how loud a source is: a bar on a terminal, elsewhere a line a second."""
    live = sys.stdout.isatty()
    print(f"{source.name}, {source.form}; Ctrl-C ends it", flush=True)
    begin = shown = time.monotonic()
    loudest = Level()
    with closing(source.blocks()) as blocks:  # type: ignore[type-var]  # a generator
        for block in blocks:
            for status in block.status:
                print(f"{chr(13) if live else ''}{status.message}{' ' * 9 if live else ''}")
            level = source.level
            if level.rms_db > loudest.rms_db:
                loudest = level
            now = time.monotonic()
            if live:
                print(f"\r{bar(level)} ", end="", flush=True)
            elif now - shown >= 1:
                print(bar(loudest), flush=True)
                shown, loudest = now, Level()
            if seconds is not None and now - begin >= seconds:
                break
    if live:
        print()


def bar(level: Level, columns: int = _BAR) -> str:
    """`[#####     ]  -32 dB, peak  -20 dB`."""
    share = min(1.0, max(0.0, 1 - level.rms_db / _LOWEST_DB))
    figures = f"{level.rms_db:4.0f} dB, peak {level.peak_db:4.0f} dB"
    if level.rms_db <= SILENT_DB:
        figures = "digital silence" + " " * 8
    return (
        f"[{'#' * round(columns * share):<{columns}}] {figures}"
        f"{' CLIPPED' if level.clipped else ' ' * 8}"
    )


def _line(default: bool, index: str, name: str, rate: float, channels: int, note: str) -> str:
    form = f"{rate / 1000:g} kHz"
    count = f"{channels} channel{'' if channels == 1 else 's'}" if channels else ""
    mark = "*" if default else " "
    return f"{mark} {index:>3}  {name:<{_NAME}} {form:>9}  {count:<12}{note}".rstrip()
