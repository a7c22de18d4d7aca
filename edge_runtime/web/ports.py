"""Whether the page's port can be had, and who has it."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.web.settings import WebSettings

_LISTENING = "0A"  # state of a socket in /proc/net/tcp
_OURS = {"edge-emotion", "edge_runtime.cli"}


@dataclass(frozen=True)
class Holder:
    """Who listens at a port, as far as this user may know."""

    pid: int | None = None
    command: tuple[str, ...] = ()
    """Its command line."""

    @property
    def ours(self) -> bool:
        """Whether it is another edge-emotion."""
        return any(Path(word).name in _OURS for word in self.command)

    @property
    def by(self) -> str:
        """` by PROGRAM (process N)`, or nothing."""
        if self.pid is None or not self.command:
            return ""
        name = "edge-emotion" if self.ours else Path(self.command[0]).name
        return f" by {name} (process {self.pid})"


def holder_of(port: int) -> Holder:
    """Who listens at a TCP port; on Linux, of processes that this user may look into."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if sockets:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                for descriptor in (process / "fd").iterdir():
                    if str(descriptor.readlink()) in sockets:
                        words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                        command = tuple(word.decode(errors="replace") for word in words)
                        return Holder(int(process.name), command)
    return Holder()


def check(settings: WebSettings) -> tuple[bool, str]:
    """Whether the page can be served with these settings, and a line on it."""
    if importlib.util.find_spec("websockets") is None:
        return not settings.on, "needs websockets: pip install 'edge-emotion[web]'"
    where = f"port {settings.port} of {settings.host}"
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
                trial.listen()
    except (socket.gaierror, ValueError):  # ValueError: what can be no name at all
        return False, f"no host is called {settings.host}; name another (--web-host)"
    except OSError as error:
        holder = holder_of(settings.port)
        if holder.ours:
            return True, f"{where} is served{holder.by}"
        reason = f"is taken{holder.by}" if holder.pid else f"cannot be had: {error.strerror}"
        return False, f"{where} {reason}; choose another (--web-port, --web-host)"
    return True, f"{where} is free"


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for row in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, *rest = row.split()
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    found.add(rest[5])
    return found
