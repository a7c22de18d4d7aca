"""Whether a graph of a bundle is made of arithmetic alone, before an interpreter reads it.

An interpreter is C++ that was made for graphs of one's own. What a bundle has no use for is not
given to it: control flow and calls, which may never end; operations of others' making; tensors of
text or resources; values kept outside the file; tensors of endless size. Whoever made the bundle
could write hashes that fit: these tell damage, this looks at what is meant. It is no proof that an
interpreter has no fault; docs/security.md says what is left.

The format is TensorFlow Lite's schema, version 3 (schema.fbs), in FlatBuffers' binary form: a table
is preceded by the distance to its list of fields, and a field that is not there is 0 in that list.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

_IDENTIFIER = b"TFL3"
_MOST_TENSORS, _MOST_OPERATIONS = 20_000, 10_000
_MOST_ELEMENTS = 1 << 26  # of a tensor, and of all that are computed: 256 MB as float32
_MOST_AXES, _MOST_ARGUMENTS, _MOST_CHANNELS = 8, 1000, 1 << 20
_OUTSIDE = b"location"  # how ONNX names a file that holds the values of a tensor


@dataclass(frozen=True)
class _Kind:
    """An operation of the schema."""

    name: str
    options: int
    """Number of its options in the union of them; 0 for none."""
    least: int
    most: int
    """Inputs that it takes, a bias among them."""


# Arithmetic on tensors whose shapes are known beforehand, by its number in the schema.
_OPERATIONS = {
    0: _Kind("ADD", 11, 2, 2),
    1: _Kind("AVERAGE_POOL_2D", 5, 1, 1),
    2: _Kind("CONCATENATION", 10, 1, 100),
    3: _Kind("CONV_2D", 1, 3, 3),
    4: _Kind("DEPTHWISE_CONV_2D", 2, 3, 3),
    6: _Kind("DEQUANTIZE", 38, 1, 1),
    9: _Kind("FULLY_CONNECTED", 8, 3, 3),
    14: _Kind("LOGISTIC", 0, 1, 1),
    17: _Kind("MAX_POOL_2D", 5, 1, 1),
    18: _Kind("MUL", 21, 2, 2),
    19: _Kind("RELU", 0, 1, 1),
    20: _Kind("RELU_N1_TO_1", 0, 1, 1),
    21: _Kind("RELU6", 0, 1, 1),
    22: _Kind("RESHAPE", 17, 1, 2),
    25: _Kind("SOFTMAX", 9, 1, 1),
    28: _Kind("TANH", 0, 1, 1),
    34: _Kind("PAD", 22, 2, 2),
    39: _Kind("TRANSPOSE", 26, 2, 2),
    40: _Kind("MEAN", 27, 2, 2),
    41: _Kind("SUB", 28, 2, 2),
    42: _Kind("DIV", 29, 2, 2),
    43: _Kind("SQUEEZE", 30, 1, 1),
    45: _Kind("STRIDED_SLICE", 32, 4, 4),
    47: _Kind("EXP", 33, 1, 1),
    49: _Kind("SPLIT", 35, 2, 2),
    53: _Kind("CAST", 37, 1, 1),
    54: _Kind("PRELU", 0, 2, 2),
    55: _Kind("MAXIMUM", 39, 2, 2),
    57: _Kind("MINIMUM", 39, 2, 2),
    59: _Kind("NEG", 42, 1, 1),
    60: _Kind("PADV2", 43, 3, 3),
    65: _Kind("SLICE", 48, 3, 3),
    70: _Kind("EXPAND_DIMS", 52, 2, 2),
    73: _Kind("LOG", 0, 1, 1),
    74: _Kind("SUM", 27, 2, 2),
    75: _Kind("SQRT", 0, 1, 1),
    76: _Kind("RSQRT", 0, 1, 1),
    78: _Kind("POW", 56, 2, 2),
    82: _Kind("REDUCE_MAX", 27, 2, 2),
    83: _Kind("PACK", 59, 1, 100),
    88: _Kind("UNPACK", 64, 1, 1),
    89: _Kind("REDUCE_MIN", 27, 2, 2),
    92: _Kind("SQUARE", 66, 1, 1),
    98: _Kind("LEAKY_RELU", 75, 1, 1),
    99: _Kind("SQUARED_DIFFERENCE", 76, 2, 2),
    101: _Kind("ABS", 78, 1, 1),
    102: _Kind("SPLIT_V", 79, 3, 3),
    111: _Kind("ELU", 0, 1, 1),
    114: _Kind("QUANTIZE", 89, 1, 1),
    117: _Kind("HARD_SWISH", 91, 1, 1),
    126: _Kind("BATCH_MATMUL", 101, 2, 2),
    150: _Kind("GELU", 116, 1, 1),
}
_CONVOLUTION, _DEPTHWISE, _PRODUCT = 3, 4, 9
_WITH_BIAS = (_CONVOLUTION, _DEPTHWISE, _PRODUCT)
_SAME = 0  # padding by which rows and columns stay as many
# What follows the first input says which part, or which axes; shapes do not depend on values.
_WITH_PLACES = (22, 34, 39, 40, 45, 65, 70, 74, 82, 89)
_INT8, _INT16, _UINT8, _INDICES = 9, 7, 3, (2, 4)
_STEPS = {_INT8: (-128, 127), _UINT8: (0, 255), _INT16: (-32768, 32767)}
_LEAST_STEP, _MOST_STEP = 1e-20, 1e6
# Numbers: FLOAT32 FLOAT16 INT32 UINT8 INT64 BOOL INT16 INT8 FLOAT64 UINT32 UINT16 INT4
_TYPES = {0, 1, 2, 3, 4, 6, 7, 9, 10, 15, 16, 17}


def check_graph(content: bytes, kind: str) -> None:
    """Raise ValueError, in words, for a graph of `kind` (tflite or onnx) of anything else.

    What is no graph at all is left to the interpreter, which says so.
    """
    if kind == "onnx":
        if _OUTSIDE in content:
            raise ValueError("keeps values in another file")
        return
    if content[4:8] != _IDENTIFIER:
        return
    try:
        _check_model(_Table.root(content))
    except (struct.error, IndexError):
        raise ValueError("is cut, or points outside itself") from None


class _Table:
    """A table of a FlatBuffer; struct.error or IndexError for what lies outside the file."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self._at = content, at
        self._fields = at - _number(content, at, "<i")
        self._size = _number(content, self._fields, "<H")

    @classmethod
    def root(cls, content: bytes) -> _Table:
        """The table that the file is."""
        return cls(content, _number(content, 0, "<I"))

    def _place(self, field: int) -> int:
        """Where field number `field` is; 0 where it is not there."""
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return 0
        offset = _number(self._content, self._fields + entry, "<H")
        return self._at + offset if offset else 0

    def number(self, field: int, form: str) -> int:
        """A number, by default 0."""
        place = self._place(field)
        return _number(self._content, place, form) if place else 0

    def holds(self, field: int) -> bool:
        """Whether the field is there."""
        return self._place(field) > 0

    def length(self, field: int) -> int:
        """Items of a vector, whose items are of at least one byte."""
        start = self._vector(field)
        return _number(self._content, start, "<I") if start else 0

    def numbers(self, field: int, most: int) -> tuple[int, ...]:
        """A vector of int32, of no more than `most`."""
        count, start = self.length(field), self._vector(field)
        _bounded(count, most, "numbers in a list")
        return struct.unpack_from(f"<{count}i", self._content, start + 4) if count else ()

    def items(self, field: int, form: str, most: int) -> list[float]:
        """A vector of numbers of another form, of no more than `most`."""
        count, start = self.length(field), self._vector(field)
        _bounded(count, most, "numbers in a list")
        return list(
            struct.unpack_from(f"<{count}{form}", self._content, start + 4) if count else ()
        )

    def table(self, field: int) -> _Table | None:
        """A table, if it is there."""
        place = self._vector(field)
        return _Table(self._content, place) if place else None

    def tables(self, field: int) -> Iterator[_Table]:
        """A vector of tables."""
        start = self._vector(field)
        for index in range(self.length(field)):
            place = start + 4 + 4 * index
            yield _Table(self._content, place + _number(self._content, place, "<I"))

    def bytes(self, field: int) -> int:
        """Bytes of a vector of them."""
        count, start = self.length(field), self._vector(field)
        if start + 4 + count > len(self._content):
            raise IndexError
        return count

    def _vector(self, field: int) -> int:
        place = self._place(field)
        return place + _number(self._content, place, "<I") if place else 0


def _number(content: bytes, at: int, form: str) -> int:
    if at < 0:
        raise IndexError
    found: int = struct.unpack_from(form, content, at)[0]
    return found


def _check_model(model: _Table) -> None:
    # By the schema: operator_codes 1, subgraphs 2, buffers 4, external_buffers 9.
    if model.length(2) != 1:
        raise ValueError(f"holds {model.length(2)} graphs, expected one without control flow")
    if model.length(9) or model.length(8):
        raise ValueError("keeps values in another file")
    _bounded(model.length(1), _MOST_OPERATIONS, "kinds of operation")
    kinds = []
    for code in model.tables(1):
        # deprecated_builtin_code 0, custom_code 1, builtin_code 3
        kinds.append(max(code.number(0, "<b"), code.number(3, "<i")))
        if kinds[-1] not in _OPERATIONS:
            raise ValueError(f"operation {kinds[-1]} of the schema has no place in a bundle")
    _bounded(model.length(4), _MOST_TENSORS, "buffers")
    # data 0, offset 1, size 2
    sizes = []
    for buffer in model.tables(4):
        if buffer.number(1, "<Q") > 1 or buffer.number(2, "<Q") > 1:
            raise ValueError("keeps values behind its end")
        sizes.append(buffer.bytes(0))
    (graph,) = model.tables(2)
    _check_operations(graph, kinds, _tensors(graph, sizes))


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    kind: int
    """Number of its type."""
    constant: bool


def _tensors(graph: _Table, sizes: list[int]) -> list[_Tensor]:
    """All tensors of a graph, given the bytes of its buffers."""
    _bounded(graph.length(0), _MOST_TENSORS, "tensors")
    found: list[_Tensor] = []
    computed = 0
    for tensor in graph.tables(0):
        # shape 0, type 1, buffer 2, quantization 4, is_variable 5, sparsity 6, variant_tensors 9
        shape, kind = tensor.numbers(0, _MOST_AXES), tensor.number(1, "<b")
        constant = sizes[tensor.number(2, "<I")] > 0
        if min(shape, default=0) < 0 or not (constant or all(shape)):
            raise ValueError(f"a tensor has shape {shape}")
        if kind not in _TYPES or tensor.length(9):
            raise ValueError("a tensor holds no numbers")
        if tensor.number(5, "<b") or tensor.holds(6) or tensor.number(10, "<I"):
            raise ValueError("a tensor is a variable, sparse, or in another file")
        elements = prod(shape)
        computed += 0 if constant else elements
        _bounded(max(elements, computed), _MOST_ELEMENTS, "elements of tensors")
        found.append(_Tensor(shape, kind, constant))
        _check_steps(found[-1], tensor.table(4))
    return found


def _check_steps(tensor: _Tensor, steps: _Table | None) -> None:
    """Refuse scales that are none: an interpreter divides by them."""
    # scale 2, zero_point 3, quantized_dimension 6
    scales = steps.items(2, "f", _MOST_CHANNELS) if steps else []
    zeros = steps.items(3, "q", _MOST_CHANNELS) if steps else []
    axis = steps.number(6, "<i") if steps else 0
    least, most = _STEPS.get(tensor.kind, (-(1 << 31), (1 << 31) - 1))
    if (
        not all(_LEAST_STEP <= scale <= _MOST_STEP for scale in scales)
        or not all(least <= zero <= most for zero in zeros)
        or len(zeros) not in (0, len(scales))
        or (len(scales) > 1 and not 0 <= axis < len(tensor.shape))
        or (len(scales) > 1 and tensor.shape[axis] != len(scales))
        or (tensor.kind in _STEPS and not tensor.constant and len(scales) != 1)
    ):
        raise ValueError(f"a tensor of shape {tensor.shape} has steps that cannot be meant")


def _check_operations(graph: _Table, kinds: list[int], tensors: list[_Tensor]) -> None:
    """Refuse what is not computed in order: each from constants, inputs and what is before it."""
    _bounded(graph.length(3), _MOST_OPERATIONS, "operations")
    known = [tensor.constant for tensor in tensors]
    for index in graph.numbers(1, _MOST_ARGUMENTS):
        _checked(index, known)
        if known[index]:
            raise ValueError(f"its input {index} is a constant, or there twice")
        known[index] = True
    for operation in graph.tables(3):
        # opcode_index 0, inputs 1, outputs 2, builtin_options_type 3, intermediates 8
        if operation.number(0, "<I") >= len(kinds):
            raise ValueError("an operation is of no kind that the graph lists")
        number = kinds[operation.number(0, "<I")]
        inputs = operation.numbers(1, _MOST_ARGUMENTS)
        outputs = operation.numbers(2, _MOST_ARGUMENTS)
        kind = _OPERATIONS[number]
        if number in _WITH_BIAS and inputs[-1:] == (-1,):
            inputs = inputs[:-1]  # without a bias
        if not kind.least - (number in _WITH_BIAS) <= len(inputs) <= kind.most or not outputs:
            raise ValueError(f"{kind.name} has {len(inputs)} inputs, {len(outputs)} outputs")
        if operation.number(3, "<B") not in (0, kind.options) or operation.length(8):
            raise ValueError(f"{kind.name} has options of another operation")
        for index in inputs:
            if not known[_checked(index, known)]:
                raise ValueError(f"{kind.name} reads tensor {index} before it is computed")
        read, made = [tensors[i] for i in inputs], tensors[_checked(outputs[0], known)]
        _check_constants(number, read, made)
        if number in _WITH_BIAS and not _fits(number, read, made, operation.table(4)):
            raise ValueError(f"{kind.name} makes no {made.shape} of {[t.shape for t in read]}")
        for index in outputs:
            if known[_checked(index, known)]:
                raise ValueError(f"{kind.name} writes tensor {index}, which is there already")
            known[index] = True
    for index in graph.numbers(2, _MOST_ARGUMENTS):
        if not known[_checked(index, known)]:
            raise ValueError(f"its output {index} is never computed")


def _check_constants(number: int, inputs: list[_Tensor], output: _Tensor) -> None:
    """Refuse weights, and places, that are not of the shape or type that is read there."""
    name, further = _OPERATIONS[number].name, inputs[1:]
    if number in (*_WITH_BIAS, *_WITH_PLACES) and not all(t.constant for t in further):
        raise ValueError(f"{name} has weights, or places, that are no constants")
    if number in _WITH_PLACES and any(t.kind not in _INDICES for t in further):
        raise ValueError(f"{name} has places that are no whole numbers")
    if number in _WITH_BIAS and len(inputs) == 3 and inputs[2].shape != output.shape[-1:]:
        raise ValueError(f"{name} has a bias of {inputs[2].shape} for {output.shape}")


def _fits(number: int, inputs: list[_Tensor], output: _Tensor, options: _Table | None) -> bool:
    """Whether a product, or a convolution, of these shapes has that of the output."""
    given, weights, made = inputs[0].shape, inputs[1].shape, output.shape
    if number == _PRODUCT:
        # (..., inputs) by weights (outputs, inputs)
        return (
            len(weights) == 2
            and len(made) > 0
            and made[-1] == weights[0]
            and prod(given) == prod(made[:-1]) * weights[1]
        )
    if options is None or not len(given) == len(weights) == len(made) == 4:
        return False
    # Both options: padding 0, stride_w 1, stride_h 2; dilations 4 and 5, of a depthwise one 5 and 6
    wide = 4 if number == _CONVOLUTION else 5
    axes = ((2, options.number(1, "<i"), wide), (1, options.number(2, "<i"), wide + 1))
    for axis, stride, field in axes:
        dilation = options.number(field, "<i") if options.holds(field) else 1
        if stride < 1 or dilation < 1:
            return False
        reach = 0 if options.number(0, "<b") == _SAME else (weights[axis] - 1) * dilation
        if made[axis] != -(-(given[axis] - reach) // stride):
            return False
    if number == _CONVOLUTION:
        # (outputs, rows, columns, inputs of a group)
        groups, rest = divmod(given[3], max(1, weights[3]))
        channels = not rest and groups > 0 and weights[0] % groups == 0 and made[3] == weights[0]
    else:
        channels = made[3] == weights[3] and weights[3] % given[3] == 0
    return channels and made[0] == given[0]


def _checked(index: int, tensors: list[bool]) -> int:
    if not 0 <= index < len(tensors):
        raise ValueError(f"names a tensor that is none of its {len(tensors)}")
    return index


def _bounded(count: int, most: int, what: str) -> None:
    if count > most:
        raise ValueError(f"has {count:,} {what}, more than {most:,}")
