"""PortAudio by sounddevice."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

# An application that uses sounddevice itself has streams of its own open.
_OURS = "sounddevice" not in sys.modules

import sounddevice  # noqa: E402

from edge_runtime.audio.portaudio import Device, Receive  # noqa: E402
from edge_runtime.system import native_stderr_silenced  # noqa: E402


class Binding:
    """See `edge_runtime.audio.portaudio.PortAudio`."""

    _opened = 0  # bindings that are not closed

    def __init__(self) -> None:
        if _OURS and not Binding._opened:
            # What PortAudio found is as old as the import.
            while sounddevice._initialized:
                sounddevice._terminate()
            sounddevice._initialize()
        Binding._opened += 1

    def devices(self) -> list[Device]:
        """All devices, outputs too."""
        default = sounddevice.default.device["input"]
        return [
            Device(
                i["index"],
                i["name"],
                i["default_samplerate"],
                i["index"] == default,
                i["max_input_channels"],
                i["max_output_channels"],
            )
            for i in sounddevice.query_devices()
        ]

    def open(
        self, device: Device, rate: int, channels: int, block: int, receive: Receive
    ) -> _Capture:
        """Capture `channels` at `rate` Hz, `block` frames at a time. OSError where it cannot."""
        with _as_os_error():
            return _Capture(device.index, rate, channels, block, receive)

    def close(self) -> None:
        """Give it back."""
        Binding._opened -= 1


class _Capture:
    def __init__(self, index: int, rate: int, channels: int, block: int, receive: Receive) -> None:
        def callback(data: Any, _count: int, _time: Any, status: Any) -> None:
            receive(data, status.input_overflow)

        with native_stderr_silenced():
            self._stream = sounddevice.RawInputStream(
                rate, block, index, channels=channels, dtype="float32", callback=callback
            )

    def start(self) -> None:
        with _as_os_error():
            self._stream.start()

    def active(self) -> bool:
        return bool(self._stream.active)

    def close(self) -> None:
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except sounddevice.PortAudioError as error:
        raise OSError(str(error)) from None
