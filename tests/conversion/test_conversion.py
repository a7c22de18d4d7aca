"""A run becomes a bundle whose numbers are those of the fake-quantized model."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from conversion import export
from conversion.__main__ import main
from conversion.errors import ConversionError
from conversion.export import CHUNK_FRAMES, chunk_frames, export_onnx, to_tflite
from conversion.parity import INT8, WINDOW, Parity
from conversion.quantize import float_tensors, learned_ranges, quantize, tensor_details
from conversion.targets import target_named
from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.graph import Graph
from edge_runtime.manifest import AUDIO_ENCODER, HEAD, Calibration
from edge_runtime.mfcc import mfcc
from edge_runtime.model.recognizer import Recognizer
from edge_runtime.segment import speech_of
from edge_runtime.stream import classify
from training.data.features import FeatureSettings
from training.network.config import ModelConfig
from training.network.fakequant import Phase, set_phase
from training.network.model import MscnnSpu
from training.run import Run

SCENE = Path(__file__).parents[2] / "edge_runtime" / "demo" / "scene.flac"
CUTS = [(0.5, 2.5), (2.0, 4.9), (5.0, 8.8), (9.0, 13.7), (14.0, 17.3), (0.0, 21.0)]


def features_of(start: float, end: float) -> np.ndarray:
    return mfcc(speech_of(read_file(SCENE, start, end)))


SHAPES = {
    "paper": ModelConfig(filters=32, hidden=(24,)),
    "strided, deep": ModelConfig(
        filters=16, hidden=(24,), audio_stride=3, audio_dilations=(1, 2), audio_kernels=(5, 7)
    ),
}


@pytest.fixture(scope="module", params=SHAPES)
def run(request: pytest.FixtureRequest) -> Run:
    """A model with random weights whose ranges were observed on speech."""
    torch.manual_seed(0)
    config = SHAPES[request.param]
    model = MscnnSpu(config)
    features = features_of(0.0, 21.0)
    model.feature_mean.copy_(torch.from_numpy(features.mean(axis=0)))
    model.feature_std.copy_(torch.from_numpy(features.std(axis=0)))
    clips = [torch.from_numpy(features_of(*cut))[None] for cut in CUTS]
    model.train()
    batch = torch.cat([clip[:, :150] for clip in clips])
    for _ in range(30):
        model(batch, torch.full((len(clips),), 150))
    model.eval()
    with torch.no_grad():
        model.head.layers[-1].weight *= 8  # spread the logits, so that verdicts differ
        set_phase(model, Phase.OBSERVE)
        for clip in clips:
            model(clip, torch.tensor([clip.shape[1]]))
    state = model.state_dict()
    return Run(config, FeatureSettings(), state, state)


@pytest.fixture(scope="module")
def run_folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run.save(folder)
    return folder


@pytest.fixture(scope="module")
def built(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "toy"
    # As the model in PyTorch, which it is held against.
    assert main(["build", str(run_folder), "--out", str(out), "--phases", "1"]) == 0
    return out


def test_every_tensor_of_every_graph_is_an_integer(built: Path) -> None:
    graphs = list(built.glob("*.tflite"))
    assert graphs
    for graph in graphs:
        details = tensor_details(graph)
        assert len(details) >= 5
        assert {np.dtype(d["dtype"]).kind for d in details} == {"i"}


def test_the_encoder_is_convolutions_and_nothing_that_moves_data(built: Path) -> None:
    """A transposition would cost more than the convolution behind it."""
    names = [str(d["name"]) for d in tensor_details(built / "audio_encoder.tflite")]
    assert names
    assert not [name for name in names if "perm" in name.lower() or "transpose" in name.lower()]


def test_int8_graphs_compute_what_the_fake_quantized_model_computes(run: Run, built: Path) -> None:
    model = run.model(Phase.INT8)
    bundle = load_bundle(built)
    encoder, head = bundle.open_graph(AUDIO_ENCODER), bundle.open_graph(HEAD)
    features = torch.from_numpy(features_of(0.0, 21.0))
    audio = bundle.manifest.audio
    assert audio is not None
    context, chunk, stride = audio.context_frames, audio.chunk_frames, audio.stride
    normal = (features - model.feature_mean) / model.feature_std
    with torch.no_grad():
        maps = model.audio(model.audio_input(normal[None]))
    different = total = 0
    for start in range(stride * context, len(features) - chunk - context, chunk):
        window = normal[start - context : start + chunk + context].numpy()
        outputs = encoder(encoder.inputs[0].quantize(window[None, None]))
        for spec, found, expected in zip(encoder.outputs, outputs, maps, strict=True):
            there = expected[0, start // stride : (start + chunk) // stride]
            steps = there.numpy() / np.float32(spec.scale)
            error = np.abs(np.rint(steps) - (found[0, 0].astype(int) - spec.zero_point))
            # A tie rounded the other way, in every layer; each weighs less than a step behind it.
            assert error.max() <= 1 + len(run.config.audio_dilations)
            different += int((error > 0).sum())
            total += error.size
    assert different / total < 0.005
    pooled = torch.randn(20, model.width)
    with torch.no_grad():
        expected_logits = model.head(pooled).numpy()
    for row, expected_row in zip(pooled.numpy(), expected_logits, strict=True):
        (logits,) = head(head.inputs[0].quantize(row[None]))
        error = np.abs(head.outputs[0].dequantize(logits)[0] - expected_row)
        assert error.max() <= 1.01 * head.outputs[0].scale


def test_the_device_agrees_with_the_fake_quantized_model_on_speech(run: Run, built: Path) -> None:
    model, bundle = run.model(Phase.INT8), load_bundle(built)
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    scale = bundle.manifest.graphs[HEAD].outputs[0].scale
    for cut in CUTS:
        features = torch.from_numpy(features_of(*cut))
        with torch.no_grad():
            logits = model(features[None], torch.tensor([len(features)]))[0].numpy()
        scores = list(classify(stream, read_file(SCENE, *cut)).scores.values())
        found = np.log(scores) - np.mean(np.log(scores))
        # Pooled values near the edge between two steps may fall to either side: a few logit steps.
        np.testing.assert_allclose(found, logits - logits.mean(), atol=4 * scale)


def test_the_verdict_does_not_depend_on_how_the_samples_arrive(built: Path) -> None:
    bundle = load_bundle(built)
    samples = speech_of(read_file(SCENE, 2.0, 4.97))
    verdicts = []
    for block in (samples.size, 37_777, 4_001, 160):
        recognizer = Recognizer(bundle)
        for start in range(0, samples.size, block):
            recognizer.feed(samples[start : start + block])
        verdict = recognizer.finish()
        assert verdict is not None
        verdicts.append(verdict.scores)
    for scores in verdicts[1:]:
        np.testing.assert_allclose(scores, verdicts[0], atol=1e-6)


def test_a_run_of_the_encoder_is_a_whole_number_of_maps() -> None:
    assert chunk_frames(1) == CHUNK_FRAMES
    for stride in range(1, 60):
        assert chunk_frames(stride) % stride == 0
        assert abs(chunk_frames(stride) - CHUNK_FRAMES) <= stride


def test_float_onnx_and_float_tflite_agree_with_torch(run: Run, tmp_path: Path) -> None:
    for role, exported in export_onnx(run.model(), tmp_path / "onnx").items():
        tflite = Graph(to_tflite(exported, tmp_path / "tflite"))
        onnx = Graph(exported.path)
        assert [s.shape for s in tflite.inputs] == [s.shape for s in onnx.inputs], role
        example = np.random.default_rng(3).standard_normal(onnx.inputs[0].shape, np.float32)
        for one, other in zip(onnx(example), tflite(example), strict=True):
            np.testing.assert_allclose(one, other, atol=export.TOLERANCE)


def test_numbers_that_leave_the_bounds_stop_the_conversion(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    with pytest.raises(
        ConversionError, match=r"audio_encoder: ONNX Runtime against torch: largest"
    ):
        export_onnx(run.model(), tmp_path)


def test_learned_ranges_become_the_scales_on_the_device(run: Run, built: Path) -> None:
    model = run.model()
    manifest = load_bundle(built).manifest
    encoder = manifest.graphs[AUDIO_ENCODER]
    ranges = [model.audio_input.range(), *(q.range() for q in model.audio.outputs)]
    for spec, (low, high) in zip((*encoder.inputs, *encoder.outputs), ranges, strict=True):
        assert spec.scale == pytest.approx((high - low) / 255, rel=1e-5)


def test_a_graph_without_ranges_is_refused(run: Run, tmp_path: Path) -> None:
    exported = export_onnx(run.model(), tmp_path)[HEAD]
    converted = to_tflite(exported, tmp_path)
    ranges = learned_ranges(run.model(), exported.path, HEAD)
    ranges.pop("logits")
    with pytest.raises(ConversionError, match="head"):
        quantize(converted, ranges, tmp_path / "out.tflite")


def test_the_manifest_carries_everything_the_contract_names(built: Path) -> None:
    raw = json.loads((built / "manifest.json").read_text())
    for key in (
        "schema",
        "variant",
        "labels",
        "mfcc",
        "audio",
        "text",
        "attention",
        "pooled_mean",
        "pooled_std",
        "graphs",
        "calibration",
        "metrics",
        "training",
        "versions",
    ):
        assert key in raw, key
    assert set(raw["versions"]) >= {"torch", "onnx", "onnx2tf", "ai-edge-quantizer"}
    for graph in raw["graphs"].values():
        assert len(graph["sha256"]) == 64
        assert all(t["scale"] > 0 for t in graph["inputs"] + graph["outputs"])
    card = (built / "MODEL_CARD.md").read_text()
    for words in ("licence", "Limits", "arXiv 2106.04133"):
        assert words in card


def test_the_bundle_streams_and_its_zip_does_the_same(built: Path, tmp_path: Path) -> None:
    archive = tmp_path / "toy.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in built.iterdir():
            file.write(path, path.name)
    samples = read_file(SCENE)
    verdicts = []
    for source in (built, archive):
        stream = EmotionStream(load_bundle(source))
        events = stream.feed(samples) + stream.finish()
        verdicts.append([e.scores for e in events if e.type == "emotion"])
    assert verdicts[0] == verdicts[1]
    assert len(verdicts[0]) >= 5


def test_parity_prints_every_form_and_its_agreement(
    run_folder: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = tmp_path / "clips.csv"
    rows = [
        f"{SCENE},{label},{a},{b}"
        for (a, b), label in zip(CUTS, ["angry", "happy", "sad"] * 2, strict=True)
    ]
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000, np.int16), 16_000)
    rows.append(f"{tmp_path / 'silent.wav'},sad,,")
    csv.write_text("\n".join(["path,label,start,end", *rows]) + "\n")
    assert main(["parity", str(built), "--run", str(run_folder), "--manifest", str(csv)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "unrounded, torch against ONNX Runtime: same label 100.00 %" in out
    forms = ["unrounded torch", "unrounded ONNX Runtime", "fake-quant", "int8 device"]
    whole = "whole" in load_bundle(built).manifest.graphs
    for form in [*forms, *["int8 whole window", "clips that it holds"] * whole]:
        assert form in out
    assert "6 clips" in out
    assert "1 clip left out: digital silence" in out
    csv.write_text(f"path,label\n{tmp_path / 'silent.wav'},sad\n")
    assert main(["parity", str(built), "--run", str(run_folder), "--manifest", str(csv)]) == 2
    assert "nothing to compare in 1 silent clip" in capsys.readouterr().err


def test_parity_leaves_out_what_a_window_does_not_hold() -> None:
    even, other, sure, none = [0.5, 0.5], [0.4, 0.6], [0.9, 0.1], [np.nan, np.nan]
    scores = {INT8: [sure, sure, even], WINDOW: [sure, other, none]}
    found = Parity(
        {form: np.array(rows, np.float32) for form, rows in scores.items()},
        np.array([0, 0, 1]),
        ["happy", "sad"],
    )
    assert found.agreement(WINDOW, INT8) == 0.5
    assert found.difference(WINDOW, INT8) == pytest.approx(0.5)
    assert (found.metrics(WINDOW).n, found.metrics(INT8).n) == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "{tmp}/none", "--out", "{tmp}/b"], "is not a finished training run"),
        (["build", "{run}", "--out", "{tmp}/b", "--target", "toaster"], "unknown target 'toaster'"),
        (["build", "{run}", "--out", "{tmp}/full"], "is not empty and holds no bundle"),
        (["parity", "{tmp}/none", "--manifest", "x.csv"], "no bundle at"),
        (["parity", "{built}", "--manifest", "x.csv"], "name the run"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    run_folder: Path,
    built: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    filled = [a.format(tmp=tmp_path, run=run_folder, built=built) for a in arguments]
    assert main(filled) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("conversion: ")
    assert message in error
    assert (tmp_path / "full" / "precious.txt").read_text() == "mine"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("old", ["bundle", "web page", "bundle and notes"])
def test_a_build_never_takes_what_is_not_a_bundles(
    old: str, run_folder: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if old == "web page":
        out.mkdir()
        (out / "manifest.json").write_text('{"name": "a web app", "icons": []}')
    else:
        shutil.copytree(built, out)
        (out / "head.tflite").write_bytes(b"damaged")
    if old == "bundle and notes":
        (out / "notes.txt").write_text("mine")
    before = contents(out)
    code = main(["build", str(run_folder), "--out", str(out), "--name", "toy"])
    if old == "bundle":
        assert code == 0
        assert set(contents(out)) == set(contents(built))
        assert contents(out)["head.tflite"] == contents(built)["head.tflite"]
        return
    assert code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert ("notes.txt" if old == "bundle and notes" else "holds no bundle") in error
    assert contents(out) == before


def test_a_bundle_that_does_not_run_leaves_the_one_that_was_there(
    run: Run, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "toy", tmp_path / "run"
    shutil.copytree(built, out)
    before = contents(out)
    broken = replace(run, calibration={"audio": Calibration(0.0, 0.0)})  # what no device accepts
    broken.save(folder)
    assert main(["build", str(folder), "--out", str(out)]) == 2
    assert contents(out) == before
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("conversion: the bundle that was built does not run: bundle toy: ")
    assert "temperature" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "toy"]


@pytest.mark.parametrize("calibration", [{}, {"audio": Calibration(1.4, 0.3)}])
def test_a_build_without_calibration_says_that_it_is_never_unsure(
    calibration: dict[str, Calibration],
    run: Run,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    replace(run, calibration=calibration).save(tmp_path / "run")
    assert main(["build", str(tmp_path / "run"), "--out", str(tmp_path / "toy")]) == 0
    lines = [r.getMessage() for r in caplog.records if "calibration" in r.getMessage()]
    if calibration:
        assert lines == []
        return
    (line,) = lines
    assert line.startswith("warning: the run has no calibration of audio: ")
    assert 'never says "unsure"' in line
    assert "training crossval" in line


def test_a_build_where_the_user_stands_is_refused(
    run_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their shell would be left in a folder that is gone."""
    monkeypatch.chdir(tmp_path)
    assert main(["build", str(run_folder), "--out", "."]) == 2
    assert "where you are" in capsys.readouterr().err
    (tmp_path / "file.zip").write_bytes(b"PK")
    assert main(["build", str(run_folder), "--out", "file.zip"]) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_float_graph_is_not_for_a_raspberry_pi(run: Run, tmp_path: Path) -> None:
    path = to_tflite(export_onnx(run.model(), tmp_path)[HEAD], tmp_path)
    assert float_tensors(path)
    with pytest.raises(ConversionError, match="has float tensors"):
        target_named("raspberry-pi").check(path)
