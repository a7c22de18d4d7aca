"""PortAudio by PyAudio."""

from __future__ import annotations

import contextlib
from typing import Any

import pyaudio

from edge_runtime.audio.portaudio import Device, Receive
from edge_runtime.system import native_stderr_silenced


class Binding:
    """See `edge_runtime.audio.portaudio.PortAudio`."""

    def __init__(self) -> None:
        self._audio = pyaudio.PyAudio()

    def devices(self) -> list[Device]:
        """All microphones."""
        try:
            default = self._audio.get_default_input_device_info()["index"]
        except OSError:
            default = None  # there is none
        found = map(self._audio.get_device_info_by_index, range(self._audio.get_device_count()))
        return [
            Device(i["index"], str(i["name"]), i["defaultSampleRate"], i["index"] == default)
            for i in found
            if i["maxInputChannels"] > 0
        ]

    def open(self, device: Device, rate: int, block: int, receive: Receive) -> _Capture:
        """Capture mono at `rate` Hz, `block` samples at a time. OSError where it cannot."""
        return _Capture(self._audio, device.index, rate, block, receive)

    def close(self) -> None:
        """Give it back."""
        self._audio.terminate()


class _Capture:
    def __init__(self, audio: Any, index: int, rate: int, block: int, receive: Receive) -> None:
        def callback(data: bytes, _count: int, _time: Any, status: int) -> tuple[None, int]:
            receive(data, bool(status & pyaudio.paInputOverflow))
            return None, pyaudio.paContinue

        with native_stderr_silenced():
            self._stream = audio.open(
                rate,
                1,
                pyaudio.paInt16,
                input=True,
                input_device_index=index,
                frames_per_buffer=block,
                stream_callback=callback,
                start=False,
            )

    def start(self) -> None:
        self._stream.start_stream()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.stop_stream()
            self._stream.close()
