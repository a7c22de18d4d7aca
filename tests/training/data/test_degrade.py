"""Clips as devices hear them: the same whenever they are asked for, and within what is set."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.audio.file import read_file
from edge_runtime.pcm import SAMPLE_RATE, Float32
from training.corpora import Utterance, load_corpora
from training.data import channel
from training.data.degrade import (
    DegradeSettings,
    Sources,
    Timing,
    degrade,
    generator,
    load_sources,
    timing,
)

ROOT = Path(__file__).parents[3]
OFF = DegradeSettings(
    **{
        item.name: 0.0
        for item in fields(DegradeSettings)
        if isinstance(item.default, float) and item.name not in ("microphone_db", "offset_most")
    }
)


@pytest.fixture(scope="module")
def clip() -> Float32:
    scene = read_file(ROOT / "edge_runtime" / "demo" / "scene.flac", 0.0, 3.0)
    return np.float32(1 / 32768) * scene


@pytest.fixture(scope="module")
def sources() -> Sources:
    rng = np.random.default_rng(0)
    decay = 10 ** (-3 * np.arange(4000) / 4000)
    noises = [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (8000, 80_000)]
    rooms = [(rng.standard_normal(4000) * decay).astype(np.float32) for _ in range(3)]
    voices = [(0.1 * rng.standard_normal(30_000)).astype(np.float32) for _ in range(4)]
    for room in rooms:
        room[0] = 8
    return Sources(noises, rooms, voices)


def test_a_clip_of_an_epoch_is_the_same_whoever_asks_and_when(
    clip: Float32, sources: Sources
) -> None:
    settings = DegradeSettings(clean=0)
    names = [f"corpus/clip {n}" for n in range(20)]

    def heard(seed: int, epoch: int, order: list[str]) -> dict[str, bytes]:
        return {
            name: degrade(clip, generator(seed, name, epoch), sources, settings).tobytes()
            for name in order
        }

    first = heard(0, 3, names)
    assert heard(0, 3, names[::-1]) == first
    assert len(set(first.values())) == len(names)
    for other in (heard(0, 4, names), heard(1, 3, names)):
        assert all(other[name] != first[name] for name in names)


def test_whatever_is_drawn_is_a_sound_that_a_file_can_hold(clip: Float32, sources: Sources) -> None:
    loud = clip / np.abs(clip).max()
    clips = (clip, loud, clip[:1], clip[:100], np.zeros(4000, np.float32), clip[:0])
    settings = DegradeSettings(clean=0, opus=0.2, pitch=0.5)
    shortest = round(SAMPLE_RATE * 0.03)
    for given in clips:
        before = given.copy()
        for epoch in range(25):
            heard = degrade(given, generator(0, "x", epoch), sources, settings)
            assert heard.dtype == np.float32
            assert heard.ndim == 1
            assert np.isfinite(heard).all()
            assert np.abs(heard).max(initial=0) <= 1
            assert min(given.size, 1) <= heard.size <= given.size / 0.85 + 2
            assert heard.size >= (given.size - shortest) / 1.15 - 2
        np.testing.assert_array_equal(given, before)


def test_nothing_happens_to_clean_clips_and_with_everything_off(
    clip: Float32, sources: Sources
) -> None:
    heard = degrade(clip, generator(0, "x", 0), sources, OFF)
    np.testing.assert_array_equal(heard, clip)
    assert not np.shares_memory(heard, clip)
    settings = DegradeSettings(opus=0, mp3=0)
    part = clip[:3000]
    same = sum(
        np.array_equal(part, degrade(part, generator(0, str(n), 0), sources, settings))
        for n in range(1000)
    )
    # A share of 0.2, of which 1,000 draws have 200 with a deviation of 13.
    assert 150 < same < 250


@pytest.mark.parametrize("name", ["noise", "babble"])
@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_others_are_heard_as_far_below_the_voice_as_set(
    clip: Float32, sources: Sources, name: str, snr_db: float
) -> None:
    settings = replace(OFF, **{name: 1.0}, snr_db=(snr_db, snr_db))
    quiet = clip / 4  # so that nothing is clipped
    added = degrade(quiet, generator(0, "x", 0), sources, settings) - quiet
    ratio = channel.active_level(quiet) / channel.active_level(added)
    assert 20 * np.log10(ratio) == pytest.approx(snr_db, abs=0.1)


def test_levels_are_drawn_from_their_whole_range(clip: Float32, sources: Sources) -> None:
    quiet = clip * np.float32(0.05 / np.abs(clip).max())  # 26 dB of room
    own = channel.active_level(quiet)
    settings = replace(OFF, gain=1.0)
    levels = [
        channel.active_level(degrade(quiet, generator(0, str(n), 0), sources, settings))
        for n in range(100)
    ]
    gains = 20 * np.log10(np.array(levels) / own)
    assert -20.1 < min(gains) < -15
    assert 15 < max(gains) < 20.1
    # Without room, gain does not clip: that is what overload is for.
    full = clip / np.abs(clip).max()
    for n in range(50):
        heard = degrade(full, generator(0, str(n), 0), sources, settings)
        assert np.corrcoef(heard, full)[0, 1] > 0.99999


def test_a_phase_is_any_within_the_frames_of_a_device(sources: Sources) -> None:
    ramp = np.linspace(0, 1, 16_000, dtype=np.float32)
    settings = replace(OFF, phase=1.0)
    starts = []
    for n in range(400):
        heard = degrade(ramp, generator(0, str(n), 0), sources, settings)
        starts.append(ramp.size - heard.size)
        np.testing.assert_array_equal(heard, ramp[starts[-1] :])
    assert 0 <= min(starts) < 20
    assert 460 < max(starts) < 480
    assert np.mean(starts) == pytest.approx(240, abs=25)  # deviation of the mean: 7


def test_timing_says_where_the_samples_come_from(sources: Sources) -> None:
    ramp = np.linspace(-0.9, 0.9, 32_000, dtype=np.float32)
    settings = replace(OFF, phase=1.0, speed=0.5)
    speeds = set()
    for n in range(40):
        heard = degrade(ramp, generator(0, str(n), 0), sources, settings)
        drawn = timing(ramp.size, generator(0, str(n), 0), settings)
        speeds.add(drawn.speed)
        places = drawn.start + np.arange(heard.size) * drawn.speed
        expected = -0.9 + 1.8 * places / (ramp.size - 1)
        inner = slice(1000, -1000)  # away from the resampler's edges
        np.testing.assert_allclose(heard[inner], expected[inner], atol=2e-4)
    assert 1.0 in speeds
    assert len(speeds) > 10
    always = replace(settings, clean=1.0)
    assert timing(ramp.size, generator(0, "x", 0), always) == Timing()


def test_a_stage_that_is_turned_on_leaves_the_others_as_they_were(
    clip: Float32, sources: Sources
) -> None:
    quiet = clip / 8
    base = replace(OFF, phase=1.0, room=1.0, noise=1.0)
    alone = degrade(quiet, generator(0, "x", 0), sources, base)
    hummed = degrade(quiet, generator(0, "x", 0), sources, replace(base, hum=1.0))
    added = hummed - alone
    seconds = added.size // SAMPLE_RATE
    power = np.abs(np.fft.rfft(added[: seconds * SAMPLE_RATE])) ** 2
    hz = np.flatnonzero(power > power.max() * 1e-6) / seconds
    assert hz.size
    assert all(h % 50 == 0 for h in hz) or all(h % 60 == 0 for h in hz)


@pytest.mark.parametrize("name", ["telephone", "mp3", "opus", "wide_band"])
def test_each_carrier_is_drawn_where_it_is_set(name: str, clip: Float32, sources: Sources) -> None:
    heard = degrade(clip, generator(0, "x", 0), sources, replace(OFF, **{name: 1.0}))
    assert heard.shape == clip.shape
    assert not np.array_equal(heard, clip)
    if name == "telephone":
        spectrum = np.abs(np.fft.rfft(heard)) ** 2
        assert spectrum[round(4200 * heard.size / SAMPLE_RATE) :].sum() < 1e-4 * spectrum.sum()


def test_without_sources_their_stages_do_not_happen(clip: Float32) -> None:
    settings = replace(OFF, room=1.0, noise=0.5, babble=0.5)
    for epoch in range(10):
        heard = degrade(clip, generator(0, "x", epoch), Sources(), settings)
        np.testing.assert_array_equal(heard, clip)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"room": 1.5}, "room 1.5: expected a share of clips"),
        ({"noise": -0.1}, "noise -0.1: expected a share of clips"),
        ({"snr_db": (30.0, 0.0)}, r"snr_db \(30.0, 0.0\): expected the lower end first"),
        ({"noise": 0.8, "babble": 0.4}, r"noise \+ babble is 1.2; of these one is drawn"),
        ({"telephone": 0.9, "opus": 0.2}, r"telephone \+ mp3 \+ opus \+ wide_band is 1.22"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DegradeSettings(**values)  # type: ignore[arg-type]


@pytest.mark.corpora
def test_the_shared_sources_are_read_and_small(corpora: Path) -> None:
    ordinary = load_corpora([f"librispeech={corpora / 'librispeech'}"], ordinary="")
    voices = ordinary["librispeech"].ordinary
    sources = load_sources([corpora / "noise"], [corpora / "rooms"], [*voices, *voices])
    assert (len(sources.noises), len(sources.rooms), len(sources.voices)) == (187, 31, 131)
    assert sources.bytes < 150e6
    scene = Utterance(ROOT / "edge_runtime/demo/scene.flac", "", "x", "demo", start=1.0, end=1.5)
    (short,) = load_sources(voices=[scene]).voices
    assert short.size == SAMPLE_RATE / 2
