"""A real terminal that a test looks at and types into: tmux, with a server of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

INSTALL = "apt install tmux"
PATIENCE = 60  # seconds until something that should have happened counts as a hang


class Terminal:
    """A shell in 140 columns and 45 rows; `close` ends it and all that runs there."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("tmux") is None:
            pytest.skip(f"no tmux: {INSTALL}")
        self._socket = str(folder / "tmux.socket")
        size = ("-x", "140", "-y", "45")
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "PS1='$ ' sh")
        self.wait_for("$")

    def run(self, *command: str | Path) -> None:
        """Type a command and Enter, on a screen without what was there before."""
        self._tmux("send-keys", "-R")
        self._tmux("clear-history")
        self.type(shlex.join(map(str, command)) + "; echo ended with $?")
        self.press("Enter")

    def type(self, text: str) -> None:
        """Type it, letter by letter."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys by their names in tmux: Enter, C-c."""
        self._tmux("send-keys", *keys)

    def screen(self) -> str:
        """What is seen, and what was seen before."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-").rstrip()

    def wait_for(self, text: str, count: int = 1) -> str:
        """Until it is seen so often; the whole screen."""
        deadline = time.monotonic() + PATIENCE
        while (seen := self.screen()).count(text) < count:
            if time.monotonic() > deadline:
                pytest.fail(f"no {text!r} on the screen:\n{seen}")
            time.sleep(0.1)
        return seen

    def close(self) -> None:
        self._tmux("kill-server")

    def _tmux(self, *arguments: str) -> str:
        # A terminal has a size of its own, whatever the tests were started with.
        own = {
            name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")
        }
        done = subprocess.run(
            ["tmux", "-S", self._socket, *arguments],
            capture_output=True,
            text=True,
            check=True,
            env={**own, "LC_ALL": "C.UTF-8"},
        )
        return done.stdout
