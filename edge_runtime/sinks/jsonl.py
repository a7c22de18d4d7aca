"""One JSON object a line on standard output, as soon as it is known."""

from __future__ import annotations

import io
import sys
from typing import TextIO

from edge_runtime.events import Event, to_json


class JsonLinesSink:
    """Lines that another program reads, flushed one by one."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        if isinstance(self._out, io.TextIOWrapper):
            self._out.reconfigure(encoding="utf-8")  # JSON is, whatever the terminal speaks

    def write(self, event: Event) -> None:
        """Write and flush one line."""
        self._out.write(to_json(event) + "\n")
        self._out.flush()

    def close(self) -> None:
        """Nothing is held back."""
