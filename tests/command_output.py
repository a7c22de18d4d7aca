"""What a command prints: events, what a pipe has brought, and streams that are closed."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
Int16 = npt.NDArray[np.int16]
Start = Callable[..., "subprocess.Popen[bytes]"]


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def finals(text: str) -> list[dict[str, Any]]:
    return [event for event in events(text) if event["type"] == "emotion" and event["final"]]


def read_until(process: subprocess.Popen[bytes], word: bytes, seconds: float = 30) -> bytes:
    """Output up to the line that holds `word`."""
    assert process.stdout is not None
    lines, deadline = b"", time.monotonic() + seconds
    while word not in lines:
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        data = os.read(process.stdout.fileno(), 65536) if ready else b""
        if not data:
            process.kill()
            pytest.fail(f"no {word!r} in {lines!r}, {process.communicate()!r}")
        lines += data
    return lines


def closing(
    descriptor: int, command: list[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `command` with one of its standard streams closed."""
    return subprocess.run(
        ["sh", "-c", f'exec {descriptor}>&-; exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
