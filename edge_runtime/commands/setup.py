"""`edge-emotion setup`: questions to somebody new, and the settings file that they answer."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from edge_runtime.commands.common import add_command
from edge_runtime.commands.interview import Interview
from edge_runtime.commands.service import ServiceSettings, install
from edge_runtime.commands.settings import DeviceSettings
from edge_runtime.config import effective, file_to_write, settings_file, template, user_file
from edge_runtime.console import OK, OURS, PROGRAM, note, writing
from edge_runtime.errors import EdgeError, SettingError
from edge_runtime.questions import Questions, say
from edge_runtime.settings import Pairs, Secret, options
from edge_runtime.system import write_private

_PASSWORD, _PASSWORD_FILE = "mqtt.password", "mqtt.password_file"


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = add_command(
        commands,
        "setup",
        DeviceSettings,
        setup,
        "ask for microphone, words, MQTT, page and service, and write the settings file",
        "Ask what this device is to do, try each answer, and write the settings file. Enter takes "
        "the default: the microphone alone, nothing is sent, nothing listens. What is given here, "
        "or in the environment (EDGE_EMOTION_MQTT_PASSWORD), is not asked. Nothing is written "
        "before the last answer.",
    )
    parser.add_argument("--yes", action="store_true", help="take every default, and ask nothing")
    parser.add_argument(
        "--service",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="install the service at the end, as `edge-emotion service install` does",
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


def setup(arguments: argparse.Namespace) -> int:
    """Ask, write, and say what that stands for; the exit code."""
    file = file_to_write(arguments.config)
    questions = Questions(arguments.yes, f"without them: {PROGRAM} setup --yes (see --help)")
    there = settings_file(file) if file.exists() else None
    interview = Interview(questions, effective(DeviceSettings, arguments, there))
    if there and not _may_replace(file, questions, arguments.force):
        return OK
    print(f"{PROGRAM} setup: Enter takes what is in brackets, Ctrl-C ends it; nothing is kept yet")
    interview.run()
    print("Service")
    service = arguments.service
    if service is None:
        service = questions.yes("Start it by systemd from now on", False)
    values = interview.values
    secret = _apart(values, file, questions, arguments.force)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        if secret is not None:
            write_private(values[_PASSWORD_FILE], f"{secret}\n")
            print(f"written: {values[_PASSWORD_FILE]}, the password, for its owner alone")
        write_private(file, template(DeviceSettings, values))
    print(f"written: {file}")
    named = ["--config", str(file)] if file != user_file() else []
    installed = bool(service) and _installed(file)
    print("It stands for these commands, and what comes next:")
    for words in _commands(values, named, installed):
        print(f"  {shlex.join([PROGRAM, *words])}")
    return OURS if service and not installed else OK


def _may_replace(file: Path, questions: Questions, force: bool) -> bool:
    """Whether a file that is there may be written over."""
    if force:
        return True
    if questions.defaults:
        raise SettingError(f"{file} is there already; --force writes over it")
    if questions.yes(f"{file} is there; write over it, with what it says as defaults", False):
        return True
    say(f"nothing is written; what it says: {PROGRAM} config")
    return False


def _apart(values: dict[str, Any], file: Path, questions: Questions, force: bool) -> str | None:
    """The password of the broker, which goes into a file of its own; None where there is none new.

    `values` then name that file. Raises SettingError where it is there and must not be changed.
    """
    secret = values.pop(_PASSWORD, None)
    if secret is None:
        return None
    own = file.parent / "mqtt.password"
    if values.get(_PASSWORD_FILE) is None:
        values[_PASSWORD_FILE] = own.absolute()
    where: Path = values[_PASSWORD_FILE]
    if where.exists() and not force:
        question = f"{where} is there; write the new password into it"
        if questions.defaults or not questions.yes(question, True):
            raise SettingError(f"{where} is there already, and nothing is written; see --force")
    return str(secret)


def _installed(file: Path) -> bool:
    """Install the service; whether that worked. What did not is told: the settings are there."""
    from edge_runtime.service.manager import Systemd

    try:
        return install(Systemd(False), ServiceSettings(config=file)) == OK
    except EdgeError as error:
        note(f"{PROGRAM}: the service is not installed: {error}")
        return False


def _commands(values: dict[str, Any], named: list[str], installed: bool) -> list[list[str]]:
    """What a user would have typed, without the name of the program."""
    given: list[str] = []
    for option in options(DeviceSettings):
        value = values.get(option.key)
        if value is None or value == option.default or option.kind is Secret:
            continue
        if option.kind is bool:
            given.append(option.flag if value else f"--no-{option.flag.removeprefix('--')}")
        elif option.kind == Pairs:
            for pair in value:
                given += [option.flag, *map(str, pair)]
        else:
            given += [option.flag, str(value)]
    return [
        ["config", "init", *given, *named],
        ["doctor", *named],
        ["run", *named],
        ["service", "status" if installed else "install", *([] if installed else named)],
        ["service", "logs", "--follow"],
    ]
