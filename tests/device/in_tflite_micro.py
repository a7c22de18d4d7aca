"""Runs a graph in TensorFlow Lite for Microcontrollers' own interpreter; needs its wheel alone.

    python in_tflite_micro.py GRAPH.tflite INPUTS.npz OUTPUTS.npz

INPUTS has input_N, a row a run, and the number of outputs; OUTPUTS gets output_N, in the order of
the graph. What the interpreter allocated goes to standard error, in its own words.
"""

from __future__ import annotations

import sys

import numpy as np
from tflite_micro.python.tflite_micro import runtime

_ROOM = 1 << 20  # bytes, of which it says how many it used


def main(graph: str, inputs: str, outputs: str) -> None:
    """Run the graph over every row."""
    # Its own guess leaves no room for what BATCH_MATMUL transposes.
    interpreter = runtime.Interpreter.from_file(graph, arena_size=_ROOM)
    given = dict(np.load(inputs))
    count = int(given.pop("outputs"))
    found: dict[str, list[np.ndarray]] = {f"output_{index}": [] for index in range(count)}
    for run in range(len(given["input_0"])):
        for index in range(len(given)):
            interpreter.set_input(given[f"input_{index}"][run], index)
        interpreter.invoke()
        for index in range(count):
            found[f"output_{index}"].append(interpreter.get_output(index))
    np.savez(outputs, **{name: np.stack(rows) for name, rows in found.items()})
    interpreter.print_allocations()


if __name__ == "__main__":
    main(*sys.argv[1:])
