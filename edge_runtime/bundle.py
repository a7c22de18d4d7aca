"""Load a bundle and refuse one that is not what it says it is."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from math import isfinite
from pathlib import Path, PurePosixPath
from threading import Lock
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import BundleError, EngineError
from edge_runtime.graph import Graph, TensorSpec
from edge_runtime.mfcc import SAMPLE_RATE, MfccParams
from edge_runtime.segment import SegmentParams
from edge_runtime.text.embedding import EmbeddingTable
from edge_runtime.text.tokenizer import FIRST_WORD

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
MODEL_CARD = "MODEL_CARD.md"
DEFAULT = "default"
MODELS = Path(__file__).parent / "models"
AUDIO_ENCODER = "audio_encoder"
TEXT_ENCODER = "text_encoder"
ATTENTION = "attention"
HEAD = "head"
WHOLE = "whole"
WINDOW_FRAMES = 750  # what the whole-window graph sees: 7.5 s, as in the paper
VOCABULARY, EMBEDDINGS, KEYWORDS = "vocabulary", "embeddings", "keywords"
STATISTICS = 3  # max, mean and standard deviation of each filter
AUDIO, TEXT, BOTH = "audio", "text", "audio+text"  # what a verdict can rest on
_INTEGER_BOUND = 1 << 31  # beyond it no field means anything


@dataclass(frozen=True)
class GraphSpec:
    """One graph of a bundle."""

    file: str
    """Name inside the bundle."""
    sha256: str
    """Hash of the file, hexadecimal."""
    inputs: tuple[TensorSpec, ...]
    """Inputs as the interpreter must report them."""
    outputs: tuple[TensorSpec, ...]
    """Outputs, sorted by name."""


@dataclass(frozen=True)
class FileSpec:
    """A file of a bundle that is no graph."""

    file: str
    """Name inside the bundle."""
    sha256: str
    """Hash of the file, hexadecimal."""


@dataclass(frozen=True)
class Calibration:
    """How logits become trustworthy probabilities."""

    temperature: float
    """Logits are divided by this before the softmax (Guo et al. 2017)."""
    threshold: float
    """Below this confidence the label is "unsure"."""


@dataclass(frozen=True)
class AudioPart:
    """The audio encoder: a step graph over frames of features."""

    kernels: tuple[int, ...]
    """Kernel lengths of the encoder's outputs, frames."""
    stride: int
    """Frames from one map of the encoder to the next."""
    chunk_frames: int
    """Frames that one run of the encoder advances, a multiple of `stride`."""
    context_frames: int
    """Frames of context it needs on each side."""
    feature_mean: npt.NDArray[np.float32]
    """Corpus mean of each feature, shape (features,)."""
    feature_std: npt.NDArray[np.float32]
    """Corpus standard deviation of each feature, shape (features,)."""


@dataclass(frozen=True)
class TextPart:
    """The text encoder: a window of embedding rows, and where the rows come from."""

    kernels: tuple[int, ...]
    """Kernel lengths of the encoder's outputs, words."""
    tokens: int
    """Words that are read; the rest of a text is cut."""
    punctuation: bool
    """Whether marks are words."""
    swem: bool
    """Whether max and mean of the word embeddings join the head."""
    width: int
    """Width of an embedding."""
    scale: float
    """Real value of one step of the table, and of the encoder's input; 0 where both are float."""
    zero_point: int
    """Step that stands for zero."""
    vocabulary: FileSpec
    """The words, one a line, UTF-8; line n is row n + 2 of the table."""
    embeddings: FileSpec
    """The table: int8, or float32, (rows, width), NumPy's .npy."""
    keywords: FileSpec | None = None
    """The phrases that a device spots where it cannot hear every word (`edge_runtime.text`)."""

    @property
    def context(self) -> tuple[int, int]:
        """Rows before the first and after the last word that the encoder's window holds."""
        return (max(self.kernels) - 1) // 2, max(self.kernels) // 2


@dataclass(frozen=True)
class AttentionPart:
    """The attention of the audio statistics over the words."""

    scale: float
    """Factor of the audio statistics when they become queries."""
    pairs: str
    """Scale pairs that are joined: all, or matched (first with first, and so on)."""


@dataclass(frozen=True)
class Manifest:
    """The parsed manifest.json; `load_bundle` has checked it."""

    name: str
    """What the bundle calls itself."""
    variant: str
    """Model variant, such as "audio+text+att"."""
    labels: tuple[str, ...]
    """Classes in the order of the logits."""
    target: str
    """Device class the graphs were made for."""
    mfcc: MfccParams
    """Every feature parameter, the sample rate among them."""
    segment: SegmentParams
    """Utterance boundaries the model was trained with."""
    filters: int
    """Filters per kernel length."""
    audio: AudioPart | None
    """None for a model that hears nothing."""
    text: TextPart | None
    """None for a model that reads nothing."""
    attention: AttentionPart | None
    """None for a model without attention."""
    speaker: int
    """Width of the speaker embedding that joins the head; 0 for none."""
    pooled_mean: npt.NDArray[np.float32]
    """Corpus mean of each value that the head reads, shape (sum of the branches,)."""
    pooled_std: npt.NDArray[np.float32]
    """Corpus standard deviation of each, same shape."""
    calibration: dict[str, Calibration]
    """Temperature and threshold, by what the verdict rests on: audio, text, audio+text."""
    graphs: dict[str, GraphSpec]
    """Graphs by role."""
    metrics: dict[str, Any]
    """Float and int8 accuracy, with the corpus and folds they were measured on."""
    training: dict[str, Any]
    """Training data, its licence, and the run's settings."""
    versions: dict[str, str]
    """Versions of the tools that made the bundle."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """What a verdict of this bundle can rest on."""
        one = ((AUDIO,) if self.audio else ()) + ((TEXT,) if self.text else ())
        return (*one, BOTH) if len(one) > 1 else one

    @property
    def branches(self) -> dict[str, int]:
        """What the head reads, in order: name to width."""
        audio, text, attention = self.audio, self.text, self.attention
        pooled = STATISTICS * self.filters
        widths = {"audio": len(audio.kernels) * pooled if audio else 0}
        widths["text"] = len(text.kernels) * pooled if text else 0
        if audio and text and attention:
            widths["attention"] = len(text.kernels) * self.queries * self.filters
        widths["swem"] = 2 * text.width if text and text.swem else 0
        widths["speaker"] = self.speaker
        return {name: width for name, width in widths.items() if width}

    @property
    def queries(self) -> int:
        """Audio vectors that attend to each text scale; 0 without attention."""
        if not self.audio or not self.attention:
            return 0
        return STATISTICS * (len(self.audio.kernels) if self.attention.pairs == "all" else 1)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: the manifest, and the bytes of its files by role."""

    manifest: Manifest
    contents: Mapping[str, bytes]
    """Of a folder, read again each time they are asked for."""
    source: str
    folder: Path | None = None
    """Where the files are, if they are files."""
    _graphs: dict[tuple[str, int, str | None], Graph] = field(
        default_factory=dict, repr=False, compare=False
    )
    _opening: Any = field(default_factory=Lock, repr=False, compare=False)

    def open_graph(self, role: str, threads: int = 1, engine: str | None = None) -> Graph:
        """The graph of `role` in an interpreter, held against the manifest.

        Graphs are opened once: all streams of one bundle share them, in whatever threads they run.
        Those of a folder are opened by their path, so that the interpreter maps them into memory.
        Raises EngineError without an interpreter that takes it, BundleError when the shapes do not
        fit.
        """
        with self._opening:
            key = (role, threads, engine)
            if key not in self._graphs:
                self._graphs[key] = self._open(role, threads, engine)
            return self._graphs[key]

    def _open(self, role: str, threads: int, engine: str | None) -> Graph:
        spec = self.manifest.graphs[role]
        try:
            kind = "onnx" if spec.file.endswith(".onnx") else "tflite"
            model = self.folder / spec.file if self.folder else self.contents[role]
            graph = Graph(model, kind, threads, engine)
        except EngineError as error:
            raise EngineError(f"bundle {self.source}: {spec.file}: {error}") from error
        for what, expected, found in (
            ("input", spec.inputs, graph.inputs),
            ("output", spec.outputs, graph.outputs),
        ):
            if [_form(t) for t in expected] != [_form(t) for t in found]:
                raise BundleError(
                    f"bundle {self.source}: {spec.file} does not have the {what}s its manifest "
                    f"describes: {[_form(t) for t in found]}, not {[_form(t) for t in expected]}"
                )
        return graph

    def vocabulary(self) -> list[str]:
        """The words that the model knows, in the order of the table's rows; none without text."""
        if VOCABULARY not in self.contents:
            return []
        try:
            return self.contents[VOCABULARY].decode("utf-8").split("\n")[:-1]
        except UnicodeDecodeError as error:
            raise BundleError(
                f"bundle {self.source}: the vocabulary is not UTF-8: {error}"
            ) from None

    def embeddings(self) -> EmbeddingTable:
        """The embedding table. Raises BundleError when it does not fit the manifest."""
        text = self.manifest.text
        if text is None:
            raise BundleError(f"bundle {self.source}: its model reads no words")
        name = text.embeddings.file
        try:
            if self.folder:
                values = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
            else:
                values = np.load(io.BytesIO(self.contents[EMBEDDINGS]), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise BundleError(f"bundle {self.source}: {name} is not a table: {error}") from None
        rows = FIRST_WORD + len(self.vocabulary())
        dtype = np.int8 if text.scale else np.float32
        if values.dtype != dtype or values.shape != (rows, text.width):
            raise BundleError(
                f"bundle {self.source}: {name} is {values.dtype} {values.shape}, "
                f"expected {np.dtype(dtype)} {(rows, text.width)}"
            )
        return EmbeddingTable(values, np.asarray(text.scale or 1, np.float32), text.zero_point)

    def file_bytes(self) -> int:
        """Bytes of graphs, vocabulary and embeddings."""
        return sum(len(content) for content in self.contents.values())


class _FolderContents(Mapping[str, bytes]):
    """The files of a bundle that is a folder, by role, none of them kept in memory."""

    def __init__(self, paths: dict[str, Path]) -> None:
        self._paths = paths

    def __getitem__(self, role: str) -> bytes:
        return self._paths[role].read_bytes()

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def load_bundle(source: str | Path = DEFAULT) -> Bundle:
    """Read and verify a bundle: "default", a directory, or a .zip of one.

    Raises BundleError, in one line that says which file and why, for a missing or unreadable
    file, a wrong hash, an unknown schema, or fields and shapes that do not fit together.
    """
    path = MODELS / DEFAULT if str(source) == DEFAULT else Path(source)
    read = _reader(path)
    try:
        raw = json.loads(read(MANIFEST))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BundleError(f"bundle {path}: {MANIFEST} is not JSON: {error}") from error
    manifest = _parse(raw, path)
    contents = {}
    files: dict[str, GraphSpec | FileSpec] = {**manifest.graphs}
    if manifest.text:
        files |= {VOCABULARY: manifest.text.vocabulary, EMBEDDINGS: manifest.text.embeddings}
        if manifest.text.keywords:
            files[KEYWORDS] = manifest.text.keywords
    for role, spec in files.items():
        content = read(spec.file)
        digest = hashlib.sha256(content).hexdigest()
        if digest != spec.sha256:
            raise BundleError(
                f"bundle {path}: {spec.file} is damaged: sha256 is {digest[:12]}..., "
                f"the manifest says {spec.sha256[:12]}...; copy or build the bundle again"
            )
        if not path.is_dir():
            contents[role] = content
    _check_shapes(manifest, path)
    if path.is_dir():
        paths = {role: path / spec.file for role, spec in files.items()}
        bundle = Bundle(manifest, _FolderContents(paths), str(path), path)
    else:
        bundle = Bundle(manifest, contents, str(path))
    if manifest.text:
        bundle.embeddings()  # refuses a table that does not fit
    return bundle


def manifest_to_json(manifest: Manifest) -> str:
    """The text of manifest.json."""
    raw = {"schema": SCHEMA_VERSION, **asdict(manifest)}
    return json.dumps(raw, indent=1, default=_array_to_list) + "\n"


def _array_to_list(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        # The shortest text that reads back as the same float32.
        return [float(str(item)) for item in value]
    raise TypeError(f"{type(value).__name__} has no place in a manifest")


def _reader(path: Path) -> Any:
    if path.is_dir():

        def read(name: str) -> bytes:
            try:
                return (path / _safe(name, path)).read_bytes()
            except OSError as error:
                raise BundleError(f"bundle {path}: cannot read {name}: {error.strerror}") from None

        return read
    if not path.exists():
        raise BundleError(f"no bundle at {path}: expected a directory or a .zip")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError):
        raise BundleError(f"{path} is neither a bundle directory nor a .zip of one") from None
    # A zip of the directory itself holds everything under one folder.
    manifests = [name for name in archive.namelist() if PurePosixPath(name).name == MANIFEST]
    prefix = min(manifests, key=len)[: -len(MANIFEST)] if manifests else ""

    def read_member(name: str) -> bytes:
        try:
            return archive.read(prefix + _safe(name, path))
        except KeyError:
            raise BundleError(f"bundle {path}: cannot read {name}: not in the archive") from None
        except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError) as error:
            # RuntimeError: encrypted, or compressed in a way that this Python lacks.
            raise BundleError(f"bundle {path}: cannot read {name}: {error}") from None

    return read_member


def _safe(name: str, path: Path) -> str:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
        raise BundleError(f"bundle {path}: {name!r} points outside the bundle")
    return name


def _parse(raw: Any, path: Path) -> Manifest:
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if schema != SCHEMA_VERSION:
        raise BundleError(
            f"bundle {path}: schema {schema!r} is not the {SCHEMA_VERSION} that this version "
            "reads; upgrade edge-emotion or build the bundle again"
        )
    try:
        described = {key: value for key, value in raw.items() if key != "schema"}
        manifest: Manifest = _from_json(Manifest, described, MANIFEST)
    except (ValueError, OverflowError, RecursionError) as error:
        raise BundleError(f"bundle {path}: {error}") from None
    return manifest


def _from_json(kind: Any, raw: Any, where: str) -> Any:
    """`raw` as the type `kind` of a manifest's field; ValueError, with the field, if it is not."""
    if isinstance(kind, type) and is_dataclass(kind):
        kinds = get_type_hints(kind)
        if not isinstance(raw, dict):
            raise ValueError(f"{where} is not an object")
        for what, names in (("lacks", kinds.keys() - raw), ("has an unknown", raw.keys() - kinds)):
            if names:
                raise ValueError(f"{where} {what} {min(names)!r}")
        values = {name: _from_json(kinds[name], raw[name], name) for name in kinds}
        try:
            return kind(**values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if raw is None else _from_json(parts[0], raw, where)
    if kind == npt.NDArray[np.float32]:
        return np.asarray(_from_json(tuple[float, ...], raw, where), np.float32)
    if origin is tuple and isinstance(raw, list):
        return tuple(_from_json(parts[0], item, where) for item in raw)
    if origin is dict and isinstance(raw, dict):
        return {key: _from_json(parts[1], value, key) for key, value in raw.items()}
    if kind is float and type(raw) in (int, float) and isfinite(raw):
        return float(raw)
    if kind is int and type(raw) is int and abs(raw) < _INTEGER_BOUND:
        return raw
    if kind is Any or (kind in (str, bool) and type(raw) is kind):
        return raw
    name = getattr(origin or kind, "__name__", kind)
    raise ValueError(f"{where}: {json.dumps(raw)[:40]} is not of type {name}")


def _check_shapes(manifest: Manifest, path: Path) -> None:
    """Hold the parts of a manifest against each other."""
    if manifest.mfcc.sample_rate != SAMPLE_RATE:
        raise BundleError(
            f"bundle {path}: sample_rate {manifest.mfcc.sample_rate} is not the {SAMPLE_RATE} Hz "
            "that this version hears"
        )
    parts = (manifest.audio, AUDIO_ENCODER), (manifest.text, TEXT_ENCODER)
    wanted = [role for part, role in (*parts, (manifest.attention, ATTENTION)) if part]
    for name, kernels in (
        (name, part.kernels)
        for name, part in (("audio", manifest.audio), ("text", manifest.text))
        if part
    ):
        if not kernels or min(kernels) < 1:
            raise BundleError(f"bundle {path}: {name} kernels {kernels} are not lengths")
    if not manifest.modalities:
        raise BundleError(f"bundle {path}: {MANIFEST} describes neither an audio nor a text model")
    if manifest.audio and (
        manifest.audio.stride < 1 or manifest.audio.chunk_frames % manifest.audio.stride
    ):
        raise BundleError(
            f"bundle {path}: chunk_frames {manifest.audio.chunk_frames} is not a multiple of "
            f"stride {manifest.audio.stride}"
        )
    if manifest.attention and (not manifest.audio or not manifest.text):
        raise BundleError(f"bundle {path}: attention needs an audio and a text model")
    for role in (*wanted, HEAD):
        if role not in manifest.graphs:
            raise BundleError(f"bundle {path}: {MANIFEST} lacks the {role} graph")
    head, width = manifest.graphs[HEAD], sum(manifest.branches.values())
    expectations: list[tuple[str, Any, Any]] = [
        ("pooled_mean", (width,), manifest.pooled_mean.shape),
        ("pooled_std", (width,), manifest.pooled_std.shape),
        (f"{head.file} input", [(1, width)], _shapes(head.inputs)),
        (f"{head.file} output", [(1, len(manifest.labels))], _shapes(head.outputs)),
        *_expected_of_audio(manifest),
        *_expected_of_text(manifest),
        *_expected_of_whole(manifest),
    ]
    for what, expected, found in expectations:
        if expected != found:
            raise BundleError(f"bundle {path}: {what} has shape {found}, expected {expected}")
    positive = {"pooled_std": manifest.pooled_std}
    if manifest.audio:
        positive["feature_std"] = manifest.audio.feature_std
    for name, values in positive.items():
        if not (values > 0).all():
            raise BundleError(f"bundle {path}: {name} must be positive")
    for modality in manifest.modalities:
        if modality not in manifest.calibration:
            raise BundleError(f"bundle {path}: {MANIFEST} lacks the calibration of {modality!r}")
        if not manifest.calibration[modality].temperature > 0:
            raise BundleError(f"bundle {path}: the calibration temperature must be positive")


def _expected_of_audio(manifest: Manifest) -> list[tuple[str, Any, Any]]:
    audio, features = manifest.audio, manifest.mfcc.features
    if audio is None:
        return []
    encoder = manifest.graphs[AUDIO_ENCODER]
    window = audio.chunk_frames + 2 * audio.context_frames
    maps = (1, 1, audio.chunk_frames // audio.stride, manifest.filters)
    return [
        ("feature_mean", (features,), audio.feature_mean.shape),
        ("feature_std", (features,), audio.feature_std.shape),
        (f"{encoder.file} input", [(1, 1, window, features)], _shapes(encoder.inputs)),
        (f"{encoder.file} outputs", [maps] * len(audio.kernels), _shapes(encoder.outputs)),
    ]


def _expected_of_text(manifest: Manifest) -> list[tuple[str, Any, Any]]:
    text, filters = manifest.text, manifest.filters
    if text is None:
        return []
    encoder = manifest.graphs[TEXT_ENCODER]
    window, scales = text.tokens + sum(text.context), len(text.kernels)
    maps = (1, 1, text.tokens, filters)
    expected: list[tuple[str, Any, Any]] = [
        (f"{encoder.file} input", [(1, 1, window, text.width)], _shapes(encoder.inputs)),
        (f"{encoder.file} outputs", [maps] * scales, _shapes(encoder.outputs)),
        (
            f"{encoder.file} input scale",
            [(text.scale, text.zero_point)],
            [_steps(spec) for spec in encoder.inputs],
        ),
    ]
    if manifest.attention and manifest.audio:
        attention = manifest.graphs[ATTENTION]
        queries = STATISTICS * len(manifest.audio.kernels)
        inputs = [*[(1, text.tokens, filters)] * scales, (1, 1, text.tokens), (1, queries, filters)]
        outputs = [(1, manifest.queries, filters)] * scales
        expected += [
            (f"{attention.file} inputs", inputs, _shapes(attention.inputs)),
            (f"{attention.file} outputs", outputs, _shapes(attention.outputs)),
            *(
                (f"{attention.file} scale of {keys.name}", _steps(maps), _steps(keys))
                for maps, keys in zip(encoder.outputs, attention.inputs, strict=False)
            ),
        ]
    return expected


def _expected_of_whole(manifest: Manifest) -> list[tuple[str, Any, Any]]:
    if WHOLE not in manifest.graphs:
        return []
    whole, audio, text = manifest.graphs[WHOLE], manifest.audio, manifest.text
    inputs = whole_inputs(
        features=manifest.mfcc.features if audio else 0,
        stride=audio.stride if audio else 1,
        tokens=text.tokens if text else 0,
        context=sum(text.context) if text else 0,
        width=text.width if text else 0,
        speaker=manifest.speaker,
        attention=manifest.attention is not None,
    )
    found = {spec.name: spec.shape for spec in whole.inputs}
    expected: list[tuple[str, Any, Any]] = [
        (f"{whole.file} inputs", inputs, found),
        (f"{whole.file} output", [(1, len(manifest.labels))], _shapes(whole.outputs)),
    ]
    if text:
        rows = next((spec for spec in whole.inputs if spec.name == "rows"), None)
        expected.append((f"{whole.file} scale of rows", True, rows and _fits(text, rows)))
    return expected


def _fits(text: TextPart, rows: TensorSpec) -> bool:
    """Whether an input takes the rows of the table as they are."""
    close = abs(rows.scale - text.scale) <= 1e-5 * text.scale
    return close and rows.zero_point == text.zero_point


def whole_inputs(
    *,
    features: int = 0,
    stride: int = 1,
    tokens: int = 0,
    context: int = 0,
    width: int = 0,
    speaker: int = 0,
    attention: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Names, sorted, and shapes of what the whole-window graph reads.

    Parameters
    ----------
    features : width of a frame; 0 for a model that hears nothing. The graph reads normalized
        frames; which maps count; and the window over how many do.
    stride : frames from one map to the next.
    tokens : words of the window; 0 for a model that reads nothing. It reads their embedding rows,
        and the same two of words.
    context : rows beside the words.
    width : width of an embedding.
    speaker : width of the standardized speaker embedding; 0 for none.
    attention : whether it reads the mask that is added to the attention scores.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    if features:
        shapes["frames"] = (1, 1, WINDOW_FRAMES, features)
        shapes["frames_counted"] = (1, 1, -(-WINDOW_FRAMES // stride), 1)
        shapes["frames_gain"] = (1, 1, 1, 1)
    if tokens:
        shapes["rows"] = (1, 1, tokens + context, width)
        shapes["words_counted"] = (1, 1, tokens, 1)
        shapes["words_gain"] = (1, 1, 1, 1)
    if speaker:
        shapes["speaker"] = (1, speaker)
    if attention:
        shapes["words_mask"] = (1, 1, tokens)
    return dict(sorted(shapes.items()))


def _steps(spec: TensorSpec) -> tuple[float, int]:
    """Scale and zero point, the scale to float32 precision."""
    return float(np.float32(spec.scale)), spec.zero_point


def _shapes(specs: tuple[TensorSpec, ...]) -> list[tuple[int, ...]]:
    return [spec.shape for spec in specs]


def _form(spec: TensorSpec) -> tuple[Any, ...]:
    """What must agree between manifest and interpreter; scales to float32 precision."""
    return (spec.name, spec.shape, spec.dtype, float(np.float32(spec.scale)), spec.zero_point)
