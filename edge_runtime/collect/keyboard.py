"""Single keys of a terminal, as they are pressed."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from contextlib import suppress
from typing import Any

END = "q"
"""The key that ends; Ctrl-D and a terminal that is gone count as it."""
_ESCAPE = "\x1b"  # of arrows and other keys that mean nothing here
_END_OF_TEXT = "\x04"


class Keyboard:
    """Standard input, a terminal, without echo and without waiting for a line; within `with`.

    Ctrl-C still interrupts, Ctrl-Z still stops; the terminal is left as it was found.
    """

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._pressed: list[str] = []
        self._before: list[Any] = []
        self._continued: Any = None

    def __enter__(self) -> Keyboard:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        # After Ctrl-Z and `fg` the shell has its own settings there.
        self._continued = signal.signal(signal.SIGCONT, lambda *_: tty.setcbreak(self._descriptor))
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGCONT, self._continued)
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def key(self, seconds: float = 0.0) -> str:
        """The next key that was pressed, waited for so long; "" for none."""
        if not self._pressed and select.select([self._descriptor], [], [], seconds)[0]:
            try:
                text = os.read(self._descriptor, 64).decode("utf-8", "replace")
            except OSError:  # the terminal is gone
                text = ""
            if not text.startswith(_ESCAPE):
                self._pressed = list(text or END)
        key = self._pressed.pop(0) if self._pressed else ""
        return END if key == _END_OF_TEXT else key
