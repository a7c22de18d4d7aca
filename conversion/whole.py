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
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from conversion.export import AttentionGraph, AudioEncoder, HeadGraph, Part, TextEncoder
from conversion.flatbuffer import GraphWriter
from edge_runtime.manifest_check import whole_inputs
from edge_runtime.model.fusion import MASKED_SCORE
from edge_runtime.model.spu import STD_EPSILON
from training.network.config import STATISTICS, SWEM, ModelConfig
from training.network.fakequant import INT8_MAX, INT8_MIN, ActivationQuantizer
from training.network.model import MscnnSpu

Float64 = npt.NDArray[np.float64]
Steps = tuple[float, int]

_UNIT: Steps = (1 / 255, INT8_MIN)  # 0 to 1
_FLAG: Steps = (1 / INT8_MAX, 0)  # 0 or 1, both exact
_LESS: Steps = (1 / 255, INT8_MAX)  # -1 or 0, both exact
_GAIN: Steps = (3 / 255, INT8_MIN)  # what repetitions leave empty: a third is filled at least
_SPREAD = 4.0  # standard deviations of a statistic over the corpus that its range spans
_SAME, _VALID = 0, 1  # the format's numbers of its ways to pad
_CHUNK = 25  # steps summed at first: the delegate unrolls depthwise kernels of up to 25
_CHUNK_SPREAD = 4.0  # how far the mean of a chunk may exceed that of an utterance
_KEYS: Steps = (1 / INT8_MAX, 0)  # 0 to 1 with 0 at step 0: the second factor of a product
_TANH: Steps = (1 / 128, 0)  # what every runtime demands
_SATURATED = 3.2  # where int8 tanh is 1
# The root of 0 to 1 is a sum of tanh(gain x), to 0.023 everywhere and 0.005 root mean square: fewer
# are much worse, and more no better, for the tables have 127 steps.
_ROOT_GAINS = 0.8 * 5.0 ** np.arange(4)
_MOST_JOINED = 10  # inputs of a CONCATENATION in TensorFlow Lite for Microcontrollers


class WholeGraph(nn.Module):
    """The model in float over a window, with the inputs of the int8 graph: the ONNX form."""

    def __init__(self, model: MscnnSpu) -> None:
        super().__init__()
        config = model.config
        self.config, self.scale = config, model.attention.scale if config.parts.att else 0.0
        if config.parts.audio:
            self.audio = AudioEncoder(model)
        if config.parts.text:
            self.text = TextEncoder(model)
        if config.parts.att:
            self.attention = AttentionGraph(config.attention_pairs == "matched")
        self.head = HeadGraph(model)
        mean, std = model.pooled_statistics()
        self.mean, self.std = mean.detach().clone(), std.detach().clone()

    def forward(self, *values: Tensor) -> Tensor:
        """Inputs in the order of `inputs` -> logits (1, classes)."""
        given = dict(zip(inputs(self.config), values, strict=True))
        parts, branches = self.config.parts, {}
        heard = read = torch.ones(1)
        if parts.audio:
            context = self.config.audio_context
            frames = nn.functional.pad(given["frames"], (0, 0, context, context))
            counted, gain = given["frames_counted"], given["frames_gain"]
            heard = counted.amax()
            audio = [_statistics(maps, counted, gain) for maps in self.audio(frames)]
            branches["audio"] = torch.cat(audio, dim=1)
        if parts.text:
            counted, gain = given["words_counted"], given["words_gain"]
            read = counted.amax()
            maps = self.text(given["rows"])
            text = [_statistics(scale, counted, gain) for scale in maps]
            branches["text"] = torch.cat(text, dim=1)
        if parts.att:
            queries = torch.cat(audio, dim=1) * self.scale
            keys = [scale[0] for scale in maps]
            found = self.attention(*keys, given["words_mask"], queries)
            branches["attention"] = torch.cat(found, dim=1)
        if parts.swem:
            before = (max(self.config.text_kernels) - 1) // 2
            rows = given["rows"][:, :, before : before + self.config.tokens]
            highest = (rows + (counted - 1) * 1e6).amax(dim=2)
            mean = (rows * counted).mean(dim=2, keepdim=True) * gain
            branches["swem"] = torch.cat([highest, mean[:, :, 0]], dim=1)
        present = {"audio": heard, "text": read, "attention": heard * read, "swem": read}
        standard, begin = [], 0
        for name, width in self.config.branches.items():
            end = begin + width
            if name == "speaker":
                standard.append(given["speaker"])
            else:
                raw = branches[name].reshape(1, width)
                scaled = (raw - self.mean[begin:end]) / self.std[begin:end]
                standard.append(scaled * present[name])
            begin = end
        logits: Tensor = self.head(torch.cat(standard, dim=1))
        return logits


def inputs(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names, in their order, and shapes of what the whole graph of a model reads."""
    parts = config.parts
    return whole_inputs(
        features=config.features if parts.audio else 0,
        stride=config.audio_stride,
        tokens=config.tokens if parts.text else 0,
        context=max(config.text_kernels) - 1,
        width=config.embedding,
        speaker=config.speaker if parts.speaker else 0,
        attention=parts.att,
    )


def whole_part(model: MscnnSpu) -> Part:
    """The float graph, with inputs of an utterance that fills two thirds of the window."""
    values = {name: torch.randn(shape) for name, shape in inputs(model.config).items()}
    for what in ("frames", "words"):
        if f"{what}_counted" in values:
            counted = values[f"{what}_counted"]
            full = counted.shape[2] * 2 // 3
            counted[:] = 0
            counted[:, :, :full] = 1
            values[f"{what}_gain"][:] = counted.shape[2] / full
    if "words_mask" in values:
        values["words_mask"][:] = MASKED_SCORE
        values["words_mask"][..., : values["words_mask"].shape[2] * 2 // 3] = 0
    return Part(WholeGraph(model), values, ["logits"])


def _statistics(maps: Tensor, counted: Tensor, gain: Tensor) -> Tensor:
    """Maps (1, 1, T, C), 1 where they count (1, 1, T, 1), T / count -> (1, 3, C)."""
    valid = maps * counted
    mean = valid.mean(dim=2, keepdim=True) * gain
    variance = (((maps - mean) * counted) ** 2).mean(dim=2, keepdim=True) * gain
    spread = torch.sqrt(variance + STD_EPSILON)
    return torch.cat([valid.amax(dim=2, keepdim=True), mean, spread], dim=2)[0]


def write_whole(model: MscnnSpu) -> bytes:
    """The int8 whole-window graph of a quantization-aware model, as a TFLite file."""
    return _Whole(model).write()


@dataclass(frozen=True, eq=False)
class _Statistic:
    """A statistic as an int8 tensor."""

    tensor: int
    """(1, 1, K, C)."""
    unit: Float64
    """What 1 of it is, (C,)."""
    taps: Float64 = field(default_factory=lambda: np.ones(1))
    """What the K values of a channel are multiplied by to add up to it, (K,)."""


class _Whole:
    """The graph while it is written. Lengths along time: T; channels of all scales: S C."""

    def __init__(self, model: MscnnSpu) -> None:
        self.model, self.config = model, model.config
        self.writer = GraphWriter()
        self.head_steps = steps_of(model.head.input)
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
        statistics: dict[str, _Statistic] = {}
        if parts.audio:
            counted = self.writer.input("frames_counted", shapes["frames_counted"], *_FLAG)
            gain = self.writer.input("frames_gain", shapes["frames_gain"], *_GAIN)
            heard = self._any(counted) if parts.text else None
            maps, reach = self._audio_maps()
            statistics = self._pool("audio", self._masked(maps, counted), reach, gain, heard)
        if parts.text:
            counted = self.writer.input("words_counted", shapes["words_counted"], *_FLAG)
            gain = self.writer.input("words_gain", shapes["words_gain"], *_GAIN)
            read = self._any(counted) if parts.audio else None
            rows = self.writer.input("rows", shapes["rows"], *steps_of(self.model.text_input))
            keys, reach = self._text_maps(rows)
            maps = self._masked(self._side_by_side(keys), counted)
            self._pool("text", maps, reach, gain, read)
            if parts.att:
                self._attend(statistics, keys, reach, heard, read)
            if parts.swem:
                self._swem(rows, counted, gain, read)
        if parts.speaker:
            speaker = self.writer.input("speaker", shapes["speaker"], *self.head_steps)
            here = self.places["speaker"]
            self.standard["speaker"] = speaker, np.arange(here.start, here.stop)
        return self.writer.finish([self._head()])

    def _audio_maps(self) -> tuple[int, Float64]:
        """Maps (1, 1, T, S C), 0 to 1 of their reach; the reach (S, C)."""
        writer, config, audio = self.writer, self.config, self.model.audio
        shape = inputs(config)["frames"]
        steps = steps_of(self.model.audio_input)
        frames = writer.input("frames", shape, *steps)
        reach = self._reach("audio", [q.range()[1] for q in _quantizers(audio)])
        deep = [cast(ActivationQuantizer, q) for q in audio.hidden]
        # What one layer with a map a frame needs beyond the edges, every runtime pads by itself.
        same = config.audio_stride == 1 and not deep
        maps = []
        for index, (kernel, conv) in enumerate(zip(config.audio_kernels, audio.convs, strict=True)):
            # The delegate makes a padding part of the convolution if nothing else reads it.
            context = config.audio_context - (max(config.audio_kernels) - kernel) // 2
            image = frames if same else self._padded(frames, context)
            out, divisor = (steps_of(deep[0]), None) if deep else (_UNIT, reach[index])
            maps.append(
                self._conv(image, [conv], out, divisor, stride=config.audio_stride, same=same)
            )
        joined = self._side_by_side(maps)
        for depth, layer in enumerate(audio.deep):
            last = depth + 1 == len(deep)
            joined = self._conv(
                joined,
                list(cast(nn.ModuleList, layer)),
                _UNIT if last else steps_of(deep[depth + 1]),
                reach.reshape(-1) if last else None,
                dilation=config.audio_dilations[depth],
            )
        return joined, reach

    def _padded(self, frames: int, context: int) -> int:
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

    def _text_maps(self, rows: int) -> tuple[list[int], Float64]:
        """Maps per scale (1, 1, N, C), 0 to 1 of their reach; the reach (S, C)."""
        config, text, kernels = self.config, self.model.text, self.config.text_kernels
        before, after = (max(kernels) - 1) // 2, max(kernels) // 2
        width, maps = config.tokens + before + after, []
        reach = self._reach("text", [q.range()[1] for q in _quantizers(text)])
        for kernel, conv, divisor in zip(kernels, text.convs, reach, strict=True):
            left, right = before - (kernel - 1) // 2, after - kernel // 2
            image = self._cut(rows, left, width - left - right)
            # Zero is step 0 here, so saturation is no ReLU.
            maps.append(self._conv(image, [conv], _KEYS, divisor, relu=True))
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
    ) -> dict[str, _Statistic]:
        """Masked maps (1, 1, T, S C) in units of `reach` (S, C) to their statistics."""
        mean, std = self._of(branch)
        upper = mean + _SPREAD * std
        # Ranges of the mean and of the mean square over an utterance, (S, C).
        mean_reach = np.minimum(upper[:, 1], reach)
        square_reach = np.minimum(upper[:, 1] ** 2 + upper[:, 2] ** 2, reach**2)
        highest = self._highest(maps)
        average = self._average(maps, mean_reach / reach, gain)
        square = self._average(self._times(maps, maps, _UNIT), square_reach / reach**2, gain)
        share = (mean_reach / np.sqrt(square_reach)).reshape(-1)
        part = self._affine(average, share, None, _scale_to(float(share.max())))
        part = self._times(part, part, _UNIT)
        spread = float(np.minimum(upper[:, 2] ** 2 / square_reach, 1).max())
        variance = self.writer.operation(
            "SUB",
            [square, part],
            self.writer.shape(square),
            *_scale_to(spread),
            options="SubOptions",
        )
        tables, taps = self._root(variance, spread)
        statistics = {
            "max": _Statistic(highest, reach.reshape(-1)),
            "mean": _Statistic(average, mean_reach.reshape(-1)),
            "std": _Statistic(tables, np.sqrt(square_reach).reshape(-1), taps),
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
        wide = _scale_to(_SATURATED)
        factor = self.writer.constant(factors.reshape(1, 1, -1, 1), step)
        shape = (1, 1, len(gains), channels)
        scaled = self.writer.operation("MUL", [variance, factor], shape, *wide, "MulOptions")
        tables = self.writer.operation("TANH", [scaled], shape, *_TANH)
        # What the tables hold for each of the 256 variances, so that the taps make up for rounding.
        values = np.arange(256) * scale
        seen = np.rint(values[:, None] * factors * step / wide[0]).clip(max=255) * wide[0]
        held = np.rint(np.tanh(seen) / _TANH[0]).clip(max=INT8_MAX) * _TANH[0]
        taps, *_ = np.linalg.lstsq(held, np.sqrt(values), rcond=None)
        return tables, taps

    def _queries(
        self, statistics: dict[str, _Statistic], reach: Float64, rows: npt.NDArray[np.int64]
    ) -> int:
        """Statistics as queries to keys in units of `reach` (C,), (1, len(rows), C).

        `rows` are chosen of those by statistic, then by audio scale.
        """
        attention, filters = self.model.attention, self.config.filters
        scales = len(self.config.audio_kernels)
        scale, zero = steps_of(attention.queries)
        steps = scale * float(reach.max()), zero
        unit = attention.scale * np.tile(reach, scales)
        parts = [self._scaled(x, x.unit * unit, None, steps) for x in statistics.values()]
        every = len(STATISTICS) * scales
        queries = self._reshape(self._side_by_side(parts), (1, every, filters))
        if len(rows) == every:
            return queries
        picked = [self._slice(queries, [0, int(row), 0], (1, 1, filters), steps) for row in rows]
        return self._join(picked, (1, len(rows), filters), 1)

    def _attend(
        self,
        statistics: dict[str, _Statistic],
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
        flat = [self._reshape(scale, (1, tokens, filters)) for scale in keys]
        ranges = [q.range() for q in _quantizers(attention, "scores")]
        wide = _steps(min(low for low, _ in ranges), max(high for _, high in ranges))
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
        mask = writer.input("words_mask", (1, 1, tokens), -MASKED_SCORE / 255, INT8_MAX)
        every = self._join(scores, (1, total, tokens), 1)
        shape, weight_steps = (1, total, tokens), steps_of(attention.weights)
        every = writer.operation("ADD", [every, mask], shape, *wide, "AddOptions")
        weights = writer.operation(
            "SOFTMAX", [every], shape, *weight_steps, "SoftmaxOptions", beta=1.0
        )
        mean, std = (
            x["attention"].reshape(len(keys), -1, len(STATISTICS), filters)
            for x in (self.mean, self.std)
        )
        bound = (mean + _SPREAD * std) / reach[:, None, None]
        found = [
            writer.operation(
                "BATCH_MATMUL",
                [
                    self._slice(weights, [0, i * count, 0], (1, count, tokens), weight_steps),
                    values,
                ],
                (1, count, filters),
                *_scale_to(min(float(bound.max()), 1.0)),
                options="BatchMatMulOptions",
            )
            for i, values in enumerate(flat)
        ]
        joined = self._join(found, (1, total, filters), 1)
        joined = self._reshape(joined, (1, 1, 1, total * filters))
        unit = np.broadcast_to(reach[:, None], (len(keys), count, filters))
        places = np.arange(mean.size).reshape(mean.shape)
        # In the model, queries go by audio scale, then by statistic.
        here = mean.swapaxes(1, 2), std.swapaxes(1, 2), places.swapaxes(1, 2)
        statistic = _Statistic(joined, unit.reshape(-1))
        self._standardize("attention", [(statistic, *here)], heard, read)

    def _swem(self, rows: int, counted: int, gain: int, present: int | None) -> None:
        """Max and mean of the embeddings, on a scale from the lowest that the table has."""
        config = self.config
        before, width = (max(config.text_kernels) - 1) // 2, config.embedding
        scale, zero = self.writer.steps(rows)
        low, span = (INT8_MIN - zero) * scale, 255 * scale
        words = self._cut(rows, before, config.tokens)
        shifted = self._affine(words, np.full(width, 1 / span), np.full(width, -low / span), _UNIT)
        shifted = self._masked(shifted, counted)
        mean, std = (x["swem"].reshape(len(SWEM), width) for x in (self.mean, self.std))
        reach = np.clip((mean[1] + _SPREAD * std[1] - low) / span, 1e-3, 1)
        average = self._average(shifted, reach, gain)
        units = (
            _Statistic(self._highest(shifted), np.full(width, span)),
            _Statistic(average, span * reach),
        )
        parts = [
            (statistic, mean[index] - low, std[index], index * width + np.arange(width))
            for index, statistic in enumerate(units)
        ]
        self._standardize("swem", parts, present)

    def _standardize(
        self,
        branch: str,
        parts: Sequence[tuple[_Statistic, Float64, Float64, npt.NDArray[np.integer]]],
        *present: int | None,
    ) -> None:
        """(x - mean) / std in the head's steps; zero where the modality is missing.

        Parts are statistics with their mean, deviation and place in the branch.
        """
        standard = self._side_by_side(
            [
                self._scaled(
                    statistic,
                    statistic.unit / std.reshape(-1),
                    -(mean / std).reshape(-1),
                    self.head_steps,
                )
                for statistic, mean, std, _ in parts
            ]
        )
        flags = [flag for flag in present if flag is not None]
        if flags:
            every = functools.reduce(lambda a, b: self._times(a, b, _FLAG), flags)
            standard = self._times(standard, every, self.head_steps)
        places = np.concatenate([places.reshape(-1) for *_, places in parts])
        columns = self.places[branch].start + places
        self.standard[branch] = self._reshape(standard, (1, columns.size)), columns

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
        weight = layer.weight.detach().numpy()
        reads = np.stack(
            [np.abs(weight[:, columns]).max(axis=1) > 0 for _, columns in self.standard.values()],
            axis=1,
        )
        groups: dict[tuple[bool, ...], list[int]] = {}
        for output, pattern in enumerate(reads):
            # An output that reads nothing is a constant, wherever it is.
            chosen = pattern if pattern.any() else np.ones_like(pattern)
            groups.setdefault(tuple(map(bool, chosen)), []).append(output)
        if last or len(groups) > _MOST_JOINED:
            groups = {(True,) * len(self.standard): list(range(len(weight)))}
        found = []
        for pattern, outputs in groups.items():
            read = list(itertools.compress(self.standard.values(), pattern))
            tensors = [tensor for tensor, _ in read]
            columns = np.concatenate([columns for _, columns in read])
            found.append(self._dense(tensors, layer, np.array(outputs), columns, 0, last))
        order = np.concatenate([np.array(outputs) for outputs in groups.values()])
        return self._join(found, (1, len(order)), 1), order

    def _dense(
        self,
        parts: list[int],
        layer: nn.Linear,
        rows: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
        index: int,
        last: bool,
    ) -> int:
        """Outputs `rows` of a layer that reads the parts (1, n) as its inputs `columns`."""
        assert layer.bias is not None
        tensor = self._join(parts, (1, columns.size), 1)
        weight = layer.weight.detach().double().numpy()[np.ix_(rows, columns)]
        values, scales = _weights(weight)
        in_scale, _ = self.writer.steps(tensor)
        return self.writer.operation(
            "FULLY_CONNECTED",
            [
                tensor,
                self.writer.constant(values, scales),
                self._bias(layer.bias.detach().double().numpy()[rows], in_scale * scales),
            ],
            (1, len(rows)),
            *steps_of(_quantizers(self.model.head)[index]),
            options="FullyConnectedOptions",
            name="logits" if last else "",
            fusedActivationFunction=int(not last),  # 1 is RELU
        )

    def _average(self, maps: int, reach: Float64, gain: int) -> int:
        """Mean over the steps that count of masked maps (1, 1, T, C), (1, 1, 1, C).

        In units of `reach` (as many as C), up to 1. `gain` is T over the number of those steps.
        """
        *_, length, channels = self.writer.shape(maps)
        chunk = max(n for n in range(1, _CHUNK + 1) if length % n == 0)
        sums = self._depthwise(
            maps, 1 / (chunk * reach.reshape(-1)), np.ones(chunk), None, _scale_to(_CHUNK_SPREAD)
        )
        axes = self.writer.constant(np.array([1, 2], np.int32))
        average = self.writer.operation(
            "MEAN",
            [sums, axes],
            (1, 1, 1, channels),
            *_UNIT,
            options="ReducerOptions",
            keepDims=True,
        )
        return self._times(average, gain, _UNIT)

    def _affine(self, tensor: int, factor: Float64, offset: Float64 | None, out: Steps) -> int:
        """X * factor + offset, per channel."""
        return self._depthwise(tensor, factor, np.ones(1), offset, out)

    def _scaled(
        self, statistic: _Statistic, factor: Float64, offset: Float64 | None, out: Steps
    ) -> int:
        """A statistic, without its unit, times `factor` (C,), plus `offset` (C,)."""
        return self._depthwise(statistic.tensor, factor, statistic.taps, offset, out)

    def _depthwise(
        self, tensor: int, factor: Float64, taps: Float64, offset: Float64 | None, out: Steps
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

    def _conv(
        self,
        image: int,
        layers: list[nn.Module],
        out: Steps,
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
        values, scales = _weights(weight)
        scales = scales if divisor is None else scales / divisor
        in_scale, _ = self.writer.steps(image)
        factor = 1.0 if divisor is None else 1 / divisor
        biases = [cast(Tensor, source.bias).detach().double().numpy() for source in sources]
        bias = self._bias(np.concatenate(biases) * factor, in_scale * scales)
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

    def _bias(self, bias: Float64, scales: Float64) -> int:
        return self.writer.constant(np.rint(bias / scales).astype(np.int32), scales)

    def _masked(self, maps: int, counted: int) -> int:
        """The maps, 0 to 1, zero where they do not count: 1 less saturates at zero."""
        less = self._affine(counted, np.ones(1), -np.ones(1), _LESS)
        return self.writer.operation(
            "ADD", [maps, less], self.writer.shape(maps), *_UNIT, "AddOptions"
        )

    def _times(self, one: int, other: int, out: Steps) -> int:
        shape = self.writer.shape(one)
        return self.writer.operation("MUL", [one, other], shape, *out, options="MulOptions")

    def _any(self, counted: int) -> int:
        """1 where anything counts."""
        return self._highest(counted)

    def _highest(self, maps: int) -> int:
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

    def _side_by_side(self, tensors: list[int]) -> int:
        """Channels of (1, 1, T, C) after one another."""
        *head, _ = self.writer.shape(tensors[0])
        channels = sum(self.writer.shape(tensor)[3] for tensor in tensors)
        return self._join(tensors, (*head, channels), 3)

    def _join(self, tensors: list[int], shape: tuple[int, ...], axis: int) -> int:
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

    def _reshape(self, tensor: int, shape: tuple[int, ...]) -> int:
        target = self.writer.constant(np.array(shape, np.int32))
        return self.writer.operation(
            "RESHAPE",
            [tensor, target],
            shape,
            *self.writer.steps(tensor),
            options="ReshapeOptions",
            newShape=list(shape),
        )

    def _cut(self, image: int, begin: int, length: int) -> int:
        """Steps `begin` to `begin + length` of (1, 1, T, C)."""
        _, _, total, channels = self.writer.shape(image)
        if length == total:
            return image
        steps = self.writer.steps(image)
        return self._slice(image, [0, 0, begin, 0], (1, 1, length, channels), steps)

    def _slice(self, tensor: int, begin: list[int], shape: tuple[int, ...], steps: Steps) -> int:
        parts = [self.writer.constant(np.array(part, np.int32)) for part in (begin, shape)]
        return self.writer.operation(
            "SLICE", [tensor, *parts], shape, *steps, options="SliceOptions"
        )


def steps_of(quantizer: nn.Module) -> Steps:
    """Scale and zero point of a learned range, as ai-edge-quantizer derives them."""
    return _steps(*cast(ActivationQuantizer, quantizer).range())


def _steps(low: float, high: float) -> Steps:
    """Scale and zero point of `low` to `high`, zero among them."""
    scale = float(np.float32(np.float32(high) - np.float32(low)) / np.float32(255))
    return scale, round(INT8_MIN - low / scale)


def _scale_to(high: float) -> Steps:
    """Steps of 0 to `high`."""
    return high / 255, INT8_MIN


def _weights(weight: Float64) -> tuple[npt.NDArray[np.int8], Float64]:
    """Weights (O, ...) on the int8 grid of their output channel, and its scales (O,)."""
    highest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    # Any scale fits weights that are all zero; their bias is in its steps, and needs large ones.
    scales = np.where(highest > 0, highest.clip(min=1e-12), 1) / INT8_MAX
    shape = (-1, *[1] * (weight.ndim - 1))
    return np.rint(weight / scales.reshape(shape)).astype(np.int8), scales


def _quantizers(module: nn.Module, name: str = "outputs") -> list[ActivationQuantizer]:
    return [cast(ActivationQuantizer, q) for q in cast(nn.ModuleList, getattr(module, name))]
