"""The int8 rate that this CPU reaches at best, and what the audio encoder makes of it.

Runs on a device: nothing here needs PyTorch or a converter.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.errors import BenchmarkError
from conversion.flatbuffer import GraphWriter
from conversion.inspect import inspect_graph
from edge_runtime.bundle import Bundle
from edge_runtime.graph import Graph
from edge_runtime.int8 import INTERVALS
from edge_runtime.manifest import AUDIO_ENCODER

_CHANNELS, _PIXELS = 512, 512  # 134 million MACs: milliseconds, in which a call's cost is lost
_RANGE = 8 / INTERVALS  # scale of activations from -4 to 4
_RUNS, _WARM_UP = 30, 5


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
    """Time both in turn.

    Raises BenchmarkError, which says why, for a bundle without an int8 audio encoder and where
    LiteRT is not installed; ConversionError where LiteRT refuses a graph.
    """
    spec = bundle.manifest.graphs.get(AUDIO_ENCODER)
    if spec is None or any(tensor.dtype != "int8" for tensor in spec.inputs):
        raise BenchmarkError(f"bundle {bundle.manifest.name} has no int8 audio encoder")
    encoder = bundle.contents[AUDIO_ENCODER]
    try:
        large = _large_convolution()
        macs = {
            "limit": inspect_graph("limit", large).macs,
            "encoder": inspect_graph("encoder", encoder).macs,
        }
    except ModuleNotFoundError as error:
        raise BenchmarkError(f"{error.name} is not installed: pip install ai-edge-litert") from None
    graphs = {"limit": Graph(large), "encoder": Graph(encoder)}
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


def _large_convolution() -> bytes:
    """An int8 TFLite graph of one 1 x 1 convolution, as the converters write the encoder's."""
    writer, rng = GraphWriter(), np.random.default_rng(0)
    shape = (1, 1, _PIXELS, _CHANNELS)
    frames = writer.input("frames", shape, _RANGE, 0)
    # As many scales as filters, as weights have; their values do not change the time.
    scales = np.full(_CHANNELS, _CHANNELS**-0.5 / 127)
    weights = rng.integers(-127, 128, (_CHANNELS, 1, 1, _CHANNELS)).astype(np.int8)
    maps = writer.operation(
        "CONV_2D",
        [
            frames,
            writer.constant(weights, scales),
            writer.constant(np.zeros(_CHANNELS, np.int32), scales * _RANGE),
        ],
        shape,
        _RANGE,
        0,
        options="Conv2DOptions",
        name="maps",
        strideW=1,
        strideH=1,
        dilationWFactor=1,
        dilationHFactor=1,
    )
    return writer.finish([maps])
