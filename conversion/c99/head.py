"""The head for who hears alone: without what reads words, the same scores to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from conversion.c99.program import quantized_multiplier
from conversion.head import Layer, read_dense, write_dense
from edge_runtime.int8 import INT8_MAX, INT8_MIN


def head_of_sound(content: bytes, width: int) -> bytes:
    """The head of these bytes, over the first `width` values of its input alone, as a TFLite file.

    Without words those behind are at the zero point, and add nothing
    (`edge_runtime.model.fusion`). Outputs of the first layer that read nothing else are constants
    then: they are left out, and what they add to the next layer is in its bias. Raises
    ConversionError for a graph of something else than dense layers.
    """
    graph = read_dense(content)
    first, *others = graph.layers
    reads = np.abs(first.weights[:, :width]).max(axis=1) > 0
    if not others:
        reads[:] = True
    kept, constant = np.flatnonzero(reads), np.flatnonzero(~reads)
    layers = [first.part(kept, np.arange(width)), *others]
    if constant.size:
        behind = others[0]
        values = np.array([_alone(first, output, graph.scale) for output in constant.tolist()])
        added = behind.weights[:, constant].astype(np.int64) @ (values - first.zero)
        behind = behind.part(np.arange(len(behind.weights)), kept)
        layers[1] = replace(behind, bias=(behind.bias + added).astype(np.int32))
    return write_dense(replace(graph, layers=tuple(layers)))


def _alone(layer: Layer, output: int, scale: float) -> int:
    """What an output of a layer is by its bias alone; `scale` is of the layer's input."""
    real = scale * float(layer.scales[output]) / float(np.float32(layer.scale))
    value = layer.zero + rescaled(int(layer.bias[output]), *quantized_multiplier(real))
    return int(np.clip(value, layer.zero if layer.activation else INT8_MIN, INT8_MAX))


def rescaled(value: int, multiplier: int, shift: int) -> int:
    """A sum in steps of the target, as `sources/edge_emotion_layers.c` rounds it: twice.

    TensorFlow Lite's MultiplyByQuantizedMultiplier.
    """
    product = (value << max(shift, 0)) * multiplier
    nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    high = abs(nudged) >> 31  # which C rounds to zero
    high = high if nudged >= 0 else -high
    right = max(-shift, 0)
    mask = (1 << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))
