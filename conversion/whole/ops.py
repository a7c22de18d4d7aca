"""How one int8 operation is written: its weights on their grid, its scales, its options.

Tensors are numbers that `conversion.flatbuffer.GraphWriter` gives out. Lengths along time: T;
channels of all scales: S C.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from conversion.flatbuffer import GraphWriter
from edge_runtime.int8 import INT8_MAX, INTERVALS, grid, grid_to
from training.network.fakequant import ActivationQuantizer

Float64 = npt.NDArray[np.float64]
Grid = tuple[float, int]  # scale and zero point

UNIT: Grid = grid_to(1)  # 0 to 1
FLAG: Grid = (1 / INT8_MAX, 0)  # 0 or 1, both exact
LESS: Grid = (1 / INTERVALS, INT8_MAX)  # -1 or 0, both exact
_SAME, _VALID = 0, 1  # the format's numbers of its ways to pad
_CHUNK = 25  # steps summed at first: the delegate unrolls depthwise kernels of up to 25
_CHUNK_SPREAD = 4.0  # how far the mean of a chunk may exceed that of an utterance


@dataclass(frozen=True, eq=False)
class Statistic:
    """A statistic as an int8 tensor."""

    tensor: int
    """(1, 1, K, C)."""
    unit: Float64
    """What 1 of it is, (C,)."""
    taps: Float64 = field(default_factory=lambda: np.ones(1))
    """What the K values of a channel are multiplied by to add up to it, (K,)."""


class Operations:
    """Operations on int8 tensors, written one by one."""

    def __init__(self) -> None:
        self.writer = GraphWriter()

    def padded(self, frames: int, context: int) -> int:
        """Frames with `context` frames of silence on both sides."""
        edges = np.array([[0, 0], [0, 0], [context, context], [0, 0]], np.int32)
        *head, width, channels = self.writer.shape(frames)
        return self.writer.operation(
            "PAD",
            [frames, self.writer.constant(edges)],
            (*head, width + 2 * context, channels),
            *self.writer.steps(frames),
            options="PadOptions",
        )

    def depthwise(
        self, tensor: int, factor: Float64, taps: Float64, offset: Float64 | None, out: Grid
    ) -> int:
        """Sums of as many steps as `taps`, times those, times `factor` (C,), plus `offset` (C,)."""
        _, _, length, channels = self.writer.shape(tensor)
        kernel, highest = len(taps), np.abs(taps).max()
        in_scale, _ = self.writer.steps(tensor)
        wide = np.rint(taps / highest * INT8_MAX)[:, None] * np.sign(factor)  # (K, C)
        scales = np.abs(factor) * highest / INT8_MAX
        steps = in_scale * scales
        shift = np.zeros(channels) if offset is None else offset / steps
        limit = 2**31 - 1
        bias = np.rint(np.clip(shift, -limit, limit)).astype(np.int32)
        return self.writer.operation(
            "DEPTHWISE_CONV_2D",
            [
                tensor,
                self.writer.constant(wide.astype(np.int8)[None, None], scales, axis=3),
                self.writer.constant(bias, steps),
            ],
            (1, 1, length // kernel, channels),
            *out,
            options="DepthwiseConv2DOptions",
            padding=_VALID,
            strideW=kernel,
            strideH=kernel,
            depthMultiplier=1,
            dilationWFactor=1,
            dilationHFactor=1,
        )

    def affine(self, tensor: int, factor: Float64, offset: Float64 | None, out: Grid) -> int:
        """X * factor + offset, per channel."""
        return self.depthwise(tensor, factor, np.ones(1), offset, out)

    def scaled(
        self, statistic: Statistic, factor: Float64, offset: Float64 | None, out: Grid
    ) -> int:
        """A statistic, without its unit, times `factor` (C,), plus `offset` (C,)."""
        return self.depthwise(statistic.tensor, factor, statistic.taps, offset, out)

    def average(self, maps: int, reach: Float64, gain: int) -> int:
        """Mean over the steps that count of masked maps (1, 1, T, C), (1, 1, 1, C).

        In units of `reach` (as many as C), up to 1. `gain` is T over the number of those steps.
        """
        *_, length, channels = self.writer.shape(maps)
        chunk = max(n for n in range(1, _CHUNK + 1) if length % n == 0)
        sums = self.depthwise(
            maps, 1 / (chunk * reach.reshape(-1)), np.ones(chunk), None, grid_to(_CHUNK_SPREAD)
        )
        axes = self.writer.constant(np.array([1, 2], np.int32))
        average = self.writer.operation(
            "MEAN",
            [sums, axes],
            (1, 1, 1, channels),
            *UNIT,
            options="ReducerOptions",
            keepDims=True,
        )
        return self.times(average, gain, UNIT)

    def conv(
        self,
        image: int,
        layers: list[nn.Module],
        out: Grid,
        divisor: Float64 | None,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = False,
        same: bool = False,
    ) -> int:
        """The filters of layers over time, side by side, each divided by `divisor` (as many).

        The low end of `out` is zero and does the work of the ReLU, unless `relu`. With `same` there
        are as many maps as steps, with zeros beyond the edges.
        """
        sources = [cast(nn.Conv1d, layer) for layer in layers]
        weights = [source.weight.detach().double().numpy() for source in sources]
        weight = np.concatenate(weights).transpose(0, 2, 1)[:, None]  # (O, 1, k, I)
        filters, _, kernel, _ = weight.shape
        length = self.writer.shape(image)[2]
        if not same:
            length = (length - dilation * (kernel - 1) - 1) // stride + 1
        values, scales = weights_of(weight)
        scales = scales if divisor is None else scales / divisor
        in_scale, _ = self.writer.steps(image)
        factor = 1.0 if divisor is None else 1 / divisor
        biases = [cast(Tensor, source.bias).detach().double().numpy() for source in sources]
        bias = self.bias(np.concatenate(biases) * factor, in_scale * scales)
        return self.writer.operation(
            "CONV_2D",
            [image, self.writer.constant(values, scales), bias],
            (1, 1, length, filters),
            *out,
            options="Conv2DOptions",
            padding=_SAME if same else _VALID,
            strideW=stride,
            strideH=1,
            dilationWFactor=dilation,
            dilationHFactor=1,
            fusedActivationFunction=int(relu),
        )

    def bias(self, bias: Float64, scales: Float64) -> int:
        return self.writer.constant(np.rint(bias / scales).astype(np.int32), scales)

    def masked(self, maps: int, counted: int) -> int:
        """The maps, 0 to 1, zero where they do not count: 1 less saturates at zero."""
        less = self.affine(counted, np.ones(1), -np.ones(1), LESS)
        return self.writer.operation(
            "ADD", [maps, less], self.writer.shape(maps), *UNIT, "AddOptions"
        )

    def times(self, one: int, other: int, out: Grid) -> int:
        shape = self.writer.shape(one)
        return self.writer.operation("MUL", [one, other], shape, *out, options="MulOptions")

    def any(self, counted: int) -> int:
        """1 where anything counts."""
        return self.highest(counted)

    def highest(self, maps: int) -> int:
        """Maximum over time: (1, 1, 1, C)."""
        _, _, length, channels = self.writer.shape(maps)
        return self.writer.operation(
            "MAX_POOL_2D",
            [maps],
            (1, 1, 1, channels),
            *self.writer.steps(maps),
            options="Pool2DOptions",
            padding=_VALID,
            filterWidth=length,
            filterHeight=1,
            strideW=1,
            strideH=1,
        )

    def side_by_side(self, tensors: list[int]) -> int:
        """Channels of (1, 1, T, C) after one another."""
        *head, _ = self.writer.shape(tensors[0])
        channels = sum(self.writer.shape(tensor)[3] for tensor in tensors)
        return self.join(tensors, (*head, channels), 3)

    def join(self, tensors: list[int], shape: tuple[int, ...], axis: int) -> int:
        if len(tensors) == 1:
            return tensors[0]
        return self.writer.operation(
            "CONCATENATION",
            tensors,
            shape,
            *self.writer.steps(tensors[0]),
            options="ConcatenationOptions",
            axis=axis,
        )

    def reshape(self, tensor: int, shape: tuple[int, ...]) -> int:
        target = self.writer.constant(np.array(shape, np.int32))
        return self.writer.operation(
            "RESHAPE",
            [tensor, target],
            shape,
            *self.writer.steps(tensor),
            options="ReshapeOptions",
            newShape=list(shape),
        )

    def cut(self, image: int, begin: int, length: int) -> int:
        """Steps `begin` to `begin + length` of (1, 1, T, C)."""
        _, _, total, channels = self.writer.shape(image)
        if length == total:
            return image
        steps = self.writer.steps(image)
        return self.slice(image, [0, 0, begin, 0], (1, 1, length, channels), steps)

    def slice(self, tensor: int, begin: list[int], shape: tuple[int, ...], steps: Grid) -> int:
        parts = [self.writer.constant(np.array(part, np.int32)) for part in (begin, shape)]
        return self.writer.operation(
            "SLICE", [tensor, *parts], shape, *steps, options="SliceOptions"
        )


def grid_of(quantizer: nn.Module) -> Grid:
    """Scale and zero point of a learned range."""
    return grid(*cast(ActivationQuantizer, quantizer).range())


def weights_of(weight: Float64) -> tuple[npt.NDArray[np.int8], Float64]:
    """Weights (O, ...) on the int8 grid of their output channel, and its scales (O,)."""
    highest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    # Any scale fits weights that are all zero; their bias is in its steps, and needs large ones.
    scales = np.where(highest > 0, highest.clip(min=1e-12), 1) / INT8_MAX
    shape = (-1, *[1] * (weight.ndim - 1))
    return np.rint(weight / scales.reshape(shape)).astype(np.int8), scales


def quantizers(module: nn.Module, name: str = "outputs") -> list[ActivationQuantizer]:
    return [cast(ActivationQuantizer, q) for q in cast(nn.ModuleList, getattr(module, name))]
