"""Some of a TFLite graph's tensors left out: those that stay get new numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def keep_tensors(graph: Any, kept: Iterable[int]) -> Callable[[int], int]:
    """Leave all tensors but `kept` out of a subgraph; its operators and its ends keep their sense.

    Returns a tensor's new number for its old one, for what else names tensors. Numbers of -1, an
    input that is not there, stay.
    """
    left = sorted(kept)
    place = {old: new for new, old in enumerate(left)} | {-1: -1}
    graph.tensors = [graph.tensors[old] for old in left]
    for part in (graph, *graph.operators):
        part.inputs = [place[int(number)] for number in part.inputs]
        part.outputs = [place[int(number)] for number in part.outputs]
    return place.__getitem__
