"""Parts of the whole-window graph against exact arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from conversion.flatbuffer import GraphWriter
from conversion.whole.int8 import _Whole
from edge_runtime.graph import Graph
from training.network.config import ModelConfig
from training.network.model import MscnnSpu


@pytest.fixture
def whole() -> _Whole:
    return _Whole(MscnnSpu(ModelConfig(filters=4, hidden=(4,))))


@pytest.mark.parametrize("highest", [1.0, 0.6, 0.02])
def test_the_root_is_a_root_for_every_step(whole: _Whole, highest: float) -> None:
    whole.writer = GraphWriter()
    variance = whole.writer.input("variance", (1, 1, 1, 256), highest / 255, -128)
    tables, taps = whole._root(variance, highest)
    every = np.arange(256)
    steps = (every - 128).astype(np.int8).reshape(1, 1, 1, -1)
    (found,) = Graph(whole.writer.finish([tables]))(steps)
    root = taps @ found[0, 0] / 128
    difference = np.abs(root / np.sqrt(highest) - np.sqrt(every / 255))
    # Six int8 steps near zero, where one step of the variance is as much; three and a half beyond.
    assert difference[:8].max() < 6 / 255
    assert difference[8:].max() < 3.6 / 255


def test_masked_maps_are_the_maps_or_zero(whole: _Whole) -> None:
    whole.writer = writer = GraphWriter()
    maps = writer.input("maps", (1, 1, 2, 256), 1 / 255, -128)
    counted = writer.input("counted", (1, 1, 2, 1), 1 / 127, 0)
    graph = Graph(writer.finish([whole.masked(maps, counted)]))
    every = np.broadcast_to(np.arange(-128, 128).astype(np.int8), (1, 1, 2, 256)).copy()
    (found,) = graph(np.array([127, 0], np.int8).reshape(1, 1, 2, 1), every)
    np.testing.assert_array_equal(found[0, 0, 0], every[0, 0, 0])
    assert (found[0, 0, 1] == -128).all()
