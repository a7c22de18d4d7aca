"""What is said of a microphone: once when it begins, once when it is over, with what to do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.audio.channels import LiveMono
from edge_runtime.audio.levels import Finding, Levels
from edge_runtime.pcm import SAMPLE_RATE

RATE = 48_000
Samples = npt.NDArray[np.floating]


def listen(frames: Samples, channel: int | None = None, rate: int = RATE) -> list[Finding]:
    """What is found in frames (n, channels) that come in tenths of a second."""
    mono = LiveMono(rate, frames.shape[1], channel)
    levels = Levels(rate)
    found = []
    for at in range(0, len(frames), rate // 10):
        piece = frames[at : at + rate // 10].astype(np.float32)
        mixed = mono.mix(piece)
        dead = mono.dead if mono.judged else None
        found += levels.take(mixed, mono.convert(mixed), dead, mono.cancelling)
    return found


def noise(seconds: float, db: float, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).normal(0, 10 ** (db / 20), (round(seconds * RATE), 1))


def spoken(sentence: npt.NDArray[np.int16], times: int = 1) -> Samples:
    """Real speech at 48 kHz, over the noise of a room."""
    import soxr

    clean = soxr.resample(sentence.astype(np.float64) / 32768, SAMPLE_RATE, RATE)
    clean = np.tile(clean, times)[:, None]
    return clean + noise(len(clean) / RATE, -75)[: len(clean)]


def told(found: list[Finding]) -> list[tuple[str, bool]]:
    return [(finding.what, finding.active) for finding in found]


def test_of_ordinary_speech_nothing_is_said(sentence: npt.NDArray[np.int16]) -> None:
    assert listen(spoken(sentence, 4)) == []


def test_muted_is_said_and_taken_back(sentence: npt.NDArray[np.int16]) -> None:
    speech = spoken(sentence)
    found = listen(np.concatenate([speech, np.zeros((8 * RATE, 1)), speech]))
    assert told(found) == [("muted", True), ("muted", False)]
    assert "unmute" in found[0].message


def test_a_constant_offset_alone_is_muted_too() -> None:
    assert ("muted", True) in told(listen(np.full((4 * RATE, 1), 0.1)))


def test_too_quiet_is_said_once_until_it_was_loud(sentence: npt.NDArray[np.int16]) -> None:
    speech = spoken(sentence)
    quiet = np.concatenate([0.003 * spoken(sentence, 3), noise(6, -85)])
    found = listen(np.concatenate([quiet, speech, quiet, quiet]))
    assert told(found) == [("quiet", True), ("quiet", False)]
    assert "gain up" in found[0].message


def test_clipping_is_one_warning_not_one_a_word(sentence: npt.NDArray[np.int16]) -> None:
    loud = np.clip(30 * spoken(sentence, 4), -1, 1)
    found = listen(loud)
    assert told(found) == [("clipping", True)]
    assert "gain down" in found[0].message


def test_an_offset_is_said(sentence: npt.NDArray[np.int16]) -> None:
    found = listen(spoken(sentence, 2) + 0.05)
    assert told(found) == [("offset", True)]
    assert "+5 %" in found[0].message


@pytest.mark.parametrize("mains", [50, 60])
def test_hum_names_the_mains(mains: int) -> None:
    t = np.arange(9 * RATE) / RATE
    hum = sum(0.02 / k * np.sin(2 * np.pi * mains * k * t + k) for k in range(1, 4))
    found = listen(hum[:, None] + noise(9, -60))
    assert ("hum", True) in told(found)
    assert f"{mains} Hz" in next(f.message for f in found if f.what == "hum")


def test_a_dead_channel_is_left_out_at_once_and_said(sentence: npt.NDArray[np.int16]) -> None:
    speech = spoken(sentence, 4)
    frames = np.concatenate([np.zeros_like(speech), speech], axis=1)
    found = listen(frames)
    assert told(found) == [("dead_channel", True)]
    assert "channel 1," in found[0].message
    mono = LiveMono(RATE, 2)
    for at in range(0, len(frames), 4800):
        piece = frames[at : at + 4800].astype(np.float32)
        assert np.array_equal(mono.mix(piece), piece[:, 1])


def test_channels_that_cancel_are_not_mixed(sentence: npt.NDArray[np.int16]) -> None:
    speech = spoken(sentence, 2)
    found = listen(np.concatenate([speech, -speech], axis=1))
    assert told(found) == [("cancelling", True)]


def test_the_channel_that_is_asked_for_is_taken(sentence: npt.NDArray[np.int16]) -> None:
    speech = spoken(sentence).astype(np.float32)
    frames = np.concatenate([np.zeros_like(speech), speech, 0.5 * speech], axis=1)
    assert np.array_equal(LiveMono(RATE, 3, 3).mix(frames), frames[:, 2])
    assert ("muted", True) in told(listen(np.tile(frames, (2, 1)), 1))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_the_stream_is_as_if_resampled_at_once(rate: int) -> None:
    import soxr

    t = np.arange(2 * rate) / rate
    tone = (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    mono = LiveMono(rate, 1)
    pieces = [mono.convert(tone[at : at + rate // 10]) for at in range(0, len(tone), rate // 10)]
    heard = np.concatenate([*pieces, mono.flush()])
    whole = soxr.resample(tone, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else tone
    assert heard.size == whole.size == 2 * SAMPLE_RATE
    # Rounding to int16, and soxr's choice of sizes in a stream.
    assert np.abs(heard / 32768 - whole).max() < 3e-4


def test_what_is_still_wrong_when_it_is_back_is_not_said_again() -> None:
    levels = Levels(SAMPLE_RATE)
    second = np.zeros(SAMPLE_RATE, np.float32)
    found = []
    for _ in range(4):
        found += levels.take(second, second.astype(np.int16))
    levels.reopened(SAMPLE_RATE)
    for _ in range(4):
        found += levels.take(second, second.astype(np.int16))
    assert told(found) == [("muted", True)]
