"""TFLite files that are written or amended, against LiteRT's reader and interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils

from conversion.flatbuffer import GraphWriter, fuse_relus
from conversion.whole.int8 import write_whole
from edge_runtime.bundle import Bundle
from edge_runtime.graph import Graph
from edge_runtime.manifest import WHOLE
from training.run import DEFAULT_RUN, load

SCALE = 1 / 16


def dense_and_relu(readers: int) -> bytes:
    """A dense layer of 4 by 4 with a RELU behind it; a second RELU reads it where `readers` is 2.

    RELU keeps scale and zero point, as XNNPACK asks.
    """
    writer = GraphWriter()
    x = writer.input("x", (1, 4), SCALE, 0)
    weights = writer.constant(np.diag([64, -64, 32, 127]).astype(np.int8), SCALE / 4)
    bias = writer.constant(np.zeros(4, np.int32), SCALE * SCALE / 4)
    dense = writer.operation(
        "FULLY_CONNECTED", [x, weights, bias], (1, 4), SCALE, 0, "FullyConnectedOptions"
    )
    return writer.finish(
        [writer.operation("RELU", [dense], (1, 4), SCALE, 0) for _ in range(readers)]
    )


def names(content: bytes) -> list[str]:
    model = flatbuffer_utils.read_model_from_bytearray(content)
    return [
        flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
        for operator in model.subgraphs[0].operators
    ]


def test_a_relu_becomes_the_activation_of_its_layer_and_the_values_stay() -> None:
    before = dense_and_relu(1)
    after = fuse_relus(before)
    assert names(before) == ["FULLY_CONNECTED", "RELU"]
    assert names(after) == ["FULLY_CONNECTED"]
    x = np.array([[16, 16, -16, 5]], np.int8)
    (expected,), (found,) = Graph(before)(x), Graph(after)(x)
    np.testing.assert_array_equal(found, expected)
    assert expected.tolist() == [[16, 0, 0, 10]]  # 5 x 127 / 64, rounded


def test_a_layer_that_something_else_reads_keeps_its_values() -> None:
    before = dense_and_relu(2)
    assert names(fuse_relus(before)) == names(before)


@pytest.mark.parametrize("content", [dense_and_relu(1), fuse_relus(dense_and_relu(1))])
def test_files_say_what_they_are(content: bytes) -> None:
    assert content[4:8] == b"TFL3"


def test_the_whole_graph_is_written_again_to_the_byte(small: Bundle) -> None:
    assert write_whole(load(DEFAULT_RUN).model()) == small.contents[WHOLE]
