"""MSCNN-SPU-ATT: multi-scale convolutions over time, statistical pooling, attention, a dense head.

Peng, Lu, Pan, Liu, "Efficient Speech Emotion Recognition Using Multi-Scale CNN and Attention",
ICASSP 2021 (arXiv 2106.04133), section 2. This file is the network alone: no data, no training.

Where the paper leaves room, or int8 asks for it, this is what is built:

- Attention joins every audio scale with every text scale, as the paper's figure shows it
  (`attention_pairs` "all"); "matched" joins the n-th with the n-th, for a quarter of the width.
- The scores are divided by the square root of the filters (`attention_scale`; 1.0 is the paper's
  formula to the letter). Dot products of 128 non-negative values are large: unscaled, the softmax
  is one word from the first step on, and one int8 step of a score is a factor of e in its weight.
- The paper gives its dense layers no width; `hidden` is (128,): one hidden layer, then the classes.
- A convolution keeps the length of the signal: kernel k sees (k - 1) // 2 steps before a position
  and k // 2 after it, with zeros beyond both ends (TensorFlow's SAME). So an even kernel leans to
  the right: kernel 2 at position i sees words i and i + 1.
- The audio MSCNN may keep one map in `audio_stride` frames, and may be deeper: each entry of
  `audio_dilations` is a further layer of kernel 3 per scale, which reads the maps of all scales.
  Only the frames are padded, by the whole context at once: beyond both ends of an utterance every
  layer sees what silence gives, so a device that runs the layers over windows of frames, with as
  much context, computes the very same maps.
- The pooled vectors are standardized before the head. A modality that is missing is a vector of
  zeros there, the average utterance, and counts in no statistic; attention is missing with either.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from edge_runtime.model.fusion import MASKED_SCORE
from edge_runtime.model.spu import STD_EPSILON
from training.network.config import DEEP_KERNEL, MODALITIES, STATISTICS, ModelConfig
from training.network.fakequant import (
    ActivationQuantizer,
    QuantizedConv1d,
    QuantizedLinear,
    SoftmaxQuantizer,
)


class MSCNN(nn.Module):
    """Parallel one-layer convolutions over time with ReLU, one per kernel length, length kept."""

    def __init__(
        self, features: int, kernels: tuple[int, ...], filters: int, centred: bool = False
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            QuantizedConv1d(features, filters, kernel, padding=kernel // 2) for kernel in kernels
        )
        self.outputs = nn.ModuleList(ActivationQuantizer(True, centred) for _ in kernels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, T, features) -> per kernel length (B, T, filters), all >= 0."""
        steps = x.shape[1]
        channels_first = x.transpose(1, 2)
        return [
            # An even kernel, padded by half of it on both sides, has one step too many: the first.
            quantize(torch.relu(conv(channels_first)[:, :, -steps:])).transpose(1, 2)
            for conv, quantize in zip(self.convs, self.outputs, strict=True)
        ]


class AudioMSCNN(nn.Module):
    """The audio MSCNN: strided convolutions in parallel, then layers that join the scales.

    Names sort in the order of the data, on which the converter relies: convs, deep, outputs.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kernels, self.stride = config.audio_kernels, config.audio_stride
        self.context = config.audio_context
        scales, filters = len(config.audio_kernels), config.filters
        self.convs = nn.ModuleList(
            QuantizedConv1d(config.features, filters, kernel, stride=config.audio_stride)
            for kernel in config.audio_kernels
        )
        self.deep = nn.ModuleList(
            nn.ModuleList(
                QuantizedConv1d(scales * filters, filters, DEEP_KERNEL, dilation=dilation)
                for _ in range(scales)
            )
            for dilation in config.audio_dilations
        )
        # The maps of all scales are joined for the next layer: they share a range.
        self.hidden = nn.ModuleList(
            ActivationQuantizer(nonnegative=True) for _ in config.audio_dilations
        )
        self.outputs = nn.ModuleList(ActivationQuantizer(nonnegative=True) for _ in range(scales))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, T, features) -> per scale (B, ceil(T / stride), filters), all >= 0."""
        channels_first = x.transpose(1, 2)
        padded = nn.functional.pad(channels_first, (self.context, self.context))
        maps = [
            torch.relu(conv(crop(padded, (max(self.kernels) - kernel) // 2)))
            for kernel, conv in zip(self.kernels, self.convs, strict=True)
        ]
        for layer, quantize in zip(self.deep, self.hidden, strict=True):
            joined = quantize(torch.cat(maps, dim=1))
            maps = [torch.relu(conv(joined)) for conv in cast(nn.ModuleList, layer)]
        return [
            quantize(scale).transpose(1, 2)
            for scale, quantize in zip(maps, self.outputs, strict=True)
        ]

    def convolutions(self) -> list[QuantizedConv1d]:
        """Every convolution, in the order of `convs`, then of `deep`."""
        return [module for module in self.modules() if isinstance(module, QuantizedConv1d)]

    def quantizers(self) -> list[ActivationQuantizer]:
        """The range behind each convolution, in the order of `convs`, then of `deep`."""
        hidden = [quantizer for quantizer in self.hidden for _ in self.kernels]
        return [cast(ActivationQuantizer, q) for q in (*hidden, *self.outputs)]


def crop(sequence: Tensor, edge: int) -> Tensor:
    """(..., T) without `edge` steps at both ends."""
    return sequence[..., edge : sequence.shape[-1] - edge] if edge else sequence


class SPU(nn.Module):
    """Statistical pooling unit: max, mean and standard deviation over the valid steps."""

    def forward(self, maps: Tensor, mask: Tensor) -> Tensor:
        """Maps (B, T, C), all >= 0; mask (B, T), 1 where valid -> (B, 3, C).

        Without a valid step, max and mean are 0.
        """
        weight = mask.unsqueeze(2).to(maps.dtype)  # (B, T, 1)
        count = weight.sum(dim=1).clamp_min(1)
        valid = maps * weight
        mean = valid.sum(dim=1) / count
        variance = (((maps - mean.unsqueeze(1)) * weight) ** 2).sum(dim=1) / count
        # Maps are ReLU outputs, so a masked zero never wins over a valid maximum.
        return torch.stack([valid.amax(dim=1), mean, torch.sqrt(variance + STD_EPSILON)], dim=1)


class Attention(nn.Module):
    """What the audio statistics find in the words: softmax(e . h) h, per text scale.

    Its tensors on the device: queries, already scaled; the text maps; per text scale the scores
    (padding positions lowered to `MASKED_SCORE`), their softmax, and the weighted sum.
    """

    def __init__(self, text_scales: int, matched: bool, scale: float) -> None:
        super().__init__()
        self.matched, self.scale = matched, scale
        self.queries = ActivationQuantizer(nonnegative=True)
        self.scores = nn.ModuleList(ActivationQuantizer() for _ in range(text_scales))
        self.weights = SoftmaxQuantizer()
        self.outputs = nn.ModuleList(
            ActivationQuantizer(nonnegative=True) for _ in range(text_scales)
        )

    def forward(self, statistics: Tensor, maps: list[Tensor], mask: Tensor) -> Tensor:
        """Attended maps of each text scale for each query; zero where there is no word.

        Parameters
        ----------
        statistics : audio SPU outputs, (B, audio scales, 3, C).
        maps : text maps per scale, (B, N, C).
        mask : (B, N), true where there is a word.

        Returns
        -------
        (B, text scales, queries, C); queries go by audio scale, then max, mean, std.
        """
        queries = self.queries(statistics * self.scale)
        outside = ~mask.unsqueeze(1)  # (B, 1, N)
        attended = []
        for index, keys in enumerate(maps):
            chosen = queries[:, index] if self.matched else queries.flatten(1, 2)  # (B, Q, C)
            scores = chosen @ keys.transpose(1, 2)  # (B, Q, N): one product for all queries
            scores = self.scores[index](scores.masked_fill(outside, MASKED_SCORE))
            # Not -inf: a row without a word would be NaN. The product below makes it zero.
            weights = scores.masked_fill(outside, -1e9).softmax(dim=2) * mask.unsqueeze(1)
            attended.append(self.outputs[index](self.weights(weights) @ keys))
        return torch.stack(attended, dim=1)


class Head(nn.Module):
    """Standardized vector of all branches -> dense layers -> logits."""

    def __init__(self, width: int, hidden: tuple[int, ...], classes: int, dropout: float) -> None:
        super().__init__()
        sizes = (width, *hidden, classes)
        self.input = ActivationQuantizer()
        self.layers = nn.ModuleList(QuantizedLinear(a, b) for a, b in pairwise(sizes))
        self.outputs = nn.ModuleList(
            ActivationQuantizer(nonnegative=index < len(hidden)) for index in range(len(hidden) + 1)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) -> logits (B, classes)."""
        x = self.input(x)
        last = len(self.layers) - 1
        for index, (layer, quantize) in enumerate(zip(self.layers, self.outputs, strict=True)):
            x = layer(self.dropout(x))
            x = quantize(torch.relu(x) if index < last else x)
        return x


class Standardize(nn.BatchNorm1d):
    """Batch normalization without affine parameters, over the values that are present.

    Max, mean and std differ in size by an order of magnitude; this is one subtraction and one
    division per value, which the device folds into quantization.
    """

    seen: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)
        # Updates of each column, for `momentum` None: columns may be missing from a batch.
        self.register_buffer("seen", torch.zeros(width), persistent=False)

    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        super().reset_running_stats()
        if hasattr(self, "seen"):
            self.seen.zero_()

    def standardize(self, x: Tensor, present: Tensor) -> Tensor:
        """(B, width) with `present` (B, width) -> the same, zero where missing."""
        # Where some were missing before, what BatchNorm1d counts is not how often each was seen.
        counts = self.training and self.momentum is None
        if bool(present.all()) and not (counts and bool((self.seen != self._updates()).any())):
            self.seen += self.training
            every: Tensor = self(x)
            return every
        if self.training:
            mean, variance = self._batch_statistics(x, present.to(x.dtype))
        else:
            mean, variance = self.running()
        standard: Tensor = (x - mean) / torch.sqrt(variance + self.eps) * present
        return standard

    def _updates(self) -> Tensor:
        """How often all columns were updated together, ()."""
        assert self.num_batches_tracked is not None
        return self.num_batches_tracked

    def running(self) -> tuple[Tensor, Tensor]:
        """Mean and variance that evaluation applies, each (width,)."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return self.running_mean, self.running_var

    def _batch_statistics(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance over the rows present; the running ones where they are fewer than 2."""
        count = present.sum(dim=0)
        mean = (x * present).sum(dim=0) / count.clamp_min(1)
        squares = (((x - mean) * present) ** 2).sum(dim=0)
        enough = count > 1
        running_mean, running_variance = self.running()
        with torch.no_grad():
            self.seen += enough
            share = 1 / self.seen.clamp_min(1) if self.momentum is None else self.momentum
            share = share * enough.to(x.dtype)
            # The running variance is the unbiased one, as in BatchNorm1d.
            unbiased = squares / (count - 1).clamp_min(1)
            old = running_mean.clone(), running_variance.clone()
            running_mean += share * (mean - running_mean)
            running_variance += share * (unbiased - running_variance)
        return (
            torch.where(enough, mean, old[0]),
            torch.where(enough, squares / count.clamp_min(1), old[1]),
        )


class MscnnSpu(nn.Module):
    """The whole model, in the variant that `config` names.

    Inputs by name, those of the variant's modalities; any of them may be missing in any row.

    features, lengths : raw audio features (B, T, F), and valid frames (B,).
    tokens, words : rows of the embedding table (B, N), and valid tokens (B,).
    speaker : speaker embedding (B, speaker).
    modalities : bool (B, 3), false where audio, text or speaker shall be ignored. No valid frame
        or no valid token is as good as false.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        parts = config.parts
        self.spu = SPU()
        if parts.audio:
            self.register_buffer("feature_mean", torch.zeros(config.features))
            self.register_buffer("feature_std", torch.ones(config.features))
            self.audio_input = ActivationQuantizer()
            self.audio = AudioMSCNN(config)
        if parts.text:
            # The rows of the table are the device's int8 rows: they share the range of this input.
            self.embedding = nn.Embedding(config.vocabulary, config.embedding, padding_idx=0)
            self.text_input = ActivationQuantizer()
            # Attention multiplies by these maps.
            self.text = MSCNN(config.embedding, config.text_kernels, config.filters, centred=True)
        if parts.att:
            scale = config.attention_scale or config.filters**-0.5
            matched = config.attention_pairs == "matched"
            self.attention = Attention(len(config.text_kernels), matched, scale)
        self.width = sum(config.branches.values())
        self.standardize = Standardize(self.width)
        self.head = Head(self.width, config.hidden, len(config.labels), config.dropout)

    def audio_statistics(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Raw features (B, T, F), valid frames (B,) -> (B, scales x 3 x filters).

        Order: for each kernel length, max then mean then std.
        """
        return self.pool(*self.audio_maps(features, lengths))

    def audio_maps(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Raw features (B, T, F), valid frames (B,) -> per scale (B, P, filters); mask (B, P)."""
        mask = _mask(features, lengths)
        x = (features - self.feature_mean) / self.feature_std
        x = self.audio_input(x) * mask.unsqueeze(2)
        return self.audio(x), mask[:, :: self.config.audio_stride]

    def pool(self, maps: list[Tensor], mask: Tensor) -> Tensor:
        """Maps per scale (B, P, filters), mask (B, P) -> (B, scales x 3 x filters)."""
        return torch.cat([self.spu(scale, mask) for scale in maps], dim=1).flatten(1)

    def pooled(
        self,
        features: Tensor | None = None,
        lengths: Tensor | None = None,
        tokens: Tensor | None = None,
        words: Tensor | None = None,
        speaker: Tensor | None = None,
        modalities: Tensor | None = None,
        statistics: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What the head will read, raw, and where it is present: each (B, width).

        `statistics` are the `audio_statistics` where they are computed already.
        """
        parts, config = self.config.parts, self.config
        given = next(x for x in (features, tokens, speaker) if x is not None)
        rows = len(given)
        if modalities is None:
            modalities = torch.ones(rows, len(MODALITIES), dtype=torch.bool, device=given.device)
        heard, read, known = modalities.unbind(1)  # (B,) each
        branches: dict[str, Tensor] = {}
        present: dict[str, Tensor] = {}
        if parts.audio and features is not None and lengths is not None:
            if statistics is None:
                statistics = self.audio_statistics(features, lengths)
            branches["audio"] = statistics
            present["audio"] = heard & (lengths > 0)
        if parts.text and tokens is not None and words is not None:
            mask = _mask(tokens, words)
            x = self.text_input(self.embedding(tokens)) * mask.unsqueeze(2)
            maps = self.text(x)
            branches["text"] = torch.cat([self.spu(m, mask) for m in maps], dim=1).flatten(1)
            present["text"] = read & (words > 0)
            if parts.swem:
                branches["swem"] = swem(x, mask)
                present["swem"] = present["text"]
            if parts.att and "audio" in branches:
                queries = branches["audio"].view(
                    rows, len(config.audio_kernels), len(STATISTICS), config.filters
                )
                branches["attention"] = self.attention(queries, maps, mask).flatten(1)
                present["attention"] = present["audio"] & present["text"]
        if parts.speaker and speaker is not None:
            branches["speaker"], present["speaker"] = speaker, known
        values, presence = [], []
        for name, width in config.branches.items():
            if name not in branches:
                branches[name] = torch.zeros(rows, width, device=given.device)
                present[name] = torch.zeros(rows, dtype=torch.bool, device=given.device)
            values.append(branches[name])
            presence.append(present[name].unsqueeze(1).expand(-1, width))
        return torch.cat(values, dim=1), torch.cat(presence, dim=1)

    def forward(
        self,
        features: Tensor | None = None,
        lengths: Tensor | None = None,
        tokens: Tensor | None = None,
        words: Tensor | None = None,
        speaker: Tensor | None = None,
        modalities: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, classes)."""
        pooled, present = self.pooled(features, lengths, tokens, words, speaker, modalities)
        logits: Tensor = self.head(self.standardize.standardize(pooled, present))
        return logits

    def pooled_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation that `standardize` applies in evaluation, each (width,)."""
        mean, variance = self.standardize.running()
        return mean, torch.sqrt(variance + self.standardize.eps)


def swem(rows: Tensor, mask: Tensor) -> Tensor:
    """Max and mean over the words (SWEM, Shen et al. 2018): (B, N, E), (B, N) -> (B, 2 x E)."""
    count = mask.sum(dim=1, keepdim=True).clamp_min(1)
    outside = ~mask.unsqueeze(2)
    highest = rows.masked_fill(outside, -1e9).amax(dim=1) * (mask.any(dim=1, keepdim=True))
    return torch.cat([highest, rows.masked_fill(outside, 0).sum(dim=1) / count], dim=1)


def _mask(sequence: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, ...), (B,) -> bool (B, T), true before each row's length."""
    return torch.arange(sequence.shape[1], device=sequence.device) < lengths.unsqueeze(1)
