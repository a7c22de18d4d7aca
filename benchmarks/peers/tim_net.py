"""TIM-Net: dilated convolutions over MFCC, forwards and backwards, at eight time scales.

Ye, Wen, Wei, Xu, Liu, Shan, ICASSP 2023, arXiv 2211.08233. Written anew after the paper's
description and the settings that its authors publish (github.com/Jiaxin-Ye/TIM-Net_SER).

Input, as published: 39 MFCC at 22,050 Hz by librosa's defaults, which are a window of 93 ms (Hann)
every 23 ms, though the authors write of 50 and 12.5 ms (Hamming); clips of one length, cut or
padded with silence on both sides. Theirs is about that of the longest clip of a corpus; ours is the
one for RAVDESS, 110,000 samples or 5.0 s, for all corpora: 215 frames.

Network, as published: a convolution of 1 in each direction, then eight blocks, each of two causal
convolutions of 2 with 39 filters, dilated by 1 to 128 frames, batch normalization, ReLU and dropout
0.1 of whole filters, and a sigmoid that the block's input is multiplied by; each pair of blocks is
added and averaged over time, and the eight averages are weighted by learned numbers. About 0.1
million weights, 0.40 MB.

Training, as published: Adam at 0.001 with betas 0.93 and 0.98, batches of 64, label smoothing 0.1.
Ours: 1000 updates, where theirs are 500 epochs, on EMO-DB 4000 updates.

The published 95.7 % on EMO-DB and 92.1 % on RAVDESS (WA) are of ten random folds, which have the
same speakers on both sides, and of the epoch that is best on the test side. Without that choice the
authors later give 90.3 and 90.1 %, of random folds still.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers.network import NetworkPeer, Recipe, keras_layers
from edge_runtime.pcm import SAMPLE_RATE, Float32, Int16

_RATE = 22_050
_SAMPLES = 110_000  # at that rate
SECONDS = _SAMPLES / _RATE
_FULL_SCALE = 32768  # of int16

_WIDTH = 39  # cepstra and filters
_DILATIONS = tuple(2**power for power in range(8))
_DROPOUT = 0.1
_SMOOTHING = 0.1


def peers() -> list[NetworkPeer]:
    """The one."""
    return [
        NetworkPeer(
            "tim-net",
            "TIM-Net",
            "librosa",
            "pip install 'edge-emotion[speaker]'",
            features,
            1,
            TimNet,
            Recipe(64, 1000, 500, _optimizer, _loss, _rate),
            SECONDS,
        )
    ]


def features(samples: Int16) -> Float32:
    """MFCC of the middle 5 s of a clip, int16, 16 kHz, (n,): float32 (215, 39)."""
    import librosa

    signal = samples.astype(np.float32) / _FULL_SCALE
    signal = librosa.resample(signal, orig_sr=SAMPLE_RATE, target_sr=_RATE)
    spare = max(0, len(signal) - _SAMPLES)
    signal = signal[spare // 2 : spare // 2 + _SAMPLES]
    missing = _SAMPLES - len(signal)
    signal = np.pad(signal, (missing // 2, missing - missing // 2))
    return np.ascontiguousarray(librosa.feature.mfcc(y=signal, sr=_RATE, n_mfcc=_WIDTH).T)


class TimNet(nn.Module):
    """The network, of so many classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Conv1d(_WIDTH, _WIDTH, 1) for _ in range(2))
        self.blocks = nn.ModuleList(
            nn.ModuleList(_Block(dilation) for _ in range(2)) for dilation in _DILATIONS
        )
        self.scales = nn.Linear(len(_DILATIONS), 1, bias=False)
        self.head = nn.Linear(_WIDTH, classes)
        keras_layers(self)
        nn.init.uniform_(self.scales.weight, -0.05, 0.05)

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """MFCC (B, T, 39) -> logits (B, classes); all frames are heard, the silent ones, too."""
        cepstra = frames.transpose(1, 2)  # (B, 39, T)
        forwards, backwards = self.first[0](cepstra), self.first[1](cepstra.flip(2))
        averages = []
        for pair in self.blocks:
            forwards, backwards = pair[0](forwards), pair[1](backwards)  # type: ignore[index]
            averages.append((forwards + backwards).mean(dim=2))
        fused = self.scales(torch.stack(averages, dim=2)).squeeze(2)  # (B, 39)
        logits: Tensor = self.head(fused)
        return logits


class _Block(nn.Module):
    """What it is given (B, 39, T), times what two causal convolutions make of it."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(layer for _ in range(2) for layer in self._layers(dilation)))

    @staticmethod
    def _layers(dilation: int) -> list[nn.Module]:
        return [
            nn.ConstantPad1d((dilation, 0), 0.0),
            nn.Conv1d(_WIDTH, _WIDTH, 2, dilation=dilation),
            nn.BatchNorm1d(_WIDTH),
            nn.ReLU(),
            nn.Dropout1d(_DROPOUT),
        ]

    def forward(self, maps: Tensor) -> Tensor:
        gated: Tensor = maps * torch.sigmoid(self.layers(maps))
        return gated


def _optimizer(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=0.001, betas=(0.93, 0.98), eps=1e-8)


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, truth, reduction="none", label_smoothing=_SMOOTHING)


def _rate(epoch: int, epochs: int) -> float:
    return 1.0
