"""What listens on this device is told of another release, and watched until it goes on."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable

from edge_runtime.console import note
from edge_runtime.listening import STAYED
from edge_runtime.service.manager import Systemd
from edge_runtime.service.unit import NAME, UNIT
from edge_runtime.update.delivery import Apply, ended
from edge_runtime.update.releases import NotWorkingError, UpdateError

_BEGINS = 3.0  # seconds in which a service that was told says that it reads again
_STEADY = 5.0  # seconds that a service started again must last
_PATIENCE = 120.0  # seconds for a bundle to be taken: utterances end, engines load
_COMMAND_PATIENCE = 330.0  # seconds for a command of the user's: as systemctl has
_STEP = 0.2  # seconds between two looks


def what_listens(command: str | None, untold: Callable[[str], None] = note) -> Apply:
    """What tells the service of this user, and as root that of the machine, where they run.

    `command` is run instead, where it is given; what it cannot do, it says by its exit code.
    `untold` hears what was not told, and what to do.
    """

    def apply(another_program: bool) -> None:
        if command is not None:
            _run(command)
            return
        own, machine = Systemd(system=False), Systemd(system=True)
        running = [service for service in (own, machine) if _runs(service)]
        if not running:
            untold("no service runs here: what listens takes the new release when it is started")
        for service in running:
            if service.system and os.getuid() != 0:
                action = "restart" if another_program else "reload"
                untold(f"the service of the machine was not told: sudo systemctl {action} {NAME}")
            else:
                _told(service, another_program)

    return apply


def _runs(service: Systemd) -> bool:
    """Whether there is such a service, and it is not one that was stopped."""
    if not service.unit_path.exists():
        return False
    return service.state().get("ActiveState") not in ("inactive", None)


def _told(service: Systemd, another_program: bool) -> None:
    if another_program or service.state().get("ActiveState") != "active":
        service.restart()
        _watch_start(service)
    else:
        service.reload()
        _watch_reload(service)


def _watch_start(service: Systemd) -> None:
    """A service that starts, and ends at once, did not start."""
    begun = service.state().get("NRestarts")
    end = time.monotonic() + _STEADY
    while time.monotonic() < end:
        time.sleep(_STEP)
        state = service.state()
        if state.get("ActiveState") != "active" or state.get("NRestarts") != begun:
            raise NotWorkingError(f"{UNIT} does not last; why: {service.words('logs')}")


def _watch_reload(service: Systemd) -> None:
    """Wait until the service has read again, and see whether it took what it read."""
    begin, seen = time.monotonic(), False
    while time.monotonic() < begin + _PATIENCE:
        time.sleep(_STEP)
        state = service.state()
        active = state.get("ActiveState")
        seen = seen or active == "reloading"
        if active not in ("active", "reloading"):
            why = service.words("logs")
            raise NotWorkingError(f"{UNIT} ended when it was reloaded; why: {why}")
        if active == "active" and (seen or time.monotonic() > begin + _BEGINS):
            if STAYED in (status := state.get("StatusText", "")):
                raise NotWorkingError(f"{UNIT}: {status}")
            return
    raise UpdateError(f"{UNIT} did not take the new release in {_PATIENCE:.0f} s")


def _run(command: str) -> None:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UpdateError(f"{command}: {error}") from None
    done = ended(words, _COMMAND_PATIENCE)
    if done.returncode:
        said = (done.stderr.splitlines() or done.stdout.splitlines() or ["no reason given"])[-1]
        raise UpdateError(f"{command} ended with code {done.returncode}: {said}")
