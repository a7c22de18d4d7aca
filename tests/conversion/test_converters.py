"""Where a converter fails, its own words reach the user; and what it is asked does not vary."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from conversion.errors import ConversionError
from conversion.export import Exported, export_onnx
from conversion.quantize import float_tensors, learned_ranges, quantize
from training.network.config import ModelConfig
from training.network.fakequant import Phase, set_phase
from training.network.model import MscnnSpu

# Asks for each step of the conversion what it makes of a file that is none; a line for each.
_STEPS = """
import sys
from pathlib import Path
from conversion.errors import ConversionError
from conversion.export import Exported, to_tflite
from conversion.quantize import learned_ranges, quantize
from conversion.targets import target_named
folder = Path(sys.argv[1])
for path in map(Path, sys.argv[2:]):
    tflite = (
        lambda: quantize(path, {}, folder / "out.tflite"),
        lambda: target_named("raspberry-pi").check(path),
    )
    onnx = (
        lambda: to_tflite(Exported(path, [], []), folder),
        lambda: learned_ranges(None, path, "head"),
    )
    for step in onnx if path.suffix == ".onnx" else tflite:
        try:
            step()
            print("fine")
        except ConversionError as error:
            print(error)
"""


@pytest.fixture(scope="module")
def model() -> MscnnSpu:
    config = ModelConfig(filters=8, hidden=(8,))
    model = MscnnSpu(config).eval()
    set_phase(model, Phase.OBSERVE)
    with torch.no_grad():
        model(torch.randn(2, 60, config.features), torch.tensor([60, 40]))
    return model


def test_a_file_that_is_no_graph_is_one_line_at_every_step(
    bundle_path: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    whole = (bundle_path / "head.tflite").read_bytes()
    paths = []
    for name, content in {
        "cut": whole[: len(whole) // 2],
        "short": whole[:100],
        "page": b"<!doctype html>" * 30,
        "empty": b"",
    }.items():
        for suffix in ("tflite", "onnx"):
            paths.append(tmp_path / f"{name}.{suffix}")
            paths[-1].write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", _STEPS, str(tmp_path), *map(str, paths)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(paths), lines
    for index, line in enumerate(lines):
        assert paths[index // 2].name in line


def test_a_converter_that_fails_is_quoted_and_its_log_named(
    model: MscnnSpu, tmp_path: Path
) -> None:
    from conversion.export import to_tflite

    exported = export_onnx(model, tmp_path)["head"]
    graph = onnx.load(str(exported.path))
    (relu,) = (node for node in graph.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "QuickGelu", "com.microsoft"  # which LiteRT has not
    graph.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(graph, str(exported.path))
    with pytest.raises(ConversionError) as raised:
        to_tflite(Exported(exported.path, exported.examples, exported.expected), tmp_path)
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith("onnx2tf failed on head.onnx: ")
    assert "QUICKGELU" in message.upper()
    log = re.search(r"all of them are in (\S+)$", message)
    assert log, message
    assert "QUICKGELU" in Path(log[1]).read_text().upper()
    assert "\x1b" not in message + Path(log[1]).read_text()
    Path(log[1]).unlink()


def test_graphs_are_compared_on_the_same_examples_each_time(
    model: MscnnSpu, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    one = export_onnx(model, tmp_path / "one")
    other = export_onnx(model, tmp_path / "other")
    for role, exported in one.items():
        for here, there in zip(exported.examples, other[role].examples, strict=True):
            np.testing.assert_array_equal(here, there)
        assert exported.path.read_bytes() == other[role].path.read_bytes()


def test_a_graph_that_stays_float_is_refused_by_name(model: MscnnSpu, tmp_path: Path) -> None:
    from conversion.export import to_tflite

    exported = export_onnx(model, tmp_path)["head"]
    path = to_tflite(exported, tmp_path)
    assert float_tensors(path)
    ranges = learned_ranges(model, exported.path, "head")
    with pytest.raises(ConversionError, match=r"ai-edge-quantizer failed on head_float32\.tflite"):
        quantize(path, dict(list(ranges.items())[:1]), tmp_path / "out.tflite")
