"""Lines that stay, and below them one that changes; in a pipe the lines alone."""

from __future__ import annotations

import shutil

_CLEAR = "\r\x1b[K"


class Screen:
    """Standard output, which may be a terminal."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._status = ""

    def say(self, line: str) -> None:
        """Print a line that stays."""
        print(f"{_CLEAR}{line}" if self._live else line, flush=True)
        self._draw()

    def show(self, status: str) -> None:
        """Let `status` be the line that changes."""
        self._status = status
        self._draw()

    def close(self) -> None:
        """Take away the line that changes."""
        self.show("")

    def _draw(self) -> None:
        if self._live:
            columns = shutil.get_terminal_size().columns
            print(f"{_CLEAR}{self._status[: columns - 1]}", end="", flush=True)
