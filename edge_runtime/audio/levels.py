"""What is wrong with a microphone, from its samples: too quiet, too loud, muted, hum, an offset."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import log10

import numpy as np

from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Float32, Int16

SILENT_DB = -99.0  # said of digital silence
_CLIPPED = 0.999  # of full scale
_CLIPPED_SHARE = 1e-3  # of the samples of a second: above it, a voice is distorted
_OFFSET = 0.02  # of full scale; once it is said, half of it
_QUIET_DB = -50.0  # speech has moments above it, or is lost in the noise of its own microphone
_HUM_SHARE = 0.5  # of the energy below 500 Hz, in the mains' harmonics
_HUM_DB = -65.0  # quieter hum does no harm
_MAINS = (50, 60)  # Hz
_HARMONICS = 4
_COARSE = 1_000  # Hz; the rate at which hum is looked for


@dataclass(frozen=True, slots=True)
class Level:
    """How loud a stretch of audio was."""

    rms_db: float = SILENT_DB
    """Without its offset, dB relative to full scale."""
    peak_db: float = SILENT_DB
    """Its largest sample, the same."""
    clipped: bool = False
    """Whether a sample stands at full scale."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong from now on, or is over."""

    what: str
    """As in `AudioStatusEvent`."""
    active: bool
    """Whether it begins."""
    message: str
    """What was found, and what to do."""


@dataclass
class _Trouble:
    """Begins when `needed` of the last `window` seconds had it, ends after `clear` without."""

    window: int
    needed: int
    clear: int

    def __post_init__(self) -> None:
        self.active = False
        self._last: deque[bool] = deque(maxlen=max(self.window, self.clear))

    def take(self, has: bool) -> bool:
        """One more second; whether something changed."""
        self._last.append(has)
        recent = list(self._last)
        if self.active:
            over = len(recent) >= self.clear and not any(recent[-self.clear :])
            self.active = not over
            return over
        self.active = sum(recent[-self.window :]) >= self.needed
        return self.active

    def clear_now(self) -> None:
        """Nothing is known any more."""
        self._last.clear()


class Levels:
    """Listens along: says once when something begins, and once when it is over.

    Parameters
    ----------
    rate : frames a second of what is heard, Hz.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.level = Level()
        """Of the frames that came last."""
        self.wrong: dict[str, str] = {}
        """What was wrong in the last whole second, by the name of its finding, and what to do."""
        self._troubles = {
            "muted": _Trouble(2, 2, 1),
            "clipping": _Trouble(5, 2, 15),
            "quiet": _Trouble(10, 10, 1),
            "offset": _Trouble(3, 3, 5),
            "hum": _Trouble(5, 5, 5),
            "dead_channel": _Trouble(5, 5, 1),
            "cancelling": _Trouble(1, 1, 1),
        }
        self._proven = False  # whether it was ever as loud as speech
        self._quietest = SILENT_DB  # the loudest moment since nothing was as loud as that
        self._loudest, self._constant = SILENT_DB, True
        self._begin()

    def take(
        self,
        mixed: Float32,
        converted: Int16,
        dead: tuple[int, ...] | None = (),
        cancelling: int | None = None,
    ) -> list[Finding]:
        """Frames of one channel (n,), n at least 1, and the same at 16 kHz.

        `dead` are the channels that carry nothing, None where that cannot be told.
        """
        low, high = float(mixed.min()), float(mixed.max())
        peak = max(high, -low)
        mean = float(mixed.mean())
        centred = mixed - np.float32(mean)
        variance = float(centred @ centred) / len(mixed) if high > low else 0.0
        clipped = int(np.count_nonzero(np.abs(mixed) >= _CLIPPED)) if peak >= _CLIPPED else 0
        self.level = Level(_decibels(variance), _decibels(peak * peak), clipped > 0)
        self._count += len(mixed)
        self._sum += mean * len(mixed)
        self._clipped += clipped
        self._loudest = max(self._loudest, self.level.rms_db)
        self._constant &= high == low
        self._samples.append(converted)
        if self._count < self._rate:
            return []
        findings = self._second(dead, cancelling)
        self._begin()
        return findings

    def reopened(self, rate: int) -> None:
        """The source was away. What was wrong with it is not said again, if it still is."""
        self._rate = rate
        for trouble in self._troubles.values():
            trouble.clear_now()
        self._begin()

    def _begin(self) -> None:
        self._count, self._clipped, self._sum = 0, 0, 0.0
        self._loudest = SILENT_DB
        self._constant = True
        self._samples: list[Int16] = []

    def _second(self, dead: tuple[int, ...] | None, cancelling: int | None) -> list[Finding]:
        found: dict[str, str] = {}  # what there is in this second, and what to say of it
        known = dict.fromkeys(self._troubles, True)
        if self._constant:
            found["muted"] = (
                "nothing comes but digital silence: unmute it, or choose another device"
            )
        share = self._clipped / self._count
        if share > _CLIPPED_SHARE:
            found["clipping"] = (
                f"{100 * share:.1f} % of the samples are clipped: turn its gain down, or speak "
                "from farther away"
            )
        offset = self._sum / self._count
        if abs(offset) > _OFFSET / (2 if self._troubles["offset"].active else 1):
            found["offset"] = (
                f"an offset (DC) of {100 * offset:+.0f} % of full scale: it is taken away, but "
                "loud speech will clip; look at the wiring, or take another microphone"
            )
        self._look_for_quiet(found, known)
        self._look_for_hum(found, known)
        known["dead_channel"] = dead is not None
        if dead:
            found["dead_channel"] = (
                f"nothing comes on channel {' and '.join(map(str, dead))}, which is left out; "
                "--channel N takes one alone"
            )
        if cancelling is not None:
            found["cancelling"] = (
                f"its channels cancel each other when mixed; channel {cancelling} is taken alone"
            )
        self.wrong = found
        return [
            Finding(what, trouble.active, found.get(what, f"no longer {_OVER.get(what, what)}"))
            for what, trouble in self._troubles.items()
            if known[what] and trouble.take(what in found)
        ]

    def _look_for_quiet(self, found: dict[str, str], known: dict[str, bool]) -> None:
        """Only until it was loud once: later, silence is silence."""
        if self._constant:
            # It is muted, which is said, and has to be as loud as speech again afterwards.
            self._proven, known["quiet"] = False, False
            self._troubles["quiet"].clear_now()
            self._quietest = SILENT_DB
            return
        self._quietest = max(self._quietest, self._loudest)
        self._proven |= self._loudest >= _QUIET_DB
        if not self._proven:
            found["quiet"] = (
                f"nothing was louder than {self._quietest:.0f} dB (speech is above "
                f"{_QUIET_DB:.0f}): if somebody spoke, turn its gain up, come nearer, or choose "
                "another device"
            )

    def _look_for_hum(self, found: dict[str, str], known: dict[str, bool]) -> None:
        samples = np.concatenate(self._samples)
        step = SAMPLE_RATE // _COARSE
        count = samples.size // step
        if count < _COARSE // 2 or self._constant:
            known["hum"] = False
            return
        coarse = samples[: count * step].reshape(count, step).mean(axis=1) / FULL_SCALE
        coarse = (coarse - coarse.mean()) * np.hanning(count)
        power = np.abs(np.fft.rfft(coarse)) ** 2
        total = float(power.sum())
        if self._loudest < _HUM_DB or total == 0.0:
            return
        for mains in _MAINS:
            bins = np.arange(1, _HARMONICS + 1) * mains * count / _COARSE
            near = np.unique(np.concatenate([np.rint(bins) + shift for shift in (-1, 0, 1)]))
            share = float(power[near[near < len(power)].astype(int)].sum()) / total
            if share > _HUM_SHARE:
                found["hum"] = (
                    f"hum of the mains, {mains} Hz: use another power supply or a shorter or "
                    "shielded cable, and keep it away from transformers"
                )


_OVER = {
    "dead_channel": "a dead channel",
    "offset": "an offset",
    "hum": "a hum",
    "quiet": "too quiet",
}


def _decibels(power: float) -> float:
    return max(SILENT_DB, 10 * log10(power)) if power > 0 else SILENT_DB
