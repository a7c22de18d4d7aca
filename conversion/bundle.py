"""A training run becomes a bundle that a device accepts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from conversion.card import model_card
from conversion.errors import ConversionError
from conversion.export import chunk_frames, export_onnx, export_part, to_tflite
from conversion.quantize import learned_ranges, quantize
from conversion.targets import Target
from conversion.whole.float import whole_part
from conversion.whole.int8 import write_whole
from edge_runtime import __version__
from edge_runtime.bundle import MODEL_CARD, load_bundle
from edge_runtime.embedding import EmbeddingTable
from edge_runtime.graph import Graph, TensorSpec
from edge_runtime.manifest import (
    EMBEDDINGS,
    KEYWORDS,
    MANIFEST,
    TEXT_ENCODER,
    VOCABULARY,
    WHOLE,
    AttentionPart,
    AudioPart,
    Calibration,
    FileSpec,
    GraphSpec,
    Manifest,
    TextPart,
    manifest_to_json,
)
from edge_runtime.tokenizer import FIRST_WORD
from training.network.model import MscnnSpu
from training.run import Run
from training.words.embeddings import table_in_range

FORMS = ("int8", "float")
WHOLE_BYTES = 6_000_000  # what a device shall read at most
_TOOLS = ("torch", "onnx", "onnx2tf", "ai-edge-quantizer", "ai-edge-litert", "numpy")


def build(
    run: Run,
    out: Path,
    target: Target,
    name: str,
    form: str = "int8",
    keywords: Path | None = None,
    whole: bool | None = None,
) -> None:
    """Convert `run` for `target` into the bundle directory `out`, replacing a bundle there.

    With `form` "float" the bundle holds float32 ONNX graphs and a float32 embedding table, with
    the quantization-aware weights unrounded: for other runtimes, and to compare with. `keywords`
    is a list of phrases for the device to spot. `whole` adds the whole model as one graph over a
    window of fixed length; by default where the int8 bundle stays within `WHOLE_BYTES` with it.
    Raises ConversionError when a step fails or its numbers leave the bounds, or when `out` holds
    something else than a bundle.
    """
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST).exists():
        raise ConversionError(f"{out} is not empty and holds no bundle; choose another --out")
    model = run.model()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        files = _float_graphs(model, work) if form == "float" else _int8_graphs(model, work, target)
        if whole is not False and form == "float":
            files[WHOLE] = export_part(WHOLE, whole_part(model), work).path
        elif whole is not False:
            content = write_whole(model)
            if whole or _fits(files, len(content), run):
                files[WHOLE] = work / f"{WHOLE}.tflite"
                files[WHOLE].write_bytes(content)
                target.check(files[WHOLE])
        graphs = {role: _describe(path) for role, path in files.items()}
        text = None
        if run.config.parts.text:
            table = _embeddings(run, model, form)
            text, others = _text_part(run, table, graphs[TEXT_ENCODER].inputs[0], work)
            files |= others
            if keywords:
                files[KEYWORDS] = _copied(keywords, work)
                text = replace(text, keywords=_file_spec(files[KEYWORDS]))
        manifest = _manifest(run, model, name, target, graphs, text)
        out.mkdir(parents=True, exist_ok=True)
        for old in out.iterdir():
            if old.is_file():
                old.unlink()
        for path in files.values():
            shutil.copy(path, out)
        (out / MANIFEST).write_text(manifest_to_json(manifest))
        (out / MODEL_CARD).write_text(model_card(manifest))
    _verify(out)


def _fits(graphs: dict[str, Path], whole: int, run: Run) -> bool:
    """Whether the streaming graphs, the whole one and the words stay within `WHOLE_BYTES`."""
    words = sum(len(word.encode()) + 1 + run.config.embedding for word in run.vocabulary)
    return whole + words + sum(path.stat().st_size for path in graphs.values()) <= WHOLE_BYTES


def _float_graphs(model: MscnnSpu, work: Path) -> dict[str, Path]:
    return {role: exported.path for role, exported in export_onnx(model, work).items()}


def _int8_graphs(model: MscnnSpu, work: Path, target: Target) -> dict[str, Path]:
    paths = {}
    for role, exported in export_onnx(model, work / "onnx").items():
        float_path = to_tflite(exported, work / "float")
        paths[role] = work / f"{role}.tflite"
        quantize(float_path, learned_ranges(model, exported.path, role), paths[role])
        target.check(paths[role])
    return paths


def _embeddings(run: Run, model: MscnnSpu, form: str) -> EmbeddingTable:
    weight = model.embedding.weight.detach().numpy()
    if len(run.vocabulary) + FIRST_WORD != len(weight):
        raise ConversionError(
            f"the run's vocabulary has {len(run.vocabulary)} words, its table {len(weight)} rows"
        )
    if form == "float":
        return EmbeddingTable(weight, np.asarray(1.0, np.float32))
    return table_in_range(weight, *model.text_input.range())


def _text_part(
    run: Run, table: EmbeddingTable, rows: TensorSpec, work: Path
) -> tuple[TextPart, dict[str, Path]]:
    """Vocabulary and table as files of a bundle; `rows` is what the encoder takes."""
    if table.zero_point != rows.zero_point:
        raise ConversionError(
            f"the embedding table has zero point {table.zero_point}, the encoder {rows.zero_point}"
        )
    files = {VOCABULARY: work / "vocabulary.txt", EMBEDDINGS: work / "embeddings.npy"}
    words = "".join(f"{word}\n" for word in run.vocabulary)
    files[VOCABULARY].write_text(words, encoding="utf-8")
    np.save(files[EMBEDDINGS], table.values)
    config = run.config
    part = TextPart(
        kernels=config.text_kernels,
        tokens=config.tokens,
        punctuation=config.punctuation,
        swem=config.parts.swem,
        width=config.embedding,
        scale=rows.scale,  # the table's own, but for the last bit of a float32
        zero_point=table.zero_point,
        vocabulary=_file_spec(files[VOCABULARY]),
        embeddings=_file_spec(files[EMBEDDINGS]),
    )
    return part, files


def _manifest(
    run: Run,
    model: MscnnSpu,
    name: str,
    target: Target,
    graphs: dict[str, GraphSpec],
    text: TextPart | None,
) -> Manifest:
    config = run.config
    pooled_mean, pooled_std = model.pooled_statistics()
    audio = attention = None
    if config.parts.audio:
        audio = AudioPart(
            kernels=config.audio_kernels,
            stride=config.audio_stride,
            chunk_frames=chunk_frames(config.audio_stride),
            context_frames=config.audio_context,
            feature_mean=model.feature_mean.numpy(),
            feature_std=model.feature_std.numpy(),
        )
    if config.parts.att:
        attention = AttentionPart(model.attention.scale, config.attention_pairs)
    manifest = Manifest(
        name=name,
        variant=config.variant,
        labels=config.labels,
        target=target.name,
        mfcc=run.features.mfcc,
        segment=run.features.segment,
        filters=config.filters,
        audio=audio,
        text=text,
        attention=attention,
        speaker=config.speaker if config.parts.speaker else 0,
        pooled_mean=pooled_mean.numpy(),
        pooled_std=pooled_std.numpy(),
        calibration={},
        graphs=graphs,
        metrics=run.metrics,
        training=run.training,
        versions={
            "edge-emotion": __version__,
            **{tool: importlib.metadata.version(tool) for tool in _TOOLS},
        },
    )
    fallback = Calibration(1.0, 0.0)
    calibration = {m: run.calibration.get(m, fallback) for m in manifest.modalities}
    return replace(manifest, calibration=calibration)


def _copied(keywords: Path, work: Path) -> Path:
    """The list under the name it has in a bundle, once the device's own code has read it."""
    from edge_runtime.text.phrases import read_keywords

    read_keywords(keywords)
    return Path(shutil.copy(keywords, work / "keywords.txt"))


def _describe(path: Path) -> GraphSpec:
    graph, file = Graph(path), _file_spec(path)
    return GraphSpec(file.file, file.sha256, graph.inputs, graph.outputs)


def _file_spec(path: Path) -> FileSpec:
    return FileSpec(path.name, hashlib.sha256(path.read_bytes()).hexdigest())


def _verify(out: Path) -> None:
    """The device must accept what was written."""
    bundle = load_bundle(out)
    for role in bundle.manifest.graphs:
        bundle.open_graph(role)
