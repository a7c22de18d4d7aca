"""A float graph as a bundle's head: well formed, and not what the manifest in the box describes."""

from __future__ import annotations

import numpy as np
import pytest


def float_dense(given: dict[str, object], found: dict[str, object], weight: float = 0.0) -> bytes:
    """A float TFLite graph of one dense layer, of the names and shapes of two specifications.

    All its weights are `weight`.
    """
    flatbuffers = pytest.importorskip("flatbuffers")
    from ai_edge_litert import schema_py_generated as schema

    rows, columns = found["shape"][1], given["shape"][1]  # type: ignore[index]
    tensors, buffers = [], [schema.BufferT()]
    for name, shape in (
        (given["name"], given["shape"]),
        ("weights", [rows, columns]),
        (found["name"], found["shape"]),
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, shape, schema.TensorType.FLOAT32
        if name == "weights":
            tensor.buffer = 1
        tensors.append(tensor)
    weights = schema.BufferT()
    weights.data = np.full(rows * columns, weight, np.float32).view(np.uint8)
    buffers.append(weights)
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, -1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [operator], [0], [2]
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers = 3, [graph], buffers
    model.operatorCodes = [code]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
