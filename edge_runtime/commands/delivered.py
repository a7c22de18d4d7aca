"""The last part of `python -m conversion deploy`, on the device, by the program it brought.

No command of a user's: its one argument is a job in JSON; it says each step in a line of JSON, and
switches when "switch" comes by standard input, of which the end ends it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_runtime.bundle import CURRENT
from edge_runtime.commands.settings import DeviceSettings, effective_settings
from edge_runtime.commands.update import runs_current
from edge_runtime.console import OK, OURS, PROGRAM
from edge_runtime.errors import EdgeError
from edge_runtime.signature import Trust
from edge_runtime.update.delivery import Wanted, deliver
from edge_runtime.update.releases import PINNED_KEY, PINS, Releases, UpdateError
from edge_runtime.update.running import what_listens
from edge_runtime.update.settings import TrustSettings

_SWITCH = "switch"
_PATIENCE = 60  # seconds for that word: a line that is dead does not always end


def main(job: str) -> int:
    """Deliver; the exit code."""
    asked = json.loads(job)
    releases = Releases(Path(asked["releases"]))
    work = Path(asked["work"])
    try:
        # The lock is held by what started this.
        releases.prepare()
        settings = effective_settings(DeviceSettings, argparse.Namespace(config=None)).settings
        wanted = Wanted(
            work / asked["bundle"],
            asked["source"],
            _trust(work, asked, settings.trust),
            Path(asked["program"]),
            asked["installed"],
            pins={name: work / name for name in PINS if (work / name).is_file()},
        )
        untold: list[str] = []
        apply = what_listens(settings.update.apply_command, untold.append)
        number = deliver(releases, wanted, apply, lambda step: _say(step=step), _confirmed)
        _link(releases)
    except EdgeError as error:
        _say(fault=str(error))
        return OURS
    except OSError as error:
        _say(fault=f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return OURS
    about = releases.about(number)
    _say(release=number, bundle=about.bundle, named=runs_current(), untold=untold)
    return OK


def _say(**fields: Any) -> None:
    """A line of JSON; what happens does not depend on whether anybody still listens."""
    with suppress(OSError):
        print(json.dumps(fields), flush=True)


def _confirmed() -> None:
    signal.signal(signal.SIGALRM, _waited_enough)
    _say(ready=True)
    signal.alarm(_PATIENCE)
    word = sys.stdin.readline().strip()
    signal.alarm(0)
    if word != _SWITCH:
        raise UpdateError("the delivery was given up before the switch")


def _waited_enough(number: int, _: object) -> None:
    raise UpdateError(f"nobody said in {_PATIENCE} s that it be switched to")


def _trust(work: Path, asked: dict[str, Any], settings: TrustSettings) -> Trust | None:
    """By the key that came along, or the one that is pinned here."""
    brought = work / PINNED_KEY
    settings = replace(
        settings,
        bundle_key=brought if brought.is_file() else settings.bundle_key,
        allow_downgrade=asked["allow_downgrade"],
    )
    return settings.trust


def _link(releases: Releases) -> None:
    """Let a shell find the program, unless it finds another one there."""
    link = Path.home() / ".local" / "bin" / PROGRAM
    target = releases.folder / CURRENT / "program" / "bin" / PROGRAM
    if releases.folder.is_relative_to(Path.home()) and not os.path.lexists(link):
        with suppress(OSError):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
