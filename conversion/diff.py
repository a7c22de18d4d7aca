"""What differs between two bundles, or two artifacts: fields, graphs, arrays, texts."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from edge_runtime.bundle import DEFAULT, MODEL_CARD, MODELS
from edge_runtime.bundle_files import open_files
from edge_runtime.console import counted
from edge_runtime.errors import BundleError
from edge_runtime.manifest import MANIFEST
from edge_runtime.signature import SIGNATURE, STATEMENT
from edge_runtime.untrusted import parse_json, shown

Array = npt.NDArray[Any]
_HASH = "sha256"  # of files that are compared themselves
_ONLY = "is only in"


@dataclass(frozen=True, eq=False)
class Graph:
    """What a graph computes, whatever its file looks like."""

    operations: list[str]
    """Kind, shape and name of what it makes, in order."""
    constants: dict[str, Array] = field(default_factory=dict)
    """Weights and other constants by name."""
    steps: dict[str, Array] = field(default_factory=dict)
    """Scales and zero points of each tensor that has some, by name, (2, scales)."""


def differences(one: str, other: str) -> list[str]:
    """What differs between two bundles or artifacts, a line each; none where they are the same.

    Each is a folder, a .zip, or "default". Lines say what the first has, then what the second has.
    Raises BundleError where one is none, or cannot be read.
    """
    here, there = (_contents(source) for source in (one, other))
    found = []
    for name in sorted({*here, *there}):
        if name not in here or name not in there:
            found.append(f"{name}: {_ONLY} {one if name in here else other}")
        elif here[name] != there[name]:
            lines = list(_compared(name, here[name], there[name]))
            sizes = f"{len(here[name]):,} and {len(there[name]):,} bytes"
            found += [f"{name}: {line}" for line in lines or [f"same values, written as {sizes}"]]
    return found


def _contents(source: str) -> dict[str, bytes]:
    """The files that a manifest names, with itself, the card and what signs them, by name."""
    path = MODELS / DEFAULT if source == DEFAULT else Path(source)
    files = open_files(path)
    try:
        content = files.read(MANIFEST)
        try:
            raw = parse_json(content)
        except ValueError as error:
            raise BundleError(f"bundle {path}: {MANIFEST} is not JSON: {error}") from None
        found = {MANIFEST: content}
        for name in sorted(set(_named(raw))):
            found[name] = files.read(name)
        if isinstance(raw, dict) and raw.get("graphs"):
            found[MODEL_CARD] = files.read(MODEL_CARD)
        for name in filter(files.has, (STATEMENT, SIGNATURE)):
            found[name] = files.read(name)
        return found
    finally:
        files.close()


def _named(raw: Any) -> Iterator[str]:
    """Names of files anywhere in a manifest: of what has a name and a hash."""
    if isinstance(raw, dict):
        if isinstance(raw.get("file"), str) and _HASH in raw:
            yield raw["file"]
        for value in raw.values():
            yield from _named(value)
    elif isinstance(raw, list):
        for value in raw:
            yield from _named(value)


def _compared(name: str, one: bytes, other: bytes) -> Iterator[str]:
    """A line for each difference of two files; none where only their bytes differ."""
    kind = Path(name).suffix
    try:
        if kind == ".json":
            yield from _fields(json.loads(one), json.loads(other))
        elif kind in (".tflite", ".onnx"):
            read = _tflite if kind == ".tflite" else _onnx
            yield from _graphs(read(one), read(other))
        elif kind in (".npy", ".npz"):
            yield from _arrays("array", _numpy(one), _numpy(other))
        else:
            yield from _texts(one.decode(), other.decode())
    except Exception as error:  # each library that reads them has errors of its own
        yield f"differs, and cannot be read: {shown(str(error))}"


def _fields(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Fields of JSON that differ, but for hashes; lists of numbers as arrays."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys((*one, *other)):
            below = f"{place}.{key}" if place else key
            if key not in one or key not in other:
                yield f"{below} {_ONLY} the {'first' if key in one else 'second'}"
            elif key != _HASH:
                yield from _fields(one[key], other[key], below)
    elif one == other:
        return
    elif _is_numeric(one) and _is_numeric(other):
        yield from _values(place, np.array(one), np.array(other))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from _fields(first, second, f"{place}[{index}]")
    else:
        yield f"{place}: {_short(one)} and {_short(other)}"


def _is_numeric(value: Any) -> bool:
    kinds = (int, float)
    return isinstance(value, list) and bool(value) and all(type(item) in kinds for item in value)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _graphs(one: Graph, other: Graph) -> Iterator[str]:
    if one.operations != other.operations:
        counts = Counter(one.operations), Counter(other.operations)
        gone, come = counts[0] - counts[1], counts[1] - counts[0]
        if not gone and not come:
            yield "the same operations in another order"
        for what, operations in (("first", gone), ("second", come)):
            for operation in operations.elements():
                yield f"operation {operation} {_ONLY} the {what}"
    yield from _arrays("constant", one.constants, other.constants)
    yield from _arrays("steps of", one.steps, other.steps)


def _arrays(what: str, one: Mapping[str, Array], other: Mapping[str, Array]) -> Iterator[str]:
    for name in dict.fromkeys((*one, *other)):
        label = f"{what} {name}" if name else what
        if name not in one or name not in other:
            yield f"{label} {_ONLY} the {'first' if name in one else 'second'}"
        else:
            yield from _values(label, one[name], other[name])


def _values(label: str, one: Array, other: Array) -> Iterator[str]:
    """How many values differ, and by how much."""
    if one.shape != other.shape or one.dtype != other.dtype:
        yield f"{label}: {one.dtype} {one.shape} and {other.dtype} {other.shape}"
        return
    different = one != other
    if one.dtype.kind == "f":
        different &= ~(np.isnan(one) & np.isnan(other))
    if not different.any():
        return
    if one.dtype.kind in "fiub":
        worst = np.abs(
            one[different].astype(np.float64) - other[different].astype(np.float64)
        ).max()
        yield f"{label}: {different.sum():,} of {one.size:,} values differ, by at most {worst:.4g}"
    else:
        yield f"{label}: {different.sum():,} of {one.size:,} values differ"


def _texts(one: str, other: str) -> Iterator[str]:
    lines = Counter(one.splitlines()), Counter(other.splitlines())
    gone, come = lines[0] - lines[1], lines[1] - lines[0]
    if not gone and not come:
        yield "the same lines in another order"
        return
    first = shown(next(iter({**gone, **come})))
    counts = [counted(lines.total(), "line") for lines in (gone, come)]
    yield f"{counts[0]} only in the first, {counts[1]} only in the second, such as {first}"


def _numpy(content: bytes) -> dict[str, Array]:
    """Arrays by name; "" for the one of a .npy."""
    read = np.load(io.BytesIO(content), allow_pickle=False)
    return {name: read[name] for name in read} if isinstance(read, NpzFile) else {"": read}


def _tflite(content: bytes) -> Graph:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph = model.subgraphs[0]
    names = _unique(tensor.name.decode() for tensor in graph.tensors)
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    types = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
    operations, constants, steps = [], {}, {}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = kinds[flatbuffer_utils.get_builtin_code_from_operator_code(code)]
        made = int(operator.outputs[0])
        options = vars(operator.builtinOptions) if operator.builtinOptions else {}
        operations.append(
            f"{kind} {list(map(int, graph.tensors[made].shape))} {names[made]} "
            f"{json.dumps(options, default=str, sort_keys=True)}"
        )
    for name, tensor in zip(names, graph.tensors, strict=True):
        data = model.buffers[tensor.buffer].data
        if data is not None:
            raw = np.asarray(data, np.uint8)
            kind = types[tensor.type].lower()
            known = kind in ("int8", "uint8", "int16", "int32", "int64", "float32")
            constants[name] = raw.view(kind).reshape(tensor.shape) if known else raw
        quantization = tensor.quantization
        if quantization is not None and quantization.scale is not None:
            rows = (np.asarray(quantization.scale), np.asarray(quantization.zeroPoint))
            steps[name] = np.stack([row.astype(np.float64) for row in rows])
    return Graph(operations, constants, steps)


def _onnx(content: bytes) -> Graph:
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(content)
    operations, constants = [], {}
    for node in model.graph.node:
        attributes = {}
        for item in node.attribute:
            value = onnx.helper.get_attribute_value(item)
            if isinstance(value, onnx.TensorProto):
                constants[node.output[0]] = numpy_helper.to_array(value)
            else:
                attributes[item.name] = value
        options = json.dumps(attributes, default=str, sort_keys=True)
        operations.append(f"{node.op_type} of {list(node.input)} {node.output[0]} {options}")
    constants |= {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    return Graph(operations, constants)


def _unique(names: Iterator[str]) -> list[str]:
    """Names, those that are there twice with a number."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return found
