"""A float ONNX graph in the other forms that TensorRT takes: half precision, and int8 by QDQ.

In int8 the tensors pass QuantizeLinear and DequantizeLinear (QDQ), from which TensorRT takes its
scales: no calibration. It asks for symmetric steps, scales per channel for weights, and biases in
float (NVIDIA TensorRT, Developer Guide, "Working with Quantized Types"). Graphs read and give
float32 in every form, so a device's code is the same for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from conversion.converter_log import converter
from conversion.errors import ConversionError
from conversion.quantize import Ranges
from edge_runtime.graph import FORM_KEY

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
WEIGHTED = ("Conv", "Gemm")  # with a layer's weights as their second input, output channels first
PRODUCTS = (*WEIGHTED, "MatMul")  # what is computed in int8
_MOVES = ("Slice", "Transpose", "Concat")  # what moves values without changing them
_STEPS = 127  # from zero to the largest value, both sides


def write_float16(source: Path, out: Path) -> None:
    """Write a float32 graph with weights and arithmetic in half precision, float32 at its ends.

    Raises ConversionError where a weight leaves the range of half precision.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(source))
    for item in model.graph.initializer:
        values = numpy_helper.to_array(item)
        largest = float(np.abs(values).max(initial=0)) if values.dtype.kind == "f" else 0.0
        if largest > float(np.finfo(np.float16).max):
            raise ConversionError(f"{source.name}: {item.name} reaches {largest:g}, beyond float16")
    with converter("onnxruntime.transformers.float16", source.name):
        model = convert_float_to_float16(model, keep_io_types=True)
    _sort(model.graph)  # casts of the inputs stand behind what reads them
    _save(model, "float16", out)


def write_float(source: Path, out: Path) -> None:
    """Write the graph as it is, with its form in it."""
    _save(onnx.load(str(source)), "float", out)


def write_qdq(source: Path, ranges: Ranges, out: Path) -> None:
    """Write a float32 graph with every product in int8, by the ranges that training learned.

    Parameters
    ----------
    source : the float graph.
    ranges : (low, high) of each activation by its name, see `conversion.quantize.learned_ranges`;
        the larger of the two, without sign, is 127 steps.
    out : where the QDQ graph goes.

    Raises
    ------
    ConversionError : what a product reads has no range.
    """
    model = onnx.load(str(source))
    graph = model.graph
    constants = {item.name: item for item in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    read = {}
    for node in graph.node:
        if node.op_type in PRODUCTS:
            entries = node.input[:1] if node.op_type in WEIGHTED else node.input
            for name in _origins(entries, made_by):
                read[name] = _scale_of(name, ranges, source.name)
    nodes = [n for name in graph.input for n in _activation(graph, name.name, read)]
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in read:
                node.input[place] = _real(name)
            elif place == 1 and node.op_type in WEIGHTED:
                nodes.append(_weight(graph, constants[name]))
                node.input[place] = _real(name)
        nodes.append(node)
        nodes += [n for name in node.output for n in _activation(graph, name, read)]
    del graph.node[:]
    graph.node.extend(nodes)
    _save(model, "int8", out)


def _origins(names: Iterable[str], made_by: Mapping[str, Any]) -> list[str]:
    """Where the values of tensors come from, before they were moved."""
    found = []
    for name in names:
        node = made_by.get(name)
        if node is not None and node.op_type in _MOVES:
            entries = node.input if node.op_type == "Concat" else node.input[:1]
            found += _origins(entries, made_by)
        else:
            found.append(name)
    return found


def _scale_of(name: str, ranges: Ranges, file: str) -> np.float32:
    if name not in ranges:
        raise ConversionError(f"{file}: {name} has no learned range")
    return np.float32(max(map(abs, ranges[name])) / _STEPS)


def _activation(graph: Any, name: str, read: Mapping[str, np.float32]) -> list[Any]:
    """The two nodes behind a tensor that a product reads; none behind any other."""
    if name not in read:
        return []
    return [_node(graph, QUANTIZE, name, read[name]), _node(graph, DEQUANTIZE, name, read[name])]


def _weight(graph: Any, item: Any) -> Any:
    """Replace weights (outputs, ...) by int8 with a scale for each output; the node behind them."""
    weights = numpy_helper.to_array(item)
    flat = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    scales = np.where(flat > 0, flat / _STEPS, 1).astype(np.float32)
    shape = (-1, *[1] * (weights.ndim - 1))
    steps = np.clip(np.rint(weights / scales.reshape(shape)), -_STEPS, _STEPS).astype(np.int8)
    name = item.name
    item.CopyFrom(numpy_helper.from_array(steps, _steps(name)))
    return _node(graph, DEQUANTIZE, name, scales, axis=0)


def _node(
    graph: Any, kind: str, name: str, scale: np.float32 | npt.NDArray[np.float32], **axis: Any
) -> Any:
    """QuantizeLinear or DequantizeLinear of a tensor, its scale and its zeros written once."""
    scales = np.asarray(scale)
    for suffix, values in (("scale", scales), ("zero", np.zeros(scales.shape, np.int8))):
        if not any(item.name == f"{name}_{suffix}" for item in graph.initializer):
            graph.initializer.append(numpy_helper.from_array(values, f"{name}_{suffix}"))
    ends = (name, _steps(name)) if kind == QUANTIZE else (_steps(name), _real(name))
    entries = [ends[0], f"{name}_scale", f"{name}_zero"]
    return helper.make_node(kind, entries, [ends[1]], name=f"{name}_{kind}", **axis)


def _steps(name: str) -> str:
    return f"{name}_steps"


def _real(name: str) -> str:
    return f"{name}_real"


def _sort(graph: Any) -> None:
    """Put the nodes into an order in which each comes after what it reads; else as they are."""
    left = list(graph.node)
    made = {name for node in left for name in node.output}
    ordered: list[Any] = []
    while left:
        ready = next(node for node in left if not made & set(node.input))
        left.remove(ready)
        made -= set(ready.output)
        ordered.append(ready)
    del graph.node[:]
    graph.node.extend(ordered)


def _save(model: Any, form: str, out: Path) -> None:
    """Check, say the form in the graph's metadata, and write."""
    del model.metadata_props[:]
    helper.set_model_props(model, {FORM_KEY: form})
    onnx.checker.check_model(model, full_check=True)
    out.write_bytes(model.SerializeToString(deterministic=True))
