"""What the operating system says of this process."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

PROGRAMS = "programs"  # folder of delivered programs, each an environment of its own
RELEASES = "releases.json"  # beside that folder: what is remembered of deliveries
_GRACE_SECONDS = 1.0  # from the wish that a process ends to its end


def data_folder(kind: str) -> Path:
    """Where a user's own data of a `kind` are: $XDG_DATA_HOME/edge-emotion/KIND, or the default.

    That is under ~/.local/share (XDG Base Directory Specification 0.8).
    """
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "edge-emotion" / kind


def releases_folder() -> Path:
    """Where what was delivered to this device is (`edge_runtime.update`).

    A program that was itself delivered is in there; else it is among the user's own data.
    """
    around = Path(sys.prefix).resolve().parents
    delivered = len(around) > 1 and around[0].name == PROGRAMS and (around[1] / RELEASES).is_file()
    return around[1] if delivered else data_folder("releases")


def has_terminal() -> bool:
    """Whether this process has a controlling terminal, whose end it is told by SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def state_folder(kind: str) -> Path:
    """Where what outlives the process is kept: $XDG_STATE_HOME/edge-emotion/KIND, or the default.

    That is under ~/.local/state (XDG Base Directory Specification 0.8). A service of the system has
    a folder of its own for it, which systemd names in STATE_DIRECTORY (systemd.exec(5)).
    """
    of_service = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if of_service:
        return Path(of_service) / kind
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "edge-emotion" / kind


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file for its owner alone, in a folder that is there: whole or not at all.

    It is on the disk when this returns. Raises OSError; then what was there before is there still.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)  # of a process of that number, before the power failed
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a file system that cannot do that
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names of new files on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def resident_megabytes() -> float:
    """Resident memory in MB (10^6 bytes): now where /proc tells, else the peak; 0 if unknown."""
    try:
        with open("/proc/self/statm", encoding="utf-8") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return peak_megabytes()


def peak_megabytes() -> float:
    """Peak resident memory in MB."""
    # ru_maxrss alone would include what the process was before it became this program.
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started in a session of its own, and all that it started there.

    Asked first, they have `_GRACE_SECONDS`; so long it may take again where the system is slow.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
    # Who is in the group and ignores the first is not there after the second.


def unix_listener(path: Path) -> socket.socket:
    """A socket that listens at `path`, for this user alone.

    One that nobody listens to any more is replaced; anything else that is there stays, and is an
    OSError, as is whatever else prevents it.
    """
    if "\0" in str(path):  # where the system would end the name
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()
        before = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        try:
            trial.connect(str(path))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Keep what C and C++ libraries write to standard error off the terminal.

    libmpg123 says what it thinks of frames; LiteRT announces its delegates. Their Python interfaces
    raise what matters. The descriptor belongs to the whole process: it comes back when the last of
    the threads that are in here leaves, and what any thread writes meanwhile is lost. Nothing is
    done in a process without standard error.
    """
    _silence.enter()
    try:
        yield
    finally:
        _silence.leave()


class _Silence:
    """Descriptor 2, swapped once for however many are inside."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._saved: int | None = None  # where it led before

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1 and _has_stderr():
                self._swap()

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._saved is not None:
                os.dup2(self._saved, _STDERR)
                os.close(self._saved)
                self._saved = None

    def _swap(self) -> None:
        if sys.stderr is not None:
            # What is held back there is not ours to lose.
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
        # A descriptor closed behind Python's back, none left, no /dev: chatter does no harm.
        with contextlib.suppress(OSError), open(os.devnull, "wb") as null:
            self._saved = os.dup(_STDERR)
            os.dup2(null.fileno(), _STDERR)


def _has_stderr() -> bool:
    """Whether descriptor 2 is standard error; where it is not, any file or socket may have it."""
    return sys.__stderr__ is not None and not sys.__stderr__.closed


_STDERR = 2
_silence = _Silence()


def module_command(module: str) -> list[str]:
    """How to start `python -m MODULE` in a process that imports what this one does.

    Its path is this process's, in the same order: a package beside a stray typing.py is found, and
    the standard library's typing all the same. PYTHONPATH would put it in front.
    """
    start = (
        "import json, runpy, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-I", "-c", start, json.dumps(sys.path)]
