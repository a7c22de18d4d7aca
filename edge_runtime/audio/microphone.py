"""The microphone, through PortAudio: at its own rate and channels, captured by another process.

It is opened again whenever it breaks, see `edge_runtime.audio.endless`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import replace

from edge_runtime.audio import BLOCK_SECONDS, QUEUE_SECONDS, pulse
from edge_runtime.audio.capture import HANGS, CaptureProcess, Device, Steps
from edge_runtime.audio.channels import can_resample
from edge_runtime.audio.endless import EndlessSource
from edge_runtime.audio.ring import Ring, Taken
from edge_runtime.errors import AudioError
from edge_runtime.pcm import SAMPLE_RATE

_SILENT_SECONDS = 3.0  # without a frame for this long, the device is gone; a monitor hands over 2
_PATIENCE = 1.5  # seconds of an attempt to open it again, in which nobody hears of time going by
_MOST_CHANNELS = 8  # more is no microphone, but a sound server that would copy what it has
_FURTHER_RATES = (48_000, 44_100, 16_000, 32_000, 8_000)  # Hz, where its own does not open
_QUICK_LOOKS = 5  # for a device that is not there, at every attempt: ten seconds
_RARE_SECONDS = 30.0  # from one look to the next afterwards
_LISTED = "'edge-emotion devices' lists what there is"
_CARD = re.compile(r" \(hw:\d+,\d+\)$")  # which changes with the next boot, or another socket


class MicrophoneSource(EndlessSource):
    """The default input device, or the one of that index or (part of a) name.

    Parameters
    ----------
    device : index or part of a name; of PulseAudio and PipeWire also the name of a source.
    channel : the one to take, from 1; None mixes those that are not dead.
    wait : wait for a device that is not there yet. Once it was heard, it is always waited for.

    Raises AudioError when there is no such device or it does not open; MissingPackageError without
    a binding of PortAudio.
    """

    def __init__(
        self, device: str | None = None, channel: int | None = None, wait: bool = False
    ) -> None:
        super().__init__(_Microphone(device, channel), channel, wait)


class _Microphone:
    """A device while it is open: see `edge_runtime.audio.endless.Feed`."""

    gaps_are_lost = True

    def __init__(self, wanted: str | None, channel: int | None) -> None:
        self._wanted = wanted
        self._least = channel or 1  # channels that are needed
        self._device: Device | None = None  # the one that was opened first
        self._capture: CaptureProcess | None = None
        self._opening: Steps[None] | None = None  # what is under way
        self._patience = math.inf  # seconds that an attempt may take; the first is waited for
        self._there: tuple[str, ...] | None = None  # what was around at the last attempt
        self._attempts = 0  # looks for the device since that changed
        self._failure: str | None = None  # why the last of them found nothing
        self._next_look = 0.0
        self.name = f"microphone {wanted or ''}".strip()
        self.rate, self.channels = SAMPLE_RATE, 1

    def begin(self) -> None:
        until = time.monotonic() + self._patience
        self._patience = _PATIENCE
        opening, self._opening = self._opening or self._open(), None
        for _ in opening:
            if time.monotonic() > until:
                self._opening = opening  # the next attempt goes on with it
                raise AudioError(HANGS)

    def _open(self) -> Steps[None]:
        there = pulse.surroundings()
        if there != self._there:
            self.close()
            self._there, self._attempts, self._failure = there, 0, None
        device = yield from self._found()
        self.name = f"microphone {device.name}"
        try:
            yield from self._open_device(device)
        except OSError as error:
            # Busy, or not ours: PortAudio need not look for it again.
            raise AudioError(f"cannot open the microphone: {error}; {_LISTED}") from None
        except AudioError:
            self.close()
            raise
        self._device = self._device or device
        self._waited = 0.0  # seconds since the last frame
        self._attempts = 0

    def _found(self) -> Steps[Device]:
        """The device. PortAudio looks for it anew, if it is not open.

        Every look costs a process, 0.1 s of a core: where nothing around has changed, it is rare.
        """
        if self._capture is None:
            if self._failure is not None and time.monotonic() < self._next_look:
                raise AudioError(self._failure)
            self._attempts += 1
            rare = self._attempts > _QUICK_LOOKS
            self._next_look = time.monotonic() + (_RARE_SECONDS if rare else 0.0)
            self._capture = CaptureProcess()
        try:
            return self._find((yield from _look(self._capture)))
        except AudioError as error:
            self.close()
            self._failure = str(error)
            raise

    def read(self, seconds: float, most: int) -> Taken | None:
        taken = self._ring.read(seconds, most)
        if taken is not None:
            self._waited = 0.0
            return taken
        # What was waited, not what the clock says: after a sleep of the machine it jumps.
        self._waited += seconds
        assert self._capture is not None  # it is open
        reason = self._capture.ended()
        if reason or self._waited > _SILENT_SECONDS:
            raise AudioError(f"{self.name} gives no more audio ({reason or 'unplugged?'})")
        return None

    def close(self) -> None:
        self._opening = None
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.close()

    def advice(self, what: str) -> str:
        if what not in ("muted", "quiet"):
            return ""
        assert self._device is not None  # it was heard
        return pulse.advice(self._device.source or self._device.name)

    def _find(self, devices: list[Device]) -> Device:
        """The device that is meant; once it was open, that very one, whatever its index now."""
        if self._device is None:
            return find(devices, self._wanted)
        if not self._wanted:
            return find(devices, None)
        same = [device for device in devices if device.name == self._device.name]
        return same[0] if same else find(devices, self._device.name)

    def _open_device(self, device: Device) -> Steps[None]:
        """By the first form that it takes: its own before others."""
        assert self._capture is not None  # it found the device
        failure: OSError | None = None
        for rate, channels in self._forms(device):
            ring = Ring(rate, channels, QUEUE_SECONDS)
            try:
                yield from self._capture.open(device, channels, round(BLOCK_SECONDS * rate), ring)
            except OSError as error:
                failure = failure or error
                continue
            self.rate, self.channels, self._ring = rate, channels, ring
            return
        raise failure or OSError(
            f"it has {device.channels} channels, and --channel asks for number {self._least}"
        )

    def _forms(self, device: Device) -> Iterator[tuple[int, int]]:
        own = device.channels if device.channels <= _MOST_CHANNELS else 2
        counts = [n for n in dict.fromkeys((own, 2, 1)) if self._least <= n <= device.channels]
        if not counts and self._least <= device.channels:
            counts = [device.channels]
        rates = dict.fromkeys((round(device.rate), *_FURTHER_RATES))
        if not can_resample():
            rates = dict.fromkeys((SAMPLE_RATE,))
        for rate in rates:
            for channels in counts:
                yield rate, channels


def list_devices() -> list[Device]:
    """All devices that there are now, outputs too. Raises like `MicrophoneSource`."""
    capture = CaptureProcess()
    looking = _look(capture)
    try:
        while True:
            next(looking)
    except StopIteration as done:
        found: list[Device] = done.value
        return found
    finally:
        capture.close()


def _look(capture: CaptureProcess) -> Steps[list[Device]]:
    """All devices; AudioError where there is no microphone because the sound server hangs."""
    devices = yield from capture.devices()
    if not any(device.channels for device in devices) and pulse.hangs():
        raise AudioError(HANGS)
    return devices


def list_microphones() -> list[Device]:
    """Those of them that can be listened to."""
    return [device for device in list_devices() if device.channels]


def find(devices: list[Device], wanted: str | None) -> Device:
    """The device that is meant: a number is an index, never part of a name; "" is the default.

    A name with the number of a card is one of that name, where that card is another now.
    AudioError where there is none.
    """
    devices = [device for device in devices if device.channels]
    if not wanted:
        matching = [device for device in devices if device.default]
        if not matching:
            raise AudioError(f"there is no microphone; {_LISTED}")
    elif wanted.isdecimal():
        matching = [device for device in devices if device.index == int(wanted)]
    else:
        low = wanted.lower()
        matching = [device for device in devices if device.name.lower() == low]
        matching += [device for device in devices if _but_card(device.name) == _but_card(low)]
        matching += [device for device in devices if low in device.name.lower()]
        matching += _of_pulse(devices, low)
    if not matching:
        raise AudioError(f"no microphone {wanted!r}; {_LISTED}")
    return matching[0]


def _but_card(name: str) -> str:
    return _CARD.sub("", name.lower())


def _of_pulse(devices: list[Device], wanted: str) -> list[Device]:
    """The sound server's sources of that name, each as PortAudio's way to the server."""
    ways = [device for name in pulse.DEVICES for device in devices if device.name == name]
    sources = [s for s in pulse.sources() if wanted in f"{s.name}\n{s.description}".lower()]
    sources.sort(key=lambda source: source.monitor)
    return [
        replace(
            ways[0],
            name=source.name,
            rate=source.rate,
            channels=source.channels,
            source=source.name,
        )
        for source in sources
        if ways
    ]
