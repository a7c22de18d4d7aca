"""What sinks are given: a context, verdicts, words, and a deadline to see what they make of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from edge_runtime.events import EmotionEvent, HealthEvent, TextEvent
from edge_runtime.sinks import Context

LABELS = ("angry", "happy", "neutral", "sad")
HANG = 60.0  # s after which something will not happen any more


@pytest.fixture
def context() -> Context:
    """A device with the default classes."""
    return Context("kitchen", "1.0", "default", LABELS)


@pytest.fixture
def verdict() -> Callable[..., EmotionEvent]:
    """Makes a verdict: by default final, "angry" at 0.9."""

    def make(
        label: str = "angry",
        confidence: float = 0.9,
        text: str = "leave me alone",
        *,
        start: float = 1.0,
        final: bool = True,
        kind: type[EmotionEvent] = EmotionEvent,
        total: float = 2.0,
        late: bool = False,
    ) -> EmotionEvent:
        rest = (1 - confidence) / (len(LABELS) - 1)
        best = label if label in LABELS else LABELS[0]
        scores = {name: confidence if name == best else rest for name in LABELS}
        times = {"total": total}
        return kind(
            start + 1.1,
            final,
            start,
            start + 1,
            label,
            confidence,
            scores,
            text,
            "audio",
            times,
            late,
        )

    return make


@pytest.fixture
def words() -> Callable[..., TextEvent]:
    """Makes words of an utterance."""
    return lambda text="leave me alone", final=True: TextEvent(2.0, text, final, "asr", 1.0)


@pytest.fixture
def health() -> Callable[..., HealthEvent]:
    """Makes a health event."""
    return lambda t=60.0, **fields: HealthEvent(
        t,
        **{"dropped_ms": 0.0, "invalid_samples": 0, "real_time_factor": 0.01, "rss_mb": 50.0}
        | fields,
    )


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Wait until something holds."""

    def wait(holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + HANG
        while not holds():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.01)

    return wait
