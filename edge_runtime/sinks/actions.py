"""What can be done with an event; a shell command gets it. For a web server see `webhook`."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Protocol

from edge_runtime.config import PREFIX
from edge_runtime.system import end_group

VARIABLES = "EMOTION_"
"""Before the names of what a command is told; none of them is a setting (`config.PREFIX`)."""
_KEPT = 500  # bytes of what a command says on standard error, the last ones
_LOOK = 0.05  # s between two looks at a command that says nothing


@dataclass(frozen=True)
class Outcome:
    """How an action went."""

    trouble: str = ""
    """What was wrong; "" where nothing was. The same words while the same thing is wrong."""
    detail: str = ""
    """What else is known of it, which differs from time to time."""


class Action(Protocol):
    """See `Command` and `edge_runtime.sinks.webhook.Webhook`."""

    def run(self, line: bytes, variables: Mapping[str, str]) -> Outcome:
        """Do it, with an event as a line of JSON; returns when it is done or has failed."""
        ...


class Command:
    """A shell command: the event on standard input, its main values in the environment.

    Nothing of the event becomes part of the command. It ends, with all that it has started in the
    foreground, after `timeout` seconds or when `stop` is set. Its output is not shown.
    """

    def __init__(self, command: str, timeout: float, stop: threading.Event) -> None:
        self._command, self._timeout, self._stop = command, timeout, stop

    def run(self, line: bytes, variables: Mapping[str, str]) -> Outcome:
        """See `Action`."""
        # Settings of ours, passwords among them, are no business of a command's.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        try:
            process = subprocess.Popen(
                self._command,
                shell=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=inherited | {VARIABLES + name: value for name, value in variables.items()},
                start_new_session=True,  # so that all that it starts can be ended
            )
        except (OSError, ValueError) as error:
            return Outcome("the command cannot be started", str(error))
        talk = _Talk(process, line)
        deadline = time.monotonic() + self._timeout
        while process.poll() is None and time.monotonic() < deadline and not self._stop.is_set():
            talk.go_on(_LOOK)
        in_time = process.poll() is not None
        if not in_time:
            end_group(process)
        said = talk.end()
        if not in_time:
            return Outcome(f"the command was ended after {self._timeout:g} s", said)
        code = process.returncode
        if code < 0:
            return Outcome(f"the command was killed by signal {-code}", said)
        return Outcome(f"the command ended with exit code {code}", said) if code else Outcome()


class _Talk:
    """What a process is told, and what it says on standard error; neither is waited for."""

    def __init__(self, process: subprocess.Popen[bytes], line: bytes) -> None:
        assert process.stdin is not None  # both were asked for
        assert process.stderr is not None
        self._process, self._rest = process, line
        self._in: IO[bytes] = process.stdin
        self._err: IO[bytes] = process.stderr
        self._said = b""
        for pipe in (self._in, self._err):
            os.set_blocking(pipe.fileno(), False)

    def go_on(self, seconds: float) -> None:
        """Say and hear what can be, within `seconds`."""
        to_read = [] if self._err.closed else [self._err]
        to_write = [] if self._in.closed else [self._in]
        if not (to_read or to_write):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
            return
        readable, writable, _ = select.select(to_read, to_write, [], seconds)
        if readable:
            self._hear()
        if writable:
            try:
                self._rest = self._rest[os.write(self._in.fileno(), self._rest) :]
            except BlockingIOError:
                return
            except OSError:  # it does not want to know
                self._rest = b""
            if not self._rest:
                self._in.close()

    def end(self) -> str:
        """The last line that it said."""
        while not self._err.closed and select.select([self._err], [], [], 0)[0]:
            self._hear()
        self._in.close()
        self._err.close()
        lines = self._said.decode(errors="replace").strip().splitlines() or [""]
        return "".join(c if c.isprintable() else " " for c in lines[-1]).strip()

    def _hear(self) -> None:
        more = os.read(self._err.fileno(), 1 << 16)
        self._said = (self._said + more)[-_KEPT:]
        if not more:
            self._err.close()
