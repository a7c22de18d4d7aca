"""Whether a folder takes what is to be kept in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_LEAST_MB = 1.0  # below that, a disk is full


def check(
    folder: Path, megabytes: float, own: str, place: str, size: str, *, least: float = _LEAST_MB
) -> tuple[bool | None, str]:
    """Whether that much may be kept in a folder, which need not be there yet; what helps where not.

    Parameters
    ----------
    folder : where it is kept.
    megabytes : what it may grow to, MB (10^6 bytes).
    own : pattern of the files in there that are part of it already.
    place, size : options by which another folder is named, and less is kept.
    least : what has to stay free, MB: below, nothing more is kept.

    Returns None in place of False where it works now, and will be full one day.
    """
    # Not exists(), which raises where one may not look into a folder.
    around = (folder, *folder.absolute().parents)
    there = next(path for path in around if os.access(path, os.F_OK))
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free / 1e6
    except OSError as error:
        why = error.strerror or str(error)
        return False, f"{there}: {why}: make it writable, or name another ({place})"
    kept = 0
    for path in folder.glob(own) if there == folder else ():
        with suppress(OSError):  # gone meanwhile
            kept += path.stat().st_size
    left = f" ({least:,.0f} stay so)" if least > _LEAST_MB else ""
    more = max(0.0, megabytes - kept / 1e6)
    room = f"{folder} has {free:,.0f} MB free{left}, and {more:,.0f} MB"
    if free - least + kept / 1e6 >= megabytes:
        return True, f"{room} may come"
    works = None if free > least else False
    return works, f"{room} may come: make room, name another ({place}), or keep less ({size})"
