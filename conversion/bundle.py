"""A training run becomes a bundle that a device accepts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from conversion import faults
from conversion.card import model_card
from conversion.errors import ConversionError
from conversion.export import chunk_frames
from conversion.targets import BundleTarget
from edge_runtime import EmotionStream, __version__
from edge_runtime.bench import speechlike_noise
from edge_runtime.bundle import MODEL_CARD, PRETRAINED_ARRAYS, load_bundle
from edge_runtime.embedding import EmbeddingTable
from edge_runtime.errors import EdgeError
from edge_runtime.graph import Graph, TensorSpec
from edge_runtime.manifest import (
    EMBEDDINGS,
    FAMILIARITY,
    KEYWORDS,
    MANIFEST,
    PRETRAINED,
    PRETRAINED_REFERENCE,
    READS_TARGETS,
    REFERENCE,
    TEXT_ENCODER,
    VOCABULARY,
    WHOLE,
    AttentionPart,
    AudioPart,
    Calibration,
    DimensionsPart,
    FamiliarityPart,
    FileSpec,
    GraphSpec,
    Manifest,
    PhrasesPart,
    PretrainedPart,
    PretrainedReferencePart,
    ReferencePart,
    TextPart,
    manifest_to_json,
)
from edge_runtime.mfcc import mfcc
from edge_runtime.model.window import WholeWindow
from edge_runtime.signature import SIGNATURE, STATEMENT
from edge_runtime.stream import classify
from edge_runtime.tokenizer import FIRST_WORD
from training.network.model import MscnnSpu
from training.output import at_once
from training.run import (
    FAMILIARITY_FILE,
    REFERENCE_FILE,
    Pretrained,
    Run,
)
from training.tiers import SMALL
from training.words.embeddings import table_in_range

log = logging.getLogger(__name__)

BROKEN = "broken"
"""In a manifest's metrics, where they were allowed: `conversion.faults`, a sentence each."""
GRAPH_BYTES = 6_000_000  # of all graphs together
PHRASES_LIMIT = math.log(20.0)
"""Key phrases of an utterance change the odds between two classes at most twenty-fold."""
# Logits as they are, and never "unsure": what is not known is not made up.
_UNCALIBRATED = Calibration(1.0, 0.0)
_TOOLS = ("torch", "onnx", "onnx2tf", "ai-edge-quantizer", "ai-edge-litert", "numpy")


def build(
    run: Run,
    out: Path,
    target: BundleTarget,
    name: str,
    form: str | None = None,
    keywords: Path | None = None,
    whole: bool | None = None,
    tier: str = SMALL,
    phases: int | None = None,
    allow_loss: bool = False,
) -> None:
    """Convert `run` for `target` into the bundle directory `out`, replacing a bundle there.

    `form` is one of the target's, its first by default. With "float" the bundle holds float32 ONNX
    graphs and a float32 embedding table, with the quantization-aware weights unrounded. `keywords`
    is a list of phrases for the device to spot, by which it judges where it says what they tell
    (training phrases). `whole` adds the whole model as one graph over a window of fixed length; by
    default where the int8 graphs stay within `GRAPH_BYTES` with it. A `tier` but small adds the
    pre-trained encoder that the run was joined with, and leaves that graph out. `phases` are of the
    manifest's audio part (`edge_runtime.manifest.AudioPart`), by default as many as its stride.
    Where `run` has no calibration of what a verdict rests on, the bundle never says "unsure".
    The new bundle is made beside `out` and takes its place when a device's code has loaded and run
    it; until then, and where it fails, `out` stays as it is.
    A run that rounding has broken, or graphs that do not compute what its model does, are refused
    (`conversion.faults`); with `allow_loss` manifest and card say so instead.
    Raises ConversionError when a step fails or its numbers leave the bounds, or when `out` holds
    something else than a bundle.
    """
    refuse_foreign(out)
    form = form or target.forms[0]
    _check_wishes(run, target, form, whole, tier, phases)
    listed, limit = _listed(keywords, run.config.labels) if keywords else (b"", 0.0)
    broken = faults.of_run(run, form)
    _refuse_broken(broken, allow_loss)
    model = run.model()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        files = target.graphs(model, work, form)
        if whole is not False and tier == SMALL:
            files |= _whole(model, target, form, files, work, required=bool(whole))
        graphs = {role: _describe(path) for role, path in files.items()}
        text = None
        if run.config.parts.text:
            rows = graphs[TEXT_ENCODER].inputs[0]
            text, others = _text_part(run, _embeddings(run, model, rows), rows, work)
            files |= others
        phrases = None
        if keywords:
            files[KEYWORDS] = work / "keywords.txt"
            files[KEYWORDS].write_bytes(listed)
            spec = _file_spec(files[KEYWORDS])
            if text and not limit:
                text = replace(text, keywords=spec)
            else:
                phrases = PhrasesPart(spec, limit)
        manifest = replace(_manifest(run, model, name, target, graphs, text), phrases=phrases)
        manifest, others = _with_speakers_and_corpora(manifest, run, work)
        files |= others
        if tier != SMALL:
            graph = target.encoder(run.pretrained[tier].network(), work, form)
            manifest, others = _with_encoder(manifest, run.pretrained[tier], graph, work)
            files |= others
        manifest = _with_phases(_with_dimensions(manifest, run), phases)
        beside = target.further(files, work, form)
        specs = tuple(_file_spec(path) for path in beside)
        manifest = replace(manifest, form=form, files=specs)
        with at_once(out, folder=True) as new:
            for path in (*files.values(), *beside):
                shutil.copy(path, new)
            _describe_in(new, manifest)
            _verify(new)
            broken += faults.of_bundle(run, load_bundle(new), form)
            _refuse_broken(broken, allow_loss)
            if broken:
                _describe_broken(new, manifest, broken)
            refuse_foreign(out)  # what came since


def _check_wishes(
    run: Run, target: BundleTarget, form: str, whole: bool | None, tier: str, phases: int | None
) -> None:
    """Raise ConversionError for what is asked of `build` and cannot be."""
    if form not in target.forms:
        raise ConversionError(
            f"target {target.name} has no form {form!r}; it has {', '.join(target.forms)}"
        )
    if tier != SMALL and tier not in run.pretrained:
        raise ConversionError(
            f"the run is joined with no pre-trained encoder for the tier {tier}: "
            f"python -m training pretrained RUN NAME=PATH... --tier {tier} does that"
        )
    if phases is not None and phases > run.config.audio_stride:
        raise ConversionError(
            f"--phases {phases}: the model's stride is {run.config.audio_stride}, and it has as "
            "many grids of maps at most"
        )
    if tier != SMALL and whole:
        raise ConversionError("the whole-window graph is of the model alone: --tier small")


def _refuse_broken(broken: list[str], allow_loss: bool) -> None:
    """Raise ConversionError for the first of what is broken, unless that is allowed."""
    if broken and not allow_loss:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise ConversionError(
            f"the int8 form is not the model that was trained: {broken[0]}{more}; train it longer "
            "or gentler (--qat-epochs, --qat-lr), or on more clips; --allow-loss builds it all the "
            "same, and its card says so"
        )


def _describe_in(folder: Path, manifest: Manifest) -> None:
    """Write manifest and card."""
    (folder / MANIFEST).write_text(manifest_to_json(manifest), encoding="utf-8")
    (folder / MODEL_CARD).write_text(model_card(manifest), encoding="utf-8")


def _describe_broken(folder: Path, manifest: Manifest, broken: list[str]) -> None:
    """Say of a bundle what is broken of it, in manifest and card, and as a warning."""
    for line in broken:
        log.warning("warning: broken, and built all the same: %s", line)
    _describe_in(folder, replace(manifest, metrics={**manifest.metrics, BROKEN: broken}))


def _whole(
    model: MscnnSpu,
    target: BundleTarget,
    form: str,
    graphs: dict[str, Path],
    work: Path,
    required: bool,
) -> dict[str, Path]:
    """The whole-window graph by its role; none where it is not `required` and does not fit."""
    path = target.whole(model, work, form)
    if path is None:
        if required:
            raise ConversionError(f"target {target.name} has no whole-window graph in {form}")
        return {}
    size = sum(file.stat().st_size for file in (path, *graphs.values()))
    return {WHOLE: path} if required or form != "int8" or size <= GRAPH_BYTES else {}


def _embeddings(run: Run, model: MscnnSpu, rows: TensorSpec) -> EmbeddingTable:
    """The table in the type of `rows`, the encoder's input."""
    weight = model.embedding.weight.detach().numpy()
    if len(run.vocabulary) + FIRST_WORD != len(weight):
        raise ConversionError(
            f"the run's vocabulary has {len(run.vocabulary)} words, its table {len(weight)} rows"
        )
    if not rows.scale:
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
    target: BundleTarget,
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
        targets=(target.name,),
        runtime=needs(target),
    )
    calibration = {m: run.calibration.get(m, _UNCALIBRATED) for m in manifest.modalities}
    return replace(manifest, calibration=calibration)


def needs(target: BundleTarget) -> dict[str, str]:
    """Least versions of what runs a bundle made for `target` now, as its manifest has them."""
    return {"edge-emotion": READS_TARGETS, **target.interpreters}


def _with_speakers_and_corpora(
    manifest: Manifest, run: Run, work: Path
) -> tuple[Manifest, dict[str, Path]]:
    """The parts of speakers and of corpora, where the run has them, and their files."""
    files = {}
    if run.reference:
        files[REFERENCE] = work / REFERENCE_FILE
        files[REFERENCE].write_bytes(run.reference.arrays.content())
        part = ReferencePart(_file_spec(files[REFERENCE]), **run.reference.settings)
        manifest = replace(manifest, reference=part)
    if run.familiarity:
        files[FAMILIARITY] = work / FAMILIARITY_FILE
        files[FAMILIARITY].write_bytes(run.familiarity.arrays.content())
        numbers = dict(run.familiarity.settings)
        plain = {name: Calibration(**chosen) for name, chosen in numbers.pop("without").items()}
        known = FamiliarityPart(_file_spec(files[FAMILIARITY]), without=plain, **numbers)
        manifest = replace(manifest, familiarity=known)
    return manifest, files


def _with_encoder(
    manifest: Manifest, joined: Pretrained, graph: Path, work: Path
) -> tuple[Manifest, dict[str, Path]]:
    """The pre-trained parts, and their files: the encoder's graph and what follows it."""
    layer = work / f"{PRETRAINED}.npz"
    layer.write_bytes(joined.arrays.content())
    part = PretrainedPart(_file_spec(layer), **joined.settings)
    calibration = {
        modality: replace(chosen, threshold=joined.thresholds.get(modality, chosen.threshold))
        for modality, chosen in manifest.calibration.items()
    }
    files, reference = {PRETRAINED: graph, PRETRAINED_ARRAYS: layer}, None
    if joined.reference and manifest.reference:
        beside = work / f"{PRETRAINED_REFERENCE}.npz"
        beside.write_bytes(joined.reference.arrays.content())
        reference = PretrainedReferencePart(_file_spec(beside), **joined.reference.settings)
        files[PRETRAINED_REFERENCE] = beside
    changed = replace(
        manifest,
        pretrained=part,
        pretrained_reference=reference,
        graphs={**manifest.graphs, PRETRAINED: _describe(graph)},
        calibration=calibration,
        metrics=joined.metrics_beside(manifest.metrics),
    )
    return changed, files


def _with_phases(manifest: Manifest, phases: int | None) -> Manifest:
    """Heard on so many grids of maps, where it hears."""
    if manifest.audio is None:
        return manifest
    phases = phases or manifest.audio.stride
    return replace(manifest, audio=replace(manifest.audio, phases=phases))


def _with_dimensions(manifest: Manifest, run: Run) -> Manifest:
    """With valence and arousal of each class, and how well they agree with ratings, if known."""
    said = run.dimensions
    if said is None:
        return manifest
    part = DimensionsPart(said.valence, said.arousal, said.source)
    figures = {"dimensions": said.metrics} if said.metrics else {}
    return replace(manifest, dimensions=part, metrics={**manifest.metrics, **figures})


def _listed(keywords: Path, labels: Sequence[str]) -> tuple[bytes, float]:
    """The list, once the device's own code has read it, and how far a verdict may follow it.

    That is not at all where it does not say what phrases tell. Raises ConversionError for a list
    that cannot be read, or was made for other classes, and TextError for what is no list.
    """
    from edge_runtime.text.phrases import has_log_odds, parse_keywords

    try:
        content = keywords.read_bytes()
    except OSError as error:
        raise ConversionError(f"keywords {keywords} cannot be read: {error.strerror}") from None
    phrases = parse_keywords(content, keywords)
    if not has_log_odds(content):
        return content, 0.0
    for phrase in phrases:
        for problem, classes in (
            ("names a class that the run does not have", set(phrase.weights) - set(labels)),
            ("does not say what it tells about", set(labels) - set(phrase.weights)),
        ):
            if classes:
                raise ConversionError(
                    f"{keywords}: {phrase.text!r} {problem}: {', '.join(sorted(classes))}; the run "
                    f"has {', '.join(labels)}: python -m training phrases FILE --labels RUN"
                )
    return content, PHRASES_LIMIT


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
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
    known = _names(out)
    if names and not known:
        raise ConversionError(f"{out} is not empty and holds no bundle; choose another --out")
    folders = {folder.as_posix() for name in known for folder in PurePosixPath(name).parents}
    foreign = [name for name in names if name not in known | folders]
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
    """Names of the manifest in `out`, of all that it names and of what signs it; none without one.

    The bundle may be damaged, or of another version.
    """
    try:
        raw = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return set()
    if not isinstance(raw, dict) or not {"schema", "graphs"} <= set(raw):
        return set()
    named = ("graphs", "text", REFERENCE, PRETRAINED, PRETRAINED_REFERENCE, FAMILIARITY, "phrases")
    parts = [raw.get(name) for name in named]
    specs = [spec for part in parts if isinstance(part, dict) for spec in part.values()]
    specs += raw["files"] if isinstance(raw.get("files"), list) else []
    files = {str(spec["file"]) for spec in specs if isinstance(spec, dict) and "file" in spec}
    return {MANIFEST, MODEL_CARD, STATEMENT, SIGNATURE, *files}
