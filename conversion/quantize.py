"""Float TFLite to full int8 with the ranges that training learned.

ai-edge-quantizer takes its calibration as a table, tensor name to {min, max}; here the table holds
the learned ranges instead of observed ones, so the scales on the device are those that the
fake-quantized model was trained with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from conversion.converter_log import converter
from conversion.errors import ConversionError
from conversion.flatbuffer import fuse_relus
from edge_runtime.manifest import ATTENTION, HEAD, TEXT_ENCODER
from edge_runtime.model.fusion import MASKED_SCORE
from edge_runtime.system import native_stderr_silenced
from training.network.fakequant import ActivationQuantizer
from training.network.model import MscnnSpu

Ranges = dict[str, tuple[float, float]]

_WEIGHTED = ("Conv", "Gemm")


def learned_ranges(model: MscnnSpu, onnx_path: Path, role: str) -> Ranges:
    """The range of every activation of one exported graph, by the name the converter keeps.

    Raises ConversionError for a file that is no ONNX graph, or one of other layers than the model.
    """
    try:
        graph = onnx.load(str(onnx_path)).graph
    except (OSError, DecodeError) as error:
        raise ConversionError(f"{onnx_path.name} is no ONNX graph: {error}") from error
    if not graph.node:
        raise ConversionError(f"{onnx_path.name} is no ONNX graph: it has no operation")
    if role == ATTENTION:
        return _attention_ranges(model, graph)
    if role == HEAD:
        entry, outputs = model.head.input, list(model.head.outputs)
    elif role == TEXT_ENCODER:
        entry, outputs = model.text_input, list(model.text.outputs)
    else:
        entry, outputs = model.audio_input, list(model.audio.quantizers())
    return _layer_ranges(graph, entry, [cast(ActivationQuantizer, q) for q in outputs])


def _layer_ranges(
    graph: Any, entry: ActivationQuantizer, outputs: list[ActivationQuantizer]
) -> Ranges:
    """Ranges of a graph of convolutions or dense layers.

    A layer takes the range of the activation quantizer behind it, before its ReLU as well: with
    its low end at zero, saturation does the work of the ReLU. Every other operation moves values
    without changing them.
    """
    ranges = {graph.input[0].name: entry.range()}
    # The exporter reorders the nodes, but names each layer's weight after its place in the model.
    weights = natural_order(n.input[1] for n in graph.node if n.op_type in _WEIGHTED)
    if len(weights) != len(outputs):
        raise ConversionError(f"the graph has {len(weights)} layers, not {len(outputs)}")
    learned = dict(zip(weights, [quantizer.range() for quantizer in outputs], strict=True))
    for node in graph.node:
        if node.op_type in _WEIGHTED:
            ranges[node.output[0]] = learned[node.input[1]]
            # What onnx2tf calls joined maps: after the first convolution that reads them.
            ranges[f"{node.name}_input_nhwc"] = ranges[node.input[0]]
        elif node.op_type != "Constant":
            ranges[node.output[0]] = ranges[node.input[0]]
    return ranges


def _attention_ranges(model: MscnnSpu, graph: Any) -> Ranges:
    """Ranges of the attention graph: per text scale scores, their softmax, and what is found.

    The scores have one range before and after the mask is added, which leaves the addition exact.
    """
    attention, scale_of = model.attention, {}
    ranges: Ranges = {"queries": attention.queries.range()}
    maps = [cast(ActivationQuantizer, quantizer) for quantizer in model.text.outputs]
    for index, kernel in enumerate(model.config.text_kernels):
        ranges[f"keys_{kernel:02d}"] = maps[index].range()
        scale_of[f"keys_{kernel:02d}"] = index
    scores = [cast(ActivationQuantizer, quantizer).range() for quantizer in attention.scores]
    attended = [cast(ActivationQuantizer, quantizer).range() for quantizer in attention.outputs]
    weights: set[str] = set()
    for node in graph.node:
        output, scale = node.output[0], next((scale_of[i] for i in node.input if i in scale_of), 0)
        if node.op_type == "Constant":
            continue
        scale_of[output] = scale
        if node.op_type == "MatMul":
            ranges[output] = (attended if node.input[0] in weights else scores)[scale]
        elif node.op_type == "Softmax":
            weights.add(output)
            ranges[output] = attention.weights.range()
        else:  # the mask's addition, a transposition, a slice
            ranges[output] = ranges[node.input[0]]
            if node.op_type == "Slice":
                del scale_of[output]
    # All scales share one mask: a range that holds 0 and the masked score in one step each.
    ranges["mask"] = (MASKED_SCORE, 0.0)
    return ranges


def quantize(float_path: Path, ranges: Ranges, out: Path) -> None:
    """Write the int8 form of a float TFLite graph.

    Parameters
    ----------
    float_path : the float32 graph.
    ranges : (low, high) of each activation tensor, by name; zero inside.
    out : where the int8 graph goes.

    Raises
    ------
    ConversionError : it is no TFLite graph, an activation has no range, or a tensor of the result
        is not an integer.
    """
    from ai_edge_quantizer import quantizer, recipe

    table = {
        name: {
            "min": np.array(low, np.float32).reshape(1, 1),
            "max": np.array(high, np.float32).reshape(1, 1),
        }
        for name, (low, high) in ranges.items()
    }
    with converter("ai-edge-quantizer", float_path.name):
        result = quantizer.Quantizer(str(float_path), recipe.static_wi8_ai8()).quantize(table)
    out.write_bytes(fuse_relus(bytes(result.quantized_model)))
    floats = float_tensors(out)
    if floats:
        raise ConversionError(f"{out.name} still has float tensors: {', '.join(floats)}")


def natural_order(names: Iterable[str]) -> list[str]:
    """Names sorted with the numbers in them taken as numbers."""
    return sorted(
        names, key=lambda n: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", n)]
    )


def tensor_details(path: Path) -> list[dict[str, Any]]:
    """Every tensor of a TFLite graph as LiteRT describes it.

    Raises ConversionError where LiteRT refuses it.
    """
    from ai_edge_litert.interpreter import Interpreter

    with native_stderr_silenced():
        try:
            # Without a delegate: a delegate would replace tensors by ones of its own. By its bytes:
            # of a damaged file that it maps itself, LiteRT verifies nothing and crashes.
            interpreter = Interpreter(
                model_content=path.read_bytes(),
                experimental_op_resolver_type=_no_delegates(),
            )
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            message = " ".join(str(error).split())
            raise ConversionError(f"{path.name} is no TFLite graph: {message}") from error
    return list(interpreter.get_tensor_details())


def float_tensors(path: Path) -> list[str]:
    """Names of the tensors of a TFLite graph that are not integers."""
    return [
        str(detail["name"])
        for detail in tensor_details(path)
        if np.dtype(detail["dtype"]).kind == "f"
    ]


def _no_delegates() -> object:
    from ai_edge_litert.interpreter import OpResolverType

    return OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
