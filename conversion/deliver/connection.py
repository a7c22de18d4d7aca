"""One device over OpenSSH's client: a program there, lines of JSON from it, bytes to it.

The client is the user's own, with its configuration, agent and known hosts; it never asks
(BatchMode), so an unknown host key is refused, not accepted.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from conversion.errors import ConversionError

_ALWAYS = (
    "BatchMode=yes",
    # A link that is dead is found so; without, a transfer would wait for ever.
    "ConnectTimeout=20",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
)
# What ssh says, and what that means.
_MEANINGS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is another than before: it was set up anew, or something is in between; "
        "where you know why: ssh-keygen -R, then ssh to it once",
    ),
    (
        "Host key verification failed",
        "its host key is not known here; ssh to it once, and compare the fingerprint",
    ),
    ("Permission denied", "it does not let you in by a key: ssh-copy-id brings yours there"),
    ("Could not resolve hostname", "no host is called that"),
    ("Connection refused", "nothing takes ssh there (connection refused)"),
    ("No route to host", "it cannot be reached (no route)"),
    ("timed out", "it cannot be reached (timed out)"),
)
_FAILED = 255  # exit code of ssh itself
_OLD = "edge-emotion: old Python "
_ENDS = 10.0  # seconds that ssh may take to end once both sides are done


class Connection:
    """A program on a device; ended by `close` whatever it does."""

    def __init__(self, host: str, python: str, script: Path, options: Sequence[str]) -> None:
        """Start `script` with the `python` of `host`; `options` are words for ssh."""
        if host.startswith("-") or not host.strip():
            raise ConversionError(f"{host!r} is no host")
        content = script.read_bytes()
        # What an old Python cannot read it does not see.
        load = (
            "import sys; v = sys.version.split()[0]; "
            f"sys.version_info >= (3, 11) or sys.exit({_OLD!r} + v); "
            f"exec(sys.stdin.buffer.read({len(content)}))"
        )
        always = [word for option in _ALWAYS for word in ("-o", option)]
        remote = f"{shlex.quote(python)} -c {shlex.quote(load)}"
        self._python = python
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        try:
            # Of its own session: Ctrl-C ends it from here, at a moment that is known.
            self._process = subprocess.Popen(
                ["ssh", "-T", *options, *always, "--", host, remote],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise ConversionError("this needs ssh: apt install openssh-client") from None
        self._lock = threading.Lock()
        self._stopped = self._committed = False
        self.send(content)

    def send(self, content: bytes) -> None:
        """Send bytes; ConversionError says why they could not be."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(content)
            self._process.stdin.flush()
        except OSError:
            raise self.trouble() from None

    def tell(self, value: Any) -> None:
        """Send a line of JSON."""
        self.send(json.dumps(value).encode() + b"\n")

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines of JSON that come, until the program or the connection ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # what a login greets with
            if isinstance(said, dict):
                yield said

    def commit(self, word: bytes) -> None:
        """Send the word after which `stop` leaves it alone. ConversionError where it is stopped."""
        with self._lock:
            if self._stopped:
                raise ConversionError("stopped before the switch: what ran there still runs")
            self._committed = True
            self.send(word + b"\n")

    def stop(self) -> None:
        """End it, unless it is past the switch: it then ends by itself."""
        with self._lock:
            if not self._committed:
                self._stopped = True
                # Not killed: what it connects through ends with it.
                self._process.terminate()

    def trouble(self) -> ConversionError:
        """Why it ended: what the program said last, or else ssh."""
        faults = [said["fault"] for said in self.lines() if "fault" in said]
        self.close()
        if faults:
            return ConversionError(faults[-1])
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace")
        if self._stopped:
            return ConversionError("stopped before the switch: what ran there still runs")
        if self._committed:
            return ConversionError(
                "the connection broke off after the switch: what runs there now is not known here; "
                "deploy again"
            )
        if _OLD in text:
            found = text.partition(_OLD)[2].split()[0]
            return old_python(found, (3, 11))
        if self._process.returncode in (126, 127):
            return ConversionError(f"it has no {self._python}: sudo apt install python3")
        for sign, meaning in _MEANINGS:
            if sign in text and self._process.returncode == _FAILED:
                return ConversionError(meaning)
        said = [line.strip() for line in text.splitlines() if line.strip()]
        return ConversionError(
            f"the connection broke off{f': {said[-1]}' if said else ''}; what ran there still runs"
        )

    def close(self) -> None:
        """Say that nothing more comes, and wait for it to end."""
        if self._process.stdin is not None:
            with suppress(OSError):  # what was not sent is not missed
                self._process.stdin.close()
        try:
            self._process.wait(_ENDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def old_python(found: str, least: tuple[int, ...]) -> ConversionError:
    """A device's Python is too old."""
    wanted = ".".join(map(str, least))
    return ConversionError(
        f"its Python is {found}, and {wanted} or newer is needed (Raspberry Pi OS 12 has 3.11); "
        "name another one there: --python"
    )
