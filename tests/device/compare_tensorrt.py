"""TensorRT parses the graphs for Jetson and builds engines of them: scripts/test-tensorrt."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conversion.targets.jetson import Jetson
from training.run import DEFAULT_RUN, load

TIMEOUT = 300  # seconds

# Parses each graph named, and builds an engine for the GPU that is closest to a Jetson Orin's.
_THERE = """
import json, sys
import tensorrt_rtx_bindings.tensorrt_rtx as trt
class Log(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
    def log(self, severity, message):
        pass
log, found = Log(), {}
for path in sys.argv[1:]:
    builder = trt.Builder(log)
    types = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(types)
    parser = trt.OnnxParser(network, log)
    parsed = parser.parse(open(path, "rb").read())
    errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
    engine = None
    if parsed:
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM86, 0)
        engine = builder.build_serialized_network(network, config)
    size = 0 if engine is None else engine.nbytes
    found[path] = {"layers": network.num_layers, "bytes": size, "errors": errors}
json.dump(found, sys.stdout)
"""


def built(paths: list[Path]) -> dict[str, dict[str, object]]:
    """What TensorRT makes of graphs, by path."""
    environment = Path(os.environ["EDGE_EMOTION_TENSORRT"]).absolute()
    libraries = {"LD_LIBRARY_PATH": str(environment / "libraries")}
    done = subprocess.run(
        [environment / "bin" / "python", "-c", _THERE, *paths],
        env={**os.environ, **libraries},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    found: dict[str, dict[str, object]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("form", Jetson.forms)
def test_tensorrt_builds_an_engine_of_every_graph(form: str, tmp_path: Path) -> None:
    paths = Jetson().graphs(load(DEFAULT_RUN).model(), tmp_path, form)
    assert len(paths) == 4
    for path, row in built(list(paths.values())).items():
        print(path, row)
        assert row["errors"] == []
        assert int(str(row["bytes"])) > 10_000


def test_tensorrt_refuses_what_our_own_check_refuses(tmp_path: Path) -> None:
    path = Jetson().graphs(load(DEFAULT_RUN).model(), tmp_path, "int8")["head"]
    model = onnx.load(str(path))
    zero = next(item for item in model.graph.initializer if item.name == "pooled_zero")
    zero.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), zero.name))
    onnx.save(model, str(path))
    (row,) = built([path]).values()
    assert row["errors"] or not row["bytes"]
