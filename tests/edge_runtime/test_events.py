"""Events: the JSON that other programs rely on."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.events import (
    EmotionEvent,
    HealthEvent,
    SourceEvent,
    SpeechStartEvent,
    to_dict,
    to_json,
)

LABELS = ("angry", "happy", "neutral", "sad")


def emotion(*probabilities: float, **changes: object) -> EmotionEvent:
    scores = dict(zip(LABELS, probabilities, strict=False))
    best = max(scores, key=lambda label: scores[label])
    values: dict[str, object] = {
        "t": 2.5,
        "final": True,
        "start": 1.2,
        "end": 2.4999,
        "label": best,
        "confidence": scores[best],
        "scores": scores,
        "latency_ms": {"features": 0.31234, "text": 0.0, "graph": 1.9, "total": 2.4},
    }
    return EmotionEvent(**{**values, **changes})  # type: ignore[arg-type]


def test_an_emotion_event_has_the_keys_and_types_of_the_contract() -> None:
    line = to_json(emotion(0.1, 0.62, 0.2, 0.08))
    assert "\n" not in line
    assert json.loads(line) == {
        "type": "emotion",
        "t": 2.5,
        "final": True,
        "start": 1.2,
        "end": 2.5,
        "label": "happy",
        "confidence": 0.62,
        "scores": {"angry": 0.1, "happy": 0.62, "neutral": 0.2, "sad": 0.08},
        "text": "",
        "modality": "audio",
        "latency_ms": {"features": 0.312, "text": 0.0, "graph": 1.9, "total": 2.4},
        "late": False,
        "audio": "",
    }
    assert next(iter(json.loads(line))) == "type"


def test_the_other_events_have_the_keys_of_the_contract() -> None:
    assert to_dict(SpeechStartEvent(1.2)) == {"type": "speech_start", "t": 1.2}
    assert to_dict(SourceEvent(0.0, "a.wav")) == {"type": "source", "t": 0.0, "name": "a.wav"}
    assert to_dict(HealthEvent(60.0, 0.0, 0, 0.0041234, 52.1)) == {
        "type": "health",
        "t": 60.0,
        "dropped_ms": 0.0,
        "invalid_samples": 0,
        "real_time_factor": 0.00412,
        "rss_mb": 52.1,
        "text_source": "off",
        "text_lag_s": 0.0,
        "text_dropped_s": 0.0,
        "text_rss_mb": 0.0,
        "text_real_time_factor": 0.0,
        "text_lost_lines": 0,
        "text_invalid_lines": 0,
        "temperature_c": None,
        "throttled": "",
        "audio_waiting_s": 0.0,
        "reconnects": 0,
        "queued": 0,
        "queue_dropped": 0,
    }


@given(st.lists(st.floats(1e-9, 1.0), min_size=2, max_size=4))
def test_scores_as_printed_sum_to_one_and_keep_their_order(weights: list[float]) -> None:
    # As the recognizer makes them: float32 probabilities.
    values = (np.array(weights) / np.sum(weights)).astype(np.float32)
    event = emotion(*map(float, values))
    printed = json.loads(to_json(event), parse_float=Decimal)
    scores = printed["scores"]
    # Decimal reads what is printed: exactly one, no tolerance.
    assert sum(scores.values()) == 1
    assert printed["confidence"] == max(scores.values()) == scores[event.label]
    for label, value in event.scores.items():
        # Four decimals, and the rounding may go to either neighbour.
        assert abs(float(scores[label]) - value) < 1.001e-4
        assert 0 <= scores[label] <= 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_never_printed(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(HealthEvent(value, 0.0, 0, 0.0, 0.0))


def test_names_are_printed_as_they_are_written() -> None:
    assert "Grüße 日本.wav" in to_json(SourceEvent(0.0, "Grüße 日本.wav"))
