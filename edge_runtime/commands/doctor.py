"""`edge-emotion doctor`: what is installed, what works, what is missing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_runtime.audio.sources import LIVE
from edge_runtime.bundle import DEFAULT
from edge_runtime.commands.common import add_command
from edge_runtime.commands.settings import BUNDLE, RunSettings, effective_settings
from edge_runtime.console import OK, OURS
from edge_runtime.doctor import Report, examine
from edge_runtime.errors import EdgeError
from edge_runtime.settings import Settings, group, setting
from edge_runtime.update.settings import TrustSettings


@dataclass(frozen=True)
class DoctorSettings(Settings):
    """Options of `doctor`."""

    bundle: str = setting(DEFAULT, BUNDLE)
    trust: TrustSettings = group(TrustSettings())


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    add_command(
        commands,
        "doctor",
        DoctorSettings,
        doctor,
        "what is installed, what works, what is missing",
    )


def doctor(arguments: argparse.Namespace) -> int:
    """Look and print; the exit code."""
    configured = effective_settings(RunSettings, arguments).settings
    report = examine(configured.bundle, configured.trust.trust)
    _examine_sound(report, configured)
    _examine_disk(report, configured)
    if configured.mqtt.broker is not None:
        from edge_runtime.sinks import mqtt

        report.note(*_checked(mqtt.check, configured.mqtt, "broker"))
    if configured.web.on:
        from edge_runtime.web import ports

        report.note(*_checked(ports.check, configured.web, "page"))
    for line in report.lines:
        print(line)
    return OK if report.works else OURS


def _examine_sound(report: Report, settings: RunSettings) -> None:
    """Two seconds of the microphone; a fault only where the settings listen to it."""
    from edge_runtime.audio.microphone import MicrophoneSource
    from edge_runtime.devices import hear

    source = settings.source
    if any(getattr(source, kind) for kind in LIVE if kind != "mic"):
        return  # nobody is to hear it
    try:
        heard = hear(MicrophoneSource(source.device, source.channel))
    except EdgeError as error:
        if source.mic:
            busy = "; does another program have it (edge-emotion service status)?"
            report.note(False, "sound", f"{error}{busy if 'open' in str(error) else ''}")
        return
    good = False if heard.deaf and source.mic else None
    report.note(good if heard.wrong else True, "sound", str(heard))


def _examine_disk(report: Report, settings: RunSettings) -> None:
    """Where the settings keep something: whether it can be written, and has room."""
    from edge_runtime.sinks import file, keep, mqtt

    if settings.file.path is not None:
        report.note(*_checked(file.check, settings.file, "file"))
    if settings.keep.audio is not None:
        report.note(*_checked(keep.check, settings.keep, "keep"))
    if settings.mqtt.broker is not None:
        report.note(*_checked(mqtt.check_buffer, settings.mqtt, "buffer"))


def _checked(
    check: Callable[[Any], tuple[bool | None, str]], settings: Any, what: str
) -> tuple[bool | None, str, str]:
    """A line of the report on a part that the settings switch on."""
    try:
        works, finding = check(settings)
    except EdgeError as error:
        works, finding = False, str(error)
    return works, what, finding
