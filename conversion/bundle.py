"""A training run becomes a bundle that a device accepts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from pathlib import Path

from conversion.card import model_card
from conversion.errors import ConversionError
from conversion.export import chunk_frames, export_onnx, to_tflite
from conversion.quantize import learned_ranges, quantize
from conversion.targets import Target
from edge_runtime import __version__
from edge_runtime.bundle import (
    MANIFEST,
    MODEL_CARD,
    Calibration,
    GraphSpec,
    Manifest,
    load_bundle,
    manifest_to_json,
)
from edge_runtime.graph import Graph
from training.run import Run

FLOAT_FOLDER = "float"
_TOOLS = ("torch", "onnx", "onnx2tf", "ai-edge-quantizer", "ai-edge-litert", "numpy")


def build(run: Run, out: Path, target: Target, name: str, keep_float: Path | None = None) -> None:
    """Convert `run` for `target` into the bundle directory `out`, replacing a bundle there.

    With `keep_float`, the float ONNX graphs are left in that folder.
    Raises ConversionError when a step fails or its numbers leave the bounds, or when `out` holds
    something else than a bundle.
    """
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST).exists():
        raise ConversionError(f"{out} is not empty and holds no bundle; choose another --out")
    if run.config.variant != "audio":
        raise ConversionError(f"variant {run.config.variant} cannot be converted yet, only audio")
    model = run.model()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        graphs: dict[str, GraphSpec] = {}
        files: dict[str, Path] = {}
        for role, exported in export_onnx(model, work / "onnx").items():
            float_path = to_tflite(exported, work / FLOAT_FOLDER)
            int8_path = work / f"{role}.tflite"
            quantize(float_path, learned_ranges(model, exported.path, role), int8_path)
            target.check(int8_path)
            graphs[role] = _describe(int8_path)
            files[role] = int8_path
        if keep_float:
            keep_float.mkdir(parents=True, exist_ok=True)
            for path in (work / "onnx").glob("*.onnx"):
                shutil.copy(path, keep_float)
        pooled_mean, pooled_std = model.pooled_statistics()
        manifest = Manifest(
            name=name,
            variant="audio",
            labels=run.config.labels,
            target=target.name,
            mfcc=run.features.mfcc,
            segment=run.features.segment,
            audio_kernels=run.config.audio_kernels,
            filters=run.config.filters,
            stride=run.config.audio_stride,
            chunk_frames=chunk_frames(run.config.audio_stride),
            context_frames=run.config.audio_context,
            feature_mean=model.feature_mean.numpy(),
            feature_std=model.feature_std.numpy(),
            pooled_mean=pooled_mean.numpy(),
            pooled_std=pooled_std.numpy(),
            calibration=Calibration(run.temperature, run.threshold),
            graphs=graphs,
            metrics=run.metrics,
            training=run.training,
            versions={
                "edge-emotion": __version__,
                **{tool: importlib.metadata.version(tool) for tool in _TOOLS},
            },
        )
        out.mkdir(parents=True, exist_ok=True)
        for old in out.iterdir():
            if old.is_file():
                old.unlink()
        for path in files.values():
            shutil.copy(path, out)
        (out / MANIFEST).write_text(manifest_to_json(manifest))
        (out / MODEL_CARD).write_text(model_card(manifest))
    _verify(out)


def _describe(path: Path) -> GraphSpec:
    graph = Graph(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return GraphSpec(path.name, digest, graph.inputs, graph.outputs)


def _verify(out: Path) -> None:
    """The device must accept what was written."""
    bundle = load_bundle(out)
    for role in bundle.manifest.graphs:
        bundle.open_graph(role)
