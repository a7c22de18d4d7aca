"""The C99 library on this machine against the device's own code and LiteRT."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from c99_library import GCC, Compiled, compiled
from random_models import random_case

from conversion.__main__ import main
from conversion.artifact import derive
from conversion.c99.golden import FEATURES_APART, VALUES_APART, _run
from conversion.c99.graphs import write_graphs
from conversion.c99.library import read_library
from conversion.c99.program import quantized_multiplier, read_program
from conversion.c99.text import string, table
from conversion.errors import ConversionError
from conversion.flatbuffer import GraphWriter
from conversion.targets import STEP_ROLES
from conversion.targets.microcontroller import Microcontroller
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import load_bundle
from edge_runtime.manifest import AUDIO_ENCODER, HEAD, PRETRAINED, WHOLE
from edge_runtime.mfcc import mfcc
from edge_runtime.model.recognizer import Recognizer
from training.network.config import ModelConfig

needs_gcc = pytest.mark.skipif(GCC is None, reason="no gcc: apt-get install gcc libc6-dev")
Int16 = npt.NDArray[np.int16]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled(load_bundle(), tmp_path_factory.mktemp("c99"))


def sounds() -> dict[str, Int16]:
    rng = np.random.default_rng(0)
    times = np.arange(8000)
    return {
        "silence": np.zeros(8000, np.int16),
        "a constant of one": np.ones(8000, np.int16),
        "noise of one step": rng.integers(-1, 2, 8000).astype(np.int16),
        "noise": (3000 * rng.standard_normal(8000)).clip(-32768, 32767).astype(np.int16),
        "a square at full scale": np.where(times // 40 % 2, 32767, -32768).astype(np.int16),
        "the lowest value": np.full(8000, -32768, np.int16),
        "a tone": np.rint(20000 * np.sin(0.3 * times)).astype(np.int16),
        "silence, then a click": np.eye(1, 8000, 4000, dtype=np.int16)[0] * 30000,
        "one sample": np.array([700], np.int16),
        "a sample less than a window": (900 * rng.standard_normal(399)).astype(np.int16),
        "a window": (900 * rng.standard_normal(400)).astype(np.int16),
        "a sample more than a window": (900 * rng.standard_normal(401)).astype(np.int16),
        "two windows": (900 * rng.standard_normal(560)).astype(np.int16),
    }


@needs_gcc
@pytest.mark.parametrize("name", sounds())
def test_features_are_those_of_the_device(library: Compiled, name: str) -> None:
    samples = sounds()[name]
    expected = mfcc(samples)
    found = library.features(samples)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < FEATURES_APART


@needs_gcc
def test_arrays_of_the_graphs_are_the_bundle_s(tmp_path: Path) -> None:
    bundle = load_bundle()
    write_graphs(bundle, tmp_path)
    source, made = tmp_path / "edge_emotion_graphs.c", tmp_path / "graphs.so"
    strict = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror")
    subprocess.run([GCC, *strict, "-shared", "-fPIC", source, "-o", made], check=True)  # type: ignore[list-item]
    compiled_graphs = ctypes.CDLL(str(made))
    assert sorted(STEP_ROLES) == sorted(set(bundle.manifest.graphs) - {PRETRAINED, WHOLE})
    for role in STEP_ROLES:
        content = bundle.contents[role]
        array = (ctypes.c_ubyte * len(content)).in_dll(compiled_graphs, f"es_graph_{role}")
        assert ctypes.addressof(array) % 16 == 0
        assert bytes(array) == content
    header = (tmp_path / "edge_emotion_graphs.h").read_text(encoding="utf-8")
    encoder = bundle.manifest.graphs[AUDIO_ENCODER]
    assert f"{encoder.inputs[0].scale!r} a step from {encoder.inputs[0].zero_point}" in header
    assert "CONV_2D (12)" in header


@needs_gcc
def test_nothing_heard_gives_nothing(library: Compiled) -> None:
    assert library.scores(np.zeros(0, np.int16)) is None
    assert len(library.features(np.zeros(0, np.int16))) == 0


@needs_gcc
def test_fifty_real_clips_get_the_label_of_the_device(library: Compiled, corpora: Path) -> None:
    paths = [
        *sorted(corpora.glob("ravdess/*/*.flac"))[::20],
        *sorted(corpora.glob("emodb/wav/*.flac"))[::10],
    ]
    assert len(paths) >= 50
    manifest = library.bundle.manifest
    recognizer = Recognizer(library.bundle)
    encoder = manifest.graphs[AUDIO_ENCODER].inputs[0]
    part = library.library.part
    off = values = 0
    for path in paths:
        samples = read_file(path)
        recognizer.feed(samples)
        verdict = recognizer.finish()
        scores = library.scores(samples)
        assert verdict is not None
        assert scores is not None
        threshold = manifest.calibration["audio"].threshold
        best = int(verdict.scores.argmax())
        expected = manifest.labels[best] if verdict.scores[best] >= threshold else "unsure"
        assert library.label(scores) == expected, path
        # Steps of the two logits that the kernels round apart, see tests/device/clips.py.
        assert np.abs(scores - verdict.scores).max() < 0.02, path
        np.testing.assert_array_equal(library.scores(samples, piece=333), scores)
        features = [
            (f - part.feature_mean) / part.feature_std
            for f in (mfcc(samples), library.features(samples))
        ]
        ours, theirs = (encoder.quantize(f.astype(np.float32)).astype(int) for f in features)
        assert np.abs(ours - theirs).max() <= 1
        off, values = off + int((ours != theirs).sum()), values + ours.size
    assert off / values < VALUES_APART


@needs_gcc
def test_layers_are_those_of_the_interpreter_to_the_bit(library: Compiled) -> None:
    rng = np.random.default_rng(0)
    bundle = library.bundle
    for role, which in ((AUDIO_ENCODER, "encoder"), (HEAD, "head")):
        spec = bundle.manifest.graphs[role].inputs[0]
        for _ in range(10):
            given = rng.integers(-128, 128, spec.shape).astype(np.int8)
            if role == HEAD:  # words add nothing
                given[:, library.library.standard.gain.size :] = spec.zero_point
            expected = _run(bundle, role, given)
            kept = given[:, : library.library.standard.gain.size] if role == HEAD else given
            for output, found in zip(
                bundle.manifest.graphs[role].outputs, library.run(which, kept), strict=True
            ):
                np.testing.assert_array_equal(found, expected[output.name].reshape(found.shape))


@needs_gcc
def test_golden_vectors_pass_with_undefined_behaviour_caught(
    library: Compiled, tmp_path: Path
) -> None:
    program = compiled(
        library.folder, tmp_path / "golden", "-O1", "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all", test=True,
    )  # fmt: skip
    done = subprocess.run([program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "golden vectors: passed" in done.stdout
    assert not done.stderr


@needs_gcc
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(audio_kernels=(5,)),
        ModelConfig(audio_kernels=(3, 7), audio_dilations=(1, 3), labels=("no", "yes?", "sad")),
        ModelConfig(
            audio_stride=2, audio_dilations=(2,), variant="audio+text+att", labels=tuple("abcde")
        ),
    ],
    ids=["one scale", "deep", "strided, with words"],
)
def test_models_of_other_shapes_get_the_scores_of_the_device(
    config: ModelConfig, tmp_path: Path
) -> None:
    case = random_case(config, tmp_path / "bundle")
    (tmp_path / "c99").mkdir()
    library = Compiled(case.bundle, tmp_path / "c99")
    recognizer = Recognizer(case.bundle)
    for sound in case.sounds:
        recognizer.feed(sound)
        verdict = recognizer.finish()
        assert verdict is not None
        assert library.scores(sound) == pytest.approx(verdict.scores, abs=0.02)


def graph_of(operation: str, options: str = "", **fields: object) -> bytes:
    writer = GraphWriter()
    image = writer.input("frames", (1, 1, 8, 4), 0.1, 0)
    return writer.finish(
        [writer.operation(operation, [image], (1, 1, 8, 4), 0.1, 0, options, "strange", **fields)]
    )


def test_an_operation_that_it_lacks_is_named_with_its_layer() -> None:
    with pytest.raises(ConversionError, match="audio_encoder has TANH at 'strange', which the C99"):
        read_program(graph_of("TANH"), AUDIO_ENCODER)


def dense(writer: GraphWriter, source: int, name: str, seen: int = 4, bias: bool = True) -> int:
    weights = writer.constant(np.ones((4, seen), np.int8), 0.1)
    inputs = [source, weights, writer.constant(np.zeros(4, np.int32), 0.01) if bias else -1]
    return writer.operation(
        "FULLY_CONNECTED", inputs, (1, 4), 0.1, 0, "FullyConnectedOptions", name, keepNumDims=False
    )


def test_a_layer_without_a_bias_is_named() -> None:
    writer = GraphWriter()
    content = writer.finish([dense(writer, writer.input("x", (1, 4), 0.1, 0), "bare", bias=False)])
    with pytest.raises(ConversionError, match="head has a product without a bias at 'bare'"):
        read_program(content, HEAD)
    writer = GraphWriter()
    frames = writer.input("frames", (1, 1, 8, 4), 0.1, 0)
    weights = writer.constant(np.ones((4, 1, 3, 4), np.int8), 0.1)
    options = {"padding": 1, "strideW": 1, "strideH": 1, "dilationWFactor": 1}
    made = writer.operation(
        "CONV_2D", [frames, weights], (1, 1, 6, 4), 0.1, 0, "Conv2DOptions", "bare", **options
    )
    with pytest.raises(ConversionError, match="encoder has a product without a bias at 'bare'"):
        read_program(writer.finish([made]), AUDIO_ENCODER)


def test_weights_that_are_computed_are_named() -> None:
    writer = GraphWriter()
    weights = writer.input("x", (4, 4), 0.1, 0)
    inputs = [weights, weights, writer.constant(np.zeros(4, np.int32), 0.01)]
    options = ("FullyConnectedOptions", "square")
    made = writer.operation("FULLY_CONNECTED", inputs, (4, 4), 0.1, 0, *options)
    with pytest.raises(ConversionError, match="are no constants at 'square'"):
        read_program(writer.finish([made]), HEAD)


def test_a_layer_reads_its_own_part_of_what_is_joined() -> None:
    writer = GraphWriter()
    source = writer.input("x", (1, 4), 0.1, 0)
    parts = [dense(writer, source, "one"), dense(writer, source, "other")]
    joined = writer.operation(
        "CONCATENATION", parts, (1, 8), 0.1, 0, "ConcatenationOptions", "joined", axis=-1
    )
    content = writer.finish([joined, dense(writer, parts[1], "last")])
    *_, last = read_program(content, HEAD).products
    assert (last.source.offset, last.source.stride, last.length) == (4, 8, 4)
    writer = GraphWriter()
    rows = writer.input("x", (1, 1, 2, 4), 0.1, 0)
    with pytest.raises(ConversionError, match="over more than one row at 'flat'"):
        read_program(writer.finish([dense(writer, rows, "flat", seen=8)]), HEAD)


def test_a_graph_that_it_lacks_leaves_the_last_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "library"
    arguments = ["build", "default", "--out", str(out), "--target", "microcontroller"]
    assert main(arguments) == 0
    before = (out / "edge_emotion_model.h").read_bytes()
    strange = load_bundle()
    contents = dict(strange.contents) | {AUDIO_ENCODER: graph_of("TANH")}
    with pytest.raises(ConversionError, match="TANH at 'strange'"):
        derive(replace(strange, contents=contents), out, Microcontroller())
    assert (out / "edge_emotion_model.h").read_bytes() == before


def test_a_bundle_without_audio_or_integers_is_refused(tmp_path: Path) -> None:
    text = random_case(ModelConfig(variant="text"), tmp_path / "text")
    with pytest.raises(ConversionError, match="hears nothing"):
        read_library(text.bundle)
    manifest = load_bundle().manifest
    graphs = dict(manifest.graphs)
    graphs[HEAD] = replace(graphs[HEAD], file="head.onnx")
    floats = replace(load_bundle(), manifest=replace(manifest, graphs=graphs))
    with pytest.raises(ConversionError, match=r"head\.onnx is no int8 TFLite graph"):
        read_library(floats)


def test_the_same_bundle_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(["build", "default", "--out", str(tmp_path / name),
                     "--target", "microcontroller"]) == 0  # fmt: skip
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*"))
    assert Path("edge_emotion.h") in files
    assert Path("test/edge_emotion_golden.c") in files
    for file in files:
        if (tmp_path / "a" / file).is_file():
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_multipliers_are_those_of_the_interpreter() -> None:
    assert quantized_multiplier(0.5) == (2**30, 0)
    assert quantized_multiplier(0.25 * (1 + 2**-30)) == (2**30 + 1, -1)
    assert quantized_multiplier(1 - 2**-40) == (2**30, 1)
    assert quantized_multiplier(2**-40) == (0, 0)


def test_c_is_written_so_that_it_reads_back() -> None:
    assert table("int32_t", "x", np.array([-(2**31), 5])) == (
        "const int32_t x[2] =\n{(-2147483647 - 1), 5};\n"
    )
    assert string('a"\\?é') == '"a\\"\\\\\\077\\303\\251"'
