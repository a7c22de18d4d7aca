"""A bundle for other targets, or newer software, is refused with what builds the right one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime import __version__, load_bundle
from edge_runtime.errors import BundleError, EngineError
from edge_runtime.made_for import TARGETS, release
from edge_runtime.manifest import HEAD

Command = Callable[..., subprocess.CompletedProcess[str]]
BUILD = "python -m conversion build RUN --out BUNDLE --target raspberry-pi"

# ONNX Runtime as NVIDIA's build is without a GPU: it lists the providers, and opens a session that
# does not have them. The rest is the real one.
WITHOUT_GPU = """
import importlib.machinery, importlib.util, os, sys
others = [path for path in sys.path if path != os.path.dirname(__file__)]
spec = importlib.machinery.PathFinder.find_spec("onnxruntime", others)
real = importlib.util.module_from_spec(spec)
sys.modules["onnxruntime"] = real
spec.loader.exec_module(real)
asked = real.asked = []
session = real.InferenceSession
def opened(source, options, providers, **further):
    asked.append([p if isinstance(p, str) else p[0] for p in providers][0])
    return session(source, options, providers=["CPUExecutionProvider"])
real.InferenceSession = opened
real.get_available_providers = lambda: [
    "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
]
"""


def edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_bundle_for_another_target_is_refused_before_the_rest_of_it_is_read(
    bundle_copy: Path, edge_emotion: Command
) -> None:
    (bundle_copy / "manifest.json").write_text(
        json.dumps({"schema": 2, "targets": ["ethos-u"], "whatever": 1})
    )
    done = edge_emotion("run", "a.wav", "--bundle", bundle_copy)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "it is made for 'ethos-u'" in done.stderr
    assert BUILD in done.stderr


def test_one_of_several_targets_is_enough(bundle_copy: Path) -> None:
    edit(bundle_copy, targets=["toaster", "jetson"])
    assert load_bundle(bundle_copy).manifest.targets == ("toaster", "jetson")


def test_a_bundle_that_says_nothing_is_one_for_a_raspberry_pi(bundle_copy: Path) -> None:
    raw = json.loads((bundle_copy / "manifest.json").read_text())
    for name in ("targets", "runtime", "files"):
        raw.pop(name, None)
    (bundle_copy / "manifest.json").write_text(json.dumps(raw))
    manifest = load_bundle(bundle_copy).manifest
    assert manifest.targets == ("raspberry-pi",) == TARGETS[:1]
    assert manifest.runtime == {}


def test_a_bundle_that_needs_a_newer_version_is_refused(bundle_copy: Path) -> None:
    edit(bundle_copy, runtime={"edge-emotion": "99.1"}, what_only_that_one_knows=1)
    with pytest.raises(BundleError) as refused:
        load_bundle(bundle_copy)
    line = str(refused.value)
    assert f"it needs edge-emotion '99.1' or newer, this is {__version__}" in line
    assert "pip install --upgrade edge-emotion" in line
    assert BUILD in line
    edit(bundle_copy, runtime={"edge-emotion": __version__})
    with pytest.raises(BundleError, match="unknown 'what_only"):
        load_bundle(bundle_copy)


def test_an_interpreter_that_is_too_old_is_refused(bundle_copy: Path) -> None:
    edit(bundle_copy, runtime={"ai-edge-litert": "99.0", "tflite-runtime": "99.0"})
    with pytest.raises(EngineError) as refused:
        load_bundle(bundle_copy).open_graph(HEAD)
    assert "is older than the 99.0 that the graph is made for: pip install --upgrade" in str(
        refused.value
    )
    edit(bundle_copy, runtime={"ai-edge-litert": "2.0", "of another kind": "99.0"})
    assert load_bundle(bundle_copy).open_graph(HEAD).engine == "litert"


@pytest.mark.parametrize(
    ("older", "newer"),
    [("0.1.0", "0.2"), ("0.9", "0.10.0"), ("2.1.2", "2.1.2.1"), ("1.18.0.dev3", "1.19"), ("", "1")],
)
def test_versions_are_compared_by_their_numbers(older: str, newer: str) -> None:
    assert release(older) < release(newer)
    assert release(f"{newer}.0") == release(newer)


def test_a_provider_that_does_not_start_leaves_the_graph_to_the_next(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    onnx = pytest.importorskip("onnx")
    one = onnx.helper.make_tensor_value_info("x", 1, [1, 3])
    two = onnx.helper.make_tensor_value_info("y", 1, [1, 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [one], [two])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(tmp_path / "relu.onnx"))
    (tmp_path / "onnxruntime.py").write_text(WITHOUT_GPU)
    code = (
        "import sys; from edge_runtime.graph import Graph, available_engines; "
        "from edge_runtime.errors import EngineError\n"
        f"graph = Graph({str(tmp_path / 'relu.onnx')!r})\n"
        "print(graph.engine, *sys.modules['onnxruntime'].asked)\n"
        "print(*(name for name in available_engines() if 'onnx' in name))\n"
        f"try: Graph({str(tmp_path / 'relu.onnx')!r}, engine='onnxruntime-cuda')\n"
        "except EngineError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={
            **environment,
            "PYTHONPATH": f"{tmp_path}:{environment['PYTHONPATH']}",
            "XDG_DATA_HOME": str(tmp_path),
        },
        check=False,
    )
    assert done.returncode == 0, done.stderr
    used, listed, forced = done.stdout.splitlines()
    cpu, cuda, tensorrt = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))
    assert used == f"onnxruntime {cpu} {tensorrt} {cpu} {cuda} {cpu}"
    assert listed == "onnxruntime-tensorrt onnxruntime-cuda onnxruntime"
    assert "onnxruntime-cuda does not start: no GPU" in forced
