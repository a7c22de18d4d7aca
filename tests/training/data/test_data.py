"""From files to features: what cannot be used is named and counted, what is known is not redone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from edge_runtime.audio.file import read_file
from edge_runtime.mfcc import mfcc
from edge_runtime.segment import speech_of
from training.corpora import NO_CLASS, Utterance
from training.data.augment import CLEAN, TRAINING, Augmentation, augment
from training.data.batch import collate
from training.data.features import ClipDataset, FeatureSettings, extract, feature_statistics

SCENE = Path(__file__).parents[3] / "edge_runtime" / "demo" / "scene.flac"


def utterance(path: Path, label: str = "happy", **times: float) -> Utterance:
    return Utterance(path, label, "ann", "manifest", **times)


def test_features_are_those_of_the_device(tmp_path: Path) -> None:
    clip = utterance(SCENE, start=0.5, end=5.0)
    found = extract([clip], cache=tmp_path, workers=1, progress=False)
    expected = mfcc(speech_of(read_file(SCENE, 0.5, 5.0)))
    np.testing.assert_array_equal(found.variants[0][0], expected)


def test_what_cannot_be_used_is_skipped_named_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent, garbage, missing = (tmp_path / n for n in ("silent.wav", "garbage.wav", "missing.wav"))
    soundfile.write(silent, np.zeros(16_000), 16_000)
    garbage.write_bytes(b"RIFF, but not really")
    clips = [utterance(p) for p in (silent, garbage, SCENE, missing)]
    with caplog.at_level(logging.WARNING):
        found = extract(clips, cache=tmp_path / "cache", workers=2, progress=False)
    assert [u.path for u in found.utterances] == [SCENE]
    assert len(found.skipped) == 3
    for name in ("silent.wav", "garbage.wav", "missing.wav"):
        assert name in caplog.text
    assert "it is silent" in caplog.text


def test_what_has_no_class_may_be_silent_but_not_unreadable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent, garbage = tmp_path / "silent.wav", tmp_path / "garbage.wav"
    soundfile.write(silent, np.zeros(16_000), 16_000)
    garbage.write_bytes(b"RIFF, but not really")
    clips = [utterance(path, NO_CLASS) for path in (silent, garbage)]
    with caplog.at_level(logging.WARNING):
        found = extract(clips, cache=tmp_path / "cache", workers=1, progress=False)
    assert [u.path for u, _ in found.skipped] == [garbage]
    assert "garbage.wav" in caplog.text
    assert "silent.wav" not in caplog.text


def test_interrupted_it_gives_up_the_clips_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, not when somebody collects what is left of it."""
    given_up = []

    def extracting(*_: Any) -> Iterator[str]:
        try:
            yield "it is silent"
        finally:
            given_up.append(True)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.data.features.parallel", extracting)
    monkeypatch.setattr("training.data.features.log.warning", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        extract([utterance(SCENE)], cache=tmp_path)
    assert caught.tb  # which keeps all that nobody closed
    assert given_up


def test_a_clip_that_lacks_its_end_is_trained_on_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cut.wav"
    samples = read_file(SCENE, 0.5, 5.0)
    soundfile.write(path, samples, 16_000)
    path.write_bytes(path.read_bytes()[:-16_000])
    with caplog.at_level(logging.WARNING):
        found = extract([utterance(path)], cache=tmp_path / "cache", workers=1, progress=False)
    assert found.skipped == []
    expected = mfcc(speech_of(samples[:-8000]))
    np.testing.assert_array_equal(found.variants[0][0], expected)
    assert "the last 0.50 s cannot be read" in caplog.text


def test_a_damaged_cache_entry_is_computed_again(tmp_path: Path) -> None:
    clip = utterance(SCENE)
    first = extract([clip], cache=tmp_path, workers=1, progress=False).variants[0][0]
    (entry,) = tmp_path.glob("*.npy")
    entry.write_bytes(entry.read_bytes()[:100])
    again = extract([clip], cache=tmp_path, workers=1, progress=False).variants[0][0]
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_home_that_cannot_be_written_to_is_said_once_and_costs_only_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    workers: int,
) -> None:
    home = tmp_path / "file"  # no folder can be made below it, not even by root
    home.touch()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with caplog.at_level(logging.WARNING):
        found = extract([utterance(SCENE)] * 2, workers=workers, progress=False)
    assert len(found.utterances) == 2
    assert caplog.text.count("nothing is cached") == 1
    assert str(home) in caplog.text


def test_the_cache_follows_content_and_parameters_not_names(tmp_path: Path) -> None:
    cache, copy = tmp_path / "cache", tmp_path / "copy.flac"
    copy.write_bytes(SCENE.read_bytes())
    extract([utterance(SCENE), utterance(copy)], cache=cache, workers=1, progress=False)
    assert len(list(cache.glob("*.npy"))) == 1
    settings = FeatureSettings(trim=False)
    extract([utterance(SCENE)], settings, cache=cache, workers=1, progress=False)
    assert len(list(cache.glob("*.npy"))) == 2


def test_augmentation_is_repeatable_and_changes_what_it_says() -> None:
    samples = read_file(SCENE, 0.0, 4.0)
    for augmentation in TRAINING:
        one, two = (augment(samples, augmentation, seed=7) for _ in range(2))
        np.testing.assert_array_equal(one, two)
    assert augment(samples, CLEAN, 7) is samples
    faster = augment(samples, Augmentation(speed=1.1), 7)
    assert len(faster) == pytest.approx(len(samples) / 1.1, abs=2)
    assert not np.array_equal(augment(samples, Augmentation(degrade=True), 7), samples)


def test_statistics_normalize_the_frames_they_come_from() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.normal(3, 5, (n, 4)).astype(np.float32) for n in (50, 80)]
    mean, std = feature_statistics(clips)
    frames = np.concatenate(clips)
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, frames.std(axis=0), rtol=1e-5)


def test_batches_are_padded_with_zeros_and_cropped_on_demand() -> None:
    items = [(torch.ones(n, 3), 1, 0) for n in (5, 9)]
    batch = collate(items)
    assert batch.features.shape == (2, 9, 3)
    assert batch.lengths.tolist() == [5, 9]
    assert float(batch.features[0, 5:].abs().sum()) == 0.0
    cropped = collate(items, crop=(6, 6))
    assert cropped.lengths.tolist() == [5, 6]


def test_training_draws_variants_and_watching_takes_the_clean_one(tmp_path: Path) -> None:
    found = extract([utterance(SCENE)], None, TRAINING[:3], tmp_path, workers=1, progress=False)
    clean = torch.from_numpy(found.variants[0][0])
    watching = ClipDataset(found, ["happy"], ["manifest"], training=False)
    assert all(torch.equal(watching[0][0], clean) for _ in range(5))
    torch.manual_seed(0)
    drawn = {
        len(ClipDataset(found, ["happy"], ["manifest"], training=True)[0][0]) for _ in range(30)
    }
    assert len(drawn) > 1
