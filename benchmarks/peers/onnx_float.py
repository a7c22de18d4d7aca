"""ONNX Runtime on the float32 form of the same model: what skipping int8 would cost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.peers import SECONDS, Contest
from conversion.bundle import build
from conversion.targets import target_named
from edge_runtime.bundle import AUDIO_ENCODER, HEAD, WHOLE, Bundle, load_bundle
from edge_runtime.graph import Graph
from training.run import Run


def contests(bundle: Bundle, run: Run) -> list[Contest]:
    """The graphs alone, over 7.5 s.

    The streaming graphs: the encoder in the bundle's chunks, then the others once. The whole
    window: the one graph, where the bundle has it.
    """
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

    def versus(what: str, roles: list[str]) -> Contest:
        return Contest(
            what,
            f"int8, {ours[HEAD].engine}",
            "float32, ONNX Runtime",
            runner({role: ours[role] for role in roles}),
            runner({role: floats[role] for role in roles}),
        )

    found = [versus("graphs", [role for role in ours if role != WHOLE])]
    if WHOLE in ours:
        found.append(versus("whole window", [WHOLE]))
    return found


def _open(bundle: Bundle) -> dict[str, Graph]:
    return {role: bundle.open_graph(role) for role in bundle.manifest.graphs}
