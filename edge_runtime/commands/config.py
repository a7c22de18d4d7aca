"""`edge-emotion config`: which settings count, where each comes from; `init` writes a file."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from edge_runtime.commands.common import add_command
from edge_runtime.commands.settings import DeviceSettings, lasting
from edge_runtime.config import (
    GIVEN,
    described,
    effective,
    file_to_write,
    settings_file,
    template,
)
from edge_runtime.console import OK, PROGRAM, writing
from edge_runtime.errors import SettingError
from edge_runtime.system import write_private


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = add_command(
        commands,
        "config",
        DeviceSettings,
        config,
        "which settings count, and where each comes from",
        "Print the settings of `run`, with where each comes from: a TOML file, the environment, or "
        "the command line, the last of which counts. `init` writes a file with all of them, "
        "commented; those that are given here are set in it.",
    )
    parser.add_argument(
        "what", nargs="?", choices=("init",), help="write a settings file with comments"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


def config(arguments: argparse.Namespace) -> int:
    """Print or write; the exit code."""
    if arguments.what == "init":
        file = write_settings(arguments)
        named = ["--config", str(file)] if arguments.config else []
        seen = shlex.join([PROGRAM, "config", *named])
        print(f"written: {file}; change it, and see what counts: {seen}")
        return OK
    found = settings_file(arguments.config)
    print(f"# {found}" if found else f"# no settings file; write one: {PROGRAM} config init")
    for line in described(effective(DeviceSettings, arguments, found)):
        print(line)
    return OK


def write_settings(arguments: argparse.Namespace) -> Path:
    """Write a settings file with what the command line says; where.

    Readable by its owner alone, for it may hold a password. Raises SettingError where one is there.
    """
    file = file_to_write(arguments.config)
    found = effective(DeviceSettings, arguments, None)
    chosen = {
        key: lasting(key, value)
        for key, value in found.values.items()
        if found.origin(key).rank == GIVEN
    }
    if file.exists() and not arguments.force:
        raise SettingError(f"{file} is there already; --force writes over it")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_private(file, template(DeviceSettings, chosen))
    return file
