"""What runs on a device while something is deployed to it, before anything of ours is there.

Sent over ssh to its Python's standard input, so: the standard library alone. In turn come a request
(one line of JSON), a job (another) and the files that the job lists; and, when all is ready,
"switch". Whatever standard output says is a line of JSON. The end of standard input before "switch"
is the end of the delivery: Ctrl-C, or a connection that broke, leave what runs as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

SWITCH = b"switch"
_PATIENCE = 60  # seconds for the next bytes: a line that is dead does not always end
_COMPLETE = ".complete"  # in a program's folder: it was installed to its end
_NARROW = 32  # bits
_CHUNK = 1 << 16  # bytes


class Fault(Exception):  # noqa: N818  # what stops a delivery, in a line
    """The message says what was expected, and what to do."""


def main() -> int:
    """Answer, receive, install, hand over; the exit code."""
    stdin = sys.stdin.buffer
    if os.getuid() == 0:  # a service of the machine, which is somebody else, is to read it
        os.umask(0o022)
    asked = json.loads(stdin.readline())
    folder = _folder(asked["folder"])
    say(probe=_probe(folder, asked["program"]))
    signal.signal(signal.SIGALRM, _waited_enough)
    try:
        signal.alarm(_PATIENCE)
        line = stdin.readline()
        signal.alarm(0)
        if not line:
            return 1  # something is lacking, and whoever asked says what
        with _alone(folder), tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder) as work:
            return _carry_out(json.loads(line), folder, Path(work), stdin)
    except Fault as fault:
        say(fault=str(fault))
    except OSError as error:
        say(fault=f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    return 1


def _waited_enough(number: int, _: object) -> None:
    raise Fault(f"nothing came for {_PATIENCE} s")


def say(**fields: Any) -> None:
    """A line of JSON, for whoever still listens."""
    with contextlib.suppress(OSError):
        print(json.dumps(fields), flush=True)


def _carry_out(job: dict[str, Any], folder: Path, work: Path, stdin: IO[bytes]) -> int:
    for name, size, sha256 in job["files"]:
        _receive(stdin, work / name, size, sha256)
    lifeline = _Lifeline()
    program = folder / "programs" / job["program"]
    installs = not _is_whole(program)
    if installs:
        say(step="installing the program")
        _install(program, work, job, lifeline)
    handed: dict[str, Any] = {"releases": str(folder), "program": str(program), "work": str(work)}
    handed["installed"] = installs
    command = [str(program / "bin" / "python"), "-I", "-m", "edge_runtime.commands.delivered"]
    return lifeline.run([*command, json.dumps({**job, **handed})], subprocess.PIPE)


def _folder(asked: str) -> Path:
    """Where releases are; see edge_runtime.system.releases_folder."""
    if asked:
        return Path(asked).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "edge-emotion" / "releases"


def _probe(folder: Path, program: str) -> dict[str, Any]:
    """What there is here."""
    there = folder
    while not there.exists():
        there = there.parent
    try:
        import ensurepip
        import venv

        environments = bool(ensurepip.version() and venv)
    except ImportError:
        environments = False
    return {
        "machine": platform.machine(),
        "bits": 8 * struct.calcsize("P"),
        "python": platform.python_version(),
        "environments": environments,
        "free": shutil.disk_usage(there).free,
        "folder": str(folder),
        "program": _is_whole(folder / "programs" / program),
    }


def _is_whole(program: Path) -> bool:
    """Whether a program was installed to its end, and is still found by its interpreter.

    That may be gone, or another one: environments do not survive an upgrade of the system.
    """
    if not (program / _COMPLETE).exists():
        return False
    try:
        done = subprocess.run(
            [str(program / "bin" / "python"), "-I", "-c", "import edge_runtime"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other delivery meanwhile: the lock is that of edge_runtime.update.releases."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755 if os.getuid() == 0 else 0o700)
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Fault("another delivery to this device is under way") from None
        # Of one that was killed.
        for left in folder.glob(".incoming-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _receive(stdin: IO[bytes], file: Path, size: int, sha256: str) -> None:
    digest = hashlib.sha256()
    file.parent.mkdir(exist_ok=True)
    try:
        with file.open("wb") as out:
            while size:
                signal.alarm(_PATIENCE)
                chunk = stdin.read(min(size, _CHUNK))
                signal.alarm(0)
                if not chunk:
                    raise Fault("the transfer was cut off")
                out.write(chunk)
                digest.update(chunk)
                size -= len(chunk)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from None
    if digest.hexdigest() != sha256:
        raise Fault(f"{file.name} did not arrive as it was sent")


def _install(program: Path, work: Path, job: dict[str, Any], lifeline: _Lifeline) -> None:
    """An environment of its own with the wheel; nothing where that fails."""
    shutil.rmtree(program, ignore_errors=True)
    try:
        program.parent.mkdir(exist_ok=True)
        # 32-bit ARM has no wheel of NumPy; Debian has it.
        system = job["system_packages"] or 8 * struct.calcsize("P") == _NARROW
        seen = ["--system-site-packages"] if system else []
        lifeline.demand([sys.executable, "-m", "venv", *seen, str(program)])
        pip = [str(program / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
        pip += ["--disable-pip-version-check"]
        if job["offline"]:
            pip += ["--no-index", "--find-links", str(work / "wheels")]
        lifeline.demand([*pip, f"{work / job['wheel']}{job['extras']}"])
        (program / _COMPLETE).touch()
    except BaseException:
        shutil.rmtree(program, ignore_errors=True)
        raise


class _Lifeline:
    """Commands that end with standard input, until "switch" is read from it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cut = False
        threading.Thread(target=self._watch, daemon=True).start()

    def run(self, command: list[str], stdin: int, **further: Any) -> int:
        """Run a command to its end; its exit code."""
        with self._lock:
            if self._cut:
                raise Fault("cut off")
            self._process = subprocess.Popen(
                command, stdin=stdin, start_new_session=True, **further
            )
        code = self._process.wait()
        if self._cut:
            raise Fault("cut off")
        return code

    def demand(self, command: list[str]) -> None:
        """Run a command; Fault with what it said last where it fails."""
        with tempfile.TemporaryFile() as out:
            code = self.run(command, subprocess.DEVNULL, stdout=out, stderr=out)
            out.seek(0)
            lines = out.read().decode("utf-8", "replace").splitlines()
        if code:
            errors = [line for line in lines if line.startswith("ERROR")] or lines or [""]
            raise Fault(f"{Path(command[2]).name}: {errors[-1] or f'exit code {code}'}")

    def _watch(self) -> None:
        # Not by sys.stdin, which this thread would hold when the interpreter ends.
        word = os.read(0, 100)
        with self._lock:
            if word.strip() == SWITCH and self._process and self._process.stdin:
                with contextlib.suppress(OSError):
                    self._process.stdin.write(word)
                    self._process.stdin.close()
                return
            self._cut = True
            if self._process and self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
