"""What a program writes: `arecord`, `ffmpeg`, a driver of one's own. Started again when it ends."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from typing import IO

from edge_runtime.audio import QUEUE_SECONDS
from edge_runtime.audio.endless import EndlessSource
from edge_runtime.audio.raw import RawFormat
from edge_runtime.audio.ring import Taken
from edge_runtime.errors import AudioError
from edge_runtime.system import end_group

_FIRST_SECONDS = 3.0  # in which a program that cannot work has said so
_KEPT = 500  # bytes of what it says on standard error, the last ones
_PIPE = 1 << 20  # bytes that may wait where not even the thread runs that reads
_MOST_BYTES = 64 << 20  # that may wait, whatever the format
_READ_BYTES = 1 << 16
_END_SECONDS = 1.0  # from the end of its output to its own
_LOOK_SECONDS = 0.5  # in which the thread that reads sees that it is to end


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

    def take(self, data: bytes, at: float | None = None) -> Taken:
        """The frames that are complete by now; the last of them was there `at`, now unless given.

        `at` is in seconds of the monotonic clock.
        """
        data = self._rest + data
        whole = len(data) // self._raw.frame_bytes * self._raw.frame_bytes
        self._rest = data[whole:]
        frames = self._raw.frames(data[:whole])
        return Taken(frames, at=time.monotonic() if at is None else at)


class _Ahead:
    """What a program writes, read on a thread: one that captures must not wait for inference.

    Where `QUEUE_SECONDS` wait here, the program waits after all: a file is not lost that way.

    Parameters
    ----------
    out, err : its standard output and error; theirs who made this, to be closed after it.
    bytes_a_second : of audio.
    """

    def __init__(self, out: int, err: int, bytes_a_second: int) -> None:
        self._out, self._err, self._pace = out, err, bytes_a_second
        self._most = min(round(QUEUE_SECONDS * bytes_a_second), _MOST_BYTES)
        self._changed = threading.Condition()
        self._held = bytearray()
        self._said = b""
        self._over = self._closed = False
        self._at = 0.0  # when the last byte came
        self._since, self._taken = 0.0, 0  # when what waits began to wait; bytes taken since then
        self._thread = threading.Thread(target=self._run, name="command", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether there is audio, or its end, within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._held) or self._over, seconds)

    def take(self, most: int) -> tuple[bytes, float]:
        """At most so many bytes, and when the last of them came; none at the end.

        Of a program that is faster than speech, such as one that reads a file, none come late.
        """
        with self._changed:
            data = bytes(self._held[:most])
            del self._held[: len(data)]
            self._taken += len(data)
            self._changed.notify_all()
            now = time.monotonic()
            ahead = self._taken / self._pace > now - self._since
            return data, now if ahead else self._at - len(self._held) / self._pace

    def said(self, seconds: float) -> str:
        """The last line on its standard error, complete if that is closed within `seconds`."""
        self._thread.join(seconds)
        lines = self._said.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        """Read no more."""
        with self._changed:
            self._closed = True
            # All, here and elsewhere: a wait that a signal broke off may have left its place in the
            # queue, and would be the one that is woken.
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        open_pipes = [self._out, self._err]
        while open_pipes and not self._closed:
            for pipe in select.select(open_pipes, [], [], _LOOK_SECONDS)[0]:
                data = os.read(pipe, _READ_BYTES)
                if not data:
                    open_pipes.remove(pipe)
                if pipe == self._err:
                    self._said = (self._said + data)[-_KEPT:]
                else:
                    self._keep(data)

    def _keep(self, data: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._held) < self._most)
            self._at = time.monotonic()
            if not self._held:
                self._since, self._taken = self._at, 0
            self._held += data
            self._over = not data
            self._changed.notify_all()


class _Command:
    """The program while it runs: see `edge_runtime.audio.endless.Feed`."""

    gaps_are_lost = True

    def __init__(self, command: str, raw: RawFormat) -> None:
        self._command, self._raw = command, raw
        self._process: subprocess.Popen[bytes] | None = None
        self._ahead: _Ahead | None = None
        self.name = f"command {command}"
        self.rate, self.channels = raw.rate, raw.channels

    def begin(self) -> None:
        self.close()
        self._frames = Frames(self._raw)
        self._first: Taken | None = None
        try:
            self._process = self._started()
            out, err = _pipe(self._process.stdout), _pipe(self._process.stderr)
            _enlarge(out)
            self._ahead = _Ahead(out, err, self._raw.frame_bytes * self._raw.rate)
        except (OSError, RuntimeError) as error:  # no process, descriptor or thread is left
            why = getattr(error, "strerror", None) or error
            raise AudioError(f"{self.name} cannot be started: {why}") from None
        if self._ahead.wait(_FIRST_SECONDS):
            self._first = self._read(self._raw.frame_bytes)

    def read(self, seconds: float, most: int) -> Taken | None:
        first, self._first = self._first, None
        if first is not None:
            return first
        assert self._ahead is not None  # it was opened
        return self._read(most * self._raw.frame_bytes) if self._ahead.wait(seconds) else None

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        end_group(process)
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def advice(self, what: str) -> str:
        return ""

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # so that all that it starts can be ended
        )

    def _read(self, most: int) -> Taken:
        assert self._process is not None  # it was opened
        assert self._ahead is not None
        data, at = self._ahead.take(most)
        if data:
            return self._frames.take(data, at)
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise AudioError(f"{self.name} has closed its standard output") from None
        said = self._ahead.said(_END_SECONDS)
        raise AudioError(f"{self.name} ended with exit code {code}" + (f": {said}" if said else ""))


def _pipe(file: IO[bytes] | None) -> int:
    assert file is not None  # it was asked for
    return file.fileno()


def _enlarge(pipe: int) -> None:
    """Let more wait in it, where the system can: the program must not wait for inference."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
