"""What each function of a channel does to a sound, by measuring what comes out."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest
from scipy import signal

from edge_runtime.pcm import SAMPLE_RATE, Float32
from training.data import channel


def tone(hz: float, seconds: float = 2.0, size: float = 0.3) -> Float32:
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (size * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def voice(seconds: float = 2.0) -> Float32:
    """Bursts of a buzz of 120 Hz with pauses between: a beat that shows any shift in time."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 25))
    rng = np.random.default_rng(1)
    beat = np.repeat(rng.random(t.size // 1600 + 1) > 0.4, 1600)[: t.size]
    smooth = np.convolve(beat, np.hanning(320) / 160, "same")
    return (0.15 * buzz * smooth).astype(np.float32)


def white(seconds: float = 2.0, size: float = 0.1, seed: int = 0) -> Float32:
    count = round(seconds * SAMPLE_RATE)
    return (size * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def highest_hz(samples: Float32) -> float:
    """Frequency of the strongest part of a sound, to 0.5 Hz or so."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), 1 << 17))
    return float(spectrum.argmax() * SAMPLE_RATE / (1 << 17))


def lag(one: Float32, other: Float32) -> int:
    """Samples that `other` is behind `one`."""
    return int(signal.correlate(other, one).argmax()) - (one.size - 1)


def db(ratio: float) -> float:
    return float(20 * np.log10(ratio))


# Levels.


def test_a_level_is_that_of_the_sound_whatever_pauses_and_offset_there_are() -> None:
    plain = tone(440)
    rms = 0.3 / np.sqrt(2)
    assert channel.active_level(plain) == pytest.approx(rms, rel=1e-3)
    pauses = np.concatenate([np.zeros_like(plain), plain, np.zeros_like(plain)])
    assert channel.active_level(pauses) == pytest.approx(rms, rel=1e-3)
    assert channel.active_level(plain + np.float32(0.2)) == pytest.approx(rms, rel=1e-3)
    # Someone who whispers in one half and speaks in the other is as loud as he speaks.
    both = np.concatenate([plain, plain / 10])
    assert channel.active_level(both) == pytest.approx(rms, rel=1e-3)


def test_silence_has_no_level_and_cannot_be_given_one() -> None:
    for nothing in (np.zeros(0, np.float32), np.zeros(5000, np.float32), np.ones(5000, np.float32)):
        assert channel.active_level(nothing) == 0
        np.testing.assert_array_equal(channel.at_level(nothing, 0.5), nothing)
        np.testing.assert_array_equal(channel.mix(nothing, nothing, 10), nothing)
    assert channel.active_level(channel.at_level(tone(300), 0.05)) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("snr_db", [0.0, 12.5, 30.0])
@pytest.mark.parametrize("pause", [0.0, 3.0])
def test_noise_lies_as_far_below_the_voice_as_asked(snr_db: float, pause: float) -> None:
    spoken = np.concatenate([voice(), np.zeros(round(pause * SAMPLE_RATE), np.float32)])
    added = channel.mix(spoken, white(2 + pause), snr_db) - spoken
    # By root mean square here: white noise is active throughout.
    measured = db(channel.active_level(spoken) / float(np.sqrt((added**2).mean())))
    assert measured == pytest.approx(snr_db, abs=0.1)


def test_a_part_of_a_recording_is_from_anywhere_in_it_and_repeats_if_short() -> None:
    source = np.arange(1000, dtype=np.float32)
    starts = set()
    for seed in range(50):
        part = channel.excerpt(source, 300, np.random.default_rng(seed))
        np.testing.assert_array_equal(np.diff(part), 1)
        starts.add(int(part[0]))
        long = channel.excerpt(source, 2500, np.random.default_rng(seed))
        assert len(long) == 2500
        assert set(np.diff(long).tolist()) == {1.0, -999.0}
    assert len(starts) > 30
    assert min(starts) < 100
    assert max(starts) > 600
    with pytest.raises(ValueError, match="without samples"):
        channel.excerpt(source[:0], 10, np.random.default_rng(0))


def test_babble_is_of_so_many_voices_each_as_loud() -> None:
    voices = [tone(hz, size=size) for hz, size in ((300, 0.5), (500, 0.01), (700, 0.1), (900, 0.3))]
    heard = channel.babble(voices, 16_000, 3, np.random.default_rng(0))
    assert heard.dtype == np.float32
    assert channel.active_level(heard) == pytest.approx(1, rel=1e-3)
    spectrum = np.abs(np.fft.rfft(heard))[[300, 500, 700, 900]]
    assert sorted(spectrum > 100).count(True) == 3
    loud = spectrum[spectrum > 100]
    assert db(float(loud.max() / loud.min())) < 0.5
    assert len(channel.babble(voices[:1], 100, 5, np.random.default_rng(0))) == 100


# Rooms.


def response(delay: int = 250) -> Float32:
    """A room of 0.4 s whose direct sound comes after `delay` samples of the measurement's noise."""
    rng = np.random.default_rng(2)
    room = 0.15 * rng.standard_normal(6400) * 10 ** (-3 * np.arange(6400) / 6400)
    room[0] = 1
    return np.concatenate([1e-4 * rng.standard_normal(delay), room]).astype(np.float32)


@pytest.mark.parametrize("delay", [0, 250, 3000])
def test_a_room_neither_moves_a_voice_nor_makes_it_louder(delay: int) -> None:
    spoken = white() * np.repeat([1, 0, 1, 1, 0], 6400).astype(np.float32)
    heard = channel.reverberate(spoken, response(delay))
    assert (heard.shape, heard.dtype) == (spoken.shape, np.float32)
    assert lag(spoken, heard) == 0
    assert channel.active_level(heard) == pytest.approx(channel.active_level(spoken), rel=0.01)
    assert not np.allclose(heard, spoken, atol=1e-3)


def test_a_room_is_convolved_as_it_is() -> None:
    click = np.zeros(8000, np.float32)
    click[1000] = 1
    heard = channel.reverberate(click, response(250))
    room = response(250)[250:]
    expected = np.zeros(8000)
    expected[1000 - 250 : 1000] = response(250)[:250]
    expected[1000 : 1000 + room.size] = room
    scale = heard[1000]  # the level of a click is not the point
    np.testing.assert_allclose(heard / scale, expected, atol=1e-5)


# Microphones.


@pytest.mark.parametrize("gain_db", [-12.0, 3.0, 12.0])
def test_filters_have_the_gains_they_are_named_for(gain_db: float) -> None:
    low = channel.response_db(channel.shelf(300, gain_db, high=False), [20, 300, 6000])
    np.testing.assert_allclose(low, [gain_db, gain_db / 2, 0], atol=0.3)
    high = channel.response_db(channel.shelf(3000, gain_db, high=True), [50, 3000, 7900])
    np.testing.assert_allclose(high, [0, gain_db / 2, gain_db], atol=0.3)
    middle = channel.response_db(channel.peak(1000, gain_db, 2), [50, 1000, 7900])
    np.testing.assert_allclose(middle, [0, gain_db, 0], atol=0.3)
    tilted = channel.response_db(channel.tilt(gain_db), [20, 1000, 7900])
    np.testing.assert_allclose(tilted, [-gain_db / 2, 0, gain_db / 2], atol=0.3)


def test_microphones_are_all_different_and_none_is_off_by_more_than_12_db() -> None:
    hz = np.geomspace(50, 7500, 500)
    curves = np.array(
        [
            channel.response_db(channel.microphone(np.random.default_rng(seed)), hz)
            for seed in range(200)
        ]
    )
    assert np.abs(curves).max() < 12.3  # between the frequencies at which it is held to 12
    assert np.median(np.abs(curves).max(axis=1)) > 8
    assert curves.std(axis=0).min() > 2


def test_what_comes_through_a_filter_is_what_its_response_says() -> None:
    sections = channel.microphone(np.random.default_rng(5))
    noise = white(20)
    hz, before = signal.welch(noise, SAMPLE_RATE, nperseg=2048)
    _, after = signal.welch(channel.equalize(noise, sections), SAMPLE_RATE, nperseg=2048)
    inside = (hz > 200) & (hz < 7000)
    measured = 10 * np.log10(after[inside] / before[inside])
    np.testing.assert_allclose(measured, channel.response_db(sections, hz[inside]), atol=0.7)


# Lines and codecs.


def test_a_band_keeps_what_is_in_it() -> None:
    for hz, kept in ((100, False), (1000, True), (3000, True), (7000, False)):
        ratio = channel.active_level(channel.band(tone(hz), 300, 3400)) / 0.2121
        assert (db(ratio) > -1) if kept else (db(ratio) < -20)


@pytest.mark.parametrize("law", channel.LAWS)
def test_a_telephone_has_its_band_and_8_bits(law: str) -> None:
    for hz, kept in ((100, False), (1000, True), (4500, False)):
        heard = channel.telephone(tone(hz), law)
        assert (heard.size, heard.dtype) == (tone(hz).size, np.float32)
        assert (db(channel.active_level(heard) / 0.2121) > -1) == kept
    # Of 8 bits in G.711's steps, a tone has a noise some 38 dB below it, at any level.
    for size in (0.5, 0.05):
        heard = channel.telephone(tone(1013, size=size), law)[4000:-4000]
        carrier = np.exp(-2j * np.pi * 1013 * np.arange(heard.size) / SAMPLE_RATE)
        part = 2 * np.real((heard @ carrier) / heard.size * carrier.conj())
        assert 33 < db(float(np.std(part) / np.std(heard - part))) < 43


@pytest.mark.parametrize("kbps", [8, 12, 16, 24, 32, 40, 64, 160])
@pytest.mark.parametrize("codec", [channel.mp3, channel.opus])
def test_codecs_keep_time_at_every_bit_rate(
    codec: Callable[[Float32, float], Float32], kbps: float
) -> None:
    spoken = voice(3)
    heard = codec(spoken, kbps)
    assert (heard.shape, heard.dtype) == (spoken.shape, np.float32)
    assert abs(lag(spoken, heard)) <= 2
    assert db(channel.active_level(heard) / channel.active_level(spoken)) == pytest.approx(0, abs=3)


@pytest.mark.parametrize("codec", [channel.mp3, channel.opus])
def test_fewer_bits_harm_more(codec: Callable[[Float32, float], Float32]) -> None:
    spoken = voice() + white(2, 0.01)
    harm = [float(np.std(codec(spoken, kbps) - spoken)) for kbps in (12, 32, 128)]
    assert harm[0] > harm[1] > harm[2] > 0


# Amplifiers.


@pytest.mark.parametrize("mains", channel.MAINS_HZ)
def test_hum_is_of_the_mains_and_its_multiples_alone(mains: int) -> None:
    heard = channel.hum(SAMPLE_RATE * 2 + 7, mains, np.random.default_rng(3))
    assert heard.size == SAMPLE_RATE * 2 + 7
    power = np.abs(np.fft.rfft(heard[: SAMPLE_RATE * 2])) ** 2
    multiples = np.arange(1, 13) * mains * 2  # two bins a hertz
    assert power[multiples].sum() == pytest.approx(power.sum(), rel=1e-6)
    assert np.sqrt((heard**2).mean()) == pytest.approx(1, rel=1e-3)
    assert power[multiples[0]] > power[multiples[6:]].max()
    with pytest.raises(ValueError, match="55 Hz: mains have 50 or 60 Hz"):
        channel.hum(100, 55, np.random.default_rng(0))


def test_gain_and_overload_are_of_so_many_db() -> None:
    spoken = voice()
    quieter = channel.amplify(spoken, -14)
    ratio = channel.active_level(quieter) / channel.active_level(spoken)
    assert db(ratio) == pytest.approx(-14, abs=0.01)
    clipped = channel.overload(spoken, 6)
    assert db(float(np.abs(clipped).max() / np.abs(spoken).max())) == pytest.approx(-6, abs=0.01)
    inside = np.abs(spoken) < np.abs(clipped).max() * 0.999
    np.testing.assert_array_equal(clipped[inside], spoken[inside])
    assert channel.overload(np.zeros(0, np.float32), 6).size == 0


# Speed and pitch.


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_speed_takes_pitch_along_and_stretching_does_not(factor: float) -> None:
    played = channel.change_speed(tone(200), factor)
    assert played.size == pytest.approx(2 * SAMPLE_RATE / factor, abs=2)
    assert highest_hz(played) == pytest.approx(200 * factor, abs=0.5)
    stretched = channel.stretch(tone(200), factor)
    assert stretched.size == round(2 * SAMPLE_RATE * factor)
    assert highest_hz(stretched) == pytest.approx(200, abs=0.5)
    inside = stretched[2000:-2000]
    assert np.sqrt((inside**2).mean()) == pytest.approx(0.3 / np.sqrt(2), rel=0.02)
    # A beat is stretched with the time.
    spoken = voice(3)
    envelope, other = (
        np.convolve(np.abs(s), np.ones(400) / 400, "same")
        for s in (spoken, channel.stretch(spoken, factor))
    )
    expected = np.interp(np.arange(other.size) / factor, np.arange(envelope.size), envelope)
    assert np.corrcoef(other, expected)[0, 1] > 0.95


@pytest.mark.parametrize("semitones", [-2.0, 1.0, 2.0])
@pytest.mark.parametrize("hz", [90.0, 250.0])
def test_pitch_is_shifted_by_semitones_in_the_same_time(semitones: float, hz: float) -> None:
    shifted = channel.shift_pitch(tone(hz), semitones)
    assert shifted.size == tone(hz).size
    assert highest_hz(shifted) == pytest.approx(hz * 2 ** (semitones / 12), rel=0.006)
    spoken = voice(3)
    assert abs(lag(np.abs(spoken), np.abs(channel.shift_pitch(spoken, semitones)))) < 320


# All of them.

FUNCTIONS: dict[str, Callable[[Float32], Float32]] = {
    "at_level": lambda s: channel.at_level(s, 0.2),
    "mix": lambda s: channel.mix(s, white(2)[: s.size], 5),
    "reverberate": lambda s: channel.reverberate(s, response()),
    "equalize": lambda s: channel.equalize(s, channel.peak(1000, 6, 1)),
    "band": lambda s: channel.band(s, 300, 3400),
    "telephone": lambda s: channel.telephone(s, "ULAW"),
    "mp3": lambda s: channel.mp3(s, 32),
    "opus": lambda s: channel.opus(s, 16),
    "amplify": lambda s: channel.amplify(s, 6),
    "overload": lambda s: channel.overload(s, 6),
    "change_speed": lambda s: channel.change_speed(s, 1.1),
    "stretch": lambda s: channel.stretch(s, 1.1),
    "shift_pitch": lambda s: channel.shift_pitch(s, 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("seconds", [2.0, 0.05, 1 / SAMPLE_RATE])
def test_what_is_given_is_left_as_it_was_and_comes_back_as_float32(
    name: str, seconds: float
) -> None:
    given = voice()[3000 : 3000 + round(seconds * SAMPLE_RATE)]
    before = given.copy()
    result = FUNCTIONS[name](given)
    np.testing.assert_array_equal(given, before)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    if name not in ("change_speed", "stretch"):
        assert result.shape == given.shape


def test_every_function_of_a_signal_is_held_to_that() -> None:
    takers = {
        name
        for name, function in inspect.getmembers(channel, inspect.isfunction)
        if function.__module__ == channel.__name__
        and not name.startswith("_")
        and next(iter(inspect.signature(function).parameters)) == "samples"
    }
    assert takers - {"active_level"} == set(FUNCTIONS)
