"""`edge-emotion update`: another bundle becomes the current one, or everything stays as it is."""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.bundle import CURRENT
from edge_runtime.commands.common import add_command
from edge_runtime.commands.settings import RunSettings, effective_settings
from edge_runtime.console import OK, PROGRAM, WARNING, note
from edge_runtime.errors import EdgeError
from edge_runtime.settings import Settings, group, setting
from edge_runtime.update.releases import PINNED_KEY, PINNED_ROOT, Releases, UpdateError
from edge_runtime.update.settings import TrustSettings, UpdateSettings

if TYPE_CHECKING:
    from edge_runtime.update.repository import Repository

_SPREAD = 0.1  # of the time between two looks: a fleet does not come all at once
_HOUR = 3600.0  # seconds
_EPILOG = """examples:
  edge-emotion update --repository https://example.org/bundles --repository-root root.json
  edge-emotion update --check                       whether there is something new; changes nothing
  edge-emotion update --every 6                     look every six hours, as a service does
  edge-emotion update bundle.zip --bundle-key key.pub   from a USB stick, signed
  edge-emotion update --back                        the release before this one
  edge-emotion run --mic --bundle current           what runs it
"""


@dataclass(frozen=True)
class UpdateCommandSettings(Settings):
    """Options of `update`."""

    check: bool = setting(False, "Say whether there is something new, and change nothing.")
    back: bool = setting(False, "Go back to the release before the current one.")
    unpin: bool = setting(
        False, "Take back the key that came with a delivery: any bundle is run from then on."
    )
    again: bool = setting(
        False, "Take again what was tried here and did not work, or was gone back from."
    )
    every: float | None = setting(
        None,
        "Look every so many hours, more or less, until it is stopped; else once.",
        minimum=0.01,
        maximum=10_000,
        metavar="HOURS",
    )
    trust: TrustSettings = group(TrustSettings())
    update: UpdateSettings = group(UpdateSettings())


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = add_command(
        commands,
        "update",
        UpdateCommandSettings,
        update,
        "take a new bundle: from an update repository, or a file",
        "Make another bundle the current one: it is verified and tried first, switched at once, "
        "and the service that listens is told. Whatever goes wrong, what ran before still runs.",
    )
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="BUNDLE", help="a bundle, a folder or a .zip"
    )


def update(arguments: argparse.Namespace) -> int:
    """Do what is asked; the exit code."""
    settings = effective_settings(UpdateCommandSettings, arguments).settings
    file: Path | None = arguments.file
    looks = settings.check or settings.every is not None
    if sum((file is not None, settings.back, settings.unpin, looks)) > 1:
        raise EdgeError(
            "a BUNDLE, --back, --unpin, and --check or --every: one at a time (see edge-emotion "
            "update --help)"
        )
    releases = Releases()
    if settings.unpin:
        with releases.locked():
            releases.unpin(PINNED_KEY)
        print("no key is pinned any more; one in the settings, bundle_key, still counts")
        return OK
    if file is not None or settings.back:
        _from_here(releases, settings, file)
    elif settings.every is None:
        _look(releases, settings)
    else:
        _keep_looking(releases, settings, settings.every)
    if not settings.check and not runs_current(arguments.config):
        note(f"{PROGRAM}: the settings name another bundle: run takes this by --bundle {CURRENT}")
    return OK


def runs_current(config: Path | None = None) -> bool:
    """Whether `run` takes what was delivered, by the settings as they are."""
    arguments = argparse.Namespace(config=config)
    return effective_settings(RunSettings, arguments).settings.bundle == CURRENT


def _from_here(releases: Releases, settings: UpdateCommandSettings, file: Path | None) -> None:
    from edge_runtime.update.delivery import Wanted, deliver, go_back
    from edge_runtime.update.running import what_listens

    apply = what_listens(settings.update.apply_command)
    with releases.locked():
        if file is None:
            number = go_back(releases, apply, settings.trust.trust)
        else:
            wanted = Wanted(file, str(file.absolute()), settings.trust.trust)
            number = deliver(releases, wanted, apply, _tell)
    _say(releases, number)


def _look(releases: Releases, settings: UpdateCommandSettings) -> None:
    from edge_runtime.update.polling import described, offered, take
    from edge_runtime.update.running import what_listens

    url, repository = _repository(releases, settings)
    asked = settings.update
    with releases.locked():
        offer = offered(releases, repository, asked.repository_channel, settings.again)
        if offer is None:
            print(f"{url}: nothing new; release {releases.current} is current")
        elif settings.check:
            print(f"{url}: new: {described(offer)}; edge-emotion update takes it")
        else:
            source = f"{url} {asked.repository_channel} {offer.version}"
            apply = what_listens(asked.apply_command)
            trust = settings.trust.trust
            number = take(releases, repository, offer, source, trust, apply, _tell)
            _say(releases, number)


def _keep_looking(releases: Releases, settings: UpdateCommandSettings, hours: float) -> None:
    while True:
        try:
            _look(releases, settings)
        except (EdgeError, OSError) as error:
            note(f"{PROGRAM}: {error}", WARNING)
        time.sleep(hours * _HOUR * random.uniform(1 - _SPREAD, 1 + _SPREAD))


def _repository(releases: Releases, settings: UpdateCommandSettings) -> tuple[str, Repository]:
    from edge_runtime.update.repository import Repository

    url = settings.update.repository
    if url is None:
        raise UpdateError(
            "name a BUNDLE, or an update repository: --repository URL, or repository = in the "
            "settings (see edge-emotion update --help)"
        )
    root = settings.update.repository_root or releases.pinned(PINNED_ROOT)
    if root is None:
        raise UpdateError(
            f"{url}: nothing is pinned here that says whose it is: --repository-root root.json, "
            "a file to be brought here by hand (its metadata/1.root.json)"
        )
    return url, Repository(url, root, releases.folder / "repository")


def _tell(step: str) -> None:
    note(f"{PROGRAM}: {step}")


def _say(releases: Releases, number: int) -> None:
    about = releases.about(number)
    print(f"release {number} is current: {about.bundle}, from {about.source}")
