"""MSCNN-SPU: multi-scale convolutions over time, statistical pooling units, a dense head.

Peng, Lu, Pan, Liu, "Efficient Speech Emotion Recognition Using Multi-Scale CNN and Attention",
ICASSP 2021 (arXiv 2106.04133), section 2. This file is the network alone: no data, no training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from training.fakequant import ActivationQuantizer, QuantizedConv1d, QuantizedLinear

STATISTICS = ("max", "mean", "std")
_STD_EPSILON = 1e-5  # added to the variance: d sqrt(v)/dv is infinite at 0


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the shape of a model."""

    labels: tuple[str, ...] = ("angry", "happy", "neutral", "sad")
    """Classes, in the order of the logits."""
    features: int = 96
    """Width of an audio frame."""
    audio_kernels: tuple[int, ...] = (5, 7, 9, 11)
    """Kernel lengths of the audio MSCNN, in frames; odd."""
    filters: int = 128
    """Filters per kernel length."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the dense layers before the class layer."""
    dropout: float = 0.3
    """Dropout before each dense layer."""
    extra: dict[str, int] = field(default_factory=dict)
    """Further vectors that join the head, name to width: text statistics, attention, x-vector."""

    @property
    def audio_statistics(self) -> int:
        """Width of the audio SPU output: scales x statistics x filters."""
        return len(self.audio_kernels) * len(STATISTICS) * self.filters


class MSCNN(nn.Module):
    """Parallel one-layer convolutions over time with ReLU, one per kernel length, length kept."""

    def __init__(self, features: int, kernels: tuple[int, ...], filters: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            QuantizedConv1d(features, filters, kernel, padding=kernel // 2) for kernel in kernels
        )
        self.outputs = nn.ModuleList(ActivationQuantizer(nonnegative=True) for _ in kernels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, T, features) -> per kernel length (B, T, filters), all >= 0."""
        channels_first = x.transpose(1, 2)
        return [
            quantize(torch.relu(conv(channels_first))).transpose(1, 2)
            for conv, quantize in zip(self.convs, self.outputs, strict=True)
        ]


class SPU(nn.Module):
    """Statistical pooling unit: max, mean and standard deviation over the valid steps."""

    def forward(self, maps: Tensor, mask: Tensor) -> Tensor:
        """Maps (B, T, C), all >= 0; mask (B, T), 1 where valid, at least one -> (B, 3, C)."""
        weight = mask.unsqueeze(2).to(maps.dtype)  # (B, T, 1)
        count = weight.sum(dim=1)
        valid = maps * weight
        mean = valid.sum(dim=1) / count
        variance = (((maps - mean.unsqueeze(1)) * weight) ** 2).sum(dim=1) / count
        # Maps are ReLU outputs, so a masked zero never wins over a valid maximum.
        return torch.stack([valid.amax(dim=1), mean, torch.sqrt(variance + _STD_EPSILON)], dim=1)


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


class MscnnSpu(nn.Module):
    """The whole model; today's variant is audio, other branches join through `extra`."""

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_std", torch.ones(config.features))
        self.audio_input = ActivationQuantizer()
        self.audio = MSCNN(config.features, config.audio_kernels, config.filters)
        self.spu = SPU()
        self.width = config.audio_statistics + sum(config.extra.values())
        # Max, mean and std differ in size by an order of magnitude; without affine parameters this
        # is one subtraction and one division per value, which the device folds into quantization.
        self.standardize = nn.BatchNorm1d(self.width, affine=False)
        self.head = Head(self.width, config.hidden, len(config.labels), config.dropout)

    def audio_statistics(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Raw features (B, T, F), valid frames (B,) -> (B, scales x 3 x filters).

        Order: for each kernel length, max then mean then std.
        """
        mask = torch.arange(features.shape[1], device=features.device) < lengths.unsqueeze(1)
        x = (features - self.feature_mean) / self.feature_std
        x = self.audio_input(x) * mask.unsqueeze(2)
        pooled = [self.spu(maps, mask) for maps in self.audio(x)]
        return torch.cat(pooled, dim=1).flatten(1)

    def forward(
        self, features: Tensor, lengths: Tensor, extra: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Logits (B, classes) of raw features (B, T, F) with `lengths` (B,) valid frames each."""
        branches = [self.audio_statistics(features, lengths)]
        branches += [(extra or {})[name] for name in self.config.extra]
        logits: Tensor = self.head(self.standardize(torch.cat(branches, dim=1)))
        return logits

    def pooled_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation that `standardize` applies in evaluation, each (width,)."""
        mean, variance = self.standardize.running_mean, self.standardize.running_var
        assert mean is not None
        assert variance is not None
        return mean, torch.sqrt(variance + self.standardize.eps)
