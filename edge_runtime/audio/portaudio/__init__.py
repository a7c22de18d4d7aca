"""PortAudio, the system's way to a microphone, by one of two bindings: one file each.

`sounddevice` comes as a wheel and loads the system's libportaudio2; PyAudio has no wheels for Linux
and compiles against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from edge_runtime.errors import AudioError, MissingPackageError
from edge_runtime.system import native_stderr_silenced

BINDINGS = {"sounddevice": "sounddevice", "pyaudio": "PyAudio"}
"""Module and package of each binding, best first."""
NEEDED = "sudo apt install libportaudio2"
"""What brings the library itself."""
Receive = Callable[[Any, bool], None]
"""Takes a buffer of float32, frame by frame, and whether some was lost before it; on PortAudio's
own thread. The buffer is PortAudio's, and ends with the call."""


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

    def devices(self) -> list[Device]:
        """All devices, outputs too."""
        ...

    def open(
        self, device: Device, rate: int, channels: int, block: int, receive: Receive
    ) -> Capture:
        """Capture so many channels at `rate` Hz, `block` frames at a time.

        OSError where it cannot.
        """
        ...

    def close(self) -> None:
        """Give it back."""
        ...


def open_portaudio() -> PortAudio:
    """PortAudio by the first binding that works here.

    Raises MissingPackageError where none is installed, AudioError where none loads.
    """
    broken = ""
    for name, package in BINDINGS.items():
        try:
            with native_stderr_silenced():
                opened: PortAudio = import_module(f"{__name__}.{name}").Binding()
        except ModuleNotFoundError as error:
            if error.name != name:
                broken = broken or f"{package} misses {error.name}"
        except (ImportError, OSError) as error:
            broken = broken or f"{package} does not load: {' '.join(str(error).split())}"
        else:
            return opened
    if broken:
        raise AudioError(f"the microphone needs the library PortAudio ({broken}): {NEEDED}")
    raise MissingPackageError("the microphone", "sounddevice", "mic")
