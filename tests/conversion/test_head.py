"""The head's first layer in parts: the same integers, in fewer bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from conversion import head as module
from conversion.c99.head import head_of_sound
from conversion.errors import ConversionError
from conversion.flatbuffer import GraphWriter
from conversion.head import Layer, patterns, read_dense, split_head, whole_head
from edge_runtime.bundle import Bundle
from edge_runtime.graph import Graph
from edge_runtime.manifest import HEAD

RNG = np.random.default_rng(7)
BRANCHES = (6, 5, 9)
RELU = 1


def layer(weights: npt.NDArray[np.int8], name: str, activation: int = 0) -> Layer:
    outputs = len(weights)
    scales = RNG.uniform(0.001, 0.01, outputs).astype(np.float32)
    bias = RNG.integers(-500, 500, outputs).astype(np.int32)
    return Layer(weights, scales, bias, activation, name, 0.03, -20)


def graph_of(*layers: Layer) -> bytes:
    graph = module.DenseGraph("pooled", 0.05, 3, layers)
    writer = module._Writer(graph)
    tensor = writer.source
    for each in layers:
        tensor = writer.dense(tensor, each, each.name)
    return writer.writer.finish([tensor])


def first(*reads: tuple[bool, ...]) -> npt.NDArray[np.int8]:
    """Weights of as many outputs, each of which reads some of the branches."""
    weights = RNG.integers(1, 127, (len(reads), sum(BRANCHES))).astype(np.int8)
    for row, kind in zip(weights, reads, strict=True):
        row[~np.repeat(kind, BRANCHES)] = 0
    return weights


def agree(one: bytes, other: bytes, runs: int = 50) -> None:
    graphs = [Graph(content, "tflite") for content in (one, other)]
    assert graphs[0].inputs == graphs[1].inputs
    assert graphs[0].outputs == graphs[1].outputs
    for _ in range(runs):
        values = RNG.integers(-128, 128, graphs[0].inputs[0].shape).astype(np.int8)
        np.testing.assert_array_equal(graphs[0](values)[0], graphs[1](values)[0])


def test_the_head_that_ships_is_split_and_says_the_same(bundle: Bundle) -> None:
    content, branches = bundle.contents[HEAD], list(bundle.manifest.branches.values())
    whole = whole_head(content)
    assert len(content) < len(whole) / 2
    agree(content, whole)
    assert split_head(whole, branches) == split_head(content, branches)
    parts, together = (read_dense(each).layers[0].weights for each in (content, whole))
    np.testing.assert_array_equal(parts, together)


def test_outputs_that_read_alike_need_not_lie_together() -> None:
    hears, reads, both = (True, False, False), (False, True, True), (True, True, True)
    nothing = (False, False, False)
    weights = first(both, hears, reads, hears, nothing, both, reads)
    found = patterns(weights, BRANCHES)
    assert {kind: places.tolist() for kind, places in found.items()} == {
        both: [0, 4, 5],
        hears: [1, 3],
        reads: [2, 6],
    }
    last = layer(RNG.integers(-127, 128, (3, 7)).astype(np.int8), "logits")
    content = graph_of(layer(weights, "hidden", RELU), last)
    split = split_head(content, BRANCHES)
    assert split != content
    agree(content, split)
    again = read_dense(split)
    order = [0, 4, 5, 1, 3, 2, 6]
    np.testing.assert_array_equal(again.layers[0].weights, weights[order])
    np.testing.assert_array_equal(again.layers[1].weights, last.weights[:, order])
    agree(content, whole_head(split))


def test_what_has_no_parts_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    every = layer(first(*[(True, True, True)] * 4), "hidden", RELU)
    last = layer(RNG.integers(-127, 128, (3, 4)).astype(np.int8), "logits")
    content = graph_of(every, last)
    assert split_head(content, BRANCHES) == content
    # A layer that gives the classes has nobody behind it to put them in order.
    alone = graph_of(layer(first((True, False, False), (False, True, True)), "logits"))
    assert split_head(alone, BRANCHES) == alone
    mixed = dataclasses.replace(
        every, weights=first(*[(True, False, False), (False, True, True)] * 2)
    )
    assert split_head(graph_of(mixed, last), BRANCHES) != graph_of(mixed, last)
    monkeypatch.setattr(module, "MOST_PARTS", 1)
    assert split_head(graph_of(mixed, last), BRANCHES) == graph_of(mixed, last)


def without_delegate(content: bytes, values: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """What TensorFlow Lite's own kernels make of them, which round as a microcontroller's."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    found = []
    for row in values:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.stack(found)


def test_who_hears_alone_needs_nothing_of_what_reads(bundle: Bundle) -> None:
    content, width = bundle.contents[HEAD], bundle.manifest.branches["audio"]
    alone = head_of_sound(content, width)
    before, after = (read_dense(each).layers[0].weights for each in (content, alone))
    reads = np.abs(before[:, :width]).max(axis=1) > 0
    assert 0 < reads.sum() < len(before)
    assert after.shape == (reads.sum(), width)
    (spec,) = Graph(content, "tflite").inputs
    values = np.full((200, *spec.shape[1:]), spec.zero_point, np.int8)
    values[:, :width] = RNG.integers(-128, 128, (200, width))
    np.testing.assert_array_equal(
        without_delegate(alone, values[:, :width]), without_delegate(content, values)
    )
    # What reads words is not always still without any: a bias that counts.
    hidden = layer(
        first((True, False, False), (False, True, True), (False, True, False)), "h", RELU
    )
    hidden = dataclasses.replace(hidden, bias=np.array([900, 30_000, -5], np.int32), zero=-128)
    logits = layer(RNG.integers(-127, 128, (3, 3)).astype(np.int8), "logits")
    content = graph_of(hidden, logits)
    values = np.full((50, sum(BRANCHES)), 3, np.int8)
    values[:, : BRANCHES[0]] = RNG.integers(-128, 128, (50, BRANCHES[0]))
    kept = head_of_sound(content, BRANCHES[0])
    assert (read_dense(kept).layers[1].bias != logits.bias).any()
    np.testing.assert_array_equal(
        without_delegate(kept, values[:, : BRANCHES[0]]), without_delegate(content, values)
    )


def test_a_head_of_one_layer_keeps_what_is_constant() -> None:
    content = graph_of(layer(first((True, False, False), (False, True, True)), "logits"))
    values = np.full((50, sum(BRANCHES)), 3, np.int8)
    values[:, : BRANCHES[0]] = RNG.integers(-128, 128, (50, BRANCHES[0]))
    np.testing.assert_array_equal(
        without_delegate(head_of_sound(content, BRANCHES[0]), values[:, : BRANCHES[0]]),
        without_delegate(content, values),
    )


def test_a_graph_of_something_else_is_refused() -> None:
    writer = GraphWriter()
    source = writer.input("x", (1, 4), 0.1, 0)
    content = writer.finish([writer.operation("TANH", [source], (1, 4), 1 / 128, 0, name="bent")])
    with pytest.raises(ConversionError, match="the head has TANH at 'bent', no dense layer"):
        split_head(content, (4,))
