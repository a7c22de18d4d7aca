"""A pre-trained encoder is trained further: what it reads, what it learns from, how it is kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from packaged import need_whisper

from conversion.__main__ import main
from edge_runtime.graph import Graph
from edge_runtime.model.pretrained import PretrainedStatistics, fill_window
from edge_runtime.pcm import Float32, Int16
from edge_runtime.pretrained_arrays import MELS
from edge_runtime.segment import SegmentParams
from training.corpora import NO_CLASS, Utterance
from training.data.augment import CLEAN, TRAINING
from training.data.log_mels import LogMels, hear_log_mels, levels_of
from training.data.teachers.whisper import WIDTH
from training.data.whisper_encoder import (
    packed_encoder,
    published_encoder,
    unpacked_encoder,
)
from training.errors import TrainingError
from training.evaluate.encoders import Clips, hear_along
from training.evaluate.pretrained import STRENGTH
from training.fit import encoder as module
from training.fit.encoder import TUNED_FRAMES, Examples, tune, tuned_encoders
from training.fit.settings import EncoderSettings
from training.run import DEFAULT_RUN, Pretrained, load
from training.tiers import EXTENTS, LARGE, MEDIUM, Extent

LABELS = ["angry", "sad"]
SEGMENT = SegmentParams()
SHORT = EncoderSettings(encoder_epochs=2, encoder_batch=4)

Tones = Callable[..., list[Utterance]]


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    need_whisper()


@pytest.fixture
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def heard(spoken: Sequence[Utterance], folder: Path) -> LogMels:
    return hear_log_mels(spoken, SEGMENT, (CLEAN, TRAINING[1]), folder / "frames", 1, False)


@pytest.mark.parametrize("seconds", [0.4, 1.7, 3.99])
def test_what_trains_is_what_a_device_gives_the_encoder(scene: Int16, seconds: float) -> None:
    samples = scene[: int(16_000 * seconds)]
    windows: list[Float32] = []

    def listen(window: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        windows.append(window[0].copy())
        return [np.zeros((1, TUNED_FRAMES // 2, WIDTH), np.float32)]

    statistics = PretrainedStatistics(listen, TUNED_FRAMES, WIDTH)
    statistics.feed(samples)
    statistics.finish()
    (given,) = windows
    trains = np.empty((MELS, TUNED_FRAMES), np.float32)
    fill_window(trains, levels_of(samples))
    np.testing.assert_allclose(trains, given, atol=1e-5)


def test_clips_and_their_variants_are_found_in_the_file(tones: Tones, tmp_path: Path) -> None:
    spoken = tones(2, 2)
    missing = Utterance(tmp_path / "none.wav", "sad", "s9", "manifest")
    mels = heard([spoken[0], missing, *spoken[1:]], tmp_path)
    assert mels.utterances == spoken
    frames = mels.opened()
    alone = heard(spoken[2:3], tmp_path / "cache")
    for variant in (0, 1):
        own = mels.of(frames, 2, variant)
        np.testing.assert_array_equal(own, alone.of(alone.opened(), 0, variant))
        assert own.shape[1] == MELS
    assert mels.ends[-1, -1] == len(frames)
    with pytest.raises(TrainingError, match="no clip could be heard"):
        heard([missing], tmp_path)


@pytest.mark.usefixtures("_one_thread")
def test_it_learns_the_classes_and_of_what_says_nothing_none(tones: Tones, tmp_path: Path) -> None:
    spoken = tones(2, 6)
    nothing = [dataclasses.replace(u, label=NO_CLASS, corpus="sounds") for u in spoken[:2]]
    examples = Examples(heard([*spoken, *nothing], tmp_path), LABELS)
    assert examples.classes.tolist() == [0, 1] * 6 + [-1, -1]
    train = examples.places([*spoken[2:], *nothing])
    settings = dataclasses.replace(SHORT, encoder_epochs=6)
    network = tune(examples, train, settings, Extent(1), "tones")
    before = published_encoder(Extent(1), TUNED_FRAMES)
    assert not torch.equal(network.encoder.conv1.weight, before.conv1.weight)
    frames = examples.mels.opened()
    windows = np.empty((len(spoken), MELS, TUNED_FRAMES), np.float32)
    lengths = np.empty(len(spoken), np.int64)
    for place in range(len(spoken)):
        levels = examples.mels.of(frames, place, 0).astype(np.float32)
        fill_window(windows[place], levels)
        lengths[place] = len(levels) // 2
    with torch.no_grad():
        said = network(torch.from_numpy(windows), torch.from_numpy(lengths)).numpy()
    assert (said.argmax(axis=1) == examples.classes[: len(spoken)]).all()
    targets = module._targets(examples.classes, 2).numpy()
    np.testing.assert_allclose(targets[[0, 1, -1]], [[0.95, 0.05], [0.05, 0.95], [0.5, 0.5]])
    with pytest.raises(TrainingError, match="clips of every class; no sad"):
        tune(examples, np.array([0, 2, 4, 6]), SHORT, Extent(1), "half")


def test_every_clip_is_in_a_batch_and_none_is_too_small() -> None:
    for clips in (4, 24, 25, 27, 28, 50):
        batches = module._batches(clips, 24)
        assert [place for batch in batches for place in range(clips)[batch]] == list(range(clips))
        assert min(len(range(clips)[batch]) for batch in batches) >= 4


@pytest.mark.usefixtures("_one_thread")
def test_what_is_finished_is_kept_and_what_differs_is_trained_again(
    tones: Tones, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoken = tones(2, 4)
    examples = Examples(heard(spoken, tmp_path), LABELS)
    folds = {"one": examples.places(spoken[:4]), "both": examples.places(spoken)}
    first = tuned_encoders(examples, folds, SHORT, Extent(1), ["clean"], jobs=1, progress=False)
    assert capsys.readouterr().err.count("epoch 2 of 2") == 2
    again = tuned_encoders(examples, folds, SHORT, Extent(1), ["clean"], jobs=1, progress=False)
    assert capsys.readouterr().err == ""
    assert first == again
    assert first[0] != first[1]
    # How far to go is decided afterwards.
    published = packed_encoder(published_encoder(Extent(1), TUNED_FRAMES))
    for share, expected in ((0.0, published), (1.0, None), (0.5, first[0])):
        way = dataclasses.replace(SHORT, encoder_share=share)
        (found,) = tuned_encoders(
            examples, {"one": folds["one"]}, way, Extent(1), ["clean"], jobs=1, progress=False
        )
        assert expected is None or found == expected
        assert (found == published) == (share == 0)
    assert capsys.readouterr().err == ""
    fewer = dataclasses.replace(SHORT, encoder_epochs=1)
    tuned_encoders(
        examples, {"one": folds["one"]}, fewer, Extent(1), ["clean"], jobs=1, progress=False
    )
    assert "epoch 1 of 1" in capsys.readouterr().err


def test_an_encoder_is_kept_in_the_steps_of_its_graph(tmp_path: Path) -> None:
    encoder = published_encoder(EXTENTS[LARGE], TUNED_FRAMES)
    with torch.no_grad():
        encoder.conv1.weight += 0.01 * torch.randn_like(encoder.conv1.weight)
    content = packed_encoder(encoder)
    assert len(content) < 6_500_000
    again = unpacked_encoder(content)
    assert packed_encoder(again) == content
    window = torch.zeros(1, MELS, TUNED_FRAMES)
    with torch.no_grad():
        torch.testing.assert_close(again(window), encoder(window), atol=0.1, rtol=0.1)
    (tmp_path / "encoder.npz").write_bytes(content)
    out = tmp_path / "encoder.tflite"
    assert main(["encoder", "--weights", str(tmp_path / "encoder.npz"), "--out", str(out)]) == 0
    assert [spec.shape for spec in Graph(out).inputs] == [(1, MELS, TUNED_FRAMES)]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut short"])
def test_a_damaged_encoder_is_a_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "encoder.npz"
    path.write_bytes(content)
    assert main(["encoder", "--weights", str(path), "--out", str(tmp_path / "x.tflite")]) == 2
    assert f"{path}: the file is no encoder" in capsys.readouterr().err
    run = load(DEFAULT_RUN)
    broken: Pretrained = dataclasses.replace(run.pretrained[LARGE], encoder=content)
    with pytest.raises(TrainingError, match="encoder of the tier large: the file is no encoder"):
        broken.network()


def test_a_run_without_its_encoder_is_not_finished(tmp_path: Path) -> None:
    run = load(DEFAULT_RUN)
    weights = packed_encoder(published_encoder(Extent(1), 16))
    run.pretrained[LARGE] = dataclasses.replace(run.pretrained[LARGE], encoder=weights)
    run.save(tmp_path)
    kept = load(tmp_path).pretrained[LARGE]
    assert len(kept.network().layers) == 1
    (tmp_path / "encoder-large.npz").unlink()
    with pytest.raises(TrainingError, match=r"there is no encoder-large\.npz"):
        load(tmp_path)


def test_a_run_that_knows_of_no_tiers_is_not_joined(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = load(DEFAULT_RUN)
    run.save(tmp_path)
    raw = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    raw["pretrained"] = raw["pretrained"][LARGE]
    (tmp_path / "run.json").write_text(json.dumps(raw), encoding="utf-8")
    assert load(tmp_path).pretrained == {}
    assert "joined with an encoder by an earlier version" in caplog.text
    raw["pretrained"] = {"huge": raw["pretrained"]}
    (tmp_path / "run.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(TrainingError, match="in a tier 'huge', not one of medium, large"):
        load(tmp_path)


def test_the_published_encoder_has_a_layer_fitted_to_those_that_do_not_judge(
    tones: Tones,
) -> None:
    spoken = tones(2, 4)
    clips = Clips(spoken, [], LABELS, SEGMENT, (CLEAN,), 1)
    tested = {"fold 1": spoken[:4], "all": []}
    fold, every = hear_along(clips, tested, MEDIUM, EncoderSettings(encoder_epochs=0))
    assert fold.ear.weights is None
    assert fold.ear.strength == STRENGTH
    assert fold.tested is not None
    assert fold.tested.utterances == spoken[:4]
    assert fold.trained.utterances == spoken[4:]
    assert every.tested is None
    assert every.trained.utterances == spoken
    assert (fold.layer.weights != every.layer.weights).any()
