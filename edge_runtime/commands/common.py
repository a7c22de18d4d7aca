"""What several commands share: their options, and how what is listened to is opened."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_runtime.audio import AudioSource
from edge_runtime.audio.sources import LIVE, Asked
from edge_runtime.commands.settings import RAW_FORM, SourceSettings
from edge_runtime.config import GIVEN, Effective
from edge_runtime.errors import EdgeError
from edge_runtime.settings import add_arguments


def open_live(kind: str, settings: SourceSettings, name: str | None = None) -> AudioSource:
    """The live source of that kind, a name in `LIVE`. Raises EdgeError where there is none.

    `name` is what people call this device.
    """
    asked = Asked(
        getattr(settings, kind),
        settings.raw,
        settings.device,
        settings.channel,
        settings.wait,
        name,
    )
    return LIVE[kind](asked)


def asked_source(found: Effective[Any], default: str = "") -> tuple[str, SourceSettings]:
    """Which live source settings with a group `source` ask for, a name in `LIVE`; else `default`.

    With the settings that it is to be opened by, see `without_farther_form`. The command line
    counts before the environment, and that before a settings file. Raises EdgeError for two of one
    place, and for a form of raw samples where there are none.
    """
    source: SourceSettings = found.settings.source
    asked = {kind: found.origin(kind).rank for kind in LIVE if getattr(source, kind, None)}
    highest = max(asked.values(), default=GIVEN)  # the default is what the command itself says
    first, *others = [kind for kind, rank in asked.items() if rank == highest] or [default]
    if others:
        raise EdgeError(f"{flag_of(first)} and {flag_of(others[0])}: one at a time (see --help)")
    source = without_farther_form(found, highest)
    if first in ("mic", "wyoming") and source.raw:
        raise EdgeError(
            f"--rate, --format and --channels are for raw samples; {flag_of(first)} has its own"
        )
    return first, source


def without_farther_form(found: Effective[Any], rank: int) -> SourceSettings:
    """What settings say of a source that is named in the place of that rank.

    The form of raw samples that a farther place has is that of another source.
    """
    source: SourceSettings = found.settings.source
    farther: dict[str, Any] = {key: None for key in RAW_FORM if found.origin(key).rank < rank}
    return replace(source, **farther)


def flag_of(kind: str) -> str:
    """The option that names a live source."""
    return f"--{kind.replace('_', '-')}"


def add_command(
    commands: Any,
    name: str,
    settings: type[Any],
    command: Callable[[argparse.Namespace], int],
    help: str,
    description: str | None = None,
) -> argparse.ArgumentParser:
    """A command of the parser with options of `settings`, read by `effective_settings`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=description or f"{help[0].upper()}{help[1:]}."
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings file, TOML; unless given $EDGE_EMOTION_CONFIG, or that of the user or the "
        "system, see `edge-emotion config`",
    )
    add_arguments(parser, settings, given_alone=True)
    parser.set_defaults(command=command)
    return parser
