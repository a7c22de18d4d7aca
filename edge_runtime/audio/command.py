"""What a program writes: `arecord`, `ffmpeg`, a driver of one's own. Started again when it ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from typing import IO

import numpy as np

from edge_runtime.audio.endless import EndlessSource
from edge_runtime.audio.raw import RawFormat
from edge_runtime.audio.ring import Taken
from edge_runtime.errors import AudioError

_FIRST_SECONDS = 3.0  # in which a program that cannot work has said so
_KEPT = 500  # bytes of what it says on standard error, the last ones
_PIPE = 1 << 20  # bytes that may wait; half a minute
_GRACE = 1.0  # seconds from the wish that it ends to its end


class CommandSource(EndlessSource):
    """Raw samples from the standard output of a shell command.

    Parameters
    ----------
    command : what a shell takes.
    raw : how its bytes are read; s16le, 16 kHz, mono unless given.
    channel, wait : as for `EndlessSource`.

    Raises AudioError when it ends at once.
    """

    def __init__(
        self,
        command: str,
        raw: RawFormat | None = None,
        channel: int | None = None,
        wait: bool = False,
    ) -> None:
        super().__init__(_Command(command, raw or RawFormat()), channel, wait)


class Frames:
    """Bytes as they come to whole frames."""

    def __init__(self, raw: RawFormat) -> None:
        self._raw = raw
        self._rest = b""

    def take(self, data: bytes) -> Taken:
        """The frames that are complete by now."""
        data = self._rest + data
        whole = len(data) // self._raw.frame_bytes * self._raw.frame_bytes
        self._rest = data[whole:]
        frames = np.nan_to_num(self._raw.frames(data[:whole]), posinf=0, neginf=0)
        return Taken(frames, at=time.monotonic())


class _Command:
    """The program while it runs: see `edge_runtime.audio.endless.Feed`."""

    gaps_are_lost = True

    def __init__(self, command: str, raw: RawFormat) -> None:
        self._command, self._raw = command, raw
        self._process: subprocess.Popen[bytes] | None = None
        self.name = f"command {command}"
        self.rate, self.channels = raw.rate, raw.channels

    def begin(self) -> None:
        self.close()
        self._said = b""
        self._frames = Frames(self._raw)
        self._process = subprocess.Popen(
            self._command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # so that all that it starts can be ended
        )
        self._out, self._err = _pipe(self._process.stdout), _pipe(self._process.stderr)
        self._open = {self._out, self._err}
        _enlarge(self._out)
        deadline = time.monotonic() + _FIRST_SECONDS
        while time.monotonic() < deadline:
            if self._out in self._ready(deadline - time.monotonic()):
                self._first = self._read(self._raw.frame_bytes)
                return
        self._first = b""

    def read(self, seconds: float, most: int) -> Taken | None:
        if self._first:
            data, self._first = self._first, b""
            return self._frames.take(data)
        if self._out in self._ready(seconds):
            return self._frames.take(self._read(most * self._raw.frame_bytes))
        return None

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
                break
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def advice(self, what: str) -> str:
        return ""

    def _ready(self, seconds: float) -> list[int]:
        """Pipes with something in them; what stands on standard error is taken."""
        ready: list[int] = select.select(list(self._open), [], [], max(0.0, seconds))[0]
        if self._err in ready:
            more = os.read(self._err, _KEPT)
            self._said = (self._said + more)[-_KEPT:]
            if not more:
                self._open.discard(self._err)
        return ready

    def _read(self, most: int) -> bytes:
        data = os.read(self._out, most)
        if data:
            return data
        assert self._process is not None  # it was opened
        try:
            code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            raise AudioError(f"{self.name} has closed its standard output") from None
        while self._err in self._open and self._err in self._ready(0):
            pass
        said = self._said.decode(errors="replace").strip().splitlines()
        raise AudioError(
            f"{self.name} ended with exit code {code}" + (f": {said[-1]}" if said else "")
        )


def _pipe(file: IO[bytes] | None) -> int:
    assert file is not None  # it was asked for
    return file.fileno()


def _enlarge(pipe: int) -> None:
    """Let more wait in it, where the system can: the program must not wait for inference."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
