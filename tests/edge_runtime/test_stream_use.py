"""How a stream is used: what may be fed, from where, and that an utterance stays itself."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime import EdgeError, EmotionStream
from edge_runtime.bundle import Bundle
from edge_runtime.events import EmotionEvent, Event, RevisedEvent
from edge_runtime.manifest import Calibration
from edge_runtime.pcm import Int16, to_pcm


def finals(events: list[Event]) -> list[EmotionEvent]:
    return [e for e in events if isinstance(e, EmotionEvent) and e.final]


def test_words_judged_alone_leave_the_running_utterance_as_it_is(
    bundle: Bundle, sentence: Int16
) -> None:
    plain, disturbed = EmotionStream(bundle), EmotionStream(bundle)
    half = sentence.size // 2
    for stream in (plain, disturbed):
        stream.feed(sentence[:half])
        stream.read("we won")
    verdict = disturbed.judge_text("this is terrible")
    assert verdict is not None
    assert (verdict.start, verdict.text) == (disturbed.time, "this is terrible")
    (expected,) = finals(plain.feed(sentence[half:]) + plain.finish())
    (found,) = finals(disturbed.feed(sentence[half:]) + disturbed.finish())
    assert (found.start, found.end, found.text) == (expected.start, expected.end, "we won")
    assert found.scores == expected.scores


def test_words_read_before_an_utterance_are_its_words(bundle: Bundle, sentence: Int16) -> None:
    stream = EmotionStream(bundle)
    stream.read("we won")
    (first,) = finals(stream.feed(sentence) + stream.finish())
    (second,) = finals(stream.feed(sentence) + stream.finish())
    assert (first.text, second.text) == ("we won", "")


def test_a_restarted_stream_is_a_new_one(bundle: Bundle, sentence: Int16) -> None:
    used, new = EmotionStream(bundle), EmotionStream(bundle)
    loud = np.clip(sentence.astype(int) * 3, -32768, 32767).astype(np.int16)
    used.feed(loud[: loud.size // 2])  # an utterance is running
    used.restart()
    (found,), (expected,) = (finals(s.feed(sentence) + s.finish()) for s in (used, new))
    assert used.time == new.time
    assert (found.start, found.end, found.scores) == (
        expected.start,
        expected.end,
        expected.scores,
    )
    assert used.health().dropped_ms == 0


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e9])
def test_an_interval_that_cannot_be_meant_is_refused(bundle: Bundle, seconds: float) -> None:
    with pytest.raises(EdgeError, match="partial_seconds"):
        EmotionStream(bundle, partial_seconds=seconds)


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_wait_that_cannot_be_meant_is_refused(bundle: Bundle, seconds: float) -> None:
    with pytest.raises(EdgeError, match="seconds"):
        EmotionStream(bundle).settle(seconds)


def test_a_loss_below_nothing_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EdgeError, match="samples"):
        EmotionStream(bundle).skip(-5)


def test_mono_as_sounddevice_gives_it_is_taken(bundle: Bundle, sentence: Int16) -> None:
    flat, column = EmotionStream(bundle), EmotionStream(bundle)
    (expected,) = finals(flat.feed(sentence) + flat.finish())
    (found,) = finals(column.feed(sentence[:, None]) + column.finish())
    assert found.scores == expected.scores


def test_the_other_byte_order_is_the_same_sound(sentence: Int16) -> None:
    assert np.array_equal(to_pcm(sentence.astype(">i2"))[0], sentence)


REFUSED = {
    "bytes": (b"\0\0\1\0", "np.frombuffer"),
    "two channels": (np.zeros((160, 2), np.float32), "mean"),
    "int16 as floats": (np.array([0.0, 12000.0]), "divide"),
    "int32": (np.zeros(160, np.int32), "2\\*\\*31"),
    "uint8": (np.zeros(160, np.uint8), "128"),
    "bool": (np.zeros(160, bool), "float or int16"),
    "complex": (np.zeros(160, complex), "float or int16"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_sound_is_refused_with_the_remedy(
    bundle: Bundle, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, remedy = REFUSED[kind]
    stream = EmotionStream(bundle)
    with monkeypatch.context() as patch:
        patch.setattr(stream, "_poll", None)  # words stay where they are: they could not be given
        with pytest.raises(ValueError, match=remedy):
            stream.feed(samples)
    assert stream.feed(np.zeros(160, np.float32)) == []  # it goes on


def test_a_stream_fed_from_threads_loses_nothing(bundle: Bundle, sentence: Int16) -> None:
    stream = EmotionStream(bundle)
    found: list[Event] = []
    lock = threading.Lock()

    def feed() -> None:
        for block in np.array_split(sentence, 50):
            events = stream.feed(block)
            with lock:
                found.extend(events)

    threads = [threading.Thread(target=feed) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert stream.time == pytest.approx(3 * sentence.size / 16_000)
    assert finals(found + stream.finish())


def test_a_bundle_equals_itself_and_no_other(bundle: Bundle) -> None:
    # Fields of arrays, compared, raised.
    assert bundle in [bundle]
    assert bundle not in [replace(bundle)]


def test_a_verdict_below_the_threshold_is_unsure(bundle: Bundle, sentence: Int16) -> None:
    """Through the device's path, from sound alone: the threshold of audio has an effect."""
    calibration = {
        name: Calibration(chosen.temperature, 0.999)
        for name, chosen in bundle.manifest.calibration.items()
    }
    strict = replace(bundle, manifest=replace(bundle.manifest, calibration=calibration))
    stream = EmotionStream(strict)
    (event,) = finals(stream.feed(sentence) + stream.finish())
    assert event.confidence < 0.999
    assert event.label == "unsure"
    assert max(event.scores, key=lambda label: event.scores[label]) != "unsure"


def test_latencies_of_words_that_came_late_add_up(bundle: Bundle, sentence: Int16) -> None:
    class Late:
        """Words that arrive after the utterance is over."""

        source = wanted = "late"
        lag_seconds = rss_mb = real_time_factor = 0.0
        dropped_samples = lost_lines = invalid_lines = 0
        pid = None

        def __init__(self) -> None:
            self.start, self.told = 0.0, False

        def begin(self, t: float) -> None:
            self.start = t

        def feed(self, samples: Int16) -> None: ...

        def end(self, t: float) -> None: ...

        def wait(self, timeout: float = 0.0) -> bool:
            self.told = True
            return True

        def poll(self, t: float | None = None) -> list[Event]:
            from edge_runtime.events import TextEvent

            if not self.told:
                return []
            self.told = False
            return [TextEvent(t or 0.0, "we won this", True, "late", self.start)]

        def close(self) -> None: ...

    stream = EmotionStream(bundle)
    stream._words = Late()  # type: ignore[assignment]
    stream.feed(sentence)
    stream.finish()
    (revised,) = [e for e in stream.settle(1.0) if isinstance(e, RevisedEvent)]
    stages = sum(ms for stage, ms in revised.latency_ms.items() if stage != "total")
    assert stages <= revised.latency_ms["total"]
    assert revised.text == "we won this"
