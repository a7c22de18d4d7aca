"""Load a bundle and refuse one that is not what it says it is."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

import numpy as np

from edge_runtime.embedding import EmbeddingTable
from edge_runtime.errors import BundleError, EngineError
from edge_runtime.graph import Graph
from edge_runtime.manifest import (
    AUDIO_ENCODER,
    EMBEDDINGS,
    KEYWORDS,
    MANIFEST,
    PRETRAINED,
    REFERENCE,
    VOCABULARY,
    FileSpec,
    GraphSpec,
    Manifest,
    _parse,
)
from edge_runtime.manifest_check import _check_shapes, _form
from edge_runtime.pretrained_arrays import PretrainedArrays, read_pretrained
from edge_runtime.reference_arrays import ReferenceArrays, read_reference
from edge_runtime.system import data_folder
from edge_runtime.tokenizer import FIRST_WORD

MODEL_CARD = "MODEL_CARD.md"
DEFAULT, LARGE = "default", "large"  # bundles that go by their names
PRETRAINED_ARRAYS = "pretrained_arrays"  # beside the role of its graph
MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True, eq=False)
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

    @property
    def identity(self) -> str:
        """What an enrolled voice is tied to: all that its statistics, and their use, depend on."""
        manifest = self.manifest
        encoder, part = manifest.graphs.get(AUDIO_ENCODER), manifest.reference
        parts = [encoder.sha256 if encoder else "", part.arrays.sha256 if part else ""]
        digest = hashlib.sha256("".join(parts).encode())
        for values in (manifest.pooled_mean, manifest.pooled_std):
            digest.update(values.astype("<f4").tobytes())
        return digest.hexdigest()

    def reference(self) -> ReferenceArrays | None:
        """What adapts verdicts to a speaker; None without. BundleError where it does not fit."""
        if self.manifest.reference is None:
            return None
        width = self.manifest.branches.get("audio", 0)
        try:
            return read_reference(self.contents[REFERENCE], width, len(self.manifest.labels))
        except ValueError as error:
            name = self.manifest.reference.arrays.file
            raise BundleError(f"bundle {self.source}: {name}: {error}") from None

    def pretrained(self) -> PretrainedArrays | None:
        """What follows its pre-trained encoder; None without. BundleError where it does not fit."""
        if self.manifest.pretrained is None:
            return None
        width = self.manifest.graphs[PRETRAINED].outputs[0].shape[-1]
        try:
            return read_pretrained(
                self.contents[PRETRAINED_ARRAYS], width, len(self.manifest.labels)
            )
        except ValueError as error:
            name = self.manifest.pretrained.arrays.file
            raise BundleError(f"bundle {self.source}: {name}: {error}") from None

    def file_bytes(self) -> int:
        """Bytes of all its files but manifest and card."""
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
    """Read and verify a bundle: "default", "large" where it was built, a directory, or a .zip.

    Raises BundleError, in one line that says which file and why, for a missing or unreadable
    file, a wrong hash, an unknown schema, or fields and shapes that do not fit together.
    """
    path = _place(str(source))
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
    if manifest.reference:
        files[REFERENCE] = manifest.reference.arrays
    if manifest.pretrained:
        files[PRETRAINED_ARRAYS] = manifest.pretrained.arrays
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
    bundle.reference()
    bundle.pretrained()
    return bundle


def _place(source: str) -> Path:
    """Where the bundle of that name is, if it is a name. BundleError where it was not built."""
    if source == DEFAULT:
        return MODELS / DEFAULT
    if source != LARGE:
        return Path(source)
    own = data_folder("models") / LARGE
    for folder in (MODELS / LARGE, own):
        if folder.is_dir():
            return folder
    raise BundleError(
        f"the bundle {LARGE} is not here: in a checkout, on a workstation, python -m conversion "
        f"build training/models/default --large --out {own} builds it; copy that folder to a device"
    )


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
