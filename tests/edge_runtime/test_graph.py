"""Interpreters: what is not there, does not load or does not fit is said in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.errors import EngineError
from edge_runtime.graph import Graph, TensorSpec, available_engines
from edge_runtime.manifest import AUDIO_ENCODER, HEAD

Command = Callable[..., subprocess.CompletedProcess[str]]
TFLITE = "ai_edge_litert,tflite_runtime"


def test_without_an_interpreter_the_message_names_the_pip_command(
    bundle_path: Path, edge_emotion: Command, scene_path: Path
) -> None:
    done = edge_emotion("run", scene_path, missing=TFLITE)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.endswith("pip install ai-edge-litert\n")
    assert done.stderr.count("\n") == 1


def test_doctor_says_that_the_interpreter_is_missing(
    bundle_path: Path, edge_emotion: Command
) -> None:
    done = edge_emotion("doctor", missing=TFLITE)
    assert done.returncode == 1
    assert "FAULT interpreter" in done.stdout
    assert "pip install ai-edge-litert" in done.stdout


def test_an_interpreter_that_does_not_load_is_named(
    bundle_path: Path, tmp_path: Path, environment: dict[str, str], command: list[str]
) -> None:
    # As a wheel for another system or another numpy fails: at import.
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text("raise ImportError('libstdc++.so.6 is too old')\n")
    path = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    done = subprocess.run(
        [*command, "run", "a.wav"],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 2
    assert "litert is installed but does not load: libstdc++.so.6 is too old" in done.stderr
    assert done.stderr.count("\n") == 1


def test_importing_the_package_loads_no_interpreter(environment: dict[str, str]) -> None:
    code = "import sys, edge_runtime.mfcc; print(*(m for m in sys.modules if 'litert' in m))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == ""


def test_an_engine_that_cannot_run_the_graph_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="'onnxruntime' cannot run a tflite graph; one of litert"):
        bundle.open_graph(HEAD, engine="onnxruntime")


@pytest.mark.parametrize("content", [b"", b"no model", bytes(5000)], ids=["empty", "text", "zeros"])
def test_bytes_that_are_no_model_are_refused(content: bytes) -> None:
    with pytest.raises(EngineError, match="litert refuses the graph"):
        Graph(content)


def test_half_a_model_is_refused(bundle: Bundle) -> None:
    content = bundle.contents[HEAD]
    with pytest.raises(EngineError, match="litert refuses the graph"):
        Graph(content[: len(content) // 2])


def test_an_input_that_does_not_fit_is_refused_before_it_runs(bundle: Bundle) -> None:
    graph = bundle.open_graph(HEAD)
    (spec,) = graph.inputs
    right = np.zeros(spec.shape, spec.dtype)
    with pytest.raises(ValueError, match=r"takes int8 \(1, .*not int8 \(1, 7\)"):
        graph(np.zeros((1, 7), np.int8))
    with pytest.raises(ValueError, match=r"takes int8 .* not float32"):
        graph(right.astype(np.float32))
    with pytest.raises(ValueError, match="takes 1 inputs, not 2"):
        graph(right, right)
    assert len(graph(right)) == 1


def test_results_stay_what_they_were_when_the_graph_runs_again(bundle: Bundle) -> None:
    graph = bundle.open_graph(AUDIO_ENCODER)
    (spec,) = graph.inputs
    rng = np.random.default_rng(0)
    one, other = (rng.integers(-128, 128, spec.shape).astype(np.int8) for _ in range(2))
    first = graph(one)
    kept = [output.copy() for output in first]
    graph(other)
    assert all(np.array_equal(a, b) for a, b in zip(first, kept, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(graph(one), kept, strict=True))


def test_threads_change_nothing_but_the_time(bundle: Bundle) -> None:
    one, two = (bundle.open_graph(AUDIO_ENCODER, threads=n) for n in (1, 2))
    (spec,) = one.inputs
    values = np.random.default_rng(0).integers(-128, 128, spec.shape).astype(np.int8)
    assert all(np.array_equal(a, b) for a, b in zip(one(values), two(values), strict=True))


def test_the_installed_interpreter_is_found() -> None:
    assert "litert" in available_engines()


def test_quantizing_rounds_half_to_even_and_saturates() -> None:
    spec = TensorSpec("x", (1, 6), "int8", scale=0.5, zero_point=-3)
    reals = np.array([[0.0, 0.25, 0.75, 1.0, 1000.0, -1000.0]], np.float32)
    steps = spec.quantize(reals)
    assert steps.dtype == np.int8
    assert steps.tolist() == [[-3, -3, -1, -1, 127, -128]]
    assert spec.dequantize(steps)[0, :4].tolist() == [0.0, 0.0, 1.0, 1.0]


def test_a_float_tensor_is_passed_through() -> None:
    spec = TensorSpec("x", (2,), "float32")
    values = np.array([0.1, -7.0], np.float32)
    assert np.array_equal(spec.dequantize(spec.quantize(values)), values)
