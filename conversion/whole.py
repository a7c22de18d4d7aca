"""The whole model as one int8 graph over a fixed window, without SQRT and without float.

Written operation by operation, because what makes int8 statistics agree with exact ones is the
choice of every scale, which a quantizer that works from one range a tensor cannot make:

- The weights' own scales, one per filter, bring each filter's maps into a range of its own, at no
  cost: a filter that speaks softly keeps its 8 bits through squares and sums. How far each reaches
  is known from training, which standardizes the statistics and so has their means and deviations.
- Means over time begin as depthwise convolutions, which have a scale per filter as well: up to 25
  steps at a time, for which the delegate has an unrolled kernel. A MEAN over those finishes.
- Variance is the mean of squares less the squared mean; ReLU maps have means below their
  deviations, so that little is lost in the difference. Its root is v * RSQRT(v): int8 RSQRT runs in
  tflite-runtime 2.14, int8 SQRT does not.
- Standardization is one more depthwise convolution, straight to the steps that the head reads.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from conversion.export import AttentionGraph, AudioEncoder, HeadGraph, Part, TextEncoder
from conversion.flatbuffer import GraphWriter
from edge_runtime.bundle import WINDOW_FRAMES, whole_inputs
from edge_runtime.fusion import MASKED_SCORE
from edge_runtime.spu import STD_EPSILON
from training.fakequant import INT8_MAX, INT8_MIN, ActivationQuantizer
from training.model import STATISTICS, SWEM, ModelConfig, MscnnSpu

Float64 = npt.NDArray[np.float64]
Steps = tuple[float, int]

_UNIT: Steps = (1 / 255, INT8_MIN)  # 0 to 1
_FLAG: Steps = (1 / INT8_MAX, 0)  # 0 or 1, both exact
_GAIN: Steps = (3 / 255, INT8_MIN)  # what repetitions leave empty: a third is filled at least
_SPREAD = 4.0  # standard deviations of a statistic over the corpus that its range spans
_SAME, _VALID = 0, 1  # the format's numbers of its ways to pad
_CHUNK = 25  # steps summed at first: the delegate unrolls depthwise kernels of up to 25
_CHUNK_SPREAD = 4.0  # how far the mean of a chunk may exceed that of an utterance


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
        self.columns: list[npt.NDArray[np.int64]] = []
        """Places in the head's input of what is joined for it, in the order of joining."""
        self.joined: list[int] = []

    def write(self) -> bytes:
        """The file: what is heard, then what is read, then the head."""
        parts, shapes = self.config.parts, inputs(self.config)
        heard = read = None
        queries = keys = None
        if parts.audio:
            counted = self.writer.input("frames_counted", shapes["frames_counted"], *_FLAG)
            gain = self.writer.input("frames_gain", shapes["frames_gain"], *_GAIN)
            heard = self._any(counted) if parts.text else None
            maps, reach = self._audio_maps()
            maps = [self._masked(scale, counted) for scale in maps]
            statistics = self._pool("audio", maps, reach, gain, heard)
            if parts.att:
                queries = self._queries(statistics)
        if parts.text:
            counted = self.writer.input("words_counted", shapes["words_counted"], *_FLAG)
            gain = self.writer.input("words_gain", shapes["words_gain"], *_GAIN)
            read = self._any(counted) if parts.audio else None
            rows = self.writer.input("rows", shapes["rows"], *steps_of(self.model.text_input))
            keys = self._text_maps(rows)
            reach = self._reach("text", [q.range()[1] for q in _quantizers(self.model.text)])
            maps = [
                self._affine(self._masked(scale, counted), 1 / reach[index], None, _UNIT)
                for index, scale in enumerate(keys)
            ]
            self._pool("text", maps, reach, gain, read)
            if parts.att and queries is not None:
                self._attend(queries, keys, heard, read)
            if parts.swem:
                self._swem(rows, counted, gain, read)
        if parts.speaker:
            self.joined.append(self.writer.input("speaker", shapes["speaker"], *self.head_steps))
            self.columns.append(np.arange(self.places["speaker"].start, self.model.width))
        return self.writer.finish([self._head()])

    def _audio_maps(self) -> tuple[list[int], Float64]:
        """Maps per scale, 0 to 1 of their reach; the reach (scales, C)."""
        writer, config, audio = self.writer, self.config, self.model.audio
        shape = inputs(config)["frames"]
        steps = steps_of(self.model.audio_input)
        frames = writer.input("frames", shape, *steps)
        reach = self._reach("audio", [q.range()[1] for q in _quantizers(audio)])
        deep = [cast(ActivationQuantizer, q) for q in audio.hidden]
        # What one layer with a map a frame needs beyond the edges, every runtime pads by itself.
        same = config.audio_stride == 1 and not deep
        context = 0 if same else config.audio_context
        padded = frames if same else self._padded(frames, context)
        width, longest = WINDOW_FRAMES + 2 * context, max(config.audio_kernels)
        maps = []
        for index, (kernel, conv) in enumerate(zip(config.audio_kernels, audio.convs, strict=True)):
            edge = 0 if same else (longest - kernel) // 2
            image = self._cut(padded, edge, width - 2 * edge)
            out, divisor = (steps_of(deep[0]), None) if deep else (_UNIT, reach[index])
            maps.append(
                self._conv(image, conv, out, divisor, stride=config.audio_stride, same=same)
            )
        for depth, layer in enumerate(audio.deep):
            length = writer.shape(maps[0])[2]
            joined = self._join(maps, (1, 1, length, config.filters * len(maps)), 3)
            last = depth + 1 == len(deep)
            maps = [
                self._conv(
                    joined,
                    conv,
                    _UNIT if last else steps_of(deep[depth + 1]),
                    reach[index] if last else None,
                    dilation=config.audio_dilations[depth],
                )
                for index, conv in enumerate(cast(nn.ModuleList, layer))
            ]
        return maps, reach

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

    def _text_maps(self, rows: int) -> list[int]:
        config, kernels = self.config, self.config.text_kernels
        before, after = (max(kernels) - 1) // 2, max(kernels) // 2
        width, maps = config.tokens + before + after, []
        for kernel, conv, quantizer in zip(
            kernels, self.model.text.convs, _quantizers(self.model.text), strict=True
        ):
            left, right = before - (kernel - 1) // 2, after - kernel // 2
            image = self._cut(rows, left, width - left - right)
            steps = steps_of(quantizer)
            # Zero is step 0 here, so saturation is no ReLU.
            maps.append(self._conv(image, conv, steps, None, relu=True))
        return maps

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
        self, branch: str, maps: list[int], reach: Float64, gain: int, present: int | None
    ) -> dict[str, tuple[int, Float64]]:
        """Masked maps per scale to their statistics.

        Joins them for the head, and returns each (1, 1, 1, S C) with what one unit of it is.
        """
        mean, std = self._of(branch)
        upper = mean + _SPREAD * std
        # Ranges of the mean and of the mean square over an utterance, (scales, C).
        mean_reach = np.minimum(upper[:, 1], reach)
        square_reach = np.minimum(upper[:, 1] ** 2 + upper[:, 2] ** 2, reach**2)
        highest = self._side_by_side([self._highest(scale) for scale in maps])
        average = self._average(maps, mean_reach / reach)
        squares = [
            self.writer.operation("MUL", [m, m], self.writer.shape(m), *_UNIT, options="MulOptions")
            for m in maps
        ]
        square = self._average(squares, square_reach / reach**2)
        average, square = self._filled(average, gain), self._filled(square, gain)
        share = (mean_reach / np.sqrt(square_reach)).reshape(-1)
        part = self._affine(average, share, None, _scale_to(float(share.max())))
        part = self._times(part, part, _UNIT)
        spread = np.minimum(upper[:, 2] ** 2 / square_reach, 1).reshape(-1)
        variance = self.writer.operation(
            "SUB",
            [square, part],
            self.writer.shape(square),
            *_scale_to(float(spread.max())),
            options="SubOptions",
        )
        lowest = (mean[:, 2] - _SPREAD / 2 * std[:, 2]).clip(min=0) ** 2 / square_reach
        root = self._root(
            variance, float(spread.max()), max(float(np.quantile(lowest, 0.05)), 0.01)
        )
        units = {
            "max": (highest, reach.reshape(-1)),
            "mean": (average, mean_reach.reshape(-1)),
            "std": (root, np.sqrt(square_reach).reshape(-1)),
        }
        width = mean[0].size
        for index, (tensor, unit) in enumerate(units.values()):
            here = mean[:, index].reshape(-1), std[:, index].reshape(-1)
            places = np.arange(width * len(mean)).reshape(mean.shape)[:, index].reshape(-1)
            self._standardize(tensor, unit, *here, self.places[branch].start + places, present)
        return units

    def _root(self, variance: int, highest: float, lowest: float) -> int:
        """V * RSQRT(v), in [0, 1]: below `lowest` it falls linearly to zero, never beyond."""
        shape = self.writer.shape(variance)
        inverse = self.writer.operation("RSQRT", [variance], shape, *_scale_to(lowest**-0.5))
        return self._times(variance, inverse, _scale_to(highest**0.5))

    def _queries(self, statistics: dict[str, tuple[int, Float64]]) -> int:
        """The statistics as queries, (1, 3 S, C), by statistic, then by scale."""
        attention, filters = self.model.attention, self.config.filters
        steps = steps_of(attention.queries)
        parts = [
            self._affine(tensor, unit * attention.scale, None, steps)
            for tensor, unit in statistics.values()
        ]
        width = len(STATISTICS) * len(self.config.audio_kernels) * filters
        joined = self._join(parts, (1, 1, 1, width), 3)
        return self._reshape(joined, (1, width // filters, filters))

    def _attend(self, queries: int, keys: list[int], heard: int | None, read: int | None) -> None:
        config, attention, writer = self.config, self.model.attention, self.writer
        steps, tokens, filters = writer.steps(queries), config.tokens, config.filters
        scales = len(config.audio_kernels)
        mask_steps = (-MASKED_SCORE / 255, INT8_MAX)
        mask = writer.input("words_mask", (1, 1, tokens), *mask_steps)
        order = np.arange(len(STATISTICS) * scales).reshape(len(STATISTICS), scales)
        for index, scale in enumerate(keys):
            chosen, rows = queries, order.ravel()
            if attention.matched:
                rows = order[:, index].ravel()
                picked = [
                    self._slice(queries, [0, int(row), 0], (1, 1, filters), steps) for row in rows
                ]
                chosen = self._join(picked, (1, len(rows), filters), 1)
            flat = self._reshape(scale, (1, tokens, filters))
            wide, count = steps_of(_quantizers(attention, "scores")[index]), len(rows)
            scores = writer.operation(
                "BATCH_MATMUL",
                [chosen, flat],
                (1, count, tokens),
                *wide,
                options="BatchMatMulOptions",
                adjY=True,
            )
            scores = writer.operation(
                "ADD", [scores, mask], (1, count, tokens), *wide, options="AddOptions"
            )
            weights = writer.operation(
                "SOFTMAX",
                [scores],
                (1, count, tokens),
                *steps_of(attention.weights),
                options="SoftmaxOptions",
                beta=1.0,
            )
            found_steps = steps_of(_quantizers(attention)[index])
            found = writer.operation(
                "BATCH_MATMUL",
                [weights, flat],
                (1, count, filters),
                *found_steps,
                options="BatchMatMulOptions",
            )
            found = self._reshape(found, (1, 1, 1, count * filters))
            # In the model, queries go by scale, then by statistic.
            scale_of, statistic = rows % scales, rows // scales
            row = statistic if attention.matched else scale_of * len(STATISTICS) + statistic
            local = ((index * count + row)[:, None] * filters + np.arange(filters)).reshape(-1)
            self._standardize(
                found,
                np.ones(local.size),
                self.mean["attention"][local],
                self.std["attention"][local],
                self.places["attention"].start + local,
                heard,
                read,
            )

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
        average = self._filled(self._average([shifted], reach[None]), gain)
        units = (self._highest(shifted), np.full(width, span)), (average, span * reach)
        for index, (tensor, unit) in enumerate(units):
            places = self.places["swem"].start + index * width + np.arange(width)
            self._standardize(tensor, unit, mean[index] - low, std[index], places, present)

    def _standardize(
        self,
        tensor: int,
        unit: Float64,
        mean: Float64,
        std: Float64,
        places: npt.NDArray[np.int64],
        *present: int | None,
    ) -> None:
        """(x unit - mean) / std in the head's steps; zero where the modality is missing."""
        result = self._affine(tensor, unit / std, -mean / std, self.head_steps)
        for flag in present:
            if flag is not None:
                result = self._times(result, flag, self.head_steps)
        self.joined.append(self._reshape(result, (1, places.size)))
        self.columns.append(places)

    def _head(self) -> int:
        columns = np.concatenate(self.columns)
        tensor = self._join(self.joined, (1, columns.size), 1)
        last = len(self.model.head.layers) - 1
        for index, layer in enumerate(self.model.head.layers):
            source = cast(nn.Linear, layer)
            weight = source.weight.detach().double().numpy()
            if index == 0:
                weight = weight[:, columns]
            values, scales = _weights(weight)
            in_scale, _ = self.writer.steps(tensor)
            bias = self._bias(source.bias, in_scale * scales)
            tensor = self.writer.operation(
                "FULLY_CONNECTED",
                [tensor, self.writer.constant(values, scales), bias],
                (1, len(weight)),
                *steps_of(_quantizers(self.model.head)[index]),
                options="FullyConnectedOptions",
                name="logits" if index == last else "",
                fusedActivationFunction=int(index < last),  # 1 is RELU
            )
        return tensor

    def _average(self, maps: list[int], reach: Float64) -> int:
        """Mean over the window of maps (1, 1, T, C) in [0, 1], (1, 1, 1, S C).

        In units of `_CHUNK_SPREAD` x `reach` (S, C), up to `reach`.
        """
        length = self.writer.shape(maps[0])[2]
        chunk = max(n for n in range(1, _CHUNK + 1) if length % n == 0)
        # In every channel of a chunk the same multiple of its reach, which the mean then takes out.
        sums = [
            self._depthwise(scale, 1 / (chunk * _CHUNK_SPREAD * reach[index]), chunk, None, _UNIT)
            for index, scale in enumerate(maps)
        ]
        channels = reach.size
        joined = self._join(sums, (1, 1, length // chunk, channels), 3)
        axes = self.writer.constant(np.array([1, 2], np.int32))
        return self.writer.operation(
            "MEAN",
            [joined, axes],
            (1, 1, 1, channels),
            *_scale_to(1 / _CHUNK_SPREAD),
            options="ReducerOptions",
            keepDims=True,
        )

    def _filled(self, average: int, gain: int) -> int:
        """What `_average` gives, over the steps that count, in units of its reach."""
        part = self._times(average, gain, _scale_to(1 / _CHUNK_SPREAD))
        return self._affine(part, np.full(self.writer.shape(part)[3], _CHUNK_SPREAD), None, _UNIT)

    def _affine(self, tensor: int, factor: Float64, offset: Float64 | None, out: Steps) -> int:
        """X * factor + offset, per channel."""
        return self._depthwise(tensor, factor, 1, offset, out)

    def _depthwise(
        self, tensor: int, factor: Float64, kernel: int, offset: Float64 | None, out: Steps
    ) -> int:
        """Sums of `kernel` steps times `factor` (C,), plus `offset` (C,)."""
        _, _, length, channels = self.writer.shape(tensor)
        in_scale, _ = self.writer.steps(tensor)
        values = np.broadcast_to(
            np.sign(factor).astype(np.int8) * INT8_MAX, (1, 1, kernel, channels)
        ).astype(np.int8)
        scales = np.abs(factor) / INT8_MAX
        steps = in_scale * scales
        shift = np.zeros(channels) if offset is None else offset / steps
        limit = 2**31 - 1
        bias = np.rint(np.clip(shift, -limit, limit)).astype(np.int32)
        return self.writer.operation(
            "DEPTHWISE_CONV_2D",
            [
                tensor,
                self.writer.constant(values, scales, axis=3),
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
        layer: nn.Module,
        out: Steps,
        divisor: Float64 | None,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = False,
        same: bool = False,
    ) -> int:
        """The convolution of a layer over time, each filter divided by `divisor` (C,).

        The low end of `out` is zero and does the work of the ReLU, unless `relu`. With `same` there
        are as many maps as steps, with zeros beyond the edges.
        """
        source = cast(nn.Conv1d, layer)
        weight = source.weight.detach().double().numpy().transpose(0, 2, 1)[:, None]  # (O,1,k,I)
        filters, _, kernel, _ = weight.shape
        length = self.writer.shape(image)[2]
        if not same:
            length = (length - dilation * (kernel - 1) - 1) // stride + 1
        values, scales = _weights(weight)
        scales = scales if divisor is None else scales / divisor
        in_scale, _ = self.writer.steps(image)
        factor = 1.0 if divisor is None else 1 / divisor
        assert source.bias is not None
        bias = self._bias(source.bias, in_scale * scales, factor)
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

    def _bias(self, bias: Tensor, scales: Float64, factor: Float64 | float = 1.0) -> int:
        values = np.rint(bias.detach().double().numpy() * factor / scales).astype(np.int32)
        return self.writer.constant(values, scales)

    def _masked(self, maps: int, counted: int) -> int:
        """The maps, zero where they do not count; exact."""
        return self._times(maps, counted, self.writer.steps(maps))

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
        channels = sum(self.writer.shape(tensor)[3] for tensor in tensors)
        return self._join(tensors, (1, 1, 1, channels), 3)

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
    low, high = cast(ActivationQuantizer, quantizer).range()
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
