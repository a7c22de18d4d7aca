"""Light-SERNet: a small convolutional network over MFCC, made for devices.

Aftab, Morsali, Ghaemmaghami, Champagne, ICASSP 2022, doi 10.1109/ICASSP43922.2022.9746679, arXiv
2110.03435. Written anew after the paper's description and the settings that its authors publish
(github.com/AryaAftab/LIGHT-SERNET).

Input, as published: the middle 3 s of a clip at 16 kHz, silence on both sides of a shorter one
(7 s were tried on IEMOCAP alone), as loud as the 99.9th percentile of its samples says; 64 ms
frames every 16 ms, FFT of 1024, magnitudes, 128 mel bands from 80 to 7600 Hz, logarithm, the first
40 cepstra, clipped at 10: 184 frames. The window is TensorFlow's default, Hann.

Network, as published: three convolutions side by side, along time (11 x 1), along cepstra (1 x 9)
and over both (3 x 3), 32 filters each; four of 3 x 3 with 64, 96, 128 and 160 filters and one of
1 x 1 with 320, each with batch normalization and ReLU, averages in between; the global average,
dropout 0.3, one dense layer. 0.46 million weights: the 0.88 MB that are published are those of 16
bits each.

Training, as published: Adam at 1e-4, from a sixth of the epochs on times e^-0.15 each fifteenth of
them (there, from epoch 50 of 300 each 20), batches of 32, L2 of 1e-6 on the kernels of the five
convolutions in a row, focal loss with gamma 2, the better of two losses on EMO-DB. Ours: 800
updates, where their smallest run takes 4800.

The published 94.2 % on EMO-DB are of unseen speakers, but of the epoch that is best on the clips of
the very speaker that is then judged.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dct
from torch import Tensor, nn

from benchmarks.peers.network import NetworkPeer, Recipe, keras_layers
from edge_runtime.pcm import SAMPLE_RATE, Float32, Int16

SECONDS = 3.0
_SAMPLES = round(SECONDS * SAMPLE_RATE)
_WINDOW, _HOP = 1024, 256  # samples: 64 and 16 ms
_MELS, _LOW_HZ, _HIGH_HZ = 128, 80.0, 7600.0
_CEPSTRA = 40
_FLOOR = 1e-6  # added to a band's magnitude
_CLIP = 10.0
_LOUD = 99.9  # percentile of the samples' size that becomes 1

_PATHS = ((11, 1), (1, 9), (3, 3))  # kernels, frames x cepstra
_PATH_FILTERS = 32
# Filters, kernel, and what is averaged behind it, frames x cepstra.
_BODY = ((64, 3, (2, 2)), (96, 3, (2, 2)), (128, 3, (2, 1)), (160, 3, (2, 1)), (320, 1, None))
_DROPOUT = 0.3
_L2 = 1e-6
_GAMMA = 2


def peers() -> list[NetworkPeer]:
    """The one."""
    return [
        NetworkPeer(
            "light-sernet",
            "Light-SERNet",
            "torch",
            "pip install 'edge-emotion[train]'",
            features,
            1,
            LightSernet,
            Recipe(32, 800, 300, _optimizer, _focal_loss, _rate),
            SECONDS,
        )
    ]


def features(samples: Int16) -> Float32:
    """Cepstra of the middle 3 s of a clip, int16, 16 kHz, (n,): float32 (184, 40)."""
    frames = sliding_window_view(_levelled(_middle(samples)), _WINDOW)[::_HOP]
    window = np.hanning(_WINDOW + 1)[:-1]
    magnitudes = np.abs(np.fft.rfft(frames * window)) @ _mel_bands()
    # HTK's scale of the transform: the orthonormal one, but for the first.
    cepstra = dct(np.log(magnitudes + _FLOOR))[:, :_CEPSTRA] / math.sqrt(2 * _MELS)
    return np.asarray(np.clip(cepstra, -_CLIP, _CLIP), np.float32)


def _middle(samples: Int16) -> Int16:
    """As many samples as it hears, from the middle."""
    spare = max(0, len(samples) - _SAMPLES)
    return samples[spare // 2 : spare // 2 + _SAMPLES]


def _levelled(samples: Int16) -> Float32:
    """Samples from -1 to 1 with silence on both sides, (48000,)."""
    signal = samples.astype(np.float32)
    loud = float(np.percentile(np.abs(signal), _LOUD))
    signal = np.clip(signal / (loud + np.finfo(float).eps), -1, 1)
    missing = _SAMPLES - len(signal)
    return np.pad(signal, (missing // 2, missing - missing // 2))


@cache
def _mel_bands() -> Float32:
    """Weights (513, 128) of triangles that are even and overlap by half on HTK's mel scale."""

    def mel(hz: Float32) -> Float32:
        return np.asarray(2595 * np.log10(1 + hz / 700))

    lower, upper = mel(np.array([_LOW_HZ, _HIGH_HZ]))
    edges = np.linspace(lower, upper, _MELS + 2)
    places = mel(np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE))[:, np.newaxis]
    left, peak, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (places - left) / (peak - left), (right - places) / (right - peak)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)), np.float32)


class LightSernet(nn.Module):
    """The network, of so many classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            _layer(1, _PATH_FILTERS, kernel, (2, 2), bias=True) for kernel in _PATHS
        )
        width, body = _PATH_FILTERS * len(_PATHS), []
        for filters, size, pool in _BODY:
            body.append(_layer(width, filters, (size, size), pool, bias=False))
            width = filters
        self.body = nn.Sequential(*body)
        self.drop = nn.Dropout(_DROPOUT)
        self.head = nn.Linear(width, classes)
        keras_layers(self)
        self.to(memory_format=torch.channels_last)  # a fifth faster on CPUs

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Cepstra (B, T, 40) -> logits (B, classes); all frames are heard, the silent ones, too."""
        image = frames.unsqueeze(1)  # (B, 1, T, 40)
        maps = self.body(torch.cat([path(image) for path in self.paths], dim=1))
        logits: Tensor = self.head(self.drop(maps.mean(dim=(2, 3))))
        return logits


def _layer(
    channels: int,
    filters: int,
    kernel: tuple[int, int],
    pool: tuple[int, int] | None,
    bias: bool,
) -> nn.Sequential:
    edges = (kernel[0] // 2, kernel[1] // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(channels, filters, kernel, padding=edges, bias=bias),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
    ]
    if pool:
        layers.append(_Average(pool))
    return nn.Sequential(*layers)


class _Average(nn.Module):
    """Averages of two rows, or two by two; a row that is left over stands by itself.

    As `ceil_mode` has it, which ONNX Runtime gets wrong below opset 19.
    """

    def __init__(self, pool: tuple[int, int]) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, maps: Tensor) -> Tensor:
        over = [-size % step for size, step in zip(maps.shape[2:], self.pool, strict=True)]
        if any(over):
            maps = nn.functional.pad(maps, (0, over[1], 0, over[0]), mode="replicate")
        return nn.functional.avg_pool2d(maps, self.pool)


def _optimizer(network: nn.Module) -> torch.optim.Optimizer:
    kernels = [p for name, p in network.named_parameters() if "body" in name and p.dim() == 4]
    chosen = {id(kernel) for kernel in kernels}
    others = [p for p in network.parameters() if id(p) not in chosen]
    # Adam adds weight_decay x w to the gradient; that of L2 x w^2 is twice as much.
    groups: list[dict[str, Any]]
    groups = [{"params": kernels, "weight_decay": 2 * _L2}, {"params": others}]
    return torch.optim.Adam(groups, lr=1e-4)


def _focal_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy times (1 - p)^2 of the right class, (B,)."""
    surprise = nn.functional.cross_entropy(logits, truth, reduction="none")
    return (1 - torch.exp(-surprise)) ** _GAMMA * surprise


def _rate(epoch: int, epochs: int) -> float:
    """1 for a sixth of the epochs; falls from there on, at every fifteenth of all."""
    fifteenths = 15 * epoch // epochs
    return math.exp(-0.15 * max(0, fifteenths - 2))
