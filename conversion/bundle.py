"""A training run becomes a bundle that a device accepts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from conversion.card import model_card
from conversion.errors import ConversionError
from conversion.export import chunk_frames, export_onnx, export_part, to_tflite
from conversion.pretrained import export_encoder, write_encoder
from conversion.quantize import learned_ranges, quantize
from conversion.targets import Target
from conversion.whole.float import whole_part
from conversion.whole.int8 import write_whole
from edge_runtime import EmotionStream, __version__
from edge_runtime.bench import speechlike_noise
from edge_runtime.bundle import MODEL_CARD, PRETRAINED_ARRAYS, load_bundle
from edge_runtime.embedding import EmbeddingTable
from edge_runtime.errors import EdgeError
from edge_runtime.graph import Graph, TensorSpec
from edge_runtime.manifest import (
    EMBEDDINGS,
    KEYWORDS,
    MANIFEST,
    PRETRAINED,
    REFERENCE,
    TEXT_ENCODER,
    VOCABULARY,
    WHOLE,
    AttentionPart,
    AudioPart,
    Calibration,
    FileSpec,
    GraphSpec,
    Manifest,
    PretrainedPart,
    ReferencePart,
    TextPart,
    manifest_to_json,
)
from edge_runtime.mfcc import mfcc
from edge_runtime.model.window import WholeWindow
from edge_runtime.stream import classify
from edge_runtime.tokenizer import FIRST_WORD
from training.network.model import MscnnSpu
from training.output import at_once
from training.run import PRETRAINED_FILE, REFERENCE_FILE, Run
from training.words.embeddings import table_in_range

FORMS = ("int8", "float")
GRAPH_BYTES = 6_000_000  # of all graphs together
# Logits as they are, and never "unsure": what is not known is not made up.
_UNCALIBRATED = Calibration(1.0, 0.0)
_TOOLS = ("torch", "onnx", "onnx2tf", "ai-edge-quantizer", "ai-edge-litert", "numpy")


def build(
    run: Run,
    out: Path,
    target: Target,
    name: str,
    form: str = "int8",
    keywords: Path | None = None,
    whole: bool | None = None,
    large: bool = False,
) -> None:
    """Convert `run` for `target` into the bundle directory `out`, replacing a bundle there.

    With `form` "float" the bundle holds float32 ONNX graphs and a float32 embedding table, with
    the quantization-aware weights unrounded: for other runtimes, and to compare with. `keywords`
    is a list of phrases for the device to spot. `whole` adds the whole model as one graph over a
    window of fixed length; by default where the int8 graphs stay within `GRAPH_BYTES` with it.
    `large` adds the pre-trained encoder that the run was joined with, and leaves that graph out.
    Where `run` has no calibration of what a verdict rests on, the bundle never says "unsure".
    The new bundle is made beside `out` and takes its place when a device's code has loaded and run
    it; until then, and where it fails, `out` stays as it is.
    Raises ConversionError when a step fails or its numbers leave the bounds, or when `out` holds
    something else than a bundle.
    """
    refuse_foreign(out)
    if large and not run.pretrained:
        raise ConversionError(
            "the run is joined with no pre-trained encoder: python -m training pretrained RUN "
            "NAME=PATH... does that"
        )
    if large and whole:
        raise ConversionError("the whole-window graph is of the model alone: --large or --whole")
    whole = False if large else whole
    model = run.model()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        files = _float_graphs(model, work) if form == "float" else _int8_graphs(model, work, target)
        if whole is not False and form == "float":
            files[WHOLE] = export_part(WHOLE, whole_part(model), work).path
        elif whole is not False:
            content = write_whole(model)
            if whole or _fits(files, len(content)):
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
        if run.reference:
            files[REFERENCE] = work / REFERENCE_FILE
            files[REFERENCE].write_bytes(run.reference.arrays.content())
            part = ReferencePart(_file_spec(files[REFERENCE]), **run.reference.settings)
            manifest = replace(manifest, reference=part)
        if large:
            manifest, others = _with_encoder(manifest, run, form, work)
            files |= others
        with at_once(out, folder=True) as new:
            for path in files.values():
                shutil.copy(path, new)
            (new / MANIFEST).write_text(manifest_to_json(manifest), encoding="utf-8")
            (new / MODEL_CARD).write_text(model_card(manifest), encoding="utf-8")
            _verify(new)
            refuse_foreign(out)  # what came since


def _fits(graphs: dict[str, Path], whole: int) -> bool:
    """Whether the streaming graphs and the whole one stay within `GRAPH_BYTES`."""
    return whole + sum(path.stat().st_size for path in graphs.values()) <= GRAPH_BYTES


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
    calibration = {m: run.calibration.get(m, _UNCALIBRATED) for m in manifest.modalities}
    return replace(manifest, calibration=calibration)


def _with_encoder(
    manifest: Manifest, run: Run, form: str, work: Path
) -> tuple[Manifest, dict[str, Path]]:
    """The pre-trained part, and its files: the encoder's graph and the layer behind it."""
    joined = run.pretrained
    assert joined is not None
    if form == "float":
        graph = export_encoder(work).path
    else:
        graph = work / f"{PRETRAINED}.tflite"
        write_encoder(graph, work)
    layer = work / PRETRAINED_FILE
    layer.write_bytes(joined.arrays.content())
    part = PretrainedPart(_file_spec(layer), **joined.settings)
    calibration = {
        modality: replace(chosen, threshold=joined.thresholds.get(modality, chosen.threshold))
        for modality, chosen in manifest.calibration.items()
    }
    changed = replace(
        manifest,
        pretrained=part,
        graphs={**manifest.graphs, PRETRAINED: _describe(graph)},
        calibration=calibration,
        metrics=joined.metrics,
    )
    return changed, {PRETRAINED: graph, PRETRAINED_ARRAYS: layer}


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


def _verify(folder: Path) -> None:
    """The device must accept and run what was written, with every graph of it."""
    try:
        bundle = load_bundle(folder)
        stream = EmotionStream(
            bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0, live=False
        )
        signal = speechlike_noise(1.0) if bundle.manifest.audio else np.zeros(0, np.int16)
        words = " ".join(bundle.vocabulary()[:20])
        found = [np.array(list(classify(stream, signal, words).scores.values()))]
        if WHOLE in bundle.manifest.graphs:
            features = mfcc(signal, bundle.manifest.mfcc) if bundle.manifest.audio else None
            scores = WholeWindow(bundle).scores(features, words)
            found.append(np.zeros(0) if scores is None else scores)
    except (EdgeError, ValueError) as error:
        message = str(error).replace(str(folder), folder.name)
        raise ConversionError(f"the bundle that was built does not run: {message}") from error
    if not all(scores.size and np.isfinite(scores).all() for scores in found):
        raise ConversionError("the bundle that was built gives no probabilities")


def refuse_foreign(out: Path) -> None:
    """Raise ConversionError where `out` is anything but a bundle's own files, or nothing yet.

    It is replaced whole, so nothing else may be lost with it.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ConversionError(f"{out} is a file; --out takes a folder to write")
    names = sorted(path.name for path in out.iterdir())
    known = _names(out)
    if names and not known:
        raise ConversionError(f"{out} is not empty and holds no bundle; choose another --out")
    foreign = [name for name in names if name not in known]
    if foreign:
        raise ConversionError(
            f"{out} holds {foreign[0]}, which is no part of the bundle there; move it away, or "
            "choose another --out"
        )
    if out.is_mount() or out.resolve() in (Path.cwd(), *Path.cwd().parents):
        why = "a mount point" if out.is_mount() else "where you are"
        raise ConversionError(
            f"{out} is {why} and cannot be replaced; choose a folder in it, such as "
            f"--out {out / 'bundle'}"
        )


def _names(out: Path) -> set[str]:
    """Names that the manifest in `out` gives its files, and its own; none without a manifest.

    The bundle may be damaged, or of another version.
    """
    try:
        raw = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return set()
    if not isinstance(raw, dict) or not {"schema", "graphs"} <= set(raw):
        return set()
    parts = [raw.get(name) for name in ("graphs", "text", "reference", "pretrained")]
    specs = [spec for part in parts if isinstance(part, dict) for spec in part.values()]
    files = {str(spec["file"]) for spec in specs if isinstance(spec, dict) and "file" in spec}
    return {MANIFEST, MODEL_CARD, *files}
