"""Sound of ours on disk: WAV files, 16 bit, mono, 16 kHz, for their owner alone."""

from __future__ import annotations

import errno
import io
import os
import shutil
import wave
from pathlib import Path

from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.system import write_private
from edge_runtime.untrusted import read_regular

HEAD_BYTES = 44
"""Of a file before its samples."""
LEAST_FREE = 100_000_000
"""Bytes that are left to others on a disk; where there are fewer, it counts as full."""
_README = "README.md"
_MOST_README = 10_000_000  # bytes; it has a line for each session


def write_wav(path: Path, samples: Int16) -> None:
    """Write samples (n,), whole or not at all.

    Raises OSError, also (ENOSPC) where less than `LEAST_FREE` would be left of the disk.
    """
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, samples.size, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    data = content.getvalue()
    if shutil.disk_usage(path.parent).free - len(data) < LEAST_FREE:
        raise OSError(errno.ENOSPC, f"less than {LEAST_FREE / 1e6:g} MB are free on this disk")
    write_private(path, data)


def private_folder(folder: Path) -> None:
    """Make a folder that its owner alone looks into, where it is missing. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def write_readme(folder: Path, text: str) -> None:
    """Say in a folder's README.md what it is, unless that is somebody else's.

    Ours begins with the first line of `text`, and is replaced where it has changed. Raises OSError.
    """
    file = folder / _README
    try:
        there = read_regular(file, _MOST_README).decode(errors="replace")
    except FileNotFoundError:
        there = ""
    except (PermissionError, ValueError):  # no text of ours
        return
    ours = not there or there.partition("\n")[0] == text.partition("\n")[0]
    if ours and there != text:
        write_private(file, text)
