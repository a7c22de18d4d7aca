"""Utterance boundaries: on real speech, on noise, and exact in time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.segment import (
    FRAME,
    Boundary,
    OffsetBlocker,
    Segmenter,
    SegmentParams,
    Speech,
    SpeechEnd,
    SpeechStart,
    speech_of,
)

Int16 = npt.NDArray[np.int16]
Utterance = tuple[float, Int16, float]  # start, samples, end

# Where the samples that come out are compared with those that went in.
PARAMS = SegmentParams(offset_seconds=0)


def utterances(found: list[Boundary]) -> list[Utterance]:
    """Boundaries as utterances; fails when they are not in order."""
    result: list[Utterance] = []
    start: float | None = None
    pieces: list[Int16] = []
    for item in found:
        if isinstance(item, SpeechStart):
            assert start is None
            start, pieces = item.t, []
        elif isinstance(item, Speech):
            assert start is not None
            pieces.append(item.samples)
        else:
            assert start is not None
            result.append((start, np.concatenate(pieces), item.t))
            start = None
    assert start is None
    return result


def cut(samples: Int16, params: SegmentParams = PARAMS) -> list[Utterance]:
    segmenter = Segmenter(params)
    return utterances(segmenter.feed(samples) + segmenter.finish())


def silence(seconds: float) -> Int16:
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def noise(seconds: float, level_db: float, seed: int = 0) -> Int16:
    count = round(seconds * SAMPLE_RATE)
    wave = np.random.default_rng(seed).standard_normal(count) * 10 ** (level_db / 20)
    return np.asarray(np.clip(wave, -1, 1) * 32767, np.int16)


def loud_part(samples: Int16, below_peak_db: float) -> tuple[int, int]:
    """First and last sample of the 20 ms frames within that range of the loudest."""
    frames = samples[: samples.size // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    energy = (frames**2).mean(axis=1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-below_peak_db / 10))
    return int(loud[0]) * FRAME, (int(loud[-1]) + 1) * FRAME


@pytest.fixture(scope="module")
def voice(scene: Int16) -> Int16:
    """The first sentence of the scene with little around it, 3.6 s."""
    return speech_of(scene[: round(4.8 * SAMPLE_RATE)], replace(PARAMS, lead_ms=0, tail_ms=0))


def test_a_real_clip_is_one_utterance_that_covers_its_loud_part(recordings: list[Int16]) -> None:
    for samples in recordings:
        # A second of room before and after, as a live stream has it.
        padded = np.concatenate([silence(1), samples, silence(1)])
        found = cut(padded)
        assert len(found) == 1
        start, _, end = found[0]
        first, last = loud_part(padded, below_peak_db=20)
        # 20 dB below the peak is speech for certain; 20 ms is the frame that is judged.
        assert start * SAMPLE_RATE <= first + FRAME
        assert end * SAMPLE_RATE >= last - FRAME
        # And the second of room is gone, but for what is kept around speech: it begins somewhere
        # in the stretch that found it, and a frame of 30 ms is the edge's resolution.
        kept = (PARAMS.lead_ms + PARAMS.start_ms + PARAMS.tail_ms) / 1000
        assert end - start < samples.size / SAMPLE_RATE + kept + 0.06


def test_the_caller_may_use_its_array_again(scene: Int16) -> None:
    block, segmenter = np.empty(1600, np.int16), Segmenter()
    found: list[Boundary] = []
    for start in range(0, len(scene) - 1600, 1600):
        block[:] = scene[start : start + 1600]
        found += [
            Speech(item.samples.copy()) if isinstance(item, Speech) else item
            for item in segmenter.feed(block)
        ]
    reused = utterances(found + segmenter.finish())
    kept = cut(scene[: start + 1600], SegmentParams())
    assert len(reused) == len(kept) > 0
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(reused, kept, strict=True))


def test_the_scene_has_its_five_sentences(scene: Int16) -> None:
    found = cut(scene)
    # "We won! I can't believe it" pauses longer than an utterance may: six stretches.
    assert 5 <= len(found) <= 6
    assert all(end - start > 1.0 for start, _, end in found)


@pytest.mark.parametrize("level_db", [-70, -50, -40, -30, -20, -10])
def test_steady_noise_is_no_speech_once_the_floor_has_risen(level_db: float) -> None:
    # The floor starts at -65 dB and rises by 3 dB a second: 20 s reach the loudest of these.
    segmenter = Segmenter()
    segmenter.feed(noise(25, level_db))
    settled = utterances_after(segmenter, noise(60, level_db, seed=1))
    assert sum(end - start for start, _, end in settled) < 1.0


def utterances_after(segmenter: Segmenter, samples: Int16) -> list[Utterance]:
    """What begins in `samples`; an utterance that runs already is closed first."""
    segmenter.skip(0)
    return utterances(segmenter.feed(samples) + segmenter.skip(0))


def test_digital_silence_is_no_speech() -> None:
    assert cut(silence(60)) == []


def test_a_click_is_no_speech() -> None:
    samples = silence(5)
    samples[SAMPLE_RATE : SAMPLE_RATE + 300] = 20_000
    assert cut(samples) == []


def test_a_pause_of_a_second_separates_two_utterances(voice: Int16) -> None:
    samples = np.concatenate([silence(1), voice, silence(1), voice, silence(1)])
    assert len(cut(samples)) == 2


def test_a_pause_of_a_third_of_a_second_does_not(voice: Int16) -> None:
    samples = np.concatenate([silence(1), voice, silence(0.3), voice, silence(1)])
    assert len(cut(samples)) == 1


def test_times_point_at_the_very_samples(scene: Int16) -> None:
    # No pause inside these utterances is shortened, so each is one stretch of the stream.
    for start, samples, end in cut(scene):
        first, last = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
        assert np.array_equal(scene[first:last], samples)


def test_speech_that_begins_at_a_known_second_is_dated_there(voice: Int16) -> None:
    expected = cut(np.concatenate([silence(1), voice, silence(1)]))[0]
    for seconds in (3.0, 7.34, 60.0):
        found = cut(np.concatenate([silence(seconds), voice, silence(1)]))[0]
        # 20 ms: the frame that is judged, into which the voice falls differently.
        assert found[0] - seconds == pytest.approx(expected[0] - 1, abs=0.021)
        assert found[2] - seconds == pytest.approx(expected[2] - 1, abs=0.021)
        first, last = loud_part(voice, below_peak_db=20)
        assert seconds + first / SAMPLE_RATE - 0.3 < found[0] <= seconds + first / SAMPLE_RATE
        assert found[2] >= seconds + last / SAMPLE_RATE


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, 12 * SAMPLE_RATE), max_size=60))
def test_any_cut_of_the_samples_gives_the_same_utterances(scene: Int16, cuts: list[int]) -> None:
    samples = scene[: 12 * SAMPLE_RATE]
    segmenter = Segmenter()
    found: list[Boundary] = []
    for piece in np.split(samples, sorted(cuts)):
        found += segmenter.feed(piece)
    found += segmenter.finish()
    expected = cut(samples, SegmentParams())
    assert len(found) >= 3 * len(expected) > 0
    for one, other in zip(utterances(found), expected, strict=True):
        assert one[0] == other[0]
        assert one[2] == other[2]
        assert np.array_equal(one[1], other[1])


def test_endless_speech_is_closed_in_time_and_nothing_of_it_is_lost(voice: Int16) -> None:
    params = replace(PARAMS, max_seconds=2.0)
    samples = np.concatenate([silence(1), *[voice] * 4, silence(1)])
    found = cut(samples, params)
    assert len(found) >= 6
    # Silence is held back until a voice follows it: an utterance can be that much longer.
    longest = params.max_seconds + params.end_ms / 1000
    assert all(end - start <= longest for start, _, end in found)
    for (_, _, end), (start, _, _) in pairwise(found):
        assert start - end <= 0.4  # what the scene's own pauses leave, see the next line
        gap = samples[round(end * SAMPLE_RATE) : round(start * SAMPLE_RATE)].astype(np.float64)
        quiet = np.sqrt((gap**2).mean()) if gap.size else 0.0
        assert quiet < np.sqrt((voice.astype(np.float64) ** 2).mean()) / 10
    for start, part, end in found:
        assert np.array_equal(part, samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)])


def test_an_utterance_may_end_later_than_its_longest_pause_is_kept(voice: Int16) -> None:
    params = replace(PARAMS, end_ms=1500, max_pause_ms=1000)
    samples = np.concatenate([silence(1), voice, silence(1.2), voice, silence(3), voice])
    one, two = cut(samples, params)[:2]
    assert one[2] < two[0] - 1.5
    assert one[1].size < round((one[2] - one[0]) * SAMPLE_RATE)  # of the pause within it


def test_an_utterance_cut_for_its_length_goes_on_without_a_gap() -> None:
    # A steady voice, 100 Hz pulses with formants, that never pauses.
    pulses = silence(20)
    pulses[::160] = 12_000
    kernel = np.exp(-np.arange(160) / 30) * np.cos(2 * np.pi * 700 * np.arange(160) / SAMPLE_RATE)
    vowel = np.convolve(pulses, kernel)[: pulses.size]
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * np.arange(pulses.size) / SAMPLE_RATE)
    samples = np.asarray(vowel * swell, np.int16)
    found = cut(samples, replace(PARAMS, max_seconds=1.0, floor_rise_db=0.0))
    assert len(found) > 10
    for (_, _, end), (start, _, _) in pairwise(found):
        assert start == end


def test_lost_audio_closes_the_utterance_and_moves_the_clock(voice: Int16) -> None:
    segmenter = Segmenter()
    before = segmenter.feed(np.concatenate([silence(1), voice]))
    closed = segmenter.skip(10 * SAMPLE_RATE)
    assert isinstance(closed[-1], SpeechEnd)
    assert len(utterances(before + closed)) == 1
    assert segmenter.position == 11 * SAMPLE_RATE + voice.size
    after = utterances(segmenter.feed(voice) + segmenter.finish())
    assert after[0][0] == pytest.approx(11 + voice.size / SAMPLE_RATE, abs=0.3)


def test_speech_is_not_dated_into_the_audio_that_was_lost(voice: Int16) -> None:
    # 100 ms of voice is too little to begin an utterance, and must not help the next to begin.
    segmenter = Segmenter()
    segmenter.feed(np.concatenate([silence(1), voice[: SAMPLE_RATE // 10]]))
    gap_ends = (segmenter.position + 5 * SAMPLE_RATE) / SAMPLE_RATE
    assert segmenter.skip(5 * SAMPLE_RATE) == []
    start, samples, _ = utterances(segmenter.feed(voice) + segmenter.finish())[0]
    assert start >= gap_ends - 0.02  # the frame that the gap tore apart
    assert samples.size <= voice.size + FRAME


def test_taken_whole_only_the_edges_are_trimmed(voice: Int16) -> None:
    samples = np.concatenate([silence(2), voice, silence(0.8), voice, silence(2)])
    found = cut(samples, PARAMS.whole())
    assert len(found) == 1
    start, kept, end = found[0]
    assert np.array_equal(samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)], kept)
    assert kept.size < samples.size - 3 * SAMPLE_RATE


def test_taken_whole_a_long_pause_is_shortened_and_the_end_is_dated_right(voice: Int16) -> None:
    once = cut(np.concatenate([silence(2), voice, silence(2)]), PARAMS.whole())[0]
    pause = noise(6, -80)
    samples = np.concatenate([silence(2), voice, pause, voice, silence(9)])
    ((start, kept, end),) = cut(samples, PARAMS.whole())
    assert start == once[0]
    removed = (end - start) - kept.size / SAMPLE_RATE
    # Six seconds between the voices, of which max_pause_ms stay; the edges of the voice itself
    # are soft, up to the 240 ms in which it must assert itself.
    assert removed == pytest.approx(6 - PARAMS.max_pause_ms / 1000, abs=0.3)
    # What follows the first voice and what precedes the second stay as they were.
    near = SAMPLE_RATE * PARAMS.max_pause_ms // 2000 - 5 * FRAME
    first, last = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
    after = 2 * SAMPLE_RATE + voice.size + near
    before = 2 * SAMPLE_RATE + voice.size + pause.size - near
    assert np.array_equal(kept[: after - first], samples[first:after])
    assert np.array_equal(kept[before - last :], samples[before:last])
    second_voice = 2 + 6 + voice.size / SAMPLE_RATE
    assert end - second_voice == pytest.approx(once[2] - 2, abs=0.021)


@pytest.mark.parametrize("seconds", [0.01, 0.5, 3.0])
def test_taken_whole_a_clip_without_a_voice_comes_back_as_it_is(seconds: float) -> None:
    samples = noise(seconds, -75)
    ((start, kept, end),) = cut(samples, PARAMS.whole())
    assert np.array_equal(kept, samples)
    assert start == 0.0
    assert end == pytest.approx(seconds)
    assert np.array_equal(speech_of(samples), samples)


def test_taken_whole_an_hour_without_a_voice_is_not_all_remembered() -> None:
    segmenter = Segmenter(PARAMS.whole())
    hush = noise(60, -75)
    for _ in range(60):
        segmenter.feed(hush)
    ((start, kept, end),) = utterances(segmenter.finish())
    assert kept.size == 15 * SAMPLE_RATE
    assert (start, end) == (3585.0, 3600.0)


@pytest.mark.parametrize("level", [0, 1, 900])
def test_taken_whole_silence_is_no_utterance(level: int) -> None:
    """Nor is its dither, nor a constant offset: of them a model says what it was never taught."""
    silent = np.full(3 * SAMPLE_RATE, level, np.int16)
    silent[::7] -= min(level, 2)
    whole = SegmentParams().whole()
    assert cut(silent, whole) == []
    assert len(cut(silent + noise(3, -40), whole)) == 1


@pytest.mark.parametrize("level_db", [-85, -20])
def test_one_recording_does_not_change_how_the_next_is_cut(scene: Int16, level_db: float) -> None:
    # Noise floor and detector adapt: after a studio, the scene's room at -62 dB would be voice.
    samples = scene[: 5 * SAMPLE_RATE]
    segmenter = Segmenter(PARAMS.whole())
    segmenter.feed(noise(10, level_db))
    segmenter.finish()
    offset = segmenter.position / SAMPLE_RATE
    (again,) = utterances(segmenter.feed(samples) + segmenter.finish())
    (fresh,) = cut(samples, PARAMS.whole())
    assert np.array_equal(again[1], fresh[1])
    assert again[0] == pytest.approx(fresh[0] + offset)


@pytest.mark.parametrize("params", [PARAMS, PARAMS.whole()])
def test_a_second_finish_finds_nothing(voice: Int16, params: SegmentParams) -> None:
    segmenter = Segmenter(params)
    segmenter.feed(voice)
    assert segmenter.finish() != []
    assert segmenter.finish() == []


@pytest.mark.parametrize("offset", [164, -655, 3277])  # 0.005, -0.02 and 0.1 of full scale
def test_a_constant_offset_changes_nothing(recordings: list[Int16], offset: int) -> None:
    compared = 0
    for samples in recordings:
        moved = np.clip(samples.astype(np.int32) + offset, -32768, 32767).astype(np.int16)
        if not np.array_equal(moved.astype(np.int32) - offset, samples):
            continue  # loud enough to be clipped: not the same sound
        expected, heard = cut(samples, SegmentParams()), cut(moved, SegmentParams())
        assert [u[0] for u in heard] == [u[0] for u in expected]
        for one, other in zip(heard, expected, strict=True):
            assert np.array_equal(one[1], other[1])
        compared += len(expected)
    assert compared > 0


def test_an_offset_that_is_left_in_hides_quiet_speech(voice: Int16) -> None:
    """What the blocker is for: without it, the offset of a cheap microphone counts as sound."""
    quiet = np.concatenate([silence(1), voice // 10, silence(1)]) + np.int16(3277)
    assert len(cut(quiet, SegmentParams())) == len(cut(quiet - np.int16(3277), PARAMS))
    assert [u[0] for u in cut(quiet, PARAMS)] != [u[0] for u in cut(quiet, SegmentParams())]


def test_what_the_blocker_takes_away_does_not_depend_on_the_cut() -> None:
    samples = noise(4, -30) + np.int16(300)
    frames = samples[: samples.size // FRAME * FRAME].reshape(-1, FRAME)
    whole = OffsetBlocker(1.0).feed(frames)
    pieces = OffsetBlocker(1.0)
    cuts = [pieces.feed(piece) for piece in np.split(frames, [1, 2, 50, 51, 120])]
    assert np.array_equal(np.concatenate(cuts), whole)
    assert abs(whole[50:].mean()) < 1


def test_the_blocker_clips_and_does_not_wrap() -> None:
    frames = np.full((100, FRAME), -3000, np.int16)
    frames[99, 5] = 32767
    assert OffsetBlocker(1.0).feed(frames)[99, 5] == 32767


@pytest.mark.parametrize(
    "changes",
    [
        {"aggressiveness": 4},
        {"offset_seconds": -1.0},
        {"start_ms": 10},
        {"start_share": 0.0},
        {"tail_ms": -20},
        {"max_seconds": 0.0},
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="cannot be meant"):
        SegmentParams(**changes)  # type: ignore[arg-type]
