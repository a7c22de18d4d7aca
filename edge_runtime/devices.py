"""What can be listened to, and how loud it is there: `edge-emotion devices`."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import dataclass

from edge_runtime.audio import pulse
from edge_runtime.audio.endless import EndlessSource
from edge_runtime.audio.levels import SILENT_DB, Level
from edge_runtime.audio.microphone import list_devices
from edge_runtime.errors import EdgeError
from edge_runtime.pcm import SAMPLE_RATE

_BAR = 30  # columns of a full bar
_LOWEST_DB = -60.0  # at its left end
_NAME = 40  # columns
_TRIAL_SECONDS = 2.0  # of a microphone that is tried
_TRIAL_PATIENCE = 6.0  # seconds of the clock until it counts as one that gives nothing
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
    return lines


@dataclass(frozen=True)
class Heard:
    """What a source sounds like."""

    name: str
    """What it is called."""
    form: str
    """Rate and channels, in words."""
    loudest: Level
    """Its loudest moment, with the highest peak."""
    wrong: dict[str, str]
    """What is wrong with it and what to do, by `what` of an `AudioStatusEvent`."""

    @property
    def deaf(self) -> bool:
        """Whether nobody can be heard by it."""
        return bool({"lost", "muted"} & self.wrong.keys())

    def __str__(self) -> str:
        level = f"{self.loudest.rms_db:.0f} dB, peak {self.loudest.peak_db:.0f} dB"
        found = "; ".join(self.wrong.values()) or "no clipping, offset, hum or dead channel"
        return f"{self.name}, {self.form}: {'' if self.deaf else f'{level}: '}{found}"


def hear(source: EndlessSource, seconds: float = _TRIAL_SECONDS) -> Heard:
    """Listen to a source for `seconds`, at least one, and say how it sounds; it is closed then."""
    begin = time.monotonic()
    samples, level = 0, Level()
    wrong: dict[str, str] = {}
    with closing(source.blocks()) as blocks:  # type: ignore[type-var]  # a generator
        for block in blocks:
            samples += block.samples.size
            now = source.level
            level = Level(
                max(level.rms_db, now.rms_db),
                max(level.peak_db, now.peak_db),
                level.clipped or now.clipped,
            )
            wrong |= {one.what: one.message for one in block.status if one.what == "lost"}
            late = time.monotonic() - begin > seconds + _TRIAL_PATIENCE
            if late and not wrong:
                wrong["lost"] = f"no sound came in {seconds + _TRIAL_PATIENCE:.0f} s: unplug it, "
                wrong["lost"] += "plug it in again, or choose another device"
            if wrong or samples >= seconds * SAMPLE_RATE:
                break
    wrong |= source.wrong
    if level.clipped and "clipping" not in wrong:
        wrong["clipping"] = "it clips: turn its gain down, or speak from farther away"
    return Heard(source.name.removeprefix("microphone "), source.form, level, wrong)


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
