"""The pipeline: samples in, events out, whatever comes and however it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime import EdgeError, EmotionStream, load_bundle
from edge_runtime.bench import speechlike_noise
from edge_runtime.bundle import Bundle
from edge_runtime.events import UNSURE, EmotionEvent, Event, HealthEvent, SpeechStartEvent
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.stream import PARTIAL_SECONDS, classify, judge_clip

Int16 = npt.NDArray[np.int16]


def hear(stream: EmotionStream, samples: npt.NDArray[np.generic], block: int) -> list[Event]:
    events: list[Event] = []
    for start in range(0, len(samples), block):
        events += stream.feed(samples[start : start + block])
    return events + stream.finish()


def finals(events: list[Event]) -> list[EmotionEvent]:
    return [event for event in events if isinstance(event, EmotionEvent) and event.final]


def partials(events: list[Event]) -> list[EmotionEvent]:
    return [event for event in events if isinstance(event, EmotionEvent) and not event.final]


def verdicts(events: Sequence[Event]) -> list[tuple[object, ...]]:
    """What an event says about the audio; the clock and `t` depend on the block size."""
    return [
        (event.final, event.start, event.end, event.label, event.scores)
        for event in events
        if isinstance(event, EmotionEvent)
    ]


def with_threshold(bundle: Bundle, threshold: float) -> Bundle:
    calibration = {
        name: replace(chosen, threshold=threshold)
        for name, chosen in bundle.manifest.calibration.items()
    }
    return replace(bundle, manifest=replace(bundle.manifest, calibration=calibration))


@pytest.mark.parametrize("milliseconds", [10, 30, 250, 1000, 100_000])
def test_the_size_of_the_blocks_changes_no_verdict(
    bundle: Bundle, scene: Int16, milliseconds: int
) -> None:
    expected = verdicts(hear(EmotionStream(bundle), scene, SAMPLE_RATE // 10))
    found = verdicts(hear(EmotionStream(bundle), scene, milliseconds * 16))
    assert len(found) == len(expected) > 5
    # Exactly: what float32 features differ by, 2e-5, is far below the int8 steps of the model.
    assert found == expected


def test_the_size_of_the_blocks_changes_no_verdict_on_real_clips(
    bundle: Bundle, recordings: list[Int16]
) -> None:
    for samples in recordings:
        whole = verdicts(hear(EmotionStream(bundle), samples, samples.size))
        assert whole
        assert verdicts(hear(EmotionStream(bundle), samples, 1234)) == whole


def test_float_and_int16_samples_give_the_same_verdicts(bundle: Bundle, sentence: Int16) -> None:
    expected = verdicts(hear(EmotionStream(bundle), sentence, 1600))
    floats = sentence.astype(np.float32) / 32768
    assert verdicts(hear(EmotionStream(bundle), floats, 1600)) == expected


def test_every_utterance_has_a_start_and_one_final_verdict(bundle: Bundle, scene: Int16) -> None:
    events = hear(EmotionStream(bundle), scene, 1600)
    starts = [event for event in events if isinstance(event, SpeechStartEvent)]
    ends = finals(events)
    assert len(starts) == len(ends) >= 5
    for start, final in zip(starts, ends, strict=True):
        assert final.start == start.t < final.end <= final.t
    # In order: an utterance is closed before the next one begins.
    kinds = [e.type for e in events if isinstance(e, SpeechStartEvent) or e in ends]
    assert kinds == ["speech_start", "emotion"] * len(starts)


def test_a_partial_verdict_comes_with_every_quarter_second_of_speech(
    bundle: Bundle, sentence: Int16
) -> None:
    events = hear(EmotionStream(bundle), sentence, 1600)
    (final,) = finals(events)
    heard = [event.end - event.start for event in partials(events)]
    # The first chunk needs 25 frames, 5 of context, 4 of delta look-ahead and a window: 0.36 s.
    expected = np.arange(2, int((final.end - final.start) / PARTIAL_SECONDS) + 1) * PARTIAL_SECONDS
    assert heard == pytest.approx(list(expected))


def test_partial_verdicts_can_be_had_more_often_or_not_at_all(
    bundle: Bundle, sentence: Int16
) -> None:
    usual = hear(EmotionStream(bundle), sentence, 1600)
    often = hear(EmotionStream(bundle, partial_seconds=0.1), sentence, 1600)
    never = hear(EmotionStream(bundle, partial_seconds=0), sentence, 1600)
    assert len(partials(often)) > 2 * len(partials(usual))
    assert partials(never) == []
    assert verdicts(finals(usual)) == verdicts(finals(often)) == verdicts(finals(never))


def test_the_same_clip_again_gets_the_same_scores(bundle: Bundle, sentence: Int16) -> None:
    stream = EmotionStream(bundle)
    (first,) = finals(hear(stream, sentence, 1600))
    offset = stream.time
    (second,) = finals(hear(stream, sentence, 1600))
    assert second.scores == first.scores
    assert second.start - offset == pytest.approx(first.start)


def test_the_order_of_clips_changes_no_verdict(bundle: Bundle, recordings: list[Int16]) -> None:
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole())
    forward = [classify(stream, samples).scores for samples in recordings]
    backward = [classify(stream, samples).scores for samples in reversed(recordings)]
    assert forward == backward[::-1]


def test_clear_emotions_are_heard(bundle: Bundle, recordings: list[Int16]) -> None:
    # The order of the fixture: neutral, happy, sad, angry of two actors; then four German ones.
    truth = ["neutral", "happy", "sad", "angry"] * 2 + ["happy", "neutral", "angry", "sad"]
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole())
    found = [max(s, key=s.__getitem__) for s in (classify(stream, r).scores for r in recordings)]
    # The model has heard these clips: it must know most of them, chance would be 3 of 12.
    assert sum(a == b for a, b in zip(truth, found, strict=True)) >= 8


def test_speech_longer_than_an_utterance_may_be_is_judged_in_parts(
    bundle: Bundle, scene: Int16
) -> None:
    segment = replace(bundle.manifest.segment, max_seconds=1.0)
    whole = finals(hear(EmotionStream(bundle), scene, 1600))
    parts = finals(hear(EmotionStream(bundle, segment=segment), scene, 1600))
    assert len(parts) > 2 * len(whole)
    longest = 1.0 + segment.end_ms / 1000  # silence is held back until a voice follows it
    assert all(event.end - event.start <= longest for event in parts)
    spoken = sum(event.end - event.start for event in whole)
    # Cutting loses no speech but short pauses at the cuts.
    assert sum(event.end - event.start for event in parts) > 0.85 * spoken


def test_a_verdict_below_the_threshold_is_unsure_and_keeps_its_scores(
    bundle: Bundle, sentence: Int16
) -> None:
    (sure,) = finals(hear(EmotionStream(with_threshold(bundle, 0.0)), sentence, 1600))
    (unsure,) = finals(hear(EmotionStream(with_threshold(bundle, 1.01)), sentence, 1600))
    assert sure.label == max(sure.scores, key=sure.scores.__getitem__)
    assert unsure.label == UNSURE
    assert unsure.scores == sure.scores
    assert unsure.confidence == sure.confidence == max(sure.scores.values())


def test_nan_and_infinity_are_taken_for_silence_and_counted(
    bundle: Bundle, sentence: Int16
) -> None:
    floats = sentence.astype(np.float32) / 32768
    floats[::1000] = np.nan
    floats[500::2000] = np.inf
    silenced = np.where(np.isfinite(floats), floats, 0)
    stream = EmotionStream(bundle)
    found = verdicts(hear(stream, floats, 1600))
    assert found == verdicts(hear(EmotionStream(bundle), silenced, 1600))
    assert stream.health().invalid_samples == np.count_nonzero(~np.isfinite(floats)) > 100


def test_nothing_but_nan_is_silence(bundle: Bundle) -> None:
    stream = EmotionStream(bundle)
    assert hear(stream, np.full(SAMPLE_RATE, np.nan), 1600) == []
    assert stream.health().invalid_samples == SAMPLE_RATE


def test_samples_beyond_full_scale_are_clipped(bundle: Bundle, sentence: Int16) -> None:
    loud = sentence.astype(np.float64) / 32768 * 50
    expected = verdicts(hear(EmotionStream(bundle), np.clip(loud, -1, 1), 1600))
    assert verdicts(hear(EmotionStream(bundle), loud, 1600)) == expected


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 160), np.int16), np.zeros(160, np.uint8), np.zeros(160, np.complex64)]
)
def test_samples_of_another_shape_or_type_are_refused(
    bundle: Bundle, samples: npt.NDArray[np.generic]
) -> None:
    with pytest.raises(ValueError, match="samples must be"):
        EmotionStream(bundle).feed(samples)


def test_key_phrases_that_a_bundle_has_not_are_refused(deaf_to_words: Path) -> None:
    with pytest.raises(EdgeError, match="this bundle has no keyword list; name one"):
        EmotionStream(load_bundle(deaf_to_words), "keywords")


def test_health_is_told_every_minute_of_audio(bundle: Bundle) -> None:
    stream = EmotionStream(bundle)
    second = np.zeros(SAMPLE_RATE, np.int16)
    events = [event for _ in range(200) for event in stream.feed(second)]
    assert [event.t for event in events] == [60.0, 120.0, 180.0]
    for event in events:
        assert isinstance(event, HealthEvent)
        assert event.dropped_ms == 0
        assert 0 < event.real_time_factor < 1
        # This process holds numpy and an interpreter: more than 20 MB, less than 4 GB.
        assert 20 < event.rss_mb < 4000


def test_lost_audio_is_counted_and_closes_the_utterance(bundle: Bundle, sentence: Int16) -> None:
    stream = EmotionStream(bundle)
    stream.feed(sentence[: 3 * SAMPLE_RATE])
    (final,) = finals(stream.skip(SAMPLE_RATE // 2))
    assert final.end <= 3.0
    assert stream.skip(SAMPLE_RATE // 4) == []
    assert stream.time == 3.75
    assert stream.health().dropped_ms == 750.0
    assert stream.health().t == 3.75


def test_latency_is_told_by_stage(bundle: Bundle, sentence: Int16) -> None:
    found = partials(hear(EmotionStream(bundle), sentence, 1600))
    assert found
    for event in found:
        latency = event.latency_ms
        assert set(latency) == {"features", "text", "graph", "total"}
        assert latency["text"] == 0
        assert 0 < latency["features"] + latency["graph"] <= latency["total"]


def test_silence_leads_to_no_event(bundle: Bundle) -> None:
    assert hear(EmotionStream(bundle), np.zeros(10 * SAMPLE_RATE, np.int16), 1600) == []


@pytest.mark.parametrize("samples", [1, 100, 5000])
def test_a_whole_clip_gets_a_verdict_however_short_it_is(bundle: Bundle, samples: int) -> None:
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole())
    event = classify(stream, np.random.default_rng(0).normal(0, 0.1, samples))
    assert event.final
    assert sum(event.scores.values()) == pytest.approx(1, abs=1e-6)
    assert event.start == 0.0
    assert event.end == pytest.approx(samples / SAMPLE_RATE)


def test_a_clip_without_samples_is_refused_also_after_another(
    bundle: Bundle, sentence: Int16
) -> None:
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole())
    with pytest.raises(ValueError, match="without samples"):
        classify(stream, np.empty(0, np.int16))
    classify(stream, sentence)
    with pytest.raises(ValueError, match="without samples"):
        classify(stream, np.empty(0, np.int16))


@pytest.mark.parametrize("seed", range(4))
def test_the_shipped_bundle_is_unsure_of_what_is_no_speech(seed: int) -> None:
    """It was "angry" of this noise, for its threshold from sound alone was 0: never "unsure"."""
    noise = 3000 * np.random.default_rng(seed).standard_normal(3 * SAMPLE_RATE)
    bundle = load_bundle("default")
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    (verdict,) = finals(hear(stream, np.rint(noise).astype(np.int16), 1600))
    assert verdict.label == UNSURE
    assert verdict.confidence < bundle.manifest.calibration["audio"].threshold
    assert all(chosen.threshold > 0 for chosen in bundle.manifest.calibration.values())


def test_digital_silence_is_no_clip_and_leaves_no_words_behind(bundle: Bundle) -> None:
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    assert judge_clip(stream, np.zeros(50_000, np.int16), "i am happy") is None
    with pytest.raises(ValueError, match="has no emotion"):
        classify(stream, np.zeros(50_000, np.int16))
    assert classify(stream, speechlike_noise(2.0)).modality == "audio"
