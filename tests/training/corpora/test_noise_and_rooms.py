"""Noises and rooms as they lie on a disk: read at 16 kHz, or refused in one line that says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.pcm import SAMPLE_RATE
from training.corpora.noise import LONGEST_SECONDS, load_noises, noise_files, read_noise
from training.corpora.rooms import direct_path, load_rooms, read_room, room_files
from training.errors import TrainingError


def write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def room(seconds: float, decay: float, rate: int = SAMPLE_RATE, delay: float = 0.01) -> np.ndarray:
    """A response that falls by 60 dB in `decay` s, its direct sound `delay` s from the start."""
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * rate)) / rate
    response = 0.1 * rng.standard_normal(t.size) * 10 ** (-3 * (t - delay) / decay)
    response[: round(delay * rate)] = 0
    response[round(delay * rate)] = 0.9
    return response


def test_files_are_found_in_any_depth_and_an_empty_folder_is_told(tmp_path: Path) -> None:
    for files, kind in ((noise_files, "noise"), (room_files, "rooms")):
        folder = tmp_path / kind
        folder.mkdir()
        with pytest.raises(TrainingError, match=rf"^{kind}: no \.wav or \.flac under .*{kind}"):
            files(folder)
        with pytest.raises(TrainingError, match=rf"^{kind}: .*absent is not a folder"):
            files(folder / "absent")
        paths = [write(folder / name, np.ones(10)) for name in ("b/x.wav", "a.flac")]
        assert files(folder) == sorted(paths)


@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_a_noise_without_energy_is_refused_by_name(tmp_path: Path, offset: float) -> None:
    path = write(tmp_path / "mute.flac", np.full(SAMPLE_RATE, offset))
    with pytest.raises(TrainingError, match=r"mute\.flac has no energy"):
        read_noise(path)
    with pytest.raises(TrainingError, match=r"mute\.flac has no energy"):
        load_noises([tmp_path])


def test_what_is_no_audio_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "page.wav"
    path.write_text("<html>404</html>")
    for read in (read_noise, read_room):
        with pytest.raises(TrainingError, match=r"page\.wav is (not|no) audio that can be read"):
            read(path)


def test_a_noise_comes_at_16_khz_as_loud_as_it_is_and_not_for_hours(tmp_path: Path) -> None:
    t = np.arange(70 * 48_000) / 48_000
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    samples = read_noise(write(tmp_path / "long.flac", np.stack([tone, tone], 1), 48_000))
    assert samples.dtype == np.float32
    assert len(samples) == LONGEST_SECONDS * SAMPLE_RATE
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.01)
    spectrum = np.abs(np.fft.rfft(samples[:SAMPLE_RATE]))
    assert spectrum.argmax() == 440


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_room_of_any_rate_is_the_same_room_at_16_khz(tmp_path: Path, rate: int) -> None:
    response = read_room(write(tmp_path / "hall.wav", room(1.0, 0.5, rate), rate))
    assert response.dtype == np.float32
    assert direct_path(response) == 0
    assert (response**2).sum() == pytest.approx(1, abs=1e-3)
    assert len(response) == pytest.approx(0.99 * SAMPLE_RATE, abs=3)
    # The decay by Schroeder's backward integral, between -5 and -25 dB behind the direct sound.
    energy = np.cumsum(response[:0:-1].astype(np.float64) ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0])
    first, last = (int((level < db).argmax()) for db in (-5, -25))
    assert 3 * (last - first) / SAMPLE_RATE == pytest.approx(0.5, rel=0.1)


def test_of_several_channels_the_first_is_the_room(tmp_path: Path) -> None:
    one = room(0.5, 0.3)
    both = np.stack([one, np.roll(one, 40)], axis=1)
    mono, first = (
        read_room(write(tmp_path / f"{name}.wav", samples))
        for name, samples in (("mono", one), ("pair", both))
    )
    np.testing.assert_array_equal(mono, first)


def test_a_direct_sound_before_a_stronger_reflection_is_found() -> None:
    response = np.zeros(2000, np.float32)
    response[300], response[700] = 0.6, -1.0
    assert direct_path(response) == 300


def test_a_response_of_10_s_is_cut_and_a_recording_of_10_s_refused(tmp_path: Path) -> None:
    cathedral = read_room(write(tmp_path / "cathedral.wav", room(10, 8)))
    assert len(cathedral) == 3 * SAMPLE_RATE
    noise = np.random.default_rng(0).standard_normal(10 * SAMPLE_RATE)
    path = write(tmp_path / "street.wav", 0.1 * noise)
    with pytest.raises(TrainingError, match=r"street\.wav is no impulse response: .* 70 % of its"):
        read_room(path)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(1000), 16_000, "has no energy"),
        (np.array([0.0, 1.0, np.nan, 0.1]), 16_000, "samples that are no numbers"),
        (room(0.5, 0.3, 8000), 8000, "comes at 8000 Hz; expected 16000 Hz or more"),
    ],
)
def test_a_room_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, samples: np.ndarray, rate: int, message: str
) -> None:
    path = write(tmp_path / "cellar.wav", samples, rate)
    with pytest.raises(TrainingError, match=rf"^rooms: .*cellar\.wav .*{message}") as error:
        read_room(path)
    assert "\n" not in str(error.value)


@pytest.mark.corpora
def test_the_shared_noises_and_rooms_are_read(corpora: Path) -> None:
    assert len(load_noises([corpora / "noise"])) == 187
    rooms = load_rooms([corpora / "rooms"])
    assert len(rooms) == 31
    assert all(direct_path(response) == 0 for response in rooms)
