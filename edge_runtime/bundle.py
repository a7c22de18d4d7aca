"""Load a bundle and refuse one that is not what it says it is."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, is_dataclass
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import BundleError, EngineError
from edge_runtime.graph import Graph, TensorSpec
from edge_runtime.mfcc import SAMPLE_RATE, MfccParams
from edge_runtime.segment import SegmentParams

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
MODEL_CARD = "MODEL_CARD.md"
DEFAULT = "default"
MODELS = Path(__file__).parent / "models"
AUDIO_ENCODER = "audio_encoder"
HEAD = "head"
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
class Calibration:
    """How logits become trustworthy probabilities."""

    temperature: float
    """Logits are divided by this before the softmax (Guo et al. 2017)."""
    threshold: float
    """Below this confidence the label is "unsure"."""


@dataclass(frozen=True)
class Manifest:
    """The parsed manifest.json; `load_bundle` has checked it."""

    name: str
    """What the bundle calls itself."""
    variant: str
    """Model variant, such as "audio"."""
    labels: tuple[str, ...]
    """Classes in the order of the logits."""
    target: str
    """Device class the graphs were made for."""
    mfcc: MfccParams
    """Every feature parameter, the sample rate among them."""
    segment: SegmentParams
    """Utterance boundaries the model was trained with."""
    audio_kernels: tuple[int, ...]
    """Kernel lengths of the audio encoder's outputs, frames."""
    filters: int
    """Filters per kernel length."""
    stride: int
    """Frames from one map of the audio encoder to the next."""
    chunk_frames: int
    """Frames that one run of the audio encoder advances, a multiple of `stride`."""
    context_frames: int
    """Frames of context it needs on each side."""
    feature_mean: npt.NDArray[np.float32]
    """Corpus mean of each feature, shape (features,)."""
    feature_std: npt.NDArray[np.float32]
    """Corpus standard deviation of each feature, shape (features,)."""
    pooled_mean: npt.NDArray[np.float32]
    """Corpus mean of each pooled statistic, shape (scales x 3 x filters,)."""
    pooled_std: npt.NDArray[np.float32]
    """Corpus standard deviation of each pooled statistic, same shape."""
    calibration: Calibration
    """Temperature and threshold."""
    graphs: dict[str, GraphSpec]
    """Graphs by role."""
    metrics: dict[str, Any]
    """Float and int8 accuracy, with the corpus and folds they were measured on."""
    training: dict[str, Any]
    """Training data, its licence, and the run's settings."""
    versions: dict[str, str]
    """Versions of the tools that made the bundle."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: the manifest, and the graphs' bytes by role."""

    manifest: Manifest
    contents: dict[str, bytes]
    source: str

    def open_graph(self, role: str, threads: int = 1, engine: str | None = None) -> Graph:
        """Load the graph of `role` into an interpreter and hold it against the manifest.

        Raises EngineError without an interpreter that takes it, BundleError when the shapes do not
        fit.
        """
        spec = self.manifest.graphs[role]
        try:
            graph = Graph(self.contents[role], threads=threads, engine=engine)
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

    def file_bytes(self) -> int:
        """Bytes of all graphs."""
        return sum(len(content) for content in self.contents.values())


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
    for role, spec in manifest.graphs.items():
        content = read(spec.file)
        digest = hashlib.sha256(content).hexdigest()
        if digest != spec.sha256:
            raise BundleError(
                f"bundle {path}: {spec.file} is damaged: sha256 is {digest[:12]}..., "
                f"the manifest says {spec.sha256[:12]}...; copy or build the bundle again"
            )
        contents[role] = content
    _check_shapes(manifest, path)
    return Bundle(manifest, contents, str(path))


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
    if kind is Any or (kind is str and type(raw) is str):
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
    features = manifest.mfcc.features
    pooled = len(manifest.audio_kernels) * 3 * manifest.filters
    window = manifest.chunk_frames + 2 * manifest.context_frames
    for role in (AUDIO_ENCODER, HEAD):
        if role not in manifest.graphs:
            raise BundleError(f"bundle {path}: {MANIFEST} lists no {role} graph")
    if manifest.stride < 1 or manifest.chunk_frames % manifest.stride:
        raise BundleError(
            f"bundle {path}: chunk_frames {manifest.chunk_frames} is not a multiple of stride "
            f"{manifest.stride}"
        )
    encoder, head = manifest.graphs[AUDIO_ENCODER], manifest.graphs[HEAD]
    maps = (1, 1, manifest.chunk_frames // manifest.stride, manifest.filters)
    expectations: list[tuple[str, Any, Any]] = [
        ("feature_mean", (features,), manifest.feature_mean.shape),
        ("feature_std", (features,), manifest.feature_std.shape),
        ("pooled_mean", (pooled,), manifest.pooled_mean.shape),
        ("pooled_std", (pooled,), manifest.pooled_std.shape),
        (f"{encoder.file} input", [(1, 1, window, features)], _shapes(encoder.inputs)),
        (f"{encoder.file} outputs", [maps] * len(manifest.audio_kernels), _shapes(encoder.outputs)),
        (f"{head.file} input", [(1, pooled)], _shapes(head.inputs)),
        (f"{head.file} output", [(1, len(manifest.labels))], _shapes(head.outputs)),
    ]
    for what, expected, found in expectations:
        if expected != found:
            raise BundleError(f"bundle {path}: {what} has shape {found}, expected {expected}")
    for name in ("feature_std", "pooled_std"):
        if not (getattr(manifest, name) > 0).all():
            raise BundleError(f"bundle {path}: {name} must be positive")
    if not manifest.calibration.temperature > 0:
        raise BundleError(f"bundle {path}: the calibration temperature must be positive")


def _shapes(specs: tuple[TensorSpec, ...]) -> list[tuple[int, ...]]:
    return [spec.shape for spec in specs]


def _form(spec: TensorSpec) -> tuple[Any, ...]:
    """What must agree between manifest and interpreter; scales to float32 precision."""
    return (spec.name, spec.shape, spec.dtype, float(np.float32(spec.scale)), spec.zero_point)
