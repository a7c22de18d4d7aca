"""`inspect` says of every operation what it is, what runs it, and what it costs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from conversion.__main__ import main
from conversion.errors import ConversionError
from conversion.inspect import GraphReport, inspect_bundle, inspect_graph
from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.manifest import AUDIO_ENCODER, HEAD, WHOLE
from training.network.cost import PAPER_FRAMES, cost
from training.run import DEFAULT_RUN, load


@pytest.fixture(scope="module")
def reports(small: Bundle) -> dict[str, GraphReport]:
    return {report.role: report for report in inspect_bundle(small)}


def test_the_encoder_runs_in_the_delegate_as_a_whole(reports: dict[str, GraphReport]) -> None:
    names = [operation.name for operation in reports[AUDIO_ENCODER].operations]
    assert all(operation.delegated for operation in reports[AUDIO_ENCODER].operations)
    assert names.count("CONV_2D") == 4 * (1 + len(load(DEFAULT_RUN).config.audio_dilations))
    assert not {"TRANSPOSE", "GATHER", "MEAN", "QUANTIZE", "DEQUANTIZE"} & set(names)


def test_the_head_runs_in_the_delegate_as_a_whole(reports: dict[str, GraphReport]) -> None:
    names = {operation.name for operation in reports[HEAD].operations if operation.delegated}
    assert names == {operation.name for operation in reports[HEAD].operations}
    # The ReLU between layers is part of the first, which reads in parts what it weighs.
    assert names == {"FULLY_CONNECTED", "SLICE", "CONCATENATION"}


def test_the_whole_window_has_no_square_root_and_leaves_the_delegate_once(
    reports: dict[str, GraphReport],
) -> None:
    operations = reports[WHOLE].operations
    assert not {"SQRT", "RSQRT"} & {operation.name for operation in operations}
    outside = [operation.name for operation in operations if not operation.delegated]
    assert outside == ["SOFTMAX"]  # the attention weights of all text scales


def test_the_whole_window_multiplies_no_zeros(reports: dict[str, GraphReport]) -> None:
    config = load(DEFAULT_RUN).config
    names = Counter(operation.name for operation in reports[WHOLE].operations)
    # A convolution for each kernel length, and one for each further layer.
    convolutions = len(config.audio_kernels) + len(config.text_kernels)
    assert names["CONV_2D"] == convolutions + len(config.audio_dilations)
    # Each audio convolution pads for itself, which is no operation of the delegate's.
    assert names["PAD"] == len(config.audio_kernels)
    # Most of the default bundle's first dense layer serves one modality alone.
    every = sum(config.branches.values()) * config.hidden[0]
    for role in (HEAD, WHOLE):
        dense = sum(o.macs for o in reports[role].operations if o.name == "FULLY_CONNECTED")
        assert dense < every / 2


def test_macs_and_weights_are_those_of_the_layers(
    reports: dict[str, GraphReport], bundle: Bundle
) -> None:
    manifest, audio = bundle.manifest, bundle.manifest.audio
    assert audio is not None
    run = load(DEFAULT_RUN)
    expected = cost(run.config)
    encoder = reports[AUDIO_ENCODER]
    # Every map of a chunk, and what a deeper layer needs beyond it on both sides.
    maps = audio.chunk_frames / audio.stride
    assert encoder.macs >= expected.macs["audio"] / (PAPER_FRAMES / audio.stride) * maps * 0.99
    # int8 weights, int32 biases instead of int8 ones, and the few indices of the slices.
    layers = len(audio.kernels) * (1 + len(run.config.audio_dilations))
    weights = expected.parameters["audio"] + 3 * manifest.filters * layers
    assert weights <= encoder.weight_bytes < weights + 256
    assert encoder.weight_bytes < encoder.file_bytes == len(bundle.contents[AUDIO_ENCODER])
    assert set(encoder.tensors) == {"INT8", "INT32"}


def test_the_arena_holds_what_is_alive_at_the_same_time(
    reports: dict[str, GraphReport], bundle: Bundle
) -> None:
    for role in (AUDIO_ENCODER, HEAD):  # the maps of the whole window never leave it
        spec = bundle.manifest.graphs[role]
        outputs = sum(int(np.prod(output.shape)) for output in spec.outputs)
        inputs = sum(int(np.prod(item.shape)) for item in spec.inputs)
        # All outputs are alive at the end; a deeper layer, and scores, stand between.
        assert outputs <= reports[role].arena_bytes <= 3 * (inputs + outputs) + 1024


def test_operations_alone_take_about_what_the_graph_takes(
    reports: dict[str, GraphReport],
) -> None:
    for report in reports.values():
        assert all(operation.milliseconds > 0 for operation in report.operations)
        # A busy machine may triple a time; a wrong unit would be a factor of thousand.
        alone = sum(operation.milliseconds for operation in report.operations)
        assert report.milliseconds / 10 < alone < report.milliseconds * 30


def test_bytes_that_are_no_graph_are_refused(bundle: Bundle) -> None:
    content = bundle.contents[HEAD]
    with pytest.raises(ConversionError, match="no TFLite graph"):
        inspect_graph("x", b"no model" * 10)
    with pytest.raises(ConversionError):
        inspect_graph("x", content[: len(content) // 2])


def test_the_command_prints_a_table_and_writes_json(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "inspect.json"
    assert main(["inspect", "default", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    for words in ("CONV_2D", "XNNPACK", "FULLY_CON", "MACs", "arena"):
        assert words in printed
    graphs = json.loads(out.read_text())["graphs"]
    assert [graph["role"] for graph in graphs] == list(load_bundle(bundle_path).manifest.graphs)
    assert all(graph["operations"] and graph["macs"] > 0 for graph in graphs)
    assert main(["inspect", str(tmp_path / "none")]) == 2
    assert "no bundle at" in capsys.readouterr().err
