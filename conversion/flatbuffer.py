"""TFLite files written operation by operation, or amended; LiteRT's tools read and pack them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

_SCHEMA_VERSION = 3
_PRODUCER = "edge-emotion"


class GraphWriter:
    """An int8 graph under construction; tensors are named by the numbers that its methods return.

    Operations and their options have the names of the format's schema, such as "CONV_2D" and
    Conv2DOptions.
    """

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._graph.inputs, self._graph.outputs = [], []
        self._buffers = [schema.BufferT()]  # the first is empty by convention
        self._codes: list[str] = []

    def input(self, name: str, shape: tuple[int, ...], scale: float, zero_point: int) -> int:
        """An int8 input."""
        index = self._tensor(name, shape, "INT8", scale, zero_point)
        self._graph.inputs.append(index)
        return index

    def constant(
        self,
        values: npt.NDArray[np.int8] | npt.NDArray[np.int32],
        scale: npt.ArrayLike = (),
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        """A constant; with several scales, one for each index of `axis`."""
        kind = {"int8": "INT8", "int32": "INT32"}[values.dtype.name]
        name = f"constant_{len(self._graph.tensors)}"
        index = self._tensor(name, values.shape, kind, scale, zero_point, axis)
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._graph.tensors[index].buffer = len(self._buffers)
        self._buffers.append(buffer)
        return index

    def operation(
        self,
        code: str,
        inputs: list[int],
        shape: tuple[int, ...],
        scale: float,
        zero_point: int,
        options: str = "",
        name: str = "",
        **fields: Any,
    ) -> int:
        """Append an operation with one int8 output of this shape; `fields` are its options."""
        output = self._tensor(
            name or f"{code.lower()}_{len(self._graph.tensors)}", shape, "INT8", scale, zero_point
        )
        if code not in self._codes:
            self._codes.append(code)
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._codes.index(code)
        operator.inputs, operator.outputs = list(inputs), [output]
        if options:
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self._schema, f"{options}T")()
            for field, value in fields.items():
                setattr(operator.builtinOptions, field, value)
        self._graph.operators.append(operator)
        return output

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self._graph.tensors[tensor].shape)

    def steps(self, tensor: int) -> tuple[float, int]:
        """The scale and zero point of a tensor."""
        quantization = self._graph.tensors[tensor].quantization
        return float(quantization.scale[0]), int(quantization.zeroPoint[0])

    def finish(self, outputs: list[int]) -> bytes:
        """The file with these outputs."""
        from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

        self._graph.outputs = outputs
        model = self._schema.ModelT()
        model.version, model.description = _SCHEMA_VERSION, _PRODUCER
        model.subgraphs, model.buffers = [self._graph], self._buffers
        model.operatorCodes = [self._code(name) for name in self._codes]
        return bytes(convert_object_to_bytearray(model))

    def _code(self, name: str) -> Any:
        code = self._schema.OperatorCodeT()
        number = getattr(self._schema.BuiltinOperator, name)
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.version = _VERSIONS.get(name, 1)
        return code

    def _tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: str,
        scale: npt.ArrayLike,
        zero_point: int,
        axis: int = 0,
    ) -> int:
        tensor = self._schema.TensorT()
        tensor.name, tensor.shape = name, list(shape)
        tensor.type = getattr(self._schema.TensorType, kind)
        scales = np.atleast_1d(np.asarray(scale, np.float32))
        if scales.size:
            quantization = self._schema.QuantizationParametersT()
            quantization.scale = scales
            quantization.zeroPoint = np.full(scales.size, zero_point, np.int64)
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1


def fuse_relus(content: bytes) -> bytes:
    """A TFLite file with each RELU behind a dense layer as that layer's activation.

    The XNNPACK delegate does not take an int8 RELU by itself: it would split the graph in three.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph = model.subgraphs[0]
    dense, relu = (getattr(schema.BuiltinOperator, name) for name in ("FULLY_CONNECTED", "RELU"))

    def kind(operator: Any) -> int:
        code = model.operatorCodes[operator.opcodeIndex]
        return int(flatbuffer_utils.get_builtin_code_from_operator_code(code))

    layers = {int(o.outputs[0]): o for o in graph.operators if kind(o) == dense}
    readers = Counter(int(i) for o in graph.operators for i in o.inputs)
    kept, unused = [], set()
    for operator in graph.operators:
        source = int(operator.inputs[0])
        if kind(operator) == relu and source in layers and readers[source] == 1:
            layer = layers[source]
            layer.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
            layer.outputs = operator.outputs
            unused.add(source)
        else:
            kept.append(operator)
    graph.operators = kept
    left = [i for i in range(len(graph.tensors)) if i not in unused]
    place = {old: new for new, old in enumerate(left)} | {-1: -1}
    graph.tensors = [graph.tensors[i] for i in left]
    for part in (graph, *kept):
        part.inputs = [place[int(i)] for i in part.inputs]
        part.outputs = [place[int(i)] for i in part.outputs]
    for signature in model.signatureDefs or []:
        for entry in (*(signature.inputs or []), *(signature.outputs or [])):
            entry.tensorIndex = place[entry.tensorIndex]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


# The first version of each operation that takes int8, where that is not 1.
_VERSIONS = {
    "ADD": 2,
    "AVERAGE_POOL_2D": 2,
    "BATCH_MATMUL": 2,
    "CONCATENATION": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MINIMUM": 2,
    "MUL": 2,
    "RSQRT": 2,
    "SLICE": 2,
    "SOFTMAX": 2,
    "SUB": 2,
    "TANH": 2,
    "TRANSPOSE": 2,
}
