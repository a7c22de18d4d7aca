"""Captured frames on their way to who reads them: bounded, and what found no room is counted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Condition

import numpy as np

from edge_runtime.pcm import Float32

_STEADY = 100  # blocks by whose delays a block that is late is told from one after a loss


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """Frames that follow one another without a gap."""

    frames: Float32
    """Float in [-1, 1], shape (n, channels)."""
    lost: int = 0
    """Frames that were lost before the first of them."""
    at: float = 0.0
    """When the last of them was there, seconds of the monotonic clock."""
    ends: bool = False
    """Whether what was said before ends here, though nothing was lost: somebody else speaks."""


class Ring:
    """Written by a capture thread, which only copies; read by one other thread.

    Where it is full, what is written is counted and dropped: what is read stays in order, and each
    loss is told in its place.

    Parameters
    ----------
    rate : frames a second, Hz.
    channels : samples a frame.
    seconds : audio that may wait.
    """

    def __init__(self, rate: int, channels: int, seconds: float) -> None:
        self.rate = rate
        """Frames a second, Hz."""
        self._data = np.zeros((round(seconds * rate), channels), np.float32)
        self._changed = Condition()
        self._written = self._read = 0  # frames since the beginning
        self._base = 0  # the frame that stands first in the buffer
        self._losses: deque[tuple[int, int]] = deque()  # frame before which it was, how many
        self._lost = 0  # since the last block that found room
        self._at = 0.0
        # Of the device's clock against ours: how late blocks usually are.
        self._begun = 0.0
        self._counted = 0  # frames that came or were lost
        self._delays: deque[float] = deque(maxlen=_STEADY)

    def write(self, data: bytes, overflowed: bool, now: float) -> None:
        """Copy a buffer of float32, frame by frame; on the capture thread.

        Parameters
        ----------
        data : the frames.
        overflowed : whether some were lost before them, as PortAudio says.
        now : when the last of them was there, seconds of the monotonic clock.
        """
        frames = np.frombuffer(data, np.float32).reshape(-1, self._data.shape[1])
        count = len(frames)
        with self._changed:
            lost = self._overflow(now, count) if overflowed else 0
            self._count(now, count + lost)
            self._lost += lost
            if self._written + count - self._read > len(self._data):
                self._lost += count
                return
            if self._lost:
                self._losses.append((self._written, self._lost))
                self._lost = 0
            if self._written == self._read:
                self._base = self._written  # so that memory is taken by what waits alone
            start = (self._written - self._base) % len(self._data)
            first = min(count, len(self._data) - start)
            self._data[start : start + first] = frames[:first]
            self._data[: count - first] = frames[first:]
            self._written += count
            self._at = now
            self._changed.notify_all()

    def read(self, seconds: float, most: int) -> Taken | None:
        """At most `most` frames, none across a loss; None where nothing came in `seconds`."""
        with self._changed:
            if self._written == self._read:
                self._changed.wait(seconds)
            if self._written == self._read:
                return None
            lost = 0
            if self._losses and self._losses[0][0] == self._read:
                lost = self._losses.popleft()[1]
            end = min(self._written, self._read + most)
            if self._losses:
                end = min(end, self._losses[0][0])
            size = len(self._data)
            start, count = (self._read - self._base) % size, end - self._read
            first = min(count, size - start)
            frames = np.concatenate(
                [self._data[start : start + first], self._data[: count - first]]
            )
            self._read = end
            at = self._at - (self._written - end) / self.rate
            return Taken(frames, lost, at)

    def _count(self, now: float, frames: int) -> None:
        if not self._counted:
            self._begun = now - frames / self.rate
        self._counted += frames
        self._delays.append(now - self._begun - self._counted / self.rate)

    def _overflow(self, now: float, count: int) -> int:
        """Frames that were thrown away before these `count`, as the clock tells.

        PortAudio does not say how many: one of its buffers at least.
        """
        if not self._counted:
            return 0  # before the stream began
        late = now - self._begun - (self._counted + count) / self.rate - min(self._delays)
        return max(count, round(late * self.rate))
