"""What the verdict pays when the engine that hears the words is killed, stopped or slowed.

At the speed of speech, with a real engine in a real process, and real signals.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_runtime import EmotionStream
from edge_runtime.bundle import Bundle
from edge_runtime.events import EmotionEvent, Event, RevisedEvent, TextStatusEvent
from edge_runtime.pcm import SAMPLE_RATE, Int16

HARMS = ("none", "killed", "stopped", "slowed ten-fold")
_BLOCK = SAMPLE_RATE // 10
_PERIOD = 0.2  # seconds between two stops of an engine that is slowed; it runs a tenth of them


@dataclass(frozen=True)
class Outcome:
    """One stream."""

    harm: str
    """One of `HARMS`."""
    utterances: int
    """Clips that were streamed."""
    verdicts: int
    """Final verdicts."""
    revised: int
    """Verdicts given again with words that came later."""
    p50_ms: float
    """Median time from the last sample needed to the final verdict, ms."""
    p95_ms: float
    """95th percentile of the same."""
    told: tuple[str, ...]
    """The status events: second, source, reason."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def harm_engine(bundle: Bundle, clips: list[Int16], harm: str, engine: str = "asr") -> Outcome:
    """Stream `clips`, a second apart; after the first two the engine is harmed.

    Parameters
    ----------
    clips : one utterance each, int16, 16 kHz.
    harm : one of `HARMS`.
    """
    pause = np.zeros(SAMPLE_RATE, np.int16)
    parts = [np.concatenate([clip, pause]) for clip in clips]
    hurt_at = sum(map(len, parts[:2])) + len(clips[2 % len(clips)]) // 2
    talk = np.concatenate(parts)
    events: list[Event] = []
    with EmotionStream(bundle, engine) as stream:
        stream.wait_ready()
        begin, over, hurt = time.monotonic(), threading.Event(), None
        try:
            for start in range(0, len(talk), _BLOCK):
                if hurt is None and start >= hurt_at:
                    hurt = _harm(stream.text_pid, harm, over)
                events += stream.feed(talk[start : start + _BLOCK])
                time.sleep(max(0.0, begin + stream.time - time.monotonic()))
        finally:
            over.set()
        events += stream.finish() + stream.settle()
    times = [
        e.latency_ms["total"]
        for e in events
        if isinstance(e, EmotionEvent) and e.final and not isinstance(e, RevisedEvent)
    ]
    told = [e for e in events if isinstance(e, TextStatusEvent)]
    return Outcome(
        harm,
        len(clips),
        len(times),
        sum(isinstance(e, RevisedEvent) for e in events),
        float(np.percentile(times, 50)),
        float(np.percentile(times, 95)),
        tuple(f"{e.t:.1f} s, {e.source}: {e.reason}" for e in told),
    )


def _harm(pid: int | None, harm: str, over: threading.Event) -> bool:
    if pid is None or harm == "none":
        return True
    if harm == "killed":
        os.kill(pid, signal.SIGKILL)
    elif harm == "stopped":
        os.kill(pid, signal.SIGSTOP)
    else:
        threading.Thread(target=_slow_down, args=(pid, over), daemon=True).start()
    return True


def _slow_down(pid: int, over: threading.Event) -> None:
    while not over.is_set():
        try:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.9 * _PERIOD)
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.1 * _PERIOD)
        except ProcessLookupError:
            return
