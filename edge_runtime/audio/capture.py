"""PortAudio in a process of its own, seen from here: what hangs or crashes there, ends there.

Whatever waits here for the process waits in steps, between which others can go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import weakref
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any, TypeVar

from edge_runtime import portaudio
from edge_runtime.audio.ring import Ring
from edge_runtime.console import DEBUG_VARIABLE
from edge_runtime.errors import AudioError, MissingPackageError
from edge_runtime.portaudio import FRAMES, HEADER
from edge_runtime.portaudio.worker import GRACE_SECONDS
from edge_runtime.system import module_command

HANGS = (
    "the sound server, or a driver, does not answer; where it stays so: systemctl --user restart "
    "pulseaudio (or pipewire)"
)
"""What is said of a process that does not answer."""
ANSWER_SECONDS = 10.0
"""In which it answers: devices of Bluetooth take some to open."""
_STEP_SECONDS = 0.25
_READ = 1 << 16  # bytes; more than a block of 48 kHz stereo
_Result = TypeVar("_Result")
Steps = Generator[None, None, _Result]
"""Yields while it waits, every `_STEP_SECONDS`; then returns a result."""


@dataclass(frozen=True)
class Device:
    """Something that sounds come from, or go to."""

    index: int
    """PortAudio's number of it."""
    name: str
    """As PortAudio calls it."""
    rate: float
    """Its own sample rate, Hz."""
    default: bool
    """Whether it is the system's choice to listen to."""
    channels: int = 1
    """Channels that can be listened to; 0 for a mere output."""
    outputs: int = 0
    """Channels that can be played to."""
    source: str = ""
    """Of a way to the sound server: the one of its sources that is meant, if not the default."""

    def __str__(self) -> str:
        return f"{self.name} ({self.rate / 1000:g} kHz)"


@dataclass
class _Inbox:
    """Where the thread that reads puts what comes."""

    answers: SimpleQueue[dict[str, Any] | None] = field(default_factory=SimpleQueue)
    """None: there will be no more."""
    ring: Ring | None = None
    ended: bool = False


class CaptureProcess:
    """PortAudio, initialized anew: it sees what is plugged in now.

    Raises MissingPackageError without a binding of PortAudio; AudioError where it does not start.
    """

    def __init__(self) -> None:
        self._inbox = _Inbox()
        self._devices: list[Device] | None = None
        # As this process finds them, which may have ways of its own to do so.
        names = [name for name in portaudio.BINDINGS if find_spec(name) is not None]
        if not names:
            raise MissingPackageError("the microphone", "sounddevice", "mic")
        try:
            self._start(names)
        except (OSError, RuntimeError) as error:  # no process, descriptor or thread is left
            why = getattr(error, "strerror", None) or error
            raise AudioError(f"the microphone cannot be looked for: {why}") from None

    def _start(self, names: list[str]) -> None:
        """The process with one of these bindings, and the thread that reads what it says."""
        self._process = subprocess.Popen(
            [*module_command("edge_runtime.portaudio.worker"), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # ALSA reports each of its configured devices that is not there.
            stderr=None if os.environ.get(DEBUG_VARIABLE) else subprocess.DEVNULL,
            bufsize=_READ,
        )
        # Else subprocess keeps a process that nobody ended, and its pipes, for good.
        weakref.finalize(self, self._process.kill)
        assert self._process.stdin is not None  # both were asked for
        assert self._process.stdout is not None
        self._requests = self._process.stdin
        # A daemon: a process that the system cannot end, in a driver that hangs, keeps its pipe.
        Thread(target=_receive, args=(self._process.stdout, self._inbox), daemon=True).start()

    def devices(self) -> Steps[list[Device]]:
        """All devices, outputs too, as they were at the beginning. AudioError where it fails."""
        if self._devices is None:
            answer = yield from self._answer()
            self._devices = [Device(**entry) for entry in answer["devices"]]
        return self._devices

    def open(self, device: Device, channels: int, block: int, ring: Ring) -> Steps[None]:
        """Capture so many channels at the ring's rate into it, `block` frames at a time.

        OSError where the device refuses; AudioError where nothing can be asked any more.
        """
        request = {
            "index": device.index,
            "rate": ring.rate,
            "channels": channels,
            "block": block,
            "source": device.source,
        }
        self._inbox.ring = ring  # before the first frame comes
        with suppress(BrokenPipeError):  # there will be no answer, which says why
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        answer = yield from self._answer()
        if "refused" in answer:
            raise OSError(answer["refused"])

    def ended(self) -> str:
        """Why no more frames will come; "" where they may."""
        if not self._inbox.ended:
            return ""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS)
        code = self._process.returncode or 0
        if code < 0:
            return f"PortAudio was killed by {signal.Signals(-code).name}: a driver or plugin"
        return "unplugged?"

    def close(self) -> None:
        """End it; within two seconds, whatever PortAudio does."""
        with suppress(BrokenPipeError):
            self._requests.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            # One that the system cannot end is left to it.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_SECONDS)

    def _answer(self) -> Steps[dict[str, Any]]:
        """The next one. AudioError where there is none."""
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                answer = self._inbox.answers.get(timeout=_STEP_SECONDS)
                break
            except Empty:
                if time.monotonic() > until:
                    raise AudioError(HANGS) from None
                yield
        if answer is None:
            raise AudioError(f"the microphone cannot be looked for ({self.ended()})")
        if "error" in answer:
            raise AudioError(answer["error"])
        return answer


def _receive(stream: IO[bytes], inbox: _Inbox) -> None:
    """What the process says, to its end. It waits for nothing else: frames only go into memory."""
    with stream:
        while len(header := stream.read(HEADER.size)) == HEADER.size:
            kind, overflowed, at, length = HEADER.unpack(header)
            content = stream.read(length)
            if len(content) < length:
                break
            if kind != FRAMES:
                inbox.answers.put(json.loads(content))
            elif inbox.ring is not None:
                inbox.ring.write(content, bool(overflowed), at)
    inbox.ended = True
    inbox.answers.put(None)
