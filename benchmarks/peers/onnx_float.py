"""ONNX Runtime on the float32 form of the same model: what skipping int8 would cost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.contest import Contest
from benchmarks.errors import BenchmarkError
from benchmarks.peers import SECONDS
from conversion.bundle import build
from conversion.export import export_part
from conversion.targets import bundle_target
from conversion.whole.float import whole_part
from conversion.whole.int8 import write_whole
from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.graph import Graph
from edge_runtime.manifest import AUDIO, AUDIO_ENCODER, HEAD, PRETRAINED, WHOLE
from training.network.model import MscnnSpu
from training.run import Run

AUDIO_ALONE = "whole window, audio alone"


def contests(bundle: Bundle, run: Run) -> list[Contest]:
    """The graphs alone, over 7.5 s.

    The streaming graphs: the encoder in the bundle's chunks, then the others once. The whole
    window: the one graph, where the bundle has it, or has a pre-trained encoder in its place; and
    where that hears and reads, what is left of it without words. That encoder, over one window.
    """
    manifest = bundle.manifest
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "float"
        build(run, folder, bundle_target(manifest.target), "float", form="float")
        floats = _open(load_bundle(folder))
        ours = _open(bundle)
        if PRETRAINED in ours:
            network = run.pretrained[_tier(bundle, run)].network()
            target = bundle_target(manifest.target)
            floats[PRETRAINED] = Graph(target.encoder(network, Path(work), "float"))
            ours[WHOLE] = Graph(write_whole(run.model()))
        mixed = WHOLE in ours and manifest.audio is not None and run.config.variant != AUDIO
        if mixed:
            model = audio_alone(run).model()
            ours[AUDIO_ALONE] = Graph(write_whole(model))
            floats[AUDIO_ALONE] = Graph(export_part(WHOLE, whole_part(model), Path(work)).path)
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

    others = (WHOLE, AUDIO_ALONE, PRETRAINED)
    found = [versus("graphs", [role for role in ours if role not in others])]
    if WHOLE in ours:
        alone = run.config.variant == AUDIO
        found.append(versus(AUDIO_ALONE if alone else "whole window", [WHOLE]))
    if mixed:
        found.append(versus(AUDIO_ALONE, [AUDIO_ALONE]))
    if PRETRAINED in ours:
        found.append(versus("pre-trained encoder", [PRETRAINED]))
    return found


def _tier(bundle: Bundle, run: Run) -> str:
    """The tier of `run` that `bundle` is, which has a pre-trained encoder. BenchmarkError."""
    arrays = bundle.pretrained()
    for tier, joined in run.pretrained.items():
        if arrays and np.array_equal(joined.arrays.weights, arrays.weights):
            return tier
    raise BenchmarkError(f"bundle {bundle.source} was not built from the run: no tier of it is so")


def audio_alone(run: Run) -> Run:
    """The run as if its model had the audio branch alone: what it says of audio without words.

    What is missing is zero before the head, so the audio's columns of the head are all it takes.
    """
    config = replace(run.config, variant=AUDIO)
    # The audio branch comes first in whatever is as wide as all branches together.
    weights = {
        name: run.weights[name][..., : like.shape[-1]] if like.dim() else run.weights[name]
        for name, like in MscnnSpu(config).state_dict().items()
    }
    return replace(run, config=config, weights=weights, float_weights={}, vocabulary=[])


def _open(bundle: Bundle) -> dict[str, Graph]:
    return {role: bundle.open_graph(role) for role in bundle.manifest.graphs}
