"""The head's first layer in parts, each of which reads no more than it weighs.

A head that joins models of one modality is mostly zeros: what hears reads no words. Where a part of
the first layer's outputs reads nothing of a branch, the branch is left out for that part. The
integers are the same, in less than half of the bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from conversion.errors import ConversionError
from conversion.whole.ops import Operations

MOST_PARTS = 10
"""Into more, a layer is not split: what TensorFlow Lite for Microcontrollers joins at most."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A dense layer in int8."""

    weights: npt.NDArray[np.int8]
    """(outputs, inputs)."""
    scales: npt.NDArray[np.float32]
    """Of the weights of each output, (outputs,)."""
    bias: npt.NDArray[np.int32]
    """(outputs,)."""
    activation: int
    """As the format numbers it."""
    name: str
    """Tensor that it makes."""
    scale: float
    """Of that."""
    zero: int
    """Of that."""

    def part(self, outputs: npt.NDArray[np.integer], inputs: npt.NDArray[np.integer]) -> Layer:
        """Some of its outputs, by some of its inputs."""
        return replace(
            self,
            weights=np.ascontiguousarray(self.weights[np.ix_(outputs, inputs)]),
            scales=self.scales[outputs],
            bias=self.bias[outputs],
        )


@dataclass(frozen=True, eq=False)
class DenseGraph:
    """A graph of dense layers, each by the outputs of the one before."""

    name: str
    """Its input."""
    scale: float
    zero: int
    layers: tuple[Layer, ...]


def patterns(
    weights: npt.NDArray[Any], branches: Sequence[int]
) -> dict[tuple[bool, ...], npt.NDArray[np.integer]]:
    """Which outputs of a layer (outputs, inputs) read which branches.

    `branches` are the widths of what is joined in its input, in order. An output that reads nothing
    is a constant, wherever it is, and goes with those that read all. Where there were more than
    `MOST_PARTS`, all outputs read all branches.
    """
    parts = np.split(weights, np.cumsum(branches)[:-1], axis=1)
    reads = np.stack([np.abs(part).max(axis=1) > 0 for part in parts], axis=1)
    reads[~reads.any(axis=1)] = True
    found: dict[tuple[bool, ...], list[int]] = {}
    for output, kind in enumerate(reads.tolist()):
        found.setdefault(tuple(kind), []).append(output)
    if len(found) > MOST_PARTS:
        return {(True,) * len(branches): np.arange(len(weights))}
    return {kind: np.array(outputs) for kind, outputs in found.items()}


def split_head(content: bytes, branches: Sequence[int]) -> bytes:
    """A TFLite file of dense layers, the first of them in parts, where that is several.

    `branches` are the widths of what is joined in its input, in order. Raises ConversionError for
    a graph of something else.
    """
    graph = read_dense(content)
    first, *others = graph.layers
    found = patterns(first.weights, branches)
    if len(found) < 2 or not others:
        return content
    writer = _Writer(graph)
    ends = np.cumsum(branches)
    places = [slice(end - width, end) for end, width in zip(ends, branches, strict=True)]
    made: list[int] = []
    for kind, outputs in found.items():
        read = list(itertools.compress(places, kind))
        inputs = np.concatenate([np.arange(part.start, part.stop) for part in read])
        tensor = writer.source if all(kind) else writer.columns(read)
        made.append(writer.dense(tensor, first.part(outputs, inputs), f"{first.name}_{len(made)}"))
    tensor = writer.join(made, (1, len(first.weights)), 1)
    order = np.concatenate(list(found.values()))
    for layer in others:
        tensor = writer.dense(tensor, layer.part(np.arange(len(layer.weights)), order), layer.name)
        order = np.arange(len(layer.weights))
    return writer.writer.finish([tensor])


def whole_head(content: bytes) -> bytes:
    """The same with its first layer in one piece, as it was before `split_head`.

    Raises ConversionError for a graph of something else.
    """
    return write_dense(read_dense(content))


def write_dense(graph: DenseGraph) -> bytes:
    """The TFLite file of a graph, each layer in one piece."""
    writer = _Writer(graph)
    tensor = writer.source
    for layer in graph.layers:
        tensor = writer.dense(tensor, layer, layer.name)
    return writer.writer.finish([tensor])


class _Writer(Operations):
    """A graph of dense layers under construction."""

    def __init__(self, graph: DenseGraph) -> None:
        super().__init__()
        width = graph.layers[0].weights.shape[1]
        self.source = self.writer.input(graph.name, (1, width), graph.scale, graph.zero)

    def columns(self, parts: list[slice]) -> int:
        """Some columns of the input, side by side."""
        cut = [
            self.slice(
                self.source,
                [0, part.start],
                (1, part.stop - part.start),
                self.writer.steps(self.source),
            )
            for part in parts
        ]
        return self.join(cut, (1, sum(part.stop - part.start for part in parts)), 1)

    def dense(self, tensor: int, layer: Layer, name: str) -> int:
        """What a layer makes of a tensor."""
        return self.writer.operation(
            "FULLY_CONNECTED",
            [
                tensor,
                self.writer.constant(layer.weights, layer.scales),
                self.writer.constant(layer.bias, self.writer.steps(tensor)[0] * layer.scales),
            ],
            (1, len(layer.weights)),
            layer.scale,
            layer.zero,
            options="FullyConnectedOptions",
            name=name,
            fusedActivationFunction=layer.activation,
        )


def read_dense(content: bytes) -> DenseGraph:
    """The dense layers of a TFLite file, a first one in parts put together again.

    Raises ConversionError for a graph of something else.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph = model.subgraphs[0]
    names = {v: str(k) for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}

    def kind(operator: Any) -> str:
        code = model.operatorCodes[operator.opcodeIndex]
        return names[flatbuffer_utils.get_builtin_code_from_operator_code(code)]

    def values(tensor: int, dtype: str) -> npt.NDArray[Any]:
        data = model.buffers[graph.tensors[tensor].buffer].data
        shape = [int(size) for size in graph.tensors[tensor].shape]
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype).reshape(shape)

    (source,) = map(int, graph.inputs)
    width = int(graph.tensors[source].shape[-1])
    # Of what the next layer reads, by the tensor that holds them.
    columns: dict[int, npt.NDArray[np.intp]] = {source: np.arange(width)}
    joined = {int(i) for o in graph.operators if kind(o) == "CONCATENATION" for i in o.inputs}
    layers: list[Layer] = []
    parts: dict[int, Layer] = {}
    for operator in graph.operators:
        inputs, (out,) = [int(i) for i in operator.inputs], map(int, operator.outputs)
        name = kind(operator)
        if name == "SLICE" and inputs[0] in columns:
            start, size = (int(values(i, "<i4")[-1]) for i in inputs[1:])
            columns[out] = columns[inputs[0]][start : start + size]
            continue
        if name == "CONCATENATION" and set(inputs) <= columns.keys():
            columns[out] = np.concatenate([columns[i] for i in inputs])
            continue
        if name == "CONCATENATION" and inputs == list(parts):
            layers.append(_side_by_side(list(parts.values()), _name(graph, out)))
        elif name == "FULLY_CONNECTED" and inputs[0] in columns and len(inputs) == 3:
            weights = values(inputs[1], "i1")
            spread = np.zeros((len(weights), width), np.int8)
            spread[:, columns[inputs[0]]] = weights
            layer = _layer(graph, operator, spread, values(inputs[2], "<i4"))
            if out in joined:
                parts[out] = layer
                continue
            layers.append(layer)
        else:
            raise ConversionError(f"the head has {name} at {_name(graph, out)!r}, no dense layer")
        width, parts = len(layers[-1].weights), {}
        columns = {out: np.arange(width)}
    return DenseGraph(_name(graph, source), *_grid(graph, source), tuple(layers))


def _layer(
    graph: Any, operator: Any, weights: npt.NDArray[np.int8], bias: npt.NDArray[np.int32]
) -> Layer:
    out = int(operator.outputs[0])
    scales = graph.tensors[int(operator.inputs[1])].quantization.scale
    return Layer(
        weights,
        np.broadcast_to(np.asarray(scales, np.float32), len(weights)),
        bias,
        int(operator.builtinOptions.fusedActivationFunction),
        _name(graph, out),
        *_grid(graph, out),
    )


def _side_by_side(parts: Sequence[Layer], name: str) -> Layer:
    """The layer whose outputs are those of the parts, one after the other."""
    return replace(
        parts[0],
        name=name,
        weights=np.concatenate([part.weights for part in parts]),
        scales=np.concatenate([part.scales for part in parts]),
        bias=np.concatenate([part.bias for part in parts]),
    )


def _name(graph: Any, tensor: int) -> str:
    return (graph.tensors[tensor].name or b"").decode("utf-8", "replace")


def _grid(graph: Any, tensor: int) -> tuple[float, int]:
    quantization = graph.tensors[tensor].quantization
    return float(quantization.scale[0]), int(quantization.zeroPoint[0])
