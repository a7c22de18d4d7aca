"""A model really learns, resumes where it stopped, and is saved whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from toy_clips import clips

from conversion.__main__ import main as build
from edge_runtime.manifest import Calibration
from training.__main__ import main
from training.corpora import NO_CLASS, Utterance
from training.corpora.manifest import write as write_manifest
from training.corpora.noise import CORPUS
from training.data.batch import Batch
from training.data.features import FeatureSet, FeatureSettings
from training.evaluate.predict import predict
from training.fit.examples import FitData, loss_weights
from training.fit.fit import fit, run_of
from training.fit.module import EmotionModule, weighted_cross_entropy
from training.fit.settings import FitSettings
from training.network.config import ModelConfig
from training.network.fakequant import Phase, QuantizedConv1d
from training.network.model import AudioMSCNN, MscnnSpu
from training.run import DEFAULT_RUN, Run, load
from training.tiers import EXTENTS

CONFIG = ModelConfig(labels=("high", "low"), filters=8, hidden=(8,))
SETTINGS = FitSettings(epochs=4, qat_epochs=2, batch=8, lr=5e-3, augment=False)


def accuracy(model: torch.nn.Module, data: FeatureSet) -> float:
    found = predict(model, [v[0] for v in data.variants]).argmax(axis=1)
    truth = np.array([CONFIG.labels.index(u.label) for u in data.utterances])
    return float((found == truth).mean())


def test_a_model_learns_what_can_be_learned_in_float_and_in_int8(tmp_path: Path) -> None:
    train, test = clips(64, 0), clips(40, 1)
    module = fit(
        FitData(train, test, list(CONFIG.labels)),
        CONFIG,
        SETTINGS,
        tmp_path,
        progress=lambda *_: None,
    )
    for phase in (Phase.FLOAT, Phase.INT8):
        assert accuracy(module.final(phase), test) >= 0.95
    log = (tmp_path / "log" / "version_0" / "metrics.csv").read_text()
    assert "watch_ua" in log
    assert "train_loss" in log


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    data = FitData(clips(24, 0), None, list(CONFIG.labels))
    weights = []
    for name in ("one", "two"):
        short = replace(SETTINGS, epochs=1, qat_epochs=1)
        module = fit(data, CONFIG, short, tmp_path / name, progress=lambda *_: None)
        weights.append(module.final(Phase.INT8).state_dict())
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], rtol=0, atol=0)


@pytest.mark.parametrize("count", [9, 40, 108])
def test_little_data_makes_as_many_steps_as_it_takes_to_learn(tmp_path: Path, count: int) -> None:
    """108 clips made one step an epoch: the 44 that did not fill a second batch were left out."""
    settings = FitSettings(epochs=2, qat_epochs=1, augment=False)
    data = FitData(clips(count, 0), None, list(CONFIG.labels))
    module = fit(data, CONFIG, settings, tmp_path, progress=lambda *_: None)
    assert module.trainer.global_step >= 8 * settings.all_epochs


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("stop_after", [2, 5])
def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, stop_after: int, batch_norm: bool
) -> None:
    """Stopped in the float phase, and in the quantization-aware one."""
    settings = replace(SETTINGS, batch_norm=batch_norm)
    data = FitData(clips(32, 0), None, list(CONFIG.labels))

    def interrupt(epoch: int, _: int) -> None:
        if epoch == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(data, CONFIG, settings, tmp_path, progress=interrupt)
    seen: list[int] = []
    module = fit(
        data, CONFIG, settings, tmp_path, resume=True, progress=lambda e, _: seen.append(e)
    )
    assert seen[-1] == SETTINGS.epochs + SETTINGS.qat_epochs
    assert len(seen) <= SETTINGS.epochs + SETTINGS.qat_epochs - stop_after + 1
    assert accuracy(module.final(Phase.INT8), clips(40, 1)) >= 0.9
    assert len(list(tmp_path.glob("log/*/metrics.csv"))) == 2


def test_batch_normalization_is_folded_and_nothing_is_lost(tmp_path: Path) -> None:
    train, test = clips(64, 0), clips(40, 1)
    config = replace(CONFIG, audio_stride=2, audio_dilations=(1,))
    before: list[np.ndarray] = []
    fold = QuantizedConv1d.fold
    models: list[MscnnSpu] = []

    def spied(self: EmotionModule) -> None:
        models.append(self.model)
        self.model.eval()
        features = torch.from_numpy(test.variants[0][0])[None]
        lengths = torch.tensor([features.shape[1]])
        before.append(self.model.audio_statistics(features, lengths).detach().numpy())
        for convolution in self.model.audio.convolutions():
            fold(convolution)
        before.append(self.model.audio_statistics(features, lengths).detach().numpy())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmotionModule, "_fold_norms", spied)
        module = fit(
            FitData(train, None, list(CONFIG.labels)),
            config,
            replace(SETTINGS, batch_norm=True),
            tmp_path,
            progress=lambda *_: None,
        )
    assert any("norm" in name for name in models[0].state_dict())
    np.testing.assert_allclose(before[0], before[1], rtol=1e-4, atol=1e-5)
    assert float(np.abs(before[0]).max()) > 0.1
    for phase in (Phase.FLOAT, Phase.INT8):
        model = module.final(phase)
        assert not any(name.endswith("norm.weight") for name in model.state_dict())
        assert accuracy(model, test) >= 0.95


def test_a_run_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    data = FitData(clips(24, 0), None, list(CONFIG.labels))
    short = replace(SETTINGS, epochs=1, qat_epochs=1)
    module = fit(data, CONFIG, short, tmp_path / "fit", progress=lambda *_: None)
    run = run_of(module, FeatureSettings())
    run.calibration = {"audio": Calibration(1.7, 0.4)}
    run.save(tmp_path / "run")
    again = load(tmp_path / "run")
    assert again.config == CONFIG
    assert again.calibration == run.calibration
    features = [v[0] for v in clips(10, 2).variants]
    for phase in (Phase.FLOAT, Phase.INT8):
        np.testing.assert_array_equal(
            predict(again.model(phase), features), predict(module.final(phase), features)
        )


def test_a_run_without_float_weights_stays_one_when_it_is_saved_again(tmp_path: Path) -> None:
    run = load(Path("training/models/default"))
    run.save(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    parts = {"reference.npz", "familiarity.npz"}
    joined = ("encoder", "pretrained", "pretrained_reference")
    parts |= {f"{name}-{tier}.npz" for name in joined for tier in EXTENTS}
    assert names == {"run.json", "weights.pt", "vocabulary.txt", *parts}
    assert not load(tmp_path / "run").float_weights


SMALL = ["--epochs", "1", "--qat-epochs", "1", "--no-augment", "--watch", "0"]


def test_training_goes_on_from_a_run_of_the_same_variant(
    tones_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    small = ["fit", f"manifest={tones_csv}", *SMALL]
    shape = ["--filters", "6", "--hidden", "5", "--stride", "2"]
    assert main([*small, *shape, "--out", str(first)]) == 0, capsys.readouterr().err
    (first / "float.pt").unlink()  # as the run in the box comes
    slow = ["--lr", "1e-7", "--qat-lr", "1e-7", "--audio-run", str(first)]
    assert main([*small, *slow, "--out", str(second)]) == 0, capsys.readouterr().err
    before, after = load(first), load(second)
    assert after.config == before.config
    for name in ("feature_mean", "audio.convs.0.weight", "head.layers.1.weight"):
        torch.testing.assert_close(after.weights[name], before.weights[name], atol=1e-4, rtol=0)
    assert after.training["start"] == before.training["settings"]
    assert "branches" not in after.training


def test_training_goes_on_with_other_classes(
    tones: Callable[..., list[Utterance]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"angry": "loud", "sad": "still"}
    csv = tmp_path / "other.csv"
    write_manifest(csv, [replace(u, label=other[u.label]) for u in tones(speakers=2)])
    shipped = load(DEFAULT_RUN)
    # From the part that hears of a run that reads as well; and from a head of one layer.
    model = MscnnSpu(replace(CONFIG, hidden=(), labels=("a", "b", "c")))
    single = Run(model.config, FeatureSettings(), model.state_dict(), {})
    single.save(tmp_path / "single")
    slow = ["--lr", "1e-7", "--qat-lr", "1e-7"]
    for number, source in enumerate((DEFAULT_RUN, tmp_path / "single")):
        out = tmp_path / f"run{number}"
        small = ["fit", f"manifest={csv}", *SMALL, *slow, "--audio-run", str(source)]
        assert main([*small, "--out", str(out)]) == 0, capsys.readouterr().err
        run, base = load(out), load(source)
        assert run.config.labels == ("loud", "still")
        assert run.config.hidden == base.config.hidden
        place = "audio.convs.0.weight"
        torch.testing.assert_close(run.weights[place], base.weights[place], atol=1e-4, rtol=0)
        assert run.weights[f"head.layers.{len(run.config.hidden)}.bias"].shape == (2,)
    assert load(tmp_path / "run0").training["licence"].endswith(shipped.training["licence"])
    # A head of one layer has nothing that could stand beside another branch's.
    joined = ["fit", f"manifest={csv}", "--variant", "audio+text", "--audio-run"]
    assert main([*joined, str(tmp_path / "single"), "--out", str(tmp_path / "no")]) == 2
    assert "classes a, b, c" in capsys.readouterr().err


def test_figures_say_which_weights_they_are_of_and_one_speaker_is_no_speakers(
    tones_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    small = [*SMALL[:-1], "0.25", "--filters", "4", "--hidden", "4"]
    assert main(["fit", f"manifest={tones_csv}", *small, "--out", str(out)]) == 0
    assert build(["build", str(out), "--out", str(tmp_path / "bundle")]) == 0
    csv = f"{out / 'watched.csv'}"
    where = ["parity", str(tmp_path / "bundle"), "--run", str(out), "--manifest", csv]
    assert build(where) == 0
    printed = capsys.readouterr().out
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    run = load(out)
    for told in (printed, card):
        assert "float: the float weights, as they were before quantization-aware" in told
        assert "int8: the quantization-aware weights in the converted bundle" in told
        assert "1 speaker kept out of training" in told
    assert set(run.metrics["forms"]) == {"float", "fake-quant", "int8"}
    # What parity calls float is what fit calls float, to the last clip.
    ua = run.metrics["corpora"]["manifest"]["audio"]["float"]["ua"]
    (row,) = [line for line in printed.splitlines() if line.startswith("│ float ")]
    assert f"{100 * ua:.1f}" in row


def test_a_bundle_whose_confidence_or_int8_form_is_poor_is_built_with_a_warning(
    tones_csv: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    small = [*SMALL, "--filters", "4", "--hidden", "4"]
    assert main(["fit", f"manifest={tones_csv}", *small, "--out", str(out)]) == 0
    run = load(out)
    form = {
        "n": 40,
        "wa": 0.8,
        "ua": 0.8,
        "labels": ["angry", "sad"],
        "confusion": [[18, 2], [6, 14]],
        "per_class_recall": {"angry": 0.9, "sad": 0.7},
    }
    worse = {
        **form,
        "ua": 0.725,
        "confusion": [[18, 2], [9, 11]],
        "per_class_recall": {"angry": 0.9, "sad": 0.55},
    }
    run.metrics = {
        "protocol": "toy",
        "corpora": {"mine": {"audio": {"float": form, "int8": worse}}},
        "calibration_error": {"audio": 0.197},
    }
    run.calibration = {"audio": Calibration(1.0, 0.0)}
    run.save(out)
    caplog.clear()
    assert build(["build", str(out), "--out", str(tmp_path / "bundle")]) == 0
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert any("off by 19.7 %" in line for line in warnings)
    assert any("int8 loses 7.5 points" in line for line in warnings)
    # Of more than ten points it is another model, and only built where that is told.
    worse |= {"ua": 0.6, "confusion": [[18, 2], [14, 6]]}
    worse["per_class_recall"] = {"angry": 0.9, "sad": 0.3}
    run.save(out)
    assert build(["build", str(out), "--out", str(tmp_path / "other")]) == 2
    assert "mine, audio: int8 loses 20.0 points of UA (80.0 to 60.0 %" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_rare_classes_weigh_more() -> None:
    data = [Utterance(Path("x"), label, "s", "c") for label in ["a"] * 30 + ["b"] * 10]
    weights = loss_weights(data, ["a", "b"], ["c"], FitSettings())
    assert weights.shape == (1, 2)
    assert float(weights[0, 1] / weights[0, 0]) == pytest.approx(3.0)
    assert float((weights * torch.tensor([30, 10])).sum()) == pytest.approx(40.0)
    plain = loss_weights(data, ["a", "b"], ["c"], FitSettings(balance=False))
    np.testing.assert_allclose(plain, 1.0)


def test_small_corpora_weigh_more_as_asked_and_classes_stay_balanced() -> None:
    counts = {("large", "a"): 90, ("large", "b"): 10, ("small", "a"): 4}
    data = [
        Utterance(Path("x"), label, "s", corpus)
        for (corpus, label), count in counts.items()
        for _ in range(count)
    ]
    table = torch.tensor([[90.0, 10.0], [4.0, 0.0]])
    for balance in (0.0, 0.5, 1.0):
        settings = FitSettings(corpus_balance=balance)
        weights = loss_weights(data, ["a", "b"], ["large", "small"], settings)
        assert float(weights[1, 0] / weights[0, 0]) == pytest.approx((100 / 4) ** balance)
        by_class = (weights * table).sum(dim=0)
        np.testing.assert_allclose(by_class, [52.0, 52.0], rtol=1e-5)


def test_what_has_no_class_weighs_as_its_corpus_does() -> None:
    data = [Utterance(Path("x"), label, "s", "c") for label in ["a"] * 30 + ["b"] * 10]
    data += [Utterance(Path("x"), NO_CLASS, None, CORPUS, end=1.0)] * 10
    settings = FitSettings(corpus_balance=0.5)
    weights = loss_weights(data, ["a", "b"], ["c", CORPUS], settings)
    np.testing.assert_allclose(weights[1] / weights[0], (40 / 10) ** 0.5, rtol=1e-5)
    assert float((weights[0] * torch.tensor([30, 10])).sum()) == pytest.approx(40.0)


def test_what_has_no_class_leaves_a_model_unsure_and_the_rest_as_good(tmp_path: Path) -> None:
    train, test = clips(64, 0), clips(40, 1)
    rng = np.random.default_rng(2)
    strange = []
    for _ in range(48):
        frames = rng.normal(0, 1, (60, 96)).astype(np.float32)
        frames[:, 20:30] += 2.0
        frames[:, 3:9] += rng.choice([-1.0, 1.0])  # by which alone it would be of one class
        strange.append(frames)
    settings = replace(SETTINGS, epochs=8)
    confidence = {}
    for name, heard in (("with", 32), ("without", 0)):
        nothing = Utterance(Path("x.wav"), NO_CLASS, None, CORPUS)
        data = FeatureSet(
            [*train.utterances, *[nothing] * heard],
            [*train.variants, *([frames] for frames in strange[:heard])],
            [],
        )
        module = fit(
            FitData(data, None, list(CONFIG.labels)),
            CONFIG,
            settings,
            tmp_path / name,
            progress=lambda *_: None,
        )
        model = module.final(Phase.INT8)
        assert accuracy(model, test) >= 0.95
        scores = torch.softmax(torch.from_numpy(predict(model, strange[32:])), dim=1)
        confidence[name] = float(scores.amax(dim=1).mean())
    assert confidence["with"] < 0.7 < confidence["without"]


def test_quantization_aware_epochs_follow_the_float_model_and_not_the_labels(
    tmp_path: Path,
) -> None:
    """With the labels turned round for them, verdicts stay those of the float weights."""
    train, test = clips(64, 0), clips(40, 1)
    data = FitData(train, None, list(CONFIG.labels))
    turned: list[int] = []
    begin = EmotionModule._begin_quantization

    def turn(self: EmotionModule) -> None:
        begin(self)
        turned.append(self.trainer.current_epoch)

    step = EmotionModule._follow

    def follow(self: EmotionModule, batch: Batch, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return step(self, replace(batch, labels=1 - batch.labels), inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmotionModule, "_begin_quantization", turn)
        patch.setattr(EmotionModule, "_follow", follow)
        settings = replace(SETTINGS, qat_epochs=6, qat_lr=1e-3)
        module = fit(data, CONFIG, settings, tmp_path, progress=lambda *_: None)
    assert turned == [SETTINGS.epochs]
    clean = [v[0] for v in test.variants]
    exact, rounded = (predict(module.final(p), clean) for p in (Phase.FLOAT, Phase.INT8))
    assert (exact.argmax(axis=1) == rounded.argmax(axis=1)).mean() >= 0.97
    assert accuracy(module.final(Phase.INT8), test) >= 0.95
    assert not np.array_equal(exact, rounded)


def test_bfloat16_is_for_the_float_epochs_alone(tmp_path: Path) -> None:
    seen: list[tuple[bool, torch.dtype]] = []
    forward = AudioMSCNN.forward

    def spied(self: AudioMSCNN, x: torch.Tensor) -> list[torch.Tensor]:
        maps = forward(self, x)
        seen.append((self.training, maps[0].dtype))
        return maps

    settings = replace(SETTINGS, epochs=2, qat_epochs=1, bf16=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AudioMSCNN, "forward", spied)
        fit(
            FitData(clips(24, 0), None, list(CONFIG.labels)),
            CONFIG,
            settings,
            tmp_path,
            progress=lambda *_: None,
        )
    # Rounding is learned in evaluation mode, as clean clips are measured.
    assert {dtype for train, dtype in seen if train} == {torch.bfloat16}
    assert {dtype for train, dtype in seen if not train} == {torch.float32}


def test_sounds_that_say_nothing_need_a_model_of_sound_alone(
    tones_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noises = tmp_path / "noises"
    noises.mkdir()
    soundfile.write(noises / "hum.wav", 0.1 * np.sin(np.arange(16000) / 20), 16000)
    arguments = ["fit", f"manifest={tones_csv}", "--out", str(tmp_path / "run")]
    short = ["--epochs", "1", "--qat-epochs", "1", "--filters", "8", "--no-augment"]
    assert main([*arguments, *short, "--nonspeech", str(noises), "--variant", "audio+text"]) == 2
    assert "--nonspeech needs sound alone" in capsys.readouterr().err
    assert main([*arguments, *short, "--nonspeech", str(noises / "none")]) == 2
    assert "none" in capsys.readouterr().err
    assert main([*arguments, *short, "--nonspeech", str(noises)]) == 0
    assert load(tmp_path / "run").config.labels == ("angry", "sad")


def test_the_loss_is_that_of_pytorch_where_all_examples_weigh_alike() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 4), torch.randint(4, (7,))
    weights, soft = torch.rand(4) + 0.5, torch.rand(7, 4).softmax(dim=1)
    for target in (labels, soft):
        expected = torch.nn.functional.cross_entropy(
            logits, target, weight=weights, label_smoothing=0.1
        )
        found = weighted_cross_entropy(logits, target, weights.expand(7, 4), 0.1)
        torch.testing.assert_close(found, expected)
    alone = weights.expand(7, 4) * torch.tensor([1.0, *[0.0] * 6])[:, None]
    found = weighted_cross_entropy(logits, labels, alone, 0.1)
    expected = torch.nn.functional.cross_entropy(
        logits[:1], labels[:1], weight=weights, label_smoothing=0.1
    )
    torch.testing.assert_close(found, expected)


def test_mistakes_of_the_user_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_class = tmp_path / "one.csv"
    one_class.write_text("path,label\na.wav,happy\nb.wav,happy\n")
    assert main(["fit", f"manifest={one_class}", "--out", str(tmp_path / "run")]) == 2
    assert "one class only (happy)" in capsys.readouterr().err

    done = tmp_path / "done"
    done.mkdir()
    (done / "run.json").write_text(json.dumps({}))
    assert main(["fit", f"manifest={one_class}", "--out", str(done)]) == 2
    assert "holds a finished run" in capsys.readouterr().err

    two = tmp_path / "two.csv"
    two.write_text("path,label\na.wav,happy\nb.wav,sad\n")
    assert main(["fit", f"manifest={two}", "--crossval", str(tmp_path / "no")]) == 2
    assert "not a finished crossval" in capsys.readouterr().err
    assert main(["crossval", f"manifest={two}", "--out", str(tmp_path / "cv")]) == 2
    error = capsys.readouterr().err
    assert error.count("Traceback") == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("fit", "crossval", "table"):
        arguments = [command, f"manifest={tmp_path / 'absent.csv'}", "--device", "cuda"]
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("training: --device cuda: PyTorch finds no GPU here")
    data = FitData(clips(8, 0), None, list(CONFIG.labels))
    settings = replace(SETTINGS, epochs=1, qat_epochs=1, device="auto")
    module = fit(data, CONFIG, settings, tmp_path, progress=lambda *_: None)
    assert module.device == torch.device("cpu")
