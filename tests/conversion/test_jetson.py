"""Graphs for TensorRT: its rules, and what they compute beside PyTorch and the int8 TFLite ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from packaged import need_whisper
from random_models import Case, random_case

from conversion.errors import ConversionError
from conversion.export import export_onnx
from conversion.quantize import learned_ranges
from conversion.targets import bundle_target
from conversion.targets.jetson import Jetson
from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.graph import Graph
from edge_runtime.stream import classify
from training.data.whisper_encoder import published_encoder
from training.network.config import ModelConfig
from training.run import DEFAULT_RUN, load
from training.tiers import EXTENTS, LARGE

FORMS = ("float", "float16", "int8")
BOTH = ModelConfig(
    variant="audio+text+att+swem", audio_stride=3, audio_dilations=(1, 2), audio_kernels=(5, 7)
)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return random_case(BOTH, tmp_path_factory.mktemp("case") / "int8")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model in the box for Jetson, in each form, by the command a user gives."""
    from conversion.__main__ import main

    folder = tmp_path_factory.mktemp("jetson")
    for form in FORMS:
        out = ["--out", str(folder / form), "--target", "jetson", "--form", form]
        assert main(["build", str(DEFAULT_RUN), *out, "--name", "default"]) == 0
    return {form: folder / form for form in FORMS}


def test_int8_graphs_follow_what_tensorrt_asks_of_qdq(bundles: dict[str, Path]) -> None:
    """NVIDIA's rules, read off the files themselves: the target's own check is not asked."""
    graphs = sorted(bundles["int8"].glob("*.onnx"))
    assert graphs
    for path in graphs:
        model = onnx.load(str(path))
        assert model.opset_import[0].version in range(13, 24)
        constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        made = {name: node for node in model.graph.node for name in node.output}
        kinds = [node.op_type for node in model.graph.node]
        products = [n for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
        assert products
        assert kinds.count("QuantizeLinear") >= 1
        for node in model.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                scale, zero = (constants[name] for name in node.input[1:3])
                assert zero.dtype == np.int8
                assert not zero.any()
                assert (scale > 0).all()
                weights = constants.get(node.input[0])
                assert scale.ndim == (0 if weights is None else 1)
                if weights is not None:
                    assert weights.dtype == np.int8
                    assert len(scale) == len(weights)
                    assert weights.min() >= -127  # symmetric
        for node in products:
            for name in node.input[:2]:
                while made[name].op_type in ("Slice", "Transpose"):
                    name = made[name].input[0]
                sources = made[name].input if made[name].op_type == "Concat" else [name]
                assert {made[source].op_type for source in sources} == {"DequantizeLinear"}
            for name in node.input[2:]:
                assert constants[name].dtype == np.float32
        shapes = [
            d
            for v in (*model.graph.input, *model.graph.output)
            for d in v.type.tensor_type.shape.dim
        ]
        assert all(axis.dim_value > 0 for axis in shapes)


def test_every_form_is_static_and_reads_and_gives_float32(bundles: dict[str, Path]) -> None:
    sizes = {}
    for form, folder in bundles.items():
        manifest = load_bundle(folder).manifest
        assert manifest.targets == ("jetson",)
        assert manifest.runtime.keys() == {"edge-emotion", "onnxruntime"}
        for spec in manifest.graphs.values():
            assert {t.dtype for t in (*spec.inputs, *spec.outputs)} == {"float32"}
        sizes[form] = (folder / "audio_encoder.onnx").stat().st_size
    assert sizes["float16"] < 0.55 * sizes["float"]
    assert sizes["int8"] < 0.3 * sizes["float"]


def test_float_is_what_torch_computes(bundles: dict[str, Path], tmp_path: Path) -> None:
    model = load(DEFAULT_RUN).model()
    for role, exported in export_onnx(model, tmp_path).items():
        found = Graph(bundles["float"] / f"{role}.onnx")(*exported.examples)
        half = Graph(bundles["float16"] / f"{role}.onnx")(*exported.examples)
        for expected, full, short in zip(exported.expected, found, half, strict=True):
            assert np.abs(expected - full).max() <= 1e-4
            # Half precision has 11 bits; sums of thousands of products lose a few of them.
            assert np.abs(expected - short).max() <= 2**-8 * np.abs(expected).max()


def test_learned_ranges_are_the_scales(case: Case, tmp_path: Path) -> None:
    model = case.run.model()
    for role, path in Jetson().graphs(model, tmp_path, "int8").items():
        ranges = learned_ranges(model, tmp_path / "onnx" / path.name, role)
        constants = {
            i.name: numpy_helper.to_array(i) for i in onnx.load(str(path)).graph.initializer
        }
        scales = {n.removesuffix("_scale"): v for n, v in constants.items() if n.endswith("_scale")}
        activations = {name: scale for name, scale in scales.items() if not scale.ndim}
        assert activations
        for name, scale in activations.items():
            assert scale == pytest.approx(max(map(abs, ranges[name])) / 127, rel=1e-6)


def agreement(one: Bundle, other: Bundle, clips: list[Any], words: list[str]) -> float:
    """Share of clips, without and with words, on which two bundles name the same class."""
    same = []
    streams = [
        EmotionStream(b, segment=b.manifest.segment.whole(), partial_seconds=0)
        for b in (one, other)
    ]
    for index, clip in enumerate(clips):
        for said in ("", words[index % len(words)]):
            labels = [
                int(np.argmax(list(classify(s, clip, said).scores.values()))) for s in streams
            ]
            same.append(labels[0] == labels[1])
    return float(np.mean(same))


def test_int8_names_the_class_that_tflite_names(
    bundles: dict[str, Path], small: Bundle, corpora: Path
) -> None:
    """A sample: every 20th clip of RAVDESS and EMO-DB; docs/targets.md has the figure of all."""
    paths = sorted([*(corpora / "ravdess").rglob("*.flac"), *(corpora / "emodb").rglob("*.flac")])
    clips = [read_file(path) for path in paths[::20]]
    assert len(clips) >= 40
    words = ["i am so happy for you", "leave me alone", "the train leaves at nine", "she is gone"]
    # An eighth of a step of scale more or less turns a verdict that stands on the edge.
    assert agreement(load_bundle(bundles["int8"]), small, clips, words) >= 0.98
    assert (
        agreement(load_bundle(bundles["float16"]), load_bundle(bundles["float"]), clips, words) == 1
    )


def one_node(kind: str, constants: dict[str, np.ndarray], **attributes: Any) -> onnx.ModelProto:
    """x (1, 4) through one node named `layer`."""
    inputs = ["x", *constants]
    node = helper.make_node(kind, inputs, ["y"], name="layer", **attributes)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("x", "y")]
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def dynamic() -> onnx.ModelProto:
    model = one_node("Relu", {})
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    return model


def old() -> onnx.ModelProto:
    model = one_node("Relu", {})
    model.opset_import[0].version = 11
    return model


SCALE, ZERO = np.float32(0.1), np.int8(0)
REFUSED: list[tuple[str, Callable[[], onnx.ModelProto], str]] = [
    (
        "an operation it has not",
        lambda: one_node("Det", {}),
        "does not take Det of layer layer: it has no such operation",
    ),
    (
        "a zero point",
        lambda: one_node("QuantizeLinear", {"s": SCALE, "z": np.int8(3)}),
        "QuantizeLinear of layer layer: its zero points are int8 3 to 3, not int8 0",
    ),
    (
        "unsigned steps",
        lambda: one_node("QuantizeLinear", {"s": SCALE, "z": np.uint8(0)}),
        "zero points are uint8",
    ),
    (
        "channels of an activation",
        lambda: one_node("QuantizeLinear", {"s": np.full(4, SCALE), "z": np.zeros(4, np.int8)}),
        "an activation has one scale",
    ),
    (
        "a scale of zero",
        lambda: one_node("QuantizeLinear", {"s": np.float32(0), "z": ZERO}),
        "a scale is not positive",
    ),
    ("no fixed shape", dynamic, "x has no fixed shape"),
    ("an old opset", old, "opset 11 is not one of the 13 to 23"),
]


@pytest.mark.parametrize(
    ("make", "says"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_what_tensorrt_does_not_take_is_named(
    make: Callable[[], onnx.ModelProto], says: str, tmp_path: Path
) -> None:
    onnx.save(make(), str(tmp_path / "graph.onnx"))
    with pytest.raises(ConversionError) as refused:
        Jetson().check(tmp_path / "graph.onnx")
    assert says in str(refused.value)
    assert "graph.onnx" in str(refused.value)


@pytest.mark.parametrize("what", ["int32 bias", "one scale for all weights"])
def test_weights_that_tensorrt_does_not_take_are_named(
    what: str, case: Case, tmp_path: Path
) -> None:
    path = Jetson().graphs(case.run.model(), tmp_path, "int8")["head"]
    model = onnx.load(str(path))
    layer = next(node for node in model.graph.node if node.op_type == "Gemm")
    held = {item.name: item for item in model.graph.initializer}
    if what == "int32 bias":
        name = layer.input[2]
        bias = numpy_helper.to_array(held[name]).astype(np.int32)
        held[name].CopyFrom(numpy_helper.from_array(bias, "steps"))
        constants = {"s": np.full(len(bias), SCALE), "z": np.zeros(len(bias), np.int32)}
        node = helper.make_node(
            "DequantizeLinear", ["steps", *constants], [name], name="bias", axis=0
        )
        model.graph.node.insert(0, node)
        model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
        says = "DequantizeLinear of layer bias: its zero points are int32"
    else:
        weights = layer.input[1].removesuffix("_real")
        for suffix, value in (("scale", SCALE), ("zero", ZERO)):
            held[f"{weights}_{suffix}"].CopyFrom(
                numpy_helper.from_array(np.asarray(value), f"{weights}_{suffix}")
            )
        says = "weights are int8 with a scale for each output channel"
    onnx.save(model, str(path))
    with pytest.raises(ConversionError, match=says):
        Jetson().check(path)


def test_a_weight_beyond_half_precision_is_named(case: Case, tmp_path: Path) -> None:
    model = case.run.model()
    model.head.layers[0].weight.data[0, 0] = 1e5
    with pytest.raises(ConversionError, match=r"layers\.0\.weight reaches 100000, beyond float16"):
        Jetson().graphs(model, tmp_path, "float16")


def test_the_whole_window_graph_is_not_for_jetson(case: Case, tmp_path: Path) -> None:
    from conversion.bundle import build

    with pytest.raises(ConversionError, match="target jetson has no whole-window graph in int8"):
        build(
            case.run,
            tmp_path / "b",
            bundle_target("jetson"),
            "b",
            form="int8",
            whole=True,
            allow_loss=True,
        )
    with pytest.raises(ConversionError, match="target raspberry-pi has no form 'float16'"):
        build(case.run, tmp_path / "b", bundle_target("raspberry-pi"), "b", form="float16")
    assert not (tmp_path / "b").exists()


def test_the_proof_for_the_board_runs_here_and_says_what_it_does_not_prove(
    bundles: dict[str, Path], environment: dict[str, str], tmp_path: Path, scene_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, bundles["int8"] / "prove.py", "--json", tmp_path / "f.json", scene_path],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "onnxruntime-tensorrt: not used" in done.stdout
    assert done.stdout.endswith("what needs one is not proven by this run\n")
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["agrees"] is True
    assert found["on_gpu"] is False
    assert found["graphs"].keys() == {"audio_encoder", "text_encoder", "attention", "head"}
    assert found["streams"]["onnxruntime"]["clips"] == 4


def test_the_script_for_engines_says_where_trtexec_comes_from(bundles: dict[str, Path]) -> None:
    script = bundles["int8"] / "build-engines.sh"
    done = subprocess.run(["sh", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        done.stderr
        == "build-engines: trtexec is not here; on a Jetson: sudo apt install tensorrt\n"
    )


def test_doctor_and_bench_say_what_runs_the_graphs(
    bundles: dict[str, Path], python_module: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = python_module("edge_runtime.cli", "doctor", "--bundle", bundles["float16"])
    assert "runs in         ONNX Runtime on the CPU" in done.stdout
    done = python_module("edge_runtime.cli", "bench", "--json", "--bundle", bundles["float16"])
    assert json.loads(done.stdout)["engine"] == "onnxruntime"


def test_the_card_says_for_what_it_is(bundles: dict[str, Path]) -> None:
    words = {"int8": "full int8 (ONNX, QDQ)", "float16": "float16,", "float": "float32,"}
    for form, folder in bundles.items():
        card = (folder / "MODEL_CARD.md").read_text()
        assert words[form] in card
        assert "NVIDIA Jetson class devices" in card
        assert "These figures are of the bundle of the same run for raspberry-pi" in card
        assert load_bundle(folder).manifest.form == form


def test_the_pretrained_encoder_of_the_large_tier_is_taken_too(tmp_path: Path) -> None:
    need_whisper()
    found = {}
    for form in ("float16", "int8"):  # it has no learned ranges: in int8 it stays float32
        path = Jetson().encoder(published_encoder(EXTENTS[LARGE]), tmp_path / form, form)
        found[form] = Graph(path)
    (spec,) = found["int8"].inputs
    values = np.random.default_rng(0).standard_normal(spec.shape, np.float32)
    half, full = (found[form](values)[0] for form in ("float16", "int8"))
    assert np.abs(half - full).max() <= 0.01 * np.abs(full).max()


def test_parity_tells_another_bundle_of_the_same_model(
    bundles: dict[str, Path],
    scene_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from conversion.__main__ import main

    clips = tmp_path / "clips.csv"
    clips.write_text(f"path,label,start,end\n{scene_path},happy,0.5,5\n{scene_path},sad,5,9\n")
    arguments = ["parity", "default", "--manifest", str(clips), "--against"]
    assert main([*arguments, str(bundles["int8"])]) == 0
    told = capsys.readouterr().out
    (row,) = [line for line in told.splitlines() if "the other bundle" in line and "│" in line]
    assert " 100.00 " in row
    changed = tmp_path / "other"
    shutil.copytree(bundles["int8"], changed)
    manifest = json.loads((changed / "manifest.json").read_text())
    manifest["labels"] = ["cross", *manifest["labels"][1:]]
    (changed / "manifest.json").write_text(json.dumps(manifest))
    assert main([*arguments, str(changed)]) == 2
    assert "bundles of one model can be compared" in capsys.readouterr().err
