"""Live frames of any rate and channel count to int16, mono, 16 kHz, as they come.

A recording can be judged before it is mixed (`edge_runtime.audio.mono`); a microphone cannot. Here
a channel counts from the first block in which it is heard, and no longer once it falls silent.
"""

from __future__ import annotations

import numpy as np

from edge_runtime.audio.mono import resampler
from edge_runtime.pcm import Float32, Int16, to_pcm

_HEARD = 1e-8  # variance from which a channel is more than converter noise, -80 dB of full scale
_JUDGED = 1e-6  # variance of the loudest channel from which others can be called dead, -60 dB
_LOUD = 1e-5  # and from which channels can be seen to cancel each other, -50 dB
_DEAD = 1e-3  # share of the loudest channel's energy below which another is dead, -30 dB
_CANCELLED = 0.05  # share of what unrelated channels leave in their mix, below which it is lost
_NEEDED = "a microphone", "mic"  # what asks for soxr, and the extra that brings it
_HALVED_SECONDS = 2.0  # in which a channel's loudest moment counts half


class LiveMono:
    """Converts one live stream.

    Parameters
    ----------
    rate : frames a second, Hz.
    channels : samples a frame.
    channel : the one to take, from 1; None mixes those that are not dead.

    Raises MissingPackageError without soxr where it is needed.
    """

    def __init__(self, rate: int, channels: int, channel: int | None = None) -> None:
        self._rate = rate
        self._only = None if channel is None else channel - 1
        self._resampler = resampler(rate, *_NEEDED)
        self._loudest = np.zeros(channels)  # variance of each channel, of late
        self._mixed = 0.0  # the same of their mix
        self._alive = np.zeros(channels, bool)
        self.judged = False
        """Whether the last frames were loud enough to tell a dead channel."""
        self.cancelling: int | None = None
        """The channel, from 1, that is taken alone because the others cancel it."""

    @property
    def dead(self) -> tuple[int, ...]:
        """Channels, from 1, that are left out because they carry nothing."""
        if self._only is not None or not self._alive.any():
            return ()
        return tuple(int(n) + 1 for n in np.flatnonzero(~self._alive))

    def mix(self, frames: Float32) -> Float32:
        """One channel of frames (n, channels), n at least 1, at their rate: (n,)."""
        if frames.shape[1] == 1:
            return frames[:, 0]
        if self._only is not None:
            return frames[:, self._only]
        rows = np.ascontiguousarray(frames.T)  # (channels, n): a third of the time of columns
        self._weigh(rows)
        if self.cancelling is not None:
            return np.asarray(rows[self.cancelling - 1])
        taken = np.flatnonzero(self._alive)
        if len(taken) == 1:
            return np.asarray(rows[taken[0]])
        mixed = (rows[taken] if len(taken) else rows).mean(axis=0)
        return self._uncancelled(rows, mixed)

    def convert(self, mixed: Float32) -> Int16:
        """What is known by now at 16 kHz: the resampler holds some milliseconds back."""
        return self._pcm(self._resampler(mixed, False))

    def flush(self) -> Int16:
        """What the resampler held back; what follows begins anew."""
        rest = self._pcm(self._resampler(np.empty(0, np.float32), True))
        self._resampler = resampler(self._rate, *_NEEDED)
        return rest

    def _weigh(self, rows: Float32) -> None:
        fade = 0.5 ** (rows.shape[1] / self._rate / _HALVED_SECONDS)
        self._loudest = np.maximum(self._loudest * fade, [_variance(row) for row in rows])
        self._mixed *= fade
        most = float(self._loudest.max())
        near = self._loudest > _DEAD * most
        self.judged = most > _JUDGED
        if self.judged:
            self._alive &= near
        self._alive |= near & (self._loudest > _HEARD)

    def _uncancelled(self, rows: Float32, mixed: Float32) -> Float32:
        """The mix, or the loudest channel from where it is known that they cancel each other."""
        self._mixed = max(self._mixed, _variance(mixed))
        heard = self._loudest[self._alive]
        if heard.size < 2 or heard.max() < _LOUD:
            return mixed
        if self._mixed >= _CANCELLED * float(heard.mean()) / heard.size:
            return mixed
        self.cancelling = int(self._loudest.argmax()) + 1
        return np.asarray(rows[self.cancelling - 1])

    def _pcm(self, samples: Float32) -> Int16:
        return to_pcm(np.clip(samples, -1.0, 1.0))[0]


def mended(frames: Float32) -> tuple[Float32, int]:
    """Frames (n, channels) whose NaN and infinity are silence, and how many had one.

    Before anything is made of them: a resampler, or a mean, would spread it.
    """
    finite = np.isfinite(frames)
    if finite.all():
        return frames, 0
    invalid = int(np.count_nonzero(~finite.all(axis=1)))
    return np.where(finite, frames, np.float32(0)), invalid


def can_resample() -> bool:
    """Whether rates other than our own can be taken here."""
    try:
        import soxr  # noqa: F401
    except ImportError:
        return False
    return True


def _variance(samples: Float32) -> float:
    centred = samples - samples.mean()
    return float(centred @ centred) / samples.size
