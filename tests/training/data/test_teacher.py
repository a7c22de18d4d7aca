"""The speaker encoder as teacher: Resemblyzer is the oracle, a small model the pupil."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.audio.file import read_file
from edge_runtime.mfcc import mfcc
from edge_runtime.pcm import SAMPLE_RATE
from training.corpora import Utterance
from training.data.augment import CLEAN, Augmentation
from training.data.features import FeatureSet, FeatureSettings, extract
from training.data.teacher import (
    STATES,
    StateProbe,
    TaughtDataset,
    collate_taught,
    states_of,
    teach,
    weights,
)
from training.errors import TrainingError
from training.evaluate.predict import predict
from training.fit.examples import FitData
from training.fit.fit import fit, run_of
from training.fit.settings import FitSettings
from training.network.config import ModelConfig
from training.network.fakequant import Phase

SCENE = Path(__file__).parents[3] / "edge_runtime" / "demo" / "scene.flac"
CUTS = [(0.5, 2.5), (2.0, 4.9), (5.0, 8.8), (9.0, 13.7), (14.0, 17.3), (17.0, 20.0)]
CLIPS = [
    Utterance(SCENE, label, f"speaker {n}", "scene", start=start, end=end)
    for n, (label, (start, end)) in enumerate(zip("ababab", CUTS, strict=True))
]
AUGMENTATIONS = (CLEAN, Augmentation(1.1))


@pytest.fixture(autouse=True)
def _installed() -> None:
    try:
        weights()
    except TrainingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        features = extract(CLIPS, FeatureSettings(), AUGMENTATIONS, workers=1, progress=False)
        teach(features, FeatureSettings(), AUGMENTATIONS, workers=1, progress=False)
        first = features.states
        # Again, from the cache.
        teach(features, FeatureSettings(), AUGMENTATIONS, workers=1, progress=False)
    assert first is not None
    assert features.states is not None
    for computed, kept in zip(first, features.states, strict=True):
        for one, other in zip(computed, kept, strict=True):
            np.testing.assert_array_equal(one, other)
    return features


def test_states_are_those_of_the_encoder() -> None:
    audio = pytest.importorskip("resemblyzer.audio")
    from resemblyzer import VoiceEncoder

    samples = read_file(SCENE, 5.0, 8.8)
    levelled = audio.normalize_volume(samples / 32768.0, -30, increase_only=True)
    mels = torch.from_numpy(audio.wav_to_mel_spectrogram(levelled.astype(np.float32))[1:])[None]
    with torch.no_grad():
        every_layer = VoiceEncoder("cpu", verbose=False).lstm
        two = torch.nn.LSTM(40, STATES, 2, batch_first=True)
        two.load_state_dict({name: every_layer.state_dict()[name] for name in two.state_dict()})
        expected = two(mels)[0][0].numpy()
    found = states_of(samples) / 127
    assert found.shape == (samples.size * 100 // SAMPLE_RATE, STATES)
    np.testing.assert_allclose(found, expected, atol=0.5 / 127 + 1e-3)


def test_each_variant_has_a_state_for_each_frame(taught: FeatureSet) -> None:
    assert taught.states is not None
    for variants, states in zip(taught.variants, taught.states, strict=True):
        assert [s.shape for s in states] == [(len(v), STATES) for v in variants]
        assert all(s.dtype == np.int8 for s in states)


def test_features_and_states_stay_together_when_clips_are_cut(taught: FeatureSet) -> None:
    torch.manual_seed(0)
    dataset = TaughtDataset(taught, ["a", "b"], ["scene"])
    batch = collate_taught([dataset[i] for i in range(len(dataset))], (60, 60))
    assert batch.features is not None
    assert batch.states is not None
    assert batch.features.shape == (6, 60, 96)
    assert batch.labels.tolist() == [0, 1, 0, 1, 0, 1]
    for index, variants in enumerate(taught.variants):
        row = batch.features[index].numpy()
        places = [
            (pick, start)
            for pick, variant in enumerate(variants)
            for start in range(len(variant) - 59)
            if np.array_equal(variant[start : start + 60], row)
        ]
        ((pick, start),) = places
        assert taught.states is not None
        expected = taught.states[index][pick][start : start + 60].astype(np.float32) / 127
        np.testing.assert_allclose(batch.states[index].numpy(), expected, atol=1e-6)


def test_the_probe_is_judged_on_valid_steps_alone() -> None:
    torch.manual_seed(0)
    states = np.random.default_rng(0).integers(-100, 100, (500, STATES)).astype(np.int8)
    probe = StateProbe(8, [states])
    torch.nn.init.zeros_(probe.linear.weight)
    torch.nn.init.zeros_(probe.linear.bias)
    maps = [torch.rand(1, 500, 4), torch.rand(1, 500, 4)]
    target = torch.from_numpy(states / np.float32(127))[None]
    mask = torch.ones(1, 500, dtype=torch.bool)
    # It predicts the mean: the error is the variance, which is 1 once standardized.
    assert float(probe(maps, mask, target).detach()) == pytest.approx(1.0, abs=0.01)
    target[0, 250:] = 50.0
    mask[0, 250:] = False
    assert float(probe(maps, mask, target).detach()) == pytest.approx(1.0, abs=0.1)


def test_a_taught_model_trains_quantized_and_leaves_the_teacher_behind(
    taught: FeatureSet, tmp_path: Path
) -> None:
    config = ModelConfig(labels=("a", "b"), filters=8, audio_stride=4, audio_dilations=(2,))
    settings = FitSettings(
        teacher=True,
        teacher_epochs=6,
        epochs=2,
        qat_epochs=1,
        batch=6,
        min_frames=60,
        max_frames=90,
    )
    module = fit(FitData(taught, None, ["a", "b"]), config, settings, tmp_path)
    (log,) = tmp_path.glob("log/version_*/metrics.csv")
    rows = np.genfromtxt(log, delimiter=",", names=True)
    losses = rows["teacher_loss"]
    assert len(losses) == settings.all_epochs == 9
    assert losses[5] < 0.98 * losses[0]
    assert np.isnan(rows["train_loss"][:6]).all()
    assert np.isfinite(rows["train_loss"][6:]).all()
    run = run_of(module, FeatureSettings())
    assert not [name for name in run.weights if "probe" in name]
    for phase in (Phase.FLOAT, Phase.INT8):
        logits = predict(run.model(phase), [variants[0] for variants in taught.variants])
        assert np.isfinite(logits).all()


def test_without_the_encoder_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(TrainingError, match=r"Resemblyzer; pip install librosa"):
        weights()


def test_states_cover_a_clip_shorter_than_a_frame() -> None:
    assert states_of(np.zeros(100, np.int16)).shape == (1, STATES)
    assert len(mfcc(np.zeros(100, np.int16))) == 1
