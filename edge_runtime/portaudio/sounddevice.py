"""PortAudio by sounddevice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import sounddevice

from edge_runtime.portaudio import Receive


class Binding:
    """See `edge_runtime.portaudio.PortAudio`; the import has initialized it."""

    def devices(self) -> list[dict[str, Any]]:
        """All devices, outputs too."""
        default = sounddevice.default.device["input"]
        return [
            {
                "index": i["index"],
                "name": i["name"],
                "rate": i["default_samplerate"],
                "default": i["index"] == default,
                "channels": i["max_input_channels"],
                "outputs": i["max_output_channels"],
            }
            for i in sounddevice.query_devices()
        ]

    def open(self, index: int, rate: int, channels: int, block: int, receive: Receive) -> _Capture:
        """Capture `channels` at `rate` Hz, `block` frames at a time. OSError where it cannot."""
        with _as_os_error():
            return _Capture(index, rate, channels, block, receive)


class _Capture:
    def __init__(self, index: int, rate: int, channels: int, block: int, receive: Receive) -> None:
        def callback(data: Any, _count: int, _time: Any, status: Any) -> None:
            receive(data, status.input_overflow)

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
