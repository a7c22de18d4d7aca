"""What the operating system says of this process."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Lock


def data_folder(kind: str) -> Path:
    """Where a user's own data of a `kind` are: $XDG_DATA_HOME/edge-emotion/KIND, or the default.

    That is under ~/.local/share (XDG Base Directory Specification 0.8).
    """
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "edge-emotion" / kind


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


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Keep what C and C++ libraries write to standard error off the terminal.

    PortAudio probes every device of ALSA's configuration and reports each failure; LiteRT
    announces its delegates. Their Python interfaces raise what matters. The descriptor belongs to
    the whole process: it comes back when the last of the threads that are in here leaves, and what
    any thread writes meanwhile is lost. Nothing is done in a process without standard error.
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
