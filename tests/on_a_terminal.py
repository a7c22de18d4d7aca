"""A command on a terminal of its own, and whoever types there."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import termios
import time

PATIENCE = 60.0  # seconds until something that should have happened counts as a hang
_AGAIN = 8.0  # seconds until somebody presses a key once more


class OnATerminal:
    """`command`, started with a pseudo-terminal as standard input, output and error."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._ours, theirs = os.openpty()

        def own() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # where passwords are asked for

        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
            preexec_fn=own,
        )
        os.close(theirs)
        self.shown = ""
        """All that was on the screen."""
        self._read = 0  # characters of it

    def wait_for(self, words: str) -> str:
        """Until these words are shown, after those that were waited for before; what came."""
        deadline = time.monotonic() + PATIENCE
        while (at := self.shown.find(words, self._read)) < 0:
            goes_on = time.monotonic() < deadline and self._more()
            assert goes_on, f"no {words!r} in {self.shown}"
        before, self._read = self._read, at + len(words)
        return self.shown[before : self._read]

    def answer(self, words: str, answer: str = "") -> str:
        """Wait for a question, and answer it; what was shown before."""
        said = self.wait_for(words)
        os.write(self._ours, f"{answer}\n".encode())
        return said

    def press(self, key: bytes) -> None:
        """A key alone: \\x03 is Ctrl-C, \\x04 the end of input."""
        os.write(self._ours, key)

    def end(self, key: bytes = b"") -> int:
        """Wait until it ends; its exit code.

        `key` is pressed again where nothing came of it: a Ctrl-C between the question and Python's
        wait for the answer counts after the answer.
        """
        begin = pressed = time.monotonic()
        while self._more():
            now = time.monotonic()
            assert now < begin + PATIENCE, self.shown
            if key and now > pressed + _AGAIN:
                self.press(key)
                pressed = now
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)
        os.close(self._ours)

    def _more(self) -> bool:
        """Read what is shown; whether there may be more."""
        if not select.select([self._ours], [], [], 1.0)[0]:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # nobody has it open any more
            return False
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)
