"""Rounding that harmed is learned once more, and what follows float more closely is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest
import torch
from toy_clips import clips

from training.__main__ import main
from training.corpora import Utterance
from training.corpora.manifest import write as write_manifest
from training.data.features import FeatureSet, FeatureSettings
from training.data.folds import Fold
from training.evaluate.crossval import Training, _FoldTask, _run_fold
from training.evaluate.predict import predict
from training.fit.examples import FitData
from training.fit.fit import fit
from training.fit.module import EmotionModule
from training.fit.remedy import gentler_settings, remedied
from training.fit.settings import FitSettings
from training.network.config import ModelConfig
from training.network.fakequant import Phase
from training.run import load

CONFIG = ModelConfig(labels=("high", "low"), filters=8, hidden=(8,))
GENTLE = FitSettings(epochs=4, qat_epochs=1, batch=8, lr=5e-3, augment=False)
HARSH = replace(GENTLE, qat_lr=1.0)  # which takes one class for the other


@pytest.fixture(scope="module")
def data() -> FitData:
    return FitData(clips(48, 0), clips(24, 1), list(CONFIG.labels))


Trained = Callable[[FitSettings], EmotionModule]


@pytest.fixture(scope="module")
def trained(data: FitData, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Models by their settings, each trained once; what follows does not change them."""
    known: dict[FitSettings, EmotionModule] = {}

    def train(settings: FitSettings) -> EmotionModule:
        if settings not in known:
            folder = tmp_path_factory.mktemp("fit")
            known[settings] = fit(data, CONFIG, settings, folder, progress=lambda *_: None)
        return known[settings]

    return train


def accuracy(module: EmotionModule, found: FeatureSet) -> float:
    said = predict(module.final(Phase.INT8), found.clean).argmax(axis=1)
    return float((said == [CONFIG.labels.index(u.label) for u in found.utterances]).mean())


def test_rounding_that_lost_a_class_is_mended_from_the_same_float_weights(
    data: FitData, trained: Trained, tmp_path: Path
) -> None:
    first = trained(HARSH)
    assert data.watch is not None
    assert accuracy(first, data.watch) == 0.5
    told: list[tuple[int, int]] = []
    module, tried = remedied(
        first, data, HARSH, tmp_path, progress=lambda *epoch: told.append(epoch)
    )
    assert accuracy(module, data.watch) == 1.0
    assert tried is not None
    assert tried.because.endswith("% of the training clips")
    assert (tried.qat_epochs, tried.qat_lr) == (3, pytest.approx(2e-4 / 3))
    assert tried.changed[0] > 0.4
    assert tried.changed[1] == 0
    assert tried.kept
    assert told == [(5, 5)] * 3  # a bar stays full, and who watches may stop it
    exact = [m.final(Phase.FLOAT).state_dict() for m in (first, module)]
    for name, value in exact[0].items():
        torch.testing.assert_close(value, exact[1][name], rtol=0, atol=0)
    assert (tmp_path / "remedy" / "log" / "version_0" / "metrics.csv").exists()


def test_a_remedy_that_is_interrupted_gives_the_same_when_it_begins_again(
    data: FitData, trained: Trained, tmp_path: Path
) -> None:
    first = trained(HARSH)

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remedied(first, data, HARSH, tmp_path / "one", progress=stop)
    again, _ = remedied(first, data, HARSH, tmp_path / "one", False, lambda *_: None)
    other, _ = remedied(first, data, HARSH, tmp_path / "two", True, lambda *_: None)
    finished, _ = remedied(first, data, HARSH, tmp_path / "two", True, lambda *_: None)
    states = [module.final(Phase.INT8).state_dict() for module in (again, other, finished)]
    for name, value in states[0].items():
        for state in states[1:]:
            torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def test_rounding_that_harms_nothing_is_left_as_it_is(
    data: FitData, trained: Trained, tmp_path: Path
) -> None:
    first = trained(GENTLE)
    assert remedied(first, data, GENTLE, tmp_path, progress=lambda *_: None) == (first, None)
    assert not any(tmp_path.iterdir())


def test_watched_clips_may_say_that_it_is_tried_and_never_what_is_kept(
    data: FitData,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = trained(GENTLE)
    # Of clips of other labels than float and int8 say, int8 has lost what float has right.
    judged = remedied.__globals__["_judged"]

    def lost(module: EmotionModule, batches: object) -> object:
        logits, truth, corpora = judged(module, batches)
        if batches is not first.clean_clips:
            logits[1] = -logits[0]
        return logits, truth, corpora

    monkeypatch.setitem(remedied.__globals__, "_judged", lost)
    quiet = remedied(first, data, GENTLE, tmp_path, progress=lambda *_: None, by_watched=False)
    assert quiet == (first, None)
    module, tried = remedied(first, data, GENTLE, tmp_path)
    assert tried is not None
    assert tried.because == "watched clips of toy, 100.0 points of UA lost"
    assert tried.changed[0] == 0.0
    said = capsys.readouterr().out
    assert "int8 says otherwise than float of watched clips of toy" in said
    assert ("and is kept" if tried.kept else "and is not kept") in said
    assert (module is first) == (not tried.kept)


def test_gentler_is_three_times_as_long_at_a_third_of_the_rate_and_no_faster_than_the_default() -> (
    None
):
    slow = gentler_settings(replace(GENTLE, qat_lr=3e-5, qat_epochs=8, teacher="whisper"))
    assert (slow.qat_epochs, slow.qat_lr, slow.teacher) == (24, pytest.approx(1e-5), "")
    assert (slow.float_epochs, slow.taught_epochs, slow.all_epochs) == (0, 0, 24)
    assert gentler_settings(HARSH).qat_lr == pytest.approx(FitSettings.qat_lr / 3)
    same = {f.name for f in dataclasses.fields(slow)} - {"teacher", "qat_epochs", "qat_lr"}
    assert all(getattr(slow, name) == getattr(GENTLE, name) for name in same)


def test_a_run_and_a_fold_keep_what_was_tried(
    tones: Callable[..., list[Utterance]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(remedied.__globals__, "_because", lambda *_: "some clips")
    clips = tones(speakers=2)
    write_manifest(tmp_path / "clips.csv", clips)
    small = ["--epochs", "1", "--qat-epochs", "1", "--no-augment", "--watch", "0"]
    small += ["--filters", "4", "--hidden", "4", "--out", str(tmp_path / "run")]
    assert main(["fit", f"manifest={tmp_path / 'clips.csv'}", *small]) == 0
    tried = load(tmp_path / "run").training["remedy"]
    assert (tried["because"], tried["qat_epochs"]) == ("some clips", 3)
    assert "of some clips: rounding is learned once more, in 3 epochs" in capsys.readouterr().out

    settings = FitSettings(epochs=1, qat_epochs=1, augment=False)
    config = replace(CONFIG, labels=("angry", "sad"), filters=4, hidden=(4,))
    training = Training(config, settings, FeatureSettings(), int8=False)
    fold = Fold([0, 1, 2, 3], [4, 5, 6, 7])
    told: SimpleQueue[tuple[int, str, int]] = SimpleQueue()
    _run_fold(_FoldTask(1, clips, fold, training, tmp_path / "fold1", told))
    assert load(tmp_path / "fold1").training["remedy"]["because"] == "some clips"
