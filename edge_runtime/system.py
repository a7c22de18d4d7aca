"""What the operating system says of this process."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator


def resident_megabytes() -> float:
    """Resident memory in MB (10^6 bytes): now where /proc tells, else the peak; 0 if unknown."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return peak_megabytes()


def peak_megabytes() -> float:
    """Peak resident memory in MB."""
    # ru_maxrss alone would include what the process was before it became this program.
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Keep what C and C++ libraries write to standard error off the terminal.

    PortAudio probes every device of ALSA's configuration and reports each failure; LiteRT
    announces its delegates. Their Python interfaces raise what matters.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
