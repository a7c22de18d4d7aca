"""The microphone, through PyAudio (PortAudio): captured on its own thread, overflow counted."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import Any

import numpy as np

from edge_runtime.audio import BLOCK, BLOCK_SECONDS, Block
from edge_runtime.errors import AudioError, MissingPackageError
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.system import native_stderr_silenced

QUEUE_SECONDS = 10.0  # audio that may wait while inference is busy
_SILENT_SECONDS = 3.0  # without a block for this long, the device is gone


class MicrophoneSource:
    """The default input device, or the one of that index or (part of a) name.

    PortAudio's callback only puts blocks into a queue, so capture never waits for inference. What
    PortAudio reports as overflowed, and what finds the queue full, is never fatal: it is told by
    the next block that finds room.
    Raises AudioError when there is no such device, it does not open, or it disappears;
    MissingPackageError without PyAudio.
    """

    def __init__(self, device: str | None = None) -> None:
        pyaudio = _pyaudio()
        self.warnings: list[str] = []
        self._lost = 0  # samples since the last block that found room; the callback's alone
        self._queue: queue.Queue[Block] = queue.Queue(int(QUEUE_SECONDS / BLOCK_SECONDS))
        self._continue = pyaudio.paContinue
        self._overflow = pyaudio.paInputOverflow
        with native_stderr_silenced():
            self._audio = pyaudio.PyAudio()
        try:
            info = _find(self._audio, device)
            self.name = f"microphone {info['name']}"
            with native_stderr_silenced():
                self._stream = self._audio.open(
                    SAMPLE_RATE,
                    1,
                    pyaudio.paInt16,
                    input=True,
                    input_device_index=int(info["index"]),
                    frames_per_buffer=BLOCK,
                    stream_callback=self._receive,
                    start=False,
                )
        except OSError as error:
            self._audio.terminate()
            raise AudioError(
                f"cannot open the microphone: {error}; 'edge-emotion devices' lists what there is"
            ) from None
        except AudioError:
            self._audio.terminate()
            raise

    def blocks(self) -> Iterator[Block]:
        """Blocks until closed."""
        self._stream.start_stream()
        try:
            while True:
                try:
                    yield self._queue.get(timeout=_SILENT_SECONDS)
                except queue.Empty:
                    if self._lost:
                        yield Block(np.empty(0, np.int16), self._lost)
                    raise AudioError(
                        f"{self.name} gives no more audio: was it unplugged?"
                    ) from None
        finally:
            with contextlib.suppress(OSError):
                self._stream.stop_stream()
                self._stream.close()
            self._audio.terminate()

    def _receive(self, data: bytes, count: int, _: Any, status: int) -> tuple[None, int]:
        if status & self._overflow:
            # PortAudio does not say how much it threw away: at least one of its buffers.
            self._lost += count
        try:
            self._queue.put_nowait(Block(np.frombuffer(data, np.int16), self._lost))
            self._lost = 0
        except queue.Full:
            self._lost += count
        return None, self._continue


def list_microphones() -> list[dict[str, Any]]:
    """Input devices as PortAudio describes them: index, name, maxInputChannels, default."""
    pyaudio = _pyaudio()
    with native_stderr_silenced():
        audio = pyaudio.PyAudio()
    try:
        default = _default_index(audio)
        infos = [audio.get_device_info_by_index(i) for i in range(audio.get_device_count())]
        return [{**i, "default": i["index"] == default} for i in infos if i["maxInputChannels"] > 0]
    finally:
        audio.terminate()


def _find(audio: Any, device: str | None) -> dict[str, Any]:
    if device is None:
        index = _default_index(audio)
        if index is None:
            raise AudioError("there is no microphone; 'edge-emotion devices' lists what there is")
        return dict(audio.get_device_info_by_index(index))
    for index in range(audio.get_device_count()):
        info = audio.get_device_info_by_index(index)
        named = str(index) == device or device.lower() in str(info["name"]).lower()
        if named and info["maxInputChannels"] > 0:
            return dict(info)
    raise AudioError(f"no microphone {device!r}; 'edge-emotion devices' lists what there is")


def _default_index(audio: Any) -> int | None:
    try:
        return int(audio.get_default_input_device_info()["index"])
    except OSError:
        return None


def _pyaudio() -> Any:
    try:
        import pyaudio
    except ImportError:
        raise MissingPackageError("the microphone", "PyAudio", "mic") from None
    return pyaudio
