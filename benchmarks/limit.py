"""The int8 rate that this CPU reaches at best, and what the audio encoder makes of it."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conversion.export import Exported, to_tflite
from conversion.inspect import inspect_graph
from conversion.quantize import quantize
from edge_runtime.bundle import Bundle
from edge_runtime.graph import Graph
from edge_runtime.manifest import AUDIO_ENCODER

_CHANNELS, _PIXELS = 512, 512  # 134 million MACs: milliseconds, in which a call's cost is lost
_RUNS, _WARM_UP = 30, 5
_OPSET = 17


@dataclass(frozen=True)
class MacRate:
    """Multiplications with addition a second, one thread, through the same delegate."""

    limit_gmacs: float
    """Of a large 1 x 1 int8 convolution, the product that the delegate does best, 10^9 / s."""
    encoder_gmacs: float
    """Of the bundle's audio encoder, 10^9 / s."""

    @property
    def share(self) -> float:
        """Part of the limit that the encoder reaches, 0 to 1."""
        return self.encoder_gmacs / self.limit_gmacs

    def to_dict(self) -> dict[str, Any]:
        """The fields, and the share."""
        return {**asdict(self), "share": round(self.share, 4)}

    def line(self) -> str:
        """One line for a terminal."""
        return (
            f"int8 products: audio encoder {self.encoder_gmacs:.0f} GMAC/s, "
            f"{100 * self.share:.0f} % of the {self.limit_gmacs:.0f} GMAC/s that a large 1 x 1 "
            "convolution reaches here, one thread"
        )


def measure_rate(bundle: Bundle) -> MacRate:
    """Time both in turn. Raises ConversionError when the convolution cannot be converted."""
    encoder = bundle.contents[AUDIO_ENCODER]
    with tempfile.TemporaryDirectory() as work:
        large = _large_convolution(Path(work)).read_bytes()
    graphs = {"limit": Graph(large), "encoder": Graph(encoder)}
    macs = {
        "limit": inspect_graph("limit", large).macs,
        "encoder": inspect_graph("encoder", encoder).macs,
    }
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.integers(-128, 128, graph.inputs[0].shape).astype(np.int8)
        for name, graph in graphs.items()
    }
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for index in range(_WARM_UP + _RUNS):
        for name, graph in graphs.items():
            begin = perf_counter()
            graph(inputs[name])
            if index >= _WARM_UP:
                times[name].append(perf_counter() - begin)
    rates = {name: macs[name] / statistics.median(times[name]) / 1e9 for name in graphs}
    return MacRate(round(rates["limit"], 1), round(rates["encoder"], 1))


class _Pointwise(nn.Module):
    """A product of two large matrices, laid out as the encoder's convolutions are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(_CHANNELS, _CHANNELS, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """(1, 1, pixels, channels) -> the same shape."""
        maps: Tensor = self.conv(frames.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return maps


def _large_convolution(folder: Path) -> Path:
    """An int8 TFLite graph of one 1 x 1 convolution, made as the bundle's own graphs are."""
    torch.manual_seed(0)
    convolution = _Pointwise().eval()
    example = torch.randn(1, 1, _PIXELS, _CHANNELS)
    path = folder / "large.onnx"
    with torch.no_grad():
        expected = convolution(example)
        torch.onnx.export(
            convolution,
            (example,),
            str(path),
            input_names=["frames"],
            output_names=["maps"],
            opset_version=_OPSET,
            dynamo=False,
        )
    exported = Exported(path, [example.numpy()], [expected.numpy()])
    tflite = to_tflite(exported, folder)
    graph = Graph(tflite)
    names = [spec.name for spec in (*graph.inputs, *graph.outputs)]
    out = folder / "large_int8.tflite"
    quantize(tflite, dict.fromkeys(names, (-4.0, 4.0)), out)
    return out
