"""`edge-emotion service`: `run` from boot on, by systemd."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.commands.settings import DeviceSettings, own_context
from edge_runtime.config import SYSTEM_FILE, effective, read_file, settings_file
from edge_runtime.console import OK, OURS, note
from edge_runtime.errors import EdgeError
from edge_runtime.service.unit import Unit
from edge_runtime.settings import Settings, add_arguments, from_arguments, options, setting
from edge_runtime.sinks import mqtt

ACTIONS = ("install", "remove", "status", "logs")
_READ = tuple(
    option.key
    for option in options(DeviceSettings)
    if option.kind is Path and option.key.endswith(("_file", "_key", "_root"))
)  # settings that name what the service reads; other paths are written to


@dataclass(frozen=True)
class ServiceSettings(Settings):
    """Options of `service`."""

    config: Path | None = setting(
        None,
        "Settings file of the service; unless given that of the user, or of the system.",
        metavar="FILE",
    )
    system: bool = setting(
        False,
        "A service of the machine, for a microphone that no sound server has; else of this user.",
    )
    user: str | None = setting(
        None,
        "Of a service of the machine: who runs it; unless given, somebody who is made up for it.",
        metavar="NAME",
    )
    writable: Path | None = setting(
        None, "Folder that it may write, beside its own data.", metavar="FOLDER"
    )
    memory_mb: int = setting(
        Unit.memory_mb,
        "What it may take of memory, MiB, engines for words too; beyond, it is started again.",
        minimum=128,
        maximum=1 << 20,
    )
    journal_events: bool = setting(
        False, "Write the events to the journal, with what people said in them."
    )
    print: bool = setting(False, "Print the unit, and change nothing.")
    lines: int = setting(50, "Of logs: how many of the last lines.", minimum=1, maximum=1_000_000)
    follow: bool = setting(False, "Of logs: go on with what comes, until Ctrl-C.")


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = commands.add_parser(
        "service",
        help="run from boot on, by systemd: install, remove, status, logs",
        description="Install `run --wait` with its settings file as a service of systemd, hardened "
        "and watched; look at it, and remove it.",
    )
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    add_arguments(parser, ServiceSettings)
    parser.set_defaults(command=service)


def service(arguments: argparse.Namespace) -> int:
    """Do what is asked; the exit code."""
    from edge_runtime.service.manager import Systemd, describe

    settings = from_arguments(ServiceSettings, arguments)
    systemd = Systemd(settings.system)
    if arguments.action == "install":
        return install(systemd, settings)
    if arguments.action == "remove":
        return remove(systemd, settings)
    if arguments.action == "logs":
        return OK if systemd.logs(settings.lines, settings.follow) == 0 else OURS
    state = systemd.state()
    for line in describe(systemd, state):
        print(line)
    return OK if state.get("ActiveState") in ("active", "reloading") else OURS


def install(systemd: Any, settings: ServiceSettings) -> int:
    """Write, enable and start the unit, or print it alone; the exit code."""
    from edge_runtime.service.manager import (
        describe,
        linger_advice,
        prepare_data,
        unit_of_this_installation,
        updates_of_this_installation,
    )

    file = _config(settings)
    unit = unit_of_this_installation(
        systemd,
        file,
        read=_named_in(file),
        user=settings.user,
        writable=settings.writable,
        memory_mb=settings.memory_mb,
        journal_events=settings.journal_events,
        version=0 if settings.print else systemd.version(),
    )
    if settings.print:
        print(unit.text(), end="")
        return OK
    known = effective(DeviceSettings, argparse.Namespace(), file).settings
    repository = known.update.repository
    if not settings.system or settings.user is not None:
        prepare_data(unit)
    systemd.install(unit.text())
    print(f"installed: {systemd.unit_path}")
    systemd.unschedule()
    if repository is not None and settings.user is None:
        systemd.schedule(updates_of_this_installation(unit, file))
        print(f"looks every hour, more or less, for what is new at {repository}")
    elif repository is not None:
        # By root it would run what the user may change; by the user, not tell the service.
        note(f"nothing looks for updates by itself: edge-emotion update does, by {settings.user}")
    for line in describe(systemd, systemd.state()):
        print(line)
    print(f"how it is: {systemd.words('status')}; what it says: {systemd.words('logs')}")
    if not settings.system and (advice := linger_advice()):
        note(advice)
    return OK


def remove(systemd: Any, settings: ServiceSettings) -> int:
    """Stop the service, forget its unit, and take the device out of Home Assistant; the exit code.

    What the broker does not forget is told: the service is gone all the same.
    """
    file = settings.config or systemd.config()
    systemd.remove()
    print(f"removed: {systemd.unit_path}; settings and data are left where they are")
    try:
        known = effective(DeviceSettings, argparse.Namespace(), settings_file(file)).settings
        if known.mqtt.broker is None:
            return OK
        works, finding = mqtt.forget(known.mqtt, own_context(known))
    except EdgeError as error:
        works, finding = False, str(error)
    if works:
        print(f"{known.mqtt.broker} has forgotten this device, and Home Assistant with it")
    else:
        note(
            f"Home Assistant may still show this device, for its broker was not told: {finding}; "
            "docs/mqtt.md has the command that takes it away"
        )
    return OK


def _config(settings: ServiceSettings) -> Path:
    """The settings file of the service. Raises EdgeError where there is none."""
    if settings.system and settings.config is None:
        file: Path | None = SYSTEM_FILE if SYSTEM_FILE.is_file() else None
    else:
        file = settings_file(settings.config)
    if file is None:
        where = f" --config {SYSTEM_FILE}" if settings.system else ""
        raise EdgeError(
            f"the service needs a settings file; write one: edge-emotion config init --mic{where}"
        )
    return file


def _named_in(file: Path) -> list[Path]:
    """The files of passwords and certificates that a settings file names, and that are there."""
    known = {option.key: option for option in options(DeviceSettings)}
    values = {key: value for key, (value, _) in read_file(file, known).items()}
    return [Path(value) for key, value in values.items() if key in _READ and value.is_file()]
