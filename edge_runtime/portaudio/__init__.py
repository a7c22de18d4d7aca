"""PortAudio, the system's way to a microphone, by one of two bindings: one file each.

`sounddevice` comes as a wheel and loads the system's libportaudio2; PyAudio has no wheels for Linux
and compiles against it. All of this runs in a process of its own (`worker`), which does without
numpy; `edge_runtime.audio.capture` is its other side.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol

from edge_runtime.errors import AudioError

BINDINGS = {"sounddevice": "sounddevice", "pyaudio": "PyAudio"}
"""Module and package of each binding, best first."""
NEEDED = "sudo apt install libportaudio2"
"""What brings the library itself."""
HEADER = struct.Struct("<cBdI")
"""Before each message of the worker: its kind, whether frames were lost before it (0 or 1), the
second of the monotonic clock at which it was there, and its length in bytes."""
FRAMES, ANSWER = b"f", b"a"
"""Kinds of messages: float32, frame by frame; an object of JSON."""
Receive = Callable[[Any, bool], None]
"""Takes a buffer of float32, frame by frame, and whether some was lost before it; on PortAudio's
own thread. The buffer is PortAudio's, and ends with the call."""


class Capture(Protocol):
    """An opened microphone."""

    def start(self) -> None:
        """Begin to capture. OSError where it cannot."""
        ...

    def active(self) -> bool:
        """Whether PortAudio still captures, as far as it knows."""
        ...

    def close(self) -> None:
        """Stop, whether or not it was started or the device is still there."""
        ...


class PortAudio(Protocol):
    """The library, initialized: what is plugged in later it does not see."""

    def devices(self) -> list[dict[str, Any]]:
        """All devices, outputs too: the fields of `edge_runtime.audio.capture.Device`."""
        ...

    def open(self, index: int, rate: int, channels: int, block: int, receive: Receive) -> Capture:
        """Capture so many channels of a device at `rate` Hz, `block` frames at a time.

        OSError where it cannot.
        """
        ...


def open_portaudio(names: Sequence[str]) -> PortAudio:
    """PortAudio by the first of these bindings that works here. AudioError where none loads."""
    broken = ""
    for name in names:
        package = BINDINGS[name]
        try:
            opened: PortAudio = import_module(f"{__name__}.{name}").Binding()
        except ModuleNotFoundError as error:
            broken = broken or f"{package} misses {error.name}"
        except (ImportError, OSError) as error:
            broken = broken or f"{package} does not load: {' '.join(str(error).split())}"
        else:
            return opened
    raise AudioError(f"the microphone needs the library PortAudio ({broken}): {NEEDED}")
