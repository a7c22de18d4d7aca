"""The microphone, through PortAudio: captured on a thread of its own, overflow counted."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import numpy as np

from edge_runtime.audio import BLOCK, BLOCK_SECONDS, Block
from edge_runtime.audio.portaudio import Device, open_portaudio
from edge_runtime.errors import AudioError
from edge_runtime.pcm import SAMPLE_RATE

QUEUE_SECONDS = 10.0  # audio that may wait while inference is busy
_SILENT_SECONDS = 3.0  # without a block for this long, the device is gone
_LISTED = "'edge-emotion devices' lists what there is"


class MicrophoneSource:
    """The default input device, or the one of that index or (part of a) name.

    PortAudio's callback only puts blocks into a queue, so capture never waits for inference. What
    PortAudio reports as overflowed, and what finds the queue full, is never fatal: it is told by
    the next block that finds room.
    Raises AudioError when there is no such device, it does not open, or it disappears;
    MissingPackageError without a binding of PortAudio.
    """

    def __init__(self, device: str | None = None) -> None:
        self.warnings: list[str] = []
        self._lost = 0  # samples since the last block that found room; the callback's alone
        self._queue: queue.Queue[Block] = queue.Queue(int(QUEUE_SECONDS / BLOCK_SECONDS))
        self._portaudio = open_portaudio()
        try:
            found = _find(self._portaudio.devices(), device)
            self.name = f"microphone {found.name}"
            self._capture = self._portaudio.open(found, SAMPLE_RATE, BLOCK, self._receive)
        except OSError as error:
            self._portaudio.close()
            raise AudioError(f"cannot open the microphone: {error}; {_LISTED}") from None
        except AudioError:
            self._portaudio.close()
            raise

    def blocks(self) -> Iterator[Block]:
        """Blocks until closed."""
        try:
            try:
                self._capture.start()
            except OSError as error:
                raise AudioError(f"{self.name} does not start: {error}; {_LISTED}") from None
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
            self._capture.close()
            self._portaudio.close()

    def _receive(self, data: bytes, overflowed: bool) -> None:
        samples = np.frombuffer(data, np.int16)
        if overflowed:
            # PortAudio does not say how much it threw away: at least one of its buffers.
            self._lost += samples.size
        try:
            self._queue.put_nowait(Block(samples, self._lost))
            self._lost = 0
        except queue.Full:
            self._lost += samples.size


def list_microphones() -> list[Device]:
    """The input devices that there are now. Raises like `MicrophoneSource`."""
    portaudio = open_portaudio()
    try:
        return portaudio.devices()
    finally:
        portaudio.close()


def _find(devices: list[Device], wanted: str | None) -> Device:
    """The device that is meant: a number is an index, never part of a name."""
    if wanted is None:
        matching = [device for device in devices if device.default]
        if not matching:
            raise AudioError(f"there is no microphone; {_LISTED}")
    elif wanted.isdecimal():
        matching = [device for device in devices if device.index == int(wanted)]
    else:
        matching = [device for device in devices if wanted.lower() in device.name.lower()]
    if not matching:
        raise AudioError(f"no microphone {wanted!r}; {_LISTED}")
    return matching[0]
