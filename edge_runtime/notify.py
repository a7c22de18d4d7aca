"""What a service manager is told: started, reloading, stopping, and alive while the loop runs.

The protocol is that of sd_notify(3): datagrams of lines `NAME=value` to the Unix socket that
$NOTIFY_SOCKET names. Without that variable nothing is sent, and everything here does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping

from edge_runtime.console import PROGRAM, note

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_LONGEST = 2000  # characters of a status


class Notifier:
    """Tells the service manager how this process is.

    It has no thread: where the loop that calls `alive` hangs, the messages stop, and the manager
    starts the service again. Nothing here blocks or raises; what fails is said once.
    """

    def __init__(
        self,
        environment: MutableMapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over what `environment` says (this process's own), so that no child inherits it.

        `clock` gives seconds that never go back.
        """
        environment = os.environ if environment is None else environment
        address, interval, owner = (environment.pop(name, "") for name in _VARIABLES)
        self._clock = clock
        self._noted = False
        self._waiting: list[str] = []  # what the socket had no room for
        self._socket: socket.socket | None = None
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        if address.startswith(("/", "@")):
            self._open()
        elif address:
            self._say(f"$NOTIFY_SOCKET is {address!r}, and neither a path nor an abstract name")
        self.watchdog_seconds = _seconds(interval, owner) if self._socket else 0.0
        """How long the manager waits for a sign of life, s; 0 where it does not."""
        self._next = self._clock()

    @property
    def open(self) -> bool:
        """Whether anybody is told."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """The service is up, or up again after `reloading`; `status` is a line for people."""
        self._tell(["READY=1", *_status(status)])

    def status(self, status: str) -> None:
        """A line for people on what the service does, shown by `systemctl status`."""
        self._tell(_status(status))

    def reloading(self) -> None:
        """Settings are read again; `ready` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(["RELOADING=1", f"MONOTONIC_USEC={now}"])

    def stopping(self, status: str = "") -> None:
        """The service ends."""
        self._tell(["STOPPING=1", *_status(status)])

    def alive(self) -> None:
        """The loop has come round once more: sent at most twice in `watchdog_seconds`.

        For every block of audio; where nothing is due it costs a comparison.
        """
        if self._socket is None:
            return
        while self._waiting and self._send(self._waiting[0]):
            del self._waiting[0]
        if self.watchdog_seconds and self._clock() >= self._next and self._send("WATCHDOG=1"):
            self._next = self._clock() + self.watchdog_seconds / 2

    def close(self) -> None:
        """Tell nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        except OSError as error:
            self._say(f"the service manager cannot be told anything: {error.strerror}")

    def _tell(self, lines: list[str]) -> None:
        message = "\n".join(lines)
        if self._waiting or not self._send(message):
            self._waiting.append(message)

    def _send(self, message: str) -> bool:
        """Whether `message` need not be sent again: only where the socket is full it must."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto(message.encode(), self._address)
        except BlockingIOError:
            return False
        except OSError as error:
            self._say(f"the service manager cannot be told anything: {error.strerror or error}")
        return True

    def _say(self, message: str) -> None:
        if not self._noted:
            self._noted = True
            note(f"{PROGRAM}: warning: {message}")


def _status(text: str) -> list[str]:
    """A status in one line: a line break would begin another message."""
    line = " ".join(text.split())[:_LONGEST]
    return [f"STATUS={line}"] if line else []


def _seconds(interval: str, owner: str) -> float:
    """The watchdog's interval, s; 0 where there is none, or it is meant for another process."""
    if not interval.isascii() or not interval.isdigit() or owner not in ("", str(os.getpid())):
        return 0.0
    return int(interval) / 1e6
