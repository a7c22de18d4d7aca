"""Frozen encoders as teachers: the packages themselves are the oracle, a small model the pupil."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.audio.file import read_file
from edge_runtime.errors import SettingError
from edge_runtime.mfcc import mfcc
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.segment import SegmentParams
from training.corpora import Utterance
from training.data.augment import CLEAN, Augmentation
from training.data.features import FeatureSet, FeatureSettings, extract
from training.data.teacher import (
    StateProbe,
    TaughtDataset,
    collate_taught,
    states_at,
    teach,
)
from training.data.teachers import TEACHERS, names_of, resemblyzer, teachers_of, whisper
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
NAMES = "resemblyzer,whisper"
WIDTH = resemblyzer.WIDTH + whisper.WIDTH


@pytest.fixture(autouse=True)
def _installed() -> None:
    try:
        teachers_of(NAMES)
    except TrainingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        features = extract(CLIPS, FeatureSettings(), AUGMENTATIONS, workers=1, progress=False)
        teach(features, NAMES, workers=1, progress=False)
        first = features.states
        # Again, from the cache.
        teach(features, NAMES, workers=1, progress=False)
    assert first is not None
    assert features.states is not None
    for computed, kept in zip(first, features.states, strict=True):
        np.testing.assert_array_equal(computed, kept)
    return features


def test_states_are_those_of_the_encoder() -> None:
    audio = pytest.importorskip("resemblyzer.audio")
    from resemblyzer import VoiceEncoder

    samples = read_file(SCENE, 5.0, 8.8)
    levelled = audio.normalize_volume(samples / 32768.0, -30, increase_only=True)
    mels = torch.from_numpy(audio.wav_to_mel_spectrogram(levelled.astype(np.float32))[1:])[None]
    with torch.no_grad():
        every_layer = VoiceEncoder("cpu", verbose=False).lstm
        two = torch.nn.LSTM(40, resemblyzer.WIDTH, 2, batch_first=True)
        two.load_state_dict({name: every_layer.state_dict()[name] for name in two.state_dict()})
        expected = two(mels)[0][0].numpy()
    found = resemblyzer.states_of(samples) / 127
    assert found.shape == (samples.size * 100 // SAMPLE_RATE, resemblyzer.WIDTH)
    np.testing.assert_allclose(found, expected, atol=0.5 / 127 + 1e-3)


def test_whispers_states_are_what_its_last_block_is_given() -> None:
    """The whole graph on the package's own features, and the part that is cut out of it."""
    import onnx
    import onnxruntime

    own = importlib.util.spec_from_file_location(
        "own", whisper.weights().parents[1] / "_whisper_features.py"
    )
    assert own is not None
    assert own.loader is not None
    module = importlib.util.module_from_spec(own)
    own.loader.exec_module(module)
    samples = read_file(SCENE, 5.0, 8.8)
    signal = (samples / 32768.0).astype(np.float32)
    features = module.compute_whisper_log_mel_features(signal)
    model = onnx.load(whisper.weights())
    name = "layer_norm_6"  # the same before it is rounded
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (expected,) = session.run([name], {"input_features": features[None]})
    found = whisper.states_of(samples)
    assert found.shape == (samples.size * 100 // SAMPLE_RATE, whisper.WIDTH)
    even = found[1::2]  # rows 1, 3, ... are centred where its states 1, 2, ... are
    truth = expected[0, 1 : 1 + len(even)]
    step = (truth * (even - even.mean())).sum() / ((even - even.mean()) ** 2).sum()
    offset = np.median(truth - step * even)
    assert np.abs(truth - step * even - offset).max() < 1.1 * step
    np.testing.assert_array_equal(found[2], found[1])


def test_long_clips_are_heard_in_pieces() -> None:
    samples = read_file(SCENE)
    assert samples.size > 8 * SAMPLE_RATE
    states = whisper.states_of(samples)
    assert len(states) == samples.size // 160
    np.testing.assert_array_equal(
        states[801:820], whisper.states_of(samples[8 * SAMPLE_RATE : 16 * SAMPLE_RATE])[1:20]
    )


def test_states_stand_beside_each_other_a_row_for_10_ms(taught: FeatureSet) -> None:
    assert taught.states is not None
    for clip, states in zip(CLIPS, taught.states, strict=True):
        assert clip.end is not None
        assert states.shape == (round(100 * (clip.end - clip.start)), WIDTH)
        assert states.dtype == np.int8


def test_frames_know_their_place_in_the_recording(tmp_path: Path) -> None:
    """End-pointing cuts at whole frames: the recording's own MFCC at these places are the same."""
    settings = FeatureSettings(segment=SegmentParams(offset_seconds=0.0))
    found = extract(CLIPS, settings, AUGMENTATIONS, tmp_path, workers=1, progress=False)
    shortened = 0
    for clip, variants, places in zip(CLIPS, found.variants, found.places, strict=True):
        whole = mfcc(read_file(clip.audio, clip.start, clip.end))
        rows = (places[0] - 200) // 160
        assert len(rows) == len(variants[0])
        # Deltas look across the edges and across the middle of a long pause, which is cut out.
        (cuts,) = np.nonzero(np.diff(rows) != 1)
        seams = [0, len(rows), *(cuts + 1)]
        inner = [n for n in range(len(rows)) if all(abs(n - seam) > 6 for seam in seams)]
        shortened += len(cuts)
        assert len(inner) > 100
        np.testing.assert_allclose(variants[0][inner], whole[rows[inner]], atol=1e-3)
        # At another speed, each frame is 1.1 frames after the one before, about where it was.
        steps = np.diff(places[1])
        assert np.median(steps) == 176
        assert abs(int(places[1][0]) - int(places[0][0])) < 0.1 * SAMPLE_RATE
    assert shortened > 0


def test_the_target_of_a_frame_is_the_clip_as_it_is_at_that_place() -> None:
    states = np.arange(10, dtype=np.int8)[:, None]
    places = np.array([0, 160, 239, 241, 1600, 9999], np.int32)
    assert states_at(states, places)[:, 0].tolist() == [0, 0, 0, 1, 9, 9]


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
        expected = states_at(taught.states[index], taught.places[index][pick])[start : start + 60]
        np.testing.assert_array_equal(batch.states[index].numpy(), expected)


def test_the_probe_is_judged_on_valid_steps_alone() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    clips = [
        rng.integers(-50, 50, (100, 40)).astype(np.int8) + rng.integers(-50, 50, (1, 40), np.int8)
        for _ in range(64)
    ]
    probe = StateProbe(8, 24, clips, 16)
    for layer in (probe.frames, probe.utterance):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    maps, pooled = [torch.rand(64, 100, 4)] * 2, torch.rand(64, 24)
    states = torch.from_numpy(np.stack(clips).astype(np.float32))
    mask = torch.ones(64, 100, dtype=torch.bool)
    # It predicts the mean: the error is the variance, which is 1 once standardized.
    errors = {name: float(e.detach()) for name, e in probe(maps, pooled, mask, states).items()}
    assert errors == pytest.approx({"frames": 1.0, "utterance": 1.0}, abs=0.01)
    states[:, 50:] = 9000.0
    mask[:, 50:] = False
    errors = {name: float(e.detach()) for name, e in probe(maps, pooled, mask, states).items()}
    assert errors == pytest.approx({"frames": 1.0, "utterance": 1.0}, abs=0.1)


def test_what_a_teacher_hears_over_seconds_is_learned_by_the_utterance(taught: FeatureSet) -> None:
    assert taught.states is not None
    assert taught.frame_states == resemblyzer.WIDTH  # its columns stand first
    probe = StateProbe(8, 24, taught.states, taught.frame_states)
    assert probe.frames.out_features == resemblyzer.WIDTH
    assert probe.utterance.out_features == WIDTH
    states = torch.from_numpy(taught.states[0].astype(np.float32))[None]
    mask = torch.ones(states.shape[:2], dtype=torch.bool)
    alone = StateProbe(8, 24, taught.states, 0)
    maps = [torch.rand(1, states.shape[1], 8)]
    assert set(probe(maps, torch.rand(1, 24), mask, states)) == {"frames", "utterance"}
    assert set(alone(maps, torch.rand(1, 24), mask, states)) == {"utterance"}


def test_a_taught_model_trains_quantized_and_leaves_the_teacher_behind(
    taught: FeatureSet, tmp_path: Path
) -> None:
    config = ModelConfig(labels=("a", "b"), filters=8, audio_stride=4, audio_dilations=(2,))
    settings = FitSettings(
        teacher="resemblyzer",
        teacher_epochs=14,
        epochs=2,
        qat_epochs=1,
        batch=6,
        min_frames=60,
        max_frames=90,
    )
    assert taught.states is not None
    # Six clips tell little of what Whisper hears; of a voice, enough to be learned.
    taught = replace(taught, states=[s[:, : resemblyzer.WIDTH] for s in taught.states])
    module = fit(FitData(taught, None, ["a", "b"]), config, settings, tmp_path)
    (log,) = tmp_path.glob("log/version_*/metrics.csv")
    rows = np.genfromtxt(log, delimiter=",", names=True)
    losses = rows["teacher_frames"]
    assert len(losses) == settings.all_epochs == 17
    assert losses[13] < 0.97 * losses[0]
    assert np.isnan(rows["train_loss"][:14]).all()
    assert np.isfinite(rows["train_loss"][14:]).all()
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
        teachers_of("resemblyzer")
    with pytest.raises(TrainingError, match=r"pipecat-ai; pip install librosa onnx"):
        teachers_of("whisper")


def test_a_name_that_is_none_is_one_line() -> None:
    assert names_of("") == ()
    assert names_of(" whisper , resemblyzer") == ("whisper", "resemblyzer")
    for wrong in ("wav2vec", "whisper,", "whisper,whisper"):
        with pytest.raises(SettingError, match="teacher"):
            FitSettings(teacher=wrong)


@pytest.mark.parametrize("name", TEACHERS)
def test_states_cover_a_clip_shorter_than_a_frame(name: str) -> None:
    (teacher,) = teachers_of(name)
    assert teacher.states(np.zeros(100, np.int16)).shape == (1, teacher.width)
    assert teacher.states(np.zeros(0, np.int16)).shape == (1, teacher.width)
    assert len(mfcc(np.zeros(100, np.int16))) == 1
