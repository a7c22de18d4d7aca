"""What a bundle's graphs are made of, what runs each operation, and how long each takes.

Structure is read from the flatbuffer itself; which operations the XNNPACK delegate takes is asked
of LiteRT. LiteRT's Python interface (2.1) has no profiler, so an operation is timed as a graph of
its own, cut out of the whole with its weights and run through the same delegate.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import asdict, dataclass
from math import prod
from time import perf_counter
from typing import Any

import numpy as np

from conversion.arena import Life, extent, place
from conversion.errors import ConversionError
from conversion.renumber import keep_tensors
from edge_runtime.bundle import Bundle
from edge_runtime.graph import Graph
from edge_runtime.system import native_stderr_silenced

_ALIGNMENT = 16  # bytes between tensors of the arena, as in TensorFlow Lite for Microcontrollers
_RUNS, _WARM_UP = 40, 5


@dataclass(frozen=True)
class Tensor:
    """One tensor of a graph."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """Element type as the format calls it, such as "INT8"."""
    weight_bytes: int
    """Bytes of its constant value; 0 for an activation."""

    @property
    def bytes(self) -> int:
        """Size of the values."""
        bits = {"INT4": 4, "INT8": 8, "UINT8": 8, "BOOL": 8, "INT16": 16, "FLOAT16": 16}
        wide = {"INT64": 64, "FLOAT64": 64}
        return -(-prod(self.shape) * {**bits, **wide}.get(self.dtype, 32) // 8)


@dataclass(frozen=True)
class Operation:
    """One operation of a graph, in the order of execution."""

    name: str
    """As the format calls it, such as "CONV_2D"."""
    output: str
    """Name of its first output."""
    shape: tuple[int, ...]
    """Shape of its first output."""
    macs: int
    """Multiplications with addition; 0 for what only moves or rounds values."""
    delegated: bool
    """Whether the XNNPACK delegate runs it, else LiteRT's own kernels."""
    milliseconds: float
    """Median time of this operation alone as a graph of its own."""


@dataclass(frozen=True)
class GraphReport:
    """One graph of a bundle."""

    role: str
    file_bytes: int
    operations: tuple[Operation, ...]
    tensors: dict[str, int]
    """Number of tensors by element type, constants included."""
    weight_bytes: int
    """Bytes of all constants."""
    arena_bytes: int
    """Memory for the activations, planned greedily by size as the interpreters do."""
    milliseconds: float
    """Median time of the whole graph."""

    @property
    def macs(self) -> int:
        """Multiplications with addition of one run."""
        return sum(operation.macs for operation in self.operations)

    def to_dict(self) -> dict[str, Any]:
        """The fields, and the sum of MACs."""
        return {**asdict(self), "macs": self.macs}


def inspect_bundle(bundle: Bundle) -> list[GraphReport]:
    """A report on each graph of `bundle`, timed with one thread.

    Raises ConversionError for a bundle of ONNX graphs, and where the workstation's LiteRT does not
    run a graph.
    """
    for spec in bundle.manifest.graphs.values():
        if spec.file.endswith(".onnx"):
            raise ConversionError(
                f"bundle {bundle.source} holds ONNX graphs; inspect reads TFLite: build it without "
                "--form float"
            )
    return [inspect_graph(role, bundle.contents[role]) for role in bundle.manifest.graphs]


def inspect_graph(role: str, content: bytes) -> GraphReport:
    """A report on the TFLite graph of these bytes. Raises ConversionError as `inspect_bundle`."""
    delegated = _delegated(content)
    model = _Model(content)
    operations = tuple(
        Operation(
            name=model.operation_name(index),
            output=model.tensors[int(operator.outputs[0])].name,
            shape=model.tensors[int(operator.outputs[0])].shape,
            macs=model.macs(index),
            delegated=index in delegated,
            milliseconds=_time(model.alone(index)),
        )
        for index, operator in enumerate(model.operators)
    )
    return GraphReport(
        role=role,
        file_bytes=len(content),
        operations=operations,
        tensors=dict(Counter(tensor.dtype for tensor in model.tensors)),
        weight_bytes=sum(tensor.weight_bytes for tensor in model.tensors),
        arena_bytes=model.arena_bytes(),
        milliseconds=_time(content),
    )


def outline(content: bytes) -> tuple[Counter[str], int]:
    """How many operations of each name a TFLite graph has, and the bytes of its activations.

    Both by reading alone: nothing is run.
    """
    model = _Model(content)
    names = Counter(model.operation_name(index) for index in range(len(model.operators)))
    return names, model.arena_bytes()


class _Model:
    """The first subgraph of a TFLite file."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._content = content
        self._model = self._parse()
        self._graph = self._model.subgraphs[0]
        self._codes, types = _names(schema.BuiltinOperator), _names(schema.TensorType)
        self.operators = self._graph.operators
        self.tensors = [
            Tensor(
                name=(tensor.name or b"").decode("utf-8", "replace"),
                shape=tuple(map(int, tensor.shape)) if tensor.shape is not None else (),
                dtype=types[tensor.type],
                weight_bytes=_length(self._model.buffers[tensor.buffer].data),
            )
            for tensor in self._graph.tensors
        ]

    def operation_name(self, index: int) -> str:
        """What the format calls operation `index`."""
        from ai_edge_litert.tools.flatbuffer_utils import get_builtin_code_from_operator_code

        code = self._model.operatorCodes[self.operators[index].opcodeIndex]
        return self._codes[get_builtin_code_from_operator_code(code)]

    def macs(self, index: int) -> int:
        """Multiplications with addition of operation `index`."""
        operator = self.operators[index]
        output = self.tensors[int(operator.outputs[0])].shape
        shapes = [self.tensors[int(i)].shape for i in operator.inputs if i >= 0]
        match self.operation_name(index):
            case "CONV_2D" | "FULLY_CONNECTED":
                return prod(output) * prod(shapes[1][1:])
            case "DEPTHWISE_CONV_2D":
                return prod(output) * prod(shapes[1][1:3])
            case "BATCH_MATMUL":
                return prod(shapes[0]) * output[-1]
        return 0

    def arena_bytes(self) -> int:
        """Memory that holds every activation while it is needed (`conversion.arena`).

        Kernels' own scratch memory is not in it, nor what a delegate does otherwise.
        """
        lives = {
            index: Life(self.tensors[index].bytes, *used) for index, used in self._lives().items()
        }
        return extent(lives, place(lives, _ALIGNMENT), _ALIGNMENT)

    def alone(self, index: int) -> bytes:
        """A TFLite file of operation `index` alone, its constants with it."""
        from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

        model = self._parse()
        graph = model.subgraphs[0]
        operator = graph.operators[index]
        graph.operators = [operator]
        graph.inputs = [i for i in operator.inputs if i >= 0 and not self.tensors[i].weight_bytes]
        graph.outputs = list(operator.outputs)
        keep_tensors(graph, {int(i) for i in (*operator.inputs, *operator.outputs) if i >= 0})
        model.subgraphs = [graph]
        model.signatureDefs, model.metadata, model.metadataBuffer = None, None, None
        return bytes(convert_object_to_bytearray(model))

    def _lives(self) -> dict[int, tuple[int, int]]:
        """Step of the first and last use of each activation."""
        steps = {int(i): [-1] for i in self._graph.inputs}
        for step, operator in enumerate(self.operators):
            for i in (*operator.inputs, *operator.outputs):
                if i >= 0 and not self.tensors[int(i)].weight_bytes:
                    steps.setdefault(int(i), []).append(step)
        for i in self._graph.outputs:
            steps.setdefault(int(i), []).append(len(self.operators))
        return {i: (min(used), max(used)) for i, used in steps.items()}

    def _parse(self) -> Any:
        """The file as objects that may be changed: a new copy each time."""
        from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray

        return read_model_from_bytearray(self._content)


def _delegated(content: bytes) -> set[int]:
    """Indices of the operations that LiteRT hands to its default delegate.

    A delegate's node stands for everything between its inputs and its outputs.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.schema_py_generated import Model

    if not Model.ModelBufferHasIdentifier(content, 0):
        raise ConversionError("these bytes are no TFLite graph")
    with native_stderr_silenced():
        try:
            interpreter = Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            message = " ".join(str(error).split())
            raise ConversionError(f"LiteRT refuses the graph: {message}") from error
    nodes = interpreter._get_ops_details()
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    producer = {int(i): n["index"] for n in nodes if n not in delegates for i in n["outputs"]}
    inside: set[int] = set()
    for delegate in delegates:
        entries = {int(i) for i in delegate["inputs"]}
        wanted = [int(i) for i in delegate["outputs"]]
        while wanted:
            index = producer.get(wanted.pop())
            if index is not None and index not in inside:
                inside.add(index)
                wanted += [int(i) for i in nodes[index]["inputs"] if int(i) not in entries]
    return inside


def _time(content: bytes) -> float:
    """Median time of one run of a graph on random values, ms."""
    graph = Graph(content)
    rng = np.random.default_rng(0)
    inputs = [
        rng.integers(-100, 100, spec.shape).astype(spec.dtype)
        if np.dtype(spec.dtype).kind in "iu"
        else rng.standard_normal(spec.shape).astype(spec.dtype)
        for spec in graph.inputs
    ]
    times = []
    for _ in range(_WARM_UP + _RUNS):
        begin = perf_counter()
        graph(*inputs)
        times.append(1000 * (perf_counter() - begin))
    return statistics.median(times[_WARM_UP:])


def _names(enumeration: type) -> dict[int, str]:
    """The names of an enumeration of the schema, by value.

    Those of `flatbuffer_utils` take the first attribute of that value, which from Python 3.13 on
    may be `__firstlineno__`: it would call SUM so, and FLOAT64.
    """
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _length(data: Any) -> int:
    return 0 if data is None else len(data)
