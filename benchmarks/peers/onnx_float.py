"""ONNX Runtime on the float32 form of the same model: what skipping int8 would cost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.peers import SECONDS, Contest
from conversion.bundle import build
from conversion.targets import target_named
from edge_runtime.bundle import AUDIO_ENCODER, HEAD, Bundle, load_bundle
from edge_runtime.graph import Graph
from training.run import Run


def contest(bundle: Bundle, run: Run) -> Contest:
    """Encoder over 7.5 s in the bundle's chunks, then the other graphs once; graphs alone."""
    manifest = bundle.manifest
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "float"
        build(run, folder, target_named(manifest.target), "float", form="float")
        floats = _open(load_bundle(folder))
    ours = _open(bundle)
    frames = manifest.mfcc.frame_count(round(SECONDS * manifest.mfcc.sample_rate))
    chunks = -(-frames // manifest.audio.chunk_frames) if manifest.audio else 0

    def runner(graphs: dict[str, Graph]) -> Callable[[], None]:
        rng = np.random.default_rng(0)
        inputs = {
            role: [s.quantize(rng.standard_normal(s.shape, np.float32)) for s in graph.inputs]
            for role, graph in graphs.items()
        }

        def run_once() -> None:
            for role, graph in graphs.items():
                for _ in range(chunks if role == AUDIO_ENCODER else 1):
                    graph(*inputs[role])

        return run_once

    return Contest(
        "graphs",
        f"int8, {ours[HEAD].engine}",
        "float32, ONNX Runtime",
        runner(ours),
        runner(floats),
    )


def _open(bundle: Bundle) -> dict[str, Graph]:
    return {role: bundle.open_graph(role) for role in bundle.manifest.graphs}
