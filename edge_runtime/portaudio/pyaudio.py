"""PortAudio by PyAudio."""

from __future__ import annotations

import contextlib
from typing import Any

import pyaudio

from edge_runtime.portaudio import Receive


class Binding:
    """See `edge_runtime.portaudio.PortAudio`."""

    def __init__(self) -> None:
        self._audio = pyaudio.PyAudio()

    def devices(self) -> list[dict[str, Any]]:
        """All devices, outputs too."""
        try:
            default = self._audio.get_default_input_device_info()["index"]
        except OSError:
            default = None  # there is none
        found = map(self._audio.get_device_info_by_index, range(self._audio.get_device_count()))
        return [
            {
                "index": i["index"],
                "name": str(i["name"]),
                "rate": i["defaultSampleRate"],
                "default": i["index"] == default,
                "channels": i["maxInputChannels"],
                "outputs": i["maxOutputChannels"],
            }
            for i in found
        ]

    def open(self, index: int, rate: int, channels: int, block: int, receive: Receive) -> _Capture:
        """Capture `channels` at `rate` Hz, `block` frames at a time. OSError where it cannot."""
        try:
            return _Capture(self._audio, index, rate, channels, block, receive)
        except ValueError as error:  # of numbers that a device does not have
            raise OSError(str(error)) from None


class _Capture:
    def __init__(
        self, audio: Any, index: int, rate: int, channels: int, block: int, receive: Receive
    ) -> None:
        def callback(data: bytes, _count: int, _time: Any, status: int) -> tuple[None, int]:
            receive(data, bool(status & pyaudio.paInputOverflow))
            return None, pyaudio.paContinue

        self._stream = audio.open(
            rate,
            channels,
            pyaudio.paFloat32,
            input=True,
            input_device_index=index,
            frames_per_buffer=block,
            stream_callback=callback,
            start=False,
        )

    def start(self) -> None:
        self._stream.start_stream()

    def active(self) -> bool:
        try:
            return bool(self._stream.is_active())
        except OSError:
            return False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.stop_stream()
        with contextlib.suppress(OSError):
            self._stream.close()
