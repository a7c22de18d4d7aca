"""What the operating system says of this process."""

from __future__ import annotations

import os
import resource
import sys


def resident_megabytes() -> float:
    """Resident memory in MB (10^6 bytes): now where /proc tells, else the peak; 0 if unknown."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return peak_megabytes()


def peak_megabytes() -> float:
    """Peak resident memory in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
