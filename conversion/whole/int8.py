"""The whole model as one int8 graph over a fixed window, without SQRT and without float.

Written operation by operation, because what makes int8 statistics agree with exact ones is the
choice of every scale, which a quantizer that works from one range a tensor cannot make:

- The weights' own scales, one per filter, bring each filter's maps into a range of its own, at no
  cost: a filter that speaks softly keeps its 8 bits through squares and sums. How far each reaches
  is known from training, which standardizes the statistics and so has their means and deviations.
- Means over time begin as depthwise convolutions, which have a scale per filter as well: up to 25
  steps at a time, for which the delegate has an unrolled kernel. A MEAN over those finishes.
- Variance is the mean of squares less the squared mean; ReLU maps have means below their
  deviations, so that little is lost in the difference. Its root is a sum of hyperbolic tangents:
  int8 TANH is a table in every runtime and in the delegate, which runs no square root of either
  kind. The sum costs nothing: it is part of what comes next.
- Standardization is one more depthwise convolution, straight to the steps that the head reads.

A small operation costs next to nothing inside the delegate. What costs is leaving it, so all
attention weights come from one SOFTMAX, the one operation that it does not run; and moving or
multiplying what need not be: each padding is read by one convolution alone, and the head leaves out
the branches that a part of it multiplies by zeros.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import nn

from conversion.head import patterns
from conversion.whole.float import inputs
from conversion.whole.ops import (
    FLAG,
    UNIT,
    Float64,
    Grid,
    Operations,
    Statistic,
    grid_of,
    quantizers,
    weights_of,
)
from edge_runtime.branches import text_context
from edge_runtime.int8 import INT8_MAX, INT8_MIN, INTERVALS, grid, grid_to
from edge_runtime.model.fusion import MASKED_SCORE
from training.network.config import STATISTICS, SWEM
from training.network.fakequant import ActivationQuantizer
from training.network.model import MscnnSpu

_GAIN: Grid = grid_to(3)  # what repetitions leave empty: a third is filled at least
_SPREAD = 4.0  # standard deviations of a statistic over the corpus that its range spans
_KEYS: Grid = (1 / INT8_MAX, 0)  # 0 to 1 with 0 at step 0: the second factor of a product
_TANH: Grid = (1 / 128, 0)  # what every runtime demands
_SATURATED = 3.2  # where int8 tanh is 1
# The root of 0 to 1 is a sum of tanh(gain x), to 0.023 everywhere and 0.005 root mean square: fewer
# are much worse, and more no better, for the tables have 127 steps.
_ROOT_GAINS = 0.8 * 5.0 ** np.arange(4)


def write_whole(model: MscnnSpu) -> bytes:
    """The int8 whole-window graph of a quantization-aware model, as a TFLite file."""
    return _Whole(model).write()


class _Whole(Operations):
    """The graph while it is written. Lengths along time: T; channels of all scales: S C."""

    def __init__(self, model: MscnnSpu) -> None:
        super().__init__()
        self.model, self.config = model, model.config
        self.head_grid = grid_of(model.head.input)
        mean, std = (x.detach().double().numpy() for x in model.pooled_statistics())
        self.places: dict[str, slice] = {}
        begin = 0
        for name, width in self.config.branches.items():
            self.places[name] = slice(begin, begin + width)
            begin += width
        self.mean = {name: mean[place] for name, place in self.places.items()}
        self.std = {name: std[place] for name, place in self.places.items()}
        self.standard: dict[str, tuple[int, npt.NDArray[np.int64]]] = {}
        """Of each branch what the head reads, (1, width), and the head's columns for it."""

    def write(self) -> bytes:
        """The file: what is heard, then what is read, then the head."""
        parts, shapes = self.config.parts, inputs(self.config)
        heard = read = None
        statistics: dict[str, Statistic] = {}
        if parts.audio:
            counted = self.writer.input("frames_counted", shapes["frames_counted"], *FLAG)
            gain = self.writer.input("frames_gain", shapes["frames_gain"], *_GAIN)
            heard = self.any(counted) if parts.text else None
            maps, reach = self._audio_maps()
            statistics = self._pool("audio", self.masked(maps, counted), reach, gain, heard)
        if parts.text:
            counted = self.writer.input("words_counted", shapes["words_counted"], *FLAG)
            gain = self.writer.input("words_gain", shapes["words_gain"], *_GAIN)
            read = self.any(counted) if parts.audio else None
            rows = self.writer.input("rows", shapes["rows"], *grid_of(self.model.text_input))
            keys, reach = self._text_maps(rows)
            maps = self.masked(self.side_by_side(keys), counted)
            self._pool("text", maps, reach, gain, read)
            if parts.att:
                self._attend(statistics, keys, reach, heard, read)
            if parts.swem:
                self._swem(rows, counted, gain, read)
        if parts.speaker:
            speaker = self.writer.input("speaker", shapes["speaker"], *self.head_grid)
            here = self.places["speaker"]
            self.standard["speaker"] = speaker, np.arange(here.start, here.stop)
        return self.writer.finish([self._head()])

    def _audio_maps(self) -> tuple[int, Float64]:
        """Maps (1, 1, T, S C), 0 to 1 of their reach; the reach (S, C)."""
        writer, config, audio = self.writer, self.config, self.model.audio
        shape = inputs(config)["frames"]
        steps = grid_of(self.model.audio_input)
        frames = writer.input("frames", shape, *steps)
        reach = self._reach("audio", [q.range()[1] for q in quantizers(audio)])
        deep = [cast(ActivationQuantizer, q) for q in audio.hidden]
        # What one layer with a map a frame needs beyond the edges, every runtime pads by itself.
        same = config.audio_stride == 1 and not deep
        maps = []
        for index, (kernel, conv) in enumerate(zip(config.audio_kernels, audio.convs, strict=True)):
            # The delegate makes a padding part of the convolution if nothing else reads it.
            context = config.audio_context - (max(config.audio_kernels) - kernel) // 2
            image = frames if same else self.padded(frames, context)
            out, divisor = (grid_of(deep[0]), None) if deep else (UNIT, reach[index])
            maps.append(
                self.conv(image, [conv], out, divisor, stride=config.audio_stride, same=same)
            )
        joined = self.side_by_side(maps)
        for depth, layer in enumerate(audio.deep):
            last = depth + 1 == len(deep)
            joined = self.conv(
                joined,
                list(cast(nn.ModuleList, layer)),
                UNIT if last else grid_of(deep[depth + 1]),
                reach.reshape(-1) if last else None,
                dilation=config.audio_dilations[depth],
            )
        return joined, reach

    def _text_maps(self, rows: int) -> tuple[list[int], Float64]:
        """Maps per scale (1, 1, N, C), 0 to 1 of their reach; the reach (S, C)."""
        config, text, kernels = self.config, self.model.text, self.config.text_kernels
        before, after = text_context(kernels)
        width, maps = config.tokens + before + after, []
        reach = self._reach("text", [q.range()[1] for q in quantizers(text)])
        for kernel, conv, divisor in zip(kernels, text.convs, reach, strict=True):
            left, right = before - (kernel - 1) // 2, after - kernel // 2
            image = self.cut(rows, left, width - left - right)
            # Zero is step 0 here, so saturation is no ReLU.
            maps.append(self.conv(image, [conv], _KEYS, divisor, relu=True))
        return maps, reach

    def _reach(self, branch: str, highs: list[float]) -> Float64:
        """What the maps of each filter reach at most, (scales, C)."""
        mean, std = self._of(branch)
        bound = mean[:, 0] + _SPREAD * std[:, 0]
        high = np.array(highs)[:, None]
        return np.clip(bound, 1e-3 * high, high)

    def _of(self, branch: str) -> tuple[Float64, Float64]:
        """Mean and standard deviation of the statistics of a branch, (scales, 3, C) each."""
        shape = (-1, len(STATISTICS), self.config.filters)
        return self.mean[branch].reshape(shape), self.std[branch].reshape(shape)

    def _pool(
        self, branch: str, maps: int, reach: Float64, gain: int, present: int | None
    ) -> dict[str, Statistic]:
        """Masked maps (1, 1, T, S C) in units of `reach` (S, C) to their statistics."""
        mean, std = self._of(branch)
        upper = mean + _SPREAD * std
        # Ranges of the mean and of the mean square over an utterance, (S, C).
        mean_reach = np.minimum(upper[:, 1], reach)
        square_reach = np.minimum(upper[:, 1] ** 2 + upper[:, 2] ** 2, reach**2)
        highest = self.highest(maps)
        average = self.average(maps, mean_reach / reach, gain)
        square = self.average(self.times(maps, maps, UNIT), square_reach / reach**2, gain)
        share = (mean_reach / np.sqrt(square_reach)).reshape(-1)
        part = self.affine(average, share, None, grid_to(float(share.max())))
        part = self.times(part, part, UNIT)
        spread = float(np.minimum(upper[:, 2] ** 2 / square_reach, 1).max())
        variance = self.writer.operation(
            "SUB",
            [square, part],
            self.writer.shape(square),
            *grid_to(spread),
            options="SubOptions",
        )
        tables, taps = self._root(variance, spread)
        statistics = {
            "max": Statistic(highest, reach.reshape(-1)),
            "mean": Statistic(average, mean_reach.reshape(-1)),
            "std": Statistic(tables, np.sqrt(square_reach).reshape(-1), taps),
        }
        places = np.arange(mean.size).reshape(mean.shape)
        parts = [
            (statistic, mean[:, index], std[:, index], places[:, index])
            for index, statistic in enumerate(statistics.values())
        ]
        self._standardize(branch, parts, present)
        return statistics

    def _root(self, variance: int, highest: float) -> tuple[int, Float64]:
        """The root of values (1, 1, 1, C), 0 to `highest`: tables (1, 1, K, C) and taps (K,).

        Times the taps the tables add up to it.
        """
        *_, channels = self.writer.shape(variance)
        scale, _ = self.writer.steps(variance)
        gains = _ROOT_GAINS / highest
        step = gains.max() / INT8_MAX
        factors = np.rint(gains / step).astype(np.int8)
        wide = grid_to(_SATURATED)
        factor = self.writer.constant(factors.reshape(1, 1, -1, 1), step)
        shape = (1, 1, len(gains), channels)
        scaled = self.writer.operation("MUL", [variance, factor], shape, *wide, "MulOptions")
        tables = self.writer.operation("TANH", [scaled], shape, *_TANH)
        # What the tables hold for each of the 256 variances, so that the taps make up for rounding.
        values = np.arange(INTERVALS + 1) * scale
        seen = np.rint(values[:, None] * factors * step / wide[0]).clip(max=INTERVALS) * wide[0]
        held = np.rint(np.tanh(seen) / _TANH[0]).clip(max=INT8_MAX) * _TANH[0]
        taps, *_ = np.linalg.lstsq(held, np.sqrt(values), rcond=None)
        return tables, taps

    def _queries(
        self, statistics: dict[str, Statistic], reach: Float64, rows: npt.NDArray[np.int64]
    ) -> int:
        """Statistics as queries to keys in units of `reach` (C,), (1, len(rows), C).

        `rows` are chosen of those by statistic, then by audio scale.
        """
        attention, filters = self.model.attention, self.config.filters
        scales = len(self.config.audio_kernels)
        scale, zero = grid_of(attention.queries)
        steps = scale * float(reach.max()), zero
        unit = attention.scale * np.tile(reach, scales)
        parts = [self.scaled(x, x.unit * unit, None, steps) for x in statistics.values()]
        every = len(STATISTICS) * scales
        queries = self.reshape(self.side_by_side(parts), (1, every, filters))
        if len(rows) == every:
            return queries
        picked = [self.slice(queries, [0, int(row), 0], (1, 1, filters), steps) for row in rows]
        return self.join(picked, (1, len(rows), filters), 1)

    def _attend(
        self,
        statistics: dict[str, Statistic],
        keys: list[int],
        reach: Float64,
        heard: int | None,
        read: int | None,
    ) -> None:
        """What the statistics find in keys (1, 1, N, C) of each scale, in units of reach (S, C)."""
        config, attention, writer = self.config, self.model.attention, self.writer
        tokens, filters = config.tokens, config.filters
        scales = len(config.audio_kernels)
        order = np.arange(len(STATISTICS) * scales).reshape(len(STATISTICS), scales)
        chosen = [order[:, i] if attention.matched else order for i in range(len(keys))]
        count = chosen[0].size
        total = count * len(keys)
        flat = [self.reshape(scale, (1, tokens, filters)) for scale in keys]
        ranges = [q.range() for q in quantizers(attention, "scores")]
        wide = grid(min(low for low, _ in ranges), max(high for _, high in ranges))
        scores = [
            writer.operation(
                "BATCH_MATMUL",
                [self._queries(statistics, reach[index], rows.ravel()), flat[index]],
                (1, count, tokens),
                *wide,
                options="BatchMatMulOptions",
                adjY=True,
            )
            for index, rows in enumerate(chosen)
        ]
        mask = writer.input("words_mask", (1, 1, tokens), -MASKED_SCORE / INTERVALS, INT8_MAX)
        every = self.join(scores, (1, total, tokens), 1)
        shape, weight_grid = (1, total, tokens), grid_of(attention.weights)
        every = writer.operation("ADD", [every, mask], shape, *wide, "AddOptions")
        weights = writer.operation(
            "SOFTMAX", [every], shape, *weight_grid, "SoftmaxOptions", beta=1.0
        )
        mean, std = (
            x["attention"].reshape(len(keys), -1, len(STATISTICS), filters)
            for x in (self.mean, self.std)
        )
        bound = (mean + _SPREAD * std) / reach[:, None, None]
        attended = [
            writer.operation(
                "BATCH_MATMUL",
                [
                    self.slice(weights, [0, i * count, 0], (1, count, tokens), weight_grid),
                    values,
                ],
                (1, count, filters),
                *grid_to(min(float(bound.max()), 1.0)),
                options="BatchMatMulOptions",
            )
            for i, values in enumerate(flat)
        ]
        joined = self.join(attended, (1, total, filters), 1)
        joined = self.reshape(joined, (1, 1, 1, total * filters))
        unit = np.broadcast_to(reach[:, None], (len(keys), count, filters))
        places = np.arange(mean.size).reshape(mean.shape)
        # In the model, queries go by audio scale, then by statistic.
        here = mean.swapaxes(1, 2), std.swapaxes(1, 2), places.swapaxes(1, 2)
        statistic = Statistic(joined, unit.reshape(-1))
        self._standardize("attention", [(statistic, *here)], heard, read)

    def _swem(self, rows: int, counted: int, gain: int, present: int | None) -> None:
        """Max and mean of the embeddings, on a scale from the lowest that the table has."""
        config = self.config
        before, width = text_context(config.text_kernels)[0], config.embedding
        scale, zero = self.writer.steps(rows)
        low, span = (INT8_MIN - zero) * scale, INTERVALS * scale
        words = self.cut(rows, before, config.tokens)
        shifted = self.affine(words, np.full(width, 1 / span), np.full(width, -low / span), UNIT)
        shifted = self.masked(shifted, counted)
        mean, std = (x["swem"].reshape(len(SWEM), width) for x in (self.mean, self.std))
        reach = np.clip((mean[1] + _SPREAD * std[1] - low) / span, 1e-3, 1)
        average = self.average(shifted, reach, gain)
        units = (
            Statistic(self.highest(shifted), np.full(width, span)),
            Statistic(average, span * reach),
        )
        parts = [
            (statistic, mean[index] - low, std[index], index * width + np.arange(width))
            for index, statistic in enumerate(units)
        ]
        self._standardize("swem", parts, present)

    def _standardize(
        self,
        branch: str,
        parts: Sequence[tuple[Statistic, Float64, Float64, npt.NDArray[np.integer]]],
        *present: int | None,
    ) -> None:
        """(x - mean) / std in the head's steps; zero where the modality is missing.

        Parts are statistics with their mean, deviation and place in the branch.
        """
        standard = self.side_by_side(
            [
                self.scaled(
                    statistic,
                    statistic.unit / std.reshape(-1),
                    -(mean / std).reshape(-1),
                    self.head_grid,
                )
                for statistic, mean, std, _ in parts
            ]
        )
        flags = [flag for flag in present if flag is not None]
        if flags:
            every = functools.reduce(lambda a, b: self.times(a, b, FLAG), flags)
            standard = self.times(standard, every, self.head_grid)
        places = np.concatenate([places.reshape(-1) for *_, places in parts])
        columns = self.places[branch].start + places
        self.standard[branch] = self.reshape(standard, (1, columns.size)), columns

    def _head(self) -> int:
        first, *others = (cast(nn.Linear, layer) for layer in self.model.head.layers)
        tensor, order = self._first_layer(first, last=not others)
        for index, layer in enumerate(others, start=1):
            last = index == len(others)
            tensor = self._dense([tensor], layer, np.arange(layer.out_features), order, index, last)
            order = np.arange(layer.out_features)
        return tensor

    def _first_layer(self, layer: nn.Linear, last: bool) -> tuple[int, npt.NDArray[np.int64]]:
        """The layer's outputs, and which each of them is.

        Where a part of the outputs reads nothing of a branch, the branch is left out for that part:
        a head that joins models of one modality is mostly such zeros.
        """
        weight, places = layer.weight.detach().numpy(), list(self.standard.values())
        groups: dict[tuple[bool, ...], npt.NDArray[np.integer]] = {
            (True,) * len(places): np.arange(len(weight))
        }
        if not last:
            in_order = weight[:, np.concatenate([columns for _, columns in places])]
            groups = patterns(in_order, [columns.size for _, columns in places])
        dense = []
        for pattern, outputs in groups.items():
            read = list(itertools.compress(places, pattern))
            tensors = [tensor for tensor, _ in read]
            columns = np.concatenate([columns for _, columns in read])
            dense.append(self._dense(tensors, layer, outputs, columns, 0, last))
        order = np.concatenate(list(groups.values()))
        return self.join(dense, (1, len(order)), 1), order

    def _dense(
        self,
        parts: list[int],
        layer: nn.Linear,
        rows: npt.NDArray[np.integer],
        columns: npt.NDArray[np.integer],
        index: int,
        last: bool,
    ) -> int:
        """Outputs `rows` of a layer that reads the parts (1, n) as its inputs `columns`."""
        assert layer.bias is not None
        tensor = self.join(parts, (1, columns.size), 1)
        weight = layer.weight.detach().double().numpy()[np.ix_(rows, columns)]
        values, scales = weights_of(weight)
        in_scale, _ = self.writer.steps(tensor)
        return self.writer.operation(
            "FULLY_CONNECTED",
            [
                tensor,
                self.writer.constant(values, scales),
                self.bias(layer.bias.detach().double().numpy()[rows], in_scale * scales),
            ],
            (1, len(rows)),
            *grid_of(quantizers(self.model.head)[index]),
            options="FullyConnectedOptions",
            name="logits" if last else "",
            fusedActivationFunction=int(not last),  # 1 is RELU
        )
