"""ONNX Runtime on the float32 form of the same model: what skipping int8 would cost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.peers import SECONDS, Contest
from conversion.export import export_onnx
from edge_runtime.bundle import AUDIO_ENCODER, HEAD, Bundle
from edge_runtime.graph import Graph
from training.run import Run


def contest(bundle: Bundle, run: Run) -> Contest:
    """Encoder over 7.5 s in the bundle's chunks, then the head; graphs alone."""
    with tempfile.TemporaryDirectory() as work:
        floats = {role: Graph(e.path) for role, e in export_onnx(run.model(), Path(work)).items()}
    ours = {role: bundle.open_graph(role) for role in (AUDIO_ENCODER, HEAD)}
    frames = bundle.manifest.mfcc.frame_count(round(SECONDS * bundle.manifest.mfcc.sample_rate))
    chunks = -(-frames // bundle.manifest.chunk_frames)

    def runner(graphs: dict[str, Graph]) -> Callable[[], None]:
        rng = np.random.default_rng(0)
        inputs = {}
        for role, graph in graphs.items():
            spec = graph.inputs[0]
            inputs[role] = spec.quantize(rng.standard_normal(spec.shape, np.float32))

        def run_once() -> None:
            for _ in range(chunks):
                graphs[AUDIO_ENCODER](inputs[AUDIO_ENCODER])
            graphs[HEAD](inputs[HEAD])

        return run_once

    return Contest(
        "graphs",
        f"int8, {ours[HEAD].engine}",
        "float32, ONNX Runtime",
        runner(ours),
        runner(floats),
    )
