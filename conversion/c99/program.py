"""An int8 TFLite graph as a list of matrix products over contiguous memory.

Of a step graph, time is the width of an image of height one: what a convolution sees of it at one
step is one stretch of memory for each tap, or for all of them without dilation. A cut in time is
then an offset, and maps side by side are a wider row; neither moves a byte. What is left are
products, which `sources/edge_emotion_layers.c` runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import frexp, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from conversion.arena import Life, extent, place
from conversion.errors import ConversionError
from edge_runtime.int8 import INT8_MAX, INT8_MIN

ALIGNMENT = 16  # bytes: a vector of the widest unit that a Cortex-M has
_SMALLEST_SHIFT = -31  # below, a product is nothing
_VALID = 1  # the format's number of a convolution without padding
_NONE, _RELU = 0, 1  # its numbers of activations
_INPUT = -1  # the step before the first


@dataclass(frozen=True)
class View:
    """Where the rows of a tensor lie."""

    buffer: int
    """Number of the tensor that owns the memory."""
    offset: int
    """Bytes to the first row."""
    stride: int
    """Bytes from one row to the next."""


@dataclass(frozen=True, eq=False)
class Product:
    """Rows of int8 times weights, plus a bias, back to int8."""

    operation: str
    """As the format calls it, such as "CONV_2D"."""
    name: str
    """Tensor that it makes."""
    source: View
    target: View
    rows: int
    """Rows of the target."""
    fresh: int
    """The last of those that the run before, a step of the input earlier, has not made."""
    step: int
    """Bytes from what one row sees of the source to what the next one does."""
    taps: int
    """Stretches of the source that a row sees."""
    tap_step: int
    """Bytes from one stretch to the next."""
    length: int
    """Bytes of a stretch."""
    weights: npt.NDArray[np.int8]
    """(filters, taps * length)."""
    bias: npt.NDArray[np.int32]
    """(filters,); what the zero point of the source adds is in it."""
    multiplier: npt.NDArray[np.int32]
    """31 bits after the point, (filters,)."""
    shift: npt.NDArray[np.int8]
    """Powers of two that the multiplier lacks, (filters,)."""
    zero: int
    """Zero point of the target."""
    low: int
    """Least value of the target: the zero point after a ReLU."""

    @property
    def macs(self) -> int:
        """Multiplications with addition of the fresh rows."""
        return self.fresh * self.weights.size


@dataclass(frozen=True)
class Kept:
    """Rows of a buffer that the next run needs again."""

    buffer: int
    shift: int
    """Bytes that they move towards the front."""
    size: int
    """Bytes that they are."""


@dataclass(frozen=True, eq=False)
class Program:
    """A graph of one input, ready to be run in an arena."""

    products: tuple[Product, ...]
    """In the order of execution."""
    input: View
    outputs: dict[str, View]
    """By the name of the tensor."""
    offsets: dict[int, int]
    """Of each buffer in the arena, the input's among them if it was asked for."""
    arena: int
    """Bytes."""
    kept: tuple[Kept, ...]
    """What runs hand on to the next."""

    def address(self, view: View) -> int:
        """Bytes from the beginning of the arena; for the input outside it, of the input."""
        return self.offsets.get(view.buffer, 0) + view.offset


def read_program(content: bytes, role: str, advance: int = 0, inside: bool = False) -> Program:
    """The products of the TFLite graph of these bytes.

    From one run to the next, the input moves on by `advance` rows, if not 0: rows that both see are
    computed once. `inside` the arena the input has its place as well.
    Raises ConversionError, with the operation and the layer, for what is no product.
    """
    return _Reader(content, role, advance, inside).program()


def quantized_multiplier(real: float) -> tuple[int, int]:
    """`real`, positive, as an int32 with 31 bits after the point, and a power of two.

    TensorFlow Lite's QuantizeMultiplier.
    """
    mantissa, shift = frexp(real)
    fixed = int(np.floor(mantissa * 2**31 + 0.5))
    if fixed == 2**31:
        fixed, shift = fixed // 2, shift + 1
    return (0, 0) if shift < _SMALLEST_SHIFT else (fixed, shift)


class _Reader:
    """Reads the operations of the first subgraph one by one."""

    def __init__(self, content: bytes, role: str, advance: int, inside: bool) -> None:
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.tools.flatbuffer_utils import (
            get_builtin_code_from_operator_code,
            read_model_from_bytearray,
        )

        self._role, self._advance, self._inside = role, advance, inside
        self._code_of = get_builtin_code_from_operator_code
        self._names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
        self._int8 = schema.TensorType.INT8
        self._model = read_model_from_bytearray(content)
        self._graph = self._model.subgraphs[0]
        self._views: dict[int, View] = {}
        self._sizes: dict[int, int] = {}
        self._moves: dict[int, int] = {}  # rows that a buffer moves on by from run to run

    def program(self) -> Program:
        operations = [(self._operation(o), o) for o in self._graph.operators]
        (source,) = map(int, self._graph.inputs)
        self._own(source)
        self._moves[source] = self._advance
        for name, operator in reversed(operations):
            if name == "CONCATENATION":
                self._join(operator)
        products: list[Product] = []
        readers: dict[str, Callable[[Any], Product]] = {
            "CONV_2D": self._convolution,
            "FULLY_CONNECTED": self._dense,
        }
        lives: dict[int, Life] = {}
        if self._inside:
            lives[source] = Life(self._sizes[source], _INPUT, _INPUT)
        for name, operator in operations:
            if name == "SLICE":
                self._cut(operator)
            elif name != "CONCATENATION":
                product = readers[name](operator)
                step = len(products)
                products.append(product)
                for view in (product.source, product.target):
                    self._use(lives, view, step)
        outputs = {self._name(int(i)): self._view(int(i)) for i in self._graph.outputs}
        for view in outputs.values():
            self._use(lives, view, len(products))
        kept = self._kept(lives)
        for part in kept:
            lives[part.buffer] = replace(lives[part.buffer], begin=_INPUT, end=len(products))
        offsets = place(lives, ALIGNMENT)
        size = extent(lives, offsets, ALIGNMENT)
        return Program(tuple(products), self._views[source], outputs, offsets, size, kept)

    def _kept(self, lives: dict[int, Life]) -> tuple[Kept, ...]:
        """Of each buffer in the arena, what the next run need not make again."""
        found = []
        for buffer in lives:
            shift = self._moves.get(buffer, 0) * self._views[buffer].stride
            if 0 < shift < self._sizes[buffer]:
                found.append(Kept(buffer, shift, self._sizes[buffer] - shift))
        return tuple(found)

    def _use(self, lives: dict[int, Life], view: View, step: int) -> None:
        """A step reads or writes it; the input lives outside unless it was begun."""
        if view.buffer in lives:
            lives[view.buffer] = replace(lives[view.buffer], end=step)
        elif view.buffer != int(self._graph.inputs[0]):
            lives[view.buffer] = Life(self._sizes[view.buffer], step, step)

    def _operation(self, operator: Any) -> str:
        code = self._code_of(self._model.operatorCodes[operator.opcodeIndex])
        name: str = self._names[code]
        if name not in ("SLICE", "CONCATENATION", "CONV_2D", "FULLY_CONNECTED"):
            raise self._lacking(operator, name)
        for index in (int(operator.inputs[0]), int(operator.outputs[0])):
            if self._graph.tensors[index].type != self._int8:
                raise self._lacking(operator, f"{name} of another type than int8")
        return name

    def _lacking(self, operator: Any, what: str) -> ConversionError:
        layer = self._name(int(operator.outputs[0]))
        return ConversionError(
            f"the {self._role} has {what} at {layer!r}, which the C99 library lacks: it computes "
            "SLICE in time, CONCATENATION of channels, CONV_2D over time and FULLY_CONNECTED"
        )

    def _name(self, tensor: int) -> str:
        return (self._graph.tensors[tensor].name or b"").decode("utf-8", "replace")

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(map(int, self._graph.tensors[tensor].shape))

    def _grid(self, tensor: int) -> tuple[npt.NDArray[np.float32], int]:
        """Scales and zero point."""
        quantization = self._graph.tensors[tensor].quantization
        return np.asarray(quantization.scale, np.float32), int(quantization.zeroPoint[0])

    def _constant(self, operator: Any, tensor: int, dtype: str) -> npt.NDArray[Any]:
        data = self._model.buffers[self._graph.tensors[tensor].buffer].data
        if data is None:
            raise self._lacking(operator, "weights, a bias or a cut that are no constants")
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype)

    def _own(self, tensor: int) -> View:
        """The tensor gets memory of its own."""
        *steps, width = self._shape(tensor)
        self._sizes[tensor] = prod(steps) * width
        self._views[tensor] = View(tensor, 0, width)
        return self._views[tensor]

    def _view(self, tensor: int) -> View:
        return self._views[tensor] if tensor in self._views else self._own(tensor)

    def _join(self, operator: Any) -> None:
        """What is joined is made where it is to stand."""
        (out,) = map(int, operator.outputs)
        rank, grid = len(self._shape(out)), self._grid(out)
        made = {int(i) for o in self._graph.operators for i in o.outputs}
        if operator.builtinOptions.axis not in (-1, rank - 1):
            raise self._lacking(operator, "CONCATENATION of another axis than the last")
        target = self._view(out)
        offset = target.offset
        for tensor in map(int, operator.inputs):
            if tensor in self._views or tensor not in made or self._grid(tensor) != grid:
                raise self._lacking(operator, "CONCATENATION of what is used elsewhere or rescaled")
            self._views[tensor] = View(target.buffer, offset, target.stride)
            offset += self._shape(tensor)[-1]

    def _cut(self, operator: Any) -> None:
        source, begin, _ = map(int, operator.inputs)
        (out,) = map(int, operator.outputs)
        start = self._constant(operator, begin, "<i4")
        within, shape = self._shape(source), self._shape(out)
        same = [i for i in range(len(shape)) if i != 2]
        if len(shape) != 4 or any(within[i] != shape[i] or start[i] for i in same):
            raise self._lacking(operator, "SLICE of another axis than time")
        view = self._view(source)
        self._views[out] = replace(view, offset=view.offset + int(start[2]) * view.stride)

    def _inputs(self, operator: Any) -> tuple[int, int, int]:
        """The tensors that a product reads: source, weights and bias."""
        inputs = tuple(map(int, operator.inputs))
        if len(inputs) != 3 or min(inputs) < 0:  # which is how the format leaves one out
            raise self._lacking(operator, "a product without a bias")
        return inputs[0], inputs[1], inputs[2]

    def _convolution(self, operator: Any) -> Product:
        source, weights, bias = self._inputs(operator)
        options = operator.builtinOptions
        view = self._view(source)
        batch, height, steps, channels = self._shape(source)
        filters, tall, taps, width = self._shape(weights)
        if (batch, height, tall, width) != (1, 1, 1, channels):
            raise self._lacking(operator, "CONV_2D over more than time")
        if options.padding != _VALID:
            raise self._lacking(operator, "CONV_2D with padding")
        reach = options.dilationWFactor * (taps - 1) + 1
        rows = (steps - reach) // options.strideW + 1
        tap_step, length = options.dilationWFactor * view.stride, channels
        if tap_step == channels:
            taps, length = 1, taps * channels
        return self._product(
            operator,
            (weights, bias, filters),
            source=view,
            rows=rows,
            step=options.strideW * view.stride,
            taps=taps,
            tap_step=tap_step,
            length=length,
        )

    def _dense(self, operator: Any) -> Product:
        source, weights, bias = self._inputs(operator)
        (out,) = map(int, operator.outputs)
        filters, seen = self._shape(weights)
        view = self._view(source)
        if seen != self._shape(source)[-1]:
            raise self._lacking(operator, "FULLY_CONNECTED over more than one row")
        length = seen
        return self._product(
            operator,
            (weights, bias, filters),
            source=view,
            rows=prod(self._shape(out)) // filters,
            step=view.stride,
            taps=1,
            tap_step=length,
            length=length,
        )

    def _product(
        self, operator: Any, constants: tuple[int, int, int], source: View, **form: int
    ) -> Product:
        weights, bias, filters = constants
        (out,) = map(int, operator.outputs)
        name = self._names[self._code_of(self._model.operatorCodes[operator.opcodeIndex])]
        activation = operator.builtinOptions.fusedActivationFunction
        if activation not in (_NONE, _RELU):
            raise self._lacking(operator, f"{name} with an activation that is no ReLU")
        (in_scale,), in_zero = self._grid(int(operator.inputs[0]))
        scales, _ = self._grid(weights)
        (out_scale,), out_zero = self._grid(out)
        values: npt.NDArray[np.int8] = self._constant(operator, weights, "i1").reshape(filters, -1)
        target = self._view(out)
        move, rest = divmod(self._moves.get(source.buffer, 0) * source.stride, form["step"])
        if rest:  # rows of this run lie between those of the last
            move = 0
        self._moves[target.buffer] = move
        added = self._constant(operator, bias, "<i4")
        offsets = in_zero * values.astype(np.int64).sum(axis=1)
        # As the reference kernels do: doubles of float32 scales.
        real = float(in_scale) * np.broadcast_to(scales, filters).astype(float) / float(out_scale)
        fixed = [quantized_multiplier(value) for value in real]
        return Product(
            operation=name,
            name=self._name(out),
            source=source,
            target=target,
            fresh=min(move, form["rows"]) or form["rows"],
            weights=values,
            bias=(added.astype(np.int64) - offsets).astype(np.int32),
            multiplier=np.array([m for m, _ in fixed], np.int32),
            shift=np.array([s for _, s in fixed], np.int8),
            zero=out_zero,
            low=max(out_zero, INT8_MIN) if activation == _RELU else INT8_MIN,
            **form,
        )


HIGH = INT8_MAX
"""Greatest value of every target."""
