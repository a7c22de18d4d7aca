"""A graph that cannot be run is one line, whatever is wrong with it; never another library's error,
and never a crash of the process."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from float_graph import float_dense

Command = Callable[..., subprocess.CompletedProcess[str]]

# Opens and runs the graph in the first argument; what it raises, by name, and its message.
_OPEN = """
import sys
from pathlib import Path
import numpy as np
from edge_runtime.errors import EdgeError
from edge_runtime.graph import Graph
for path in map(Path, sys.argv[1:]):
    for model in (path, path.read_bytes()):
        try:
            graph = Graph(model, path.suffix[1:])
            graph(*[np.zeros(spec.shape, spec.dtype) for spec in graph.inputs])
            print("ran")
        except EdgeError as error:
            print(f"{type(error).__name__}: {error}")
"""


def opened(environment: dict[str, str], *paths: Path) -> list[str]:
    """A line for each of `paths`, by its path and by its bytes; a crash is none of them."""
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, *map(str, paths)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stderr
    return done.stdout.splitlines()


def test_a_cut_or_foreign_tflite_file_is_refused(
    bundle_path: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    whole = (bundle_path / "head.tflite").read_bytes()
    paths = []
    for name, content in {
        "empty": b"",
        "page": b"<!doctype html><title>404: not found</title>" * 20,
        "ordinary": b"TFL3" * 50,
        **{f"cut_{size}": whole[:size] for size in (5, 100, 5000, len(whole) // 2)},
        "last_byte": whole[:-1],
    }.items():
        paths.append(tmp_path / f"{name}.tflite")
        paths[-1].write_bytes(content)
    lines = opened(environment, *paths)
    assert len(lines) == 2 * len(paths)
    for line in lines:
        assert line.startswith("EngineError: litert refuses the graph: "), line


def test_a_damaged_onnx_file_is_refused(tmp_path: Path, environment: dict[str, str]) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    content = linear(onnx, [1, 4]).SerializeToString()
    paths = [tmp_path / f"{index}.onnx" for index in range(4)]
    for path, damaged in zip(
        paths, (content[: len(content) // 2], b"", b"hello", content[:-2]), strict=True
    ):
        path.write_bytes(damaged)
    unknown = linear(onnx, [1, 4])
    unknown.graph.node[0].op_type = "Frobnicate"
    paths.append(tmp_path / "unknown.onnx")
    onnx.save(unknown, str(paths[-1]))
    lines = opened(environment, *paths)
    assert len(lines) == 2 * len(paths)
    for line in lines:
        assert line.startswith("EngineError: onnxruntime refuses the graph: "), line


@pytest.mark.parametrize(
    ("shape", "told"), [(["batch", 4], "(batch, 4)"), ([None, 4], "(?, 4)"), (["n", "m"], "(n, m)")]
)
def test_an_axis_without_a_length_is_named(
    shape: list[object], told: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "dynamic.onnx"
    onnx.save(linear(onnx, shape), str(path))
    lines = opened(environment, path)
    assert len(lines) == 2  # by its path, and by its bytes
    for line in lines:
        assert line == (
            f"EngineError: 'x' has an axis without a length: {told}; export the graph with fixed "
            "shapes"
        )


def test_a_run_that_fails_inside_the_interpreter_is_one_line(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = linear(onnx, [1, 4])
    model.graph.input[0].type.tensor_type.ClearField("shape")
    path = tmp_path / "shapeless.onnx"
    onnx.save(model, str(path))
    lines = opened(environment, path)
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("EngineError: onnxruntime cannot run the graph: "), line


def test_a_bundle_with_a_float_graph_where_int8_is_described_is_refused(
    bundle_copy: Path, edge_emotion: Command, scene_path: Path
) -> None:
    """Of the right shape and with a right hash: only what it takes is wrong."""
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    head = manifest["graphs"]["head"]
    content = float_dense(head["inputs"][0], head["outputs"][0])
    (bundle_copy / head["file"]).write_bytes(content)
    head["sha256"] = hashlib.sha256(content).hexdigest()
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    done = edge_emotion("run", "--bundle", bundle_copy, scene_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "head.tflite does not have the inputs its manifest describes" in line
    assert "float32" in line


def linear(onnx: object, shape: list[object]) -> object:
    """An ONNX graph x (shape) -> y of one product."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT  # type: ignore[attr-defined]
    weights = helper.make_tensor("w", kind, [4, 3], np.ones(12))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, [shape[0], 3])],
        [weights],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)
