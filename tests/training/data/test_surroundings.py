"""Clips as devices hear them, made by folders of noises, rooms and other people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from edge_runtime.audio.file import read_file
from edge_runtime.pcm import SAMPLE_RATE
from training.corpora import Utterance
from training.data.augment import CLEAN, augment, shares, versions
from training.data.features import extract
from training.data.surroundings import Surroundings, sources, surroundings
from training.errors import TrainingError
from training.fit.examples import FitData
from training.fit.fit import augmentations, fit
from training.fit.settings import FitSettings
from training.network.config import ModelConfig
from training.network.fakequant import Phase

SCENE = Path(__file__).parents[3] / "edge_runtime" / "demo" / "scene.flac"


def recording(path: Path, seed: int = 0, seconds: float = 1.0, level: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    soundfile.write(path, level * noise, SAMPLE_RATE)
    return path


def test_each_version_of_a_clip_is_another_and_always_the_same(tmp_path: Path) -> None:
    recording(tmp_path / "noise" / "a.wav")
    samples = read_file(SCENE, 0.0, 4.0)
    variants = versions(surroundings(str(tmp_path / "noise")), 4)
    assert variants[0] == CLEAN
    heard = [augment(samples, variant, 7).tobytes() for variant in variants]
    assert len(set(heard)) == 5
    assert heard == [augment(samples, variant, 7).tobytes() for variant in variants]
    assert heard[1] != augment(samples, variants[1], 8).tobytes()
    assert sum(shares(variants)) == pytest.approx(1)


def test_other_recordings_are_other_surroundings(tmp_path: Path) -> None:
    """The cache of features goes by this: a folder's name says nothing of what is in it."""
    recording(tmp_path / "one" / "a.wav")
    recording(tmp_path / "two" / "a.wav", seconds=2.0)
    one, two = surroundings(str(tmp_path / "one")), surroundings(str(tmp_path / "two"))
    assert one.digest != two.digest
    (tmp_path / "one").rename(tmp_path / "three")
    moved = surroundings(str(tmp_path / "three"))
    assert versions(moved, 1)[1].identity() == versions(one, 1)[1].identity()


def test_folders_apart_by_commas_are_all_read(tmp_path: Path) -> None:
    for name in ("a", "b", "people/1", "people/2"):
        recording(tmp_path / name / "x.wav", seed=len(name))
    chosen = surroundings(f"{tmp_path / 'a'}, {tmp_path / 'b'}", babble=str(tmp_path / "people"))
    found = sources(chosen)
    assert (len(found.noises), len(found.rooms), len(found.voices)) == (2, 0, 2)
    assert not surroundings()
    assert Surroundings(rooms=("x",))


@pytest.mark.parametrize("option", ["noises", "rooms", "babble"])
def test_a_folder_that_is_empty_or_missing_is_refused_before_anything_trains(
    tmp_path: Path, option: str
) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(TrainingError, match=str(folder)):
            augmentations(FitSettings(**{option: str(folder)}))  # type: ignore[arg-type]


def test_a_silent_noise_is_refused_by_name(tmp_path: Path) -> None:
    recording(tmp_path / "quiet.wav", level=0.0)
    with pytest.raises(TrainingError, match=r"quiet\.wav has no energy"):
        augmentations(FitSettings(noises=str(tmp_path)))


def test_versions_take_half_the_memory_of_a_clip_and_lose_nothing_that_int8_keeps(
    tmp_path: Path,
) -> None:
    recording(tmp_path / "noise" / "a.wav")
    chosen = versions(surroundings(str(tmp_path / "noise")), 2)
    clip = Utterance(SCENE, "happy", "s", "scene", start=0.0, end=4.0)
    found = extract([clip], None, chosen, tmp_path / "cache", workers=1, progress=False)
    again = extract([clip], None, chosen, tmp_path / "cache", workers=1, progress=False)
    clean, *heard = found.variants[0]
    assert clean.dtype == np.float32
    assert [variant.dtype for variant in heard] == [np.float16, np.float16]
    for one, other in zip(found.variants[0], again.variants[0], strict=True):
        assert np.array_equal(one, other)
    stored = [np.load(path)[:, :-1] for path in (tmp_path / "cache").glob("*.npy")]
    for variant in heard:
        exact = min(
            stored, key=lambda s: np.inf if s.shape != variant.shape else np.abs(s - variant).max()
        )
        step = 8 * exact.std(axis=0) / 255  # of int8 over four standard deviations either side
        assert (np.abs(exact - variant.astype(np.float32)).max(axis=0) < step / 2).all()


def test_a_model_is_standardized_by_what_devices_hear(tmp_path: Path) -> None:
    """Not by the clips as they are: its pooled statistics would be another room's."""
    recording(tmp_path / "noise" / "a.wav", level=0.5)
    settings = FitSettings(
        noises=str(tmp_path / "noise"), versions=3, epochs=1, qat_epochs=1, batch=4
    )
    clips = [
        Utterance(SCENE, label, f"s{n}", "scene", start=0.5 * n, end=0.5 * n + 2.0)
        for n, label in enumerate(["happy", "sad"] * 4)
    ]
    heard = extract(
        clips, None, augmentations(settings), tmp_path / "cache", workers=1, progress=False
    )
    means = []
    for name, chosen in (("varied", settings), ("clean", replace(settings, noises=""))):
        data = FitData(heard, None, ["happy", "sad"])
        config = ModelConfig(labels=("happy", "sad"), filters=8, hidden=(8,))
        module = fit(data, config, chosen, tmp_path / name, progress=lambda *_: None)
        model = module.final(Phase.FLOAT)
        # The same weights (one seed, the same draws), measured on other clips.
        means.append(model.pooled_statistics()[0])
    assert not torch.equal(means[0], means[1])
