"""Load a bundle and refuse one that is not what it says it is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from edge_runtime.arrays import read_npy
from edge_runtime.bundle_files import BundleFiles, open_files
from edge_runtime.embedding import EmbeddingTable
from edge_runtime.errors import BundleError, EngineError
from edge_runtime.familiarity_arrays import FamiliarityArrays, read_familiarity
from edge_runtime.graph import TFLITE_RUNTIME, Graph
from edge_runtime.graph_check import check_graph
from edge_runtime.manifest import (
    AUDIO_ENCODER,
    EMBEDDINGS,
    FAMILIARITY,
    HEAD,
    KEYWORDS,
    MANIFEST,
    PRETRAINED,
    PRETRAINED_REFERENCE,
    REFERENCE,
    VOCABULARY,
    FileSpec,
    GraphSpec,
    Manifest,
    _parse,
)
from edge_runtime.manifest_check import _check_shapes, _form
from edge_runtime.pretrained_arrays import (
    PretrainedArrays,
    PretrainedReferenceArrays,
    read_pretrained,
    read_pretrained_reference,
)
from edge_runtime.reference_arrays import ReferenceArrays, read_reference
from edge_runtime.signature import SIGNATURE, STATEMENT, Statement, Trust, verified_statement
from edge_runtime.system import data_folder, releases_folder
from edge_runtime.tokenizer import FIRST_WORD
from edge_runtime.untrusted import digest_of, parse_json

MODEL_CARD = "MODEL_CARD.md"
DEFAULT = "default"  # the bundle in the box
BUILT = ("small", "large")  # its other tiers, which go by their names once they were built
CURRENT = "current"  # what was delivered last (`edge_runtime.update`)
PRETRAINED_ARRAYS = "pretrained_arrays"  # beside the role of its graph
MODELS = Path(__file__).parent / "models"

Arrays = TypeVar("Arrays")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle: the manifest, and the bytes of its files by role."""

    manifest: Manifest
    contents: Mapping[str, bytes]
    """Of a folder, read, and held against their hashes, each time they are asked for."""
    source: str
    _graphs: dict[tuple[str, int, str | None], Graph] = field(
        default_factory=dict, repr=False, compare=False
    )
    _tables: list[EmbeddingTable] = field(default_factory=list, repr=False, compare=False)
    _opening: Any = field(default_factory=Lock, repr=False, compare=False)

    def open_graph(self, role: str, threads: int = 1, engine: str | None = None) -> Graph:
        """The graph of `role` in an interpreter, held against the manifest.

        Graphs are opened once: all streams of one bundle share them, in whatever threads they run.
        They are opened by the bytes that were hashed: a file that is mapped by its path can change.
        Raises EngineError without an interpreter that takes it, BundleError when the shapes do not
        fit, or it is made of what no bundle needs (`edge_runtime.graph_check`).
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
            content = self.contents[role]
            check_graph(content, kind)
            graph = Graph(content, kind, threads, engine, self.manifest.runtime)
        except EngineError as error:
            raise EngineError(f"bundle {self.source}: {spec.file}: {error}") from error
        except ValueError as error:
            raise BundleError(f"bundle {self.source}: {spec.file}: {error}") from None
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
        """The embedding table, which all streams share. BundleError when it does not fit."""
        with self._opening:
            if not self._tables:
                self._tables.append(self._table())
            return self._tables[0]

    def _table(self) -> EmbeddingTable:
        text = self.manifest.text
        if text is None:
            raise BundleError(f"bundle {self.source}: its model reads no words")
        name = text.embeddings.file
        try:
            values = read_npy(self.contents[EMBEDDINGS])
        except ValueError as error:
            raise BundleError(f"bundle {self.source}: {name} is not a table: it {error}") from None
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
        heard: list[GraphSpec | FileSpec | None] = [manifest.graphs.get(AUDIO_ENCODER)]
        heard.append(manifest.reference.arrays if manifest.reference else None)
        if manifest.pretrained_reference:
            heard += [manifest.graphs[PRETRAINED], manifest.pretrained_reference.arrays]
        known = "".join(spec.sha256 if spec else "" for spec in heard).encode()
        for values in (manifest.pooled_mean, manifest.pooled_std):
            known += values.astype("<f4").tobytes()
        return digest_of(known)

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
        part = self.manifest.pretrained
        spec = part.arrays if part else None
        arrays = self._of_states(spec, PRETRAINED_ARRAYS, read_pretrained)
        if part and part.distance_slope and arrays and arrays.familiarity is None:
            raise BundleError(
                f"bundle {self.source}: {part.arrays.file} lacks what the distance_slope is of"
            )
        return arrays

    def pretrained_reference(self) -> PretrainedReferenceArrays | None:
        """What adapts that to a speaker; None without. BundleError where it does not fit."""
        part = self.manifest.pretrained_reference
        spec = part.arrays if part else None
        return self._of_states(spec, PRETRAINED_REFERENCE, read_pretrained_reference)

    def familiarity(self) -> FamiliarityArrays | None:
        """What tells how sure it is of the unlike; None without. BundleError where not fitting."""
        if self.manifest.familiarity is None:
            return None
        try:
            width = self.manifest.branches.get("audio", 0)
            return read_familiarity(self.contents[FAMILIARITY], width)
        except ValueError as error:
            name = self.manifest.familiarity.arrays.file
            raise BundleError(f"bundle {self.source}: {name}: {error}") from None

    def _of_states(
        self, spec: FileSpec | None, role: str, read: Callable[[bytes, int, int], Arrays]
    ) -> Arrays | None:
        """Arrays for the encoder's states, of the file with that role; None where it has none."""
        if spec is None:
            return None
        width = self.manifest.graphs[PRETRAINED].outputs[0].shape[-1]
        try:
            return read(self.contents[role], width, len(self.manifest.labels))
        except ValueError as error:
            raise BundleError(f"bundle {self.source}: {spec.file}: {error}") from None

    def plain(self) -> Bundle:
        """As `Manifest.plain`; its graphs are the same."""
        return replace(self, manifest=self.manifest.plain())

    def as_computed(self, threads: int = 1, engine: str | None = None) -> Bundle:
        """Itself, or `plain` where the interpreter cannot compute its pre-trained encoder.

        tflite-runtime takes that graph as well, and reads weights that have a scale a channel as if
        they had one: what comes out has little to do with it. Raises like `open_graph`.
        """
        if self.manifest.pretrained is None:
            return self
        graph = self.open_graph(HEAD, threads, engine)
        return self.plain() if graph.engine == TFLITE_RUNTIME else self

    def file_names(self) -> list[str]:
        """Names of all its files but manifest and card."""
        specs = (*_files_of(self.manifest).values(), *self.manifest.files)
        return [spec.file for spec in specs]

    def file_bytes(self) -> int:
        """Bytes of all that is run of it: without manifest, card and further files."""
        return sum(len(content) for content in self.contents.values())


class _FolderContents(Mapping[str, bytes]):
    """The files of a bundle that is a folder, by role, none of them kept in memory."""

    def __init__(self, path: Path, specs: Mapping[str, GraphSpec | FileSpec]) -> None:
        self._path, self._specs = path, specs

    def __getitem__(self, role: str) -> bytes:
        # Whoever writes into the folder meanwhile changes nothing that is used.
        return _verified(open_files(self._path), self._specs[role])

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


def load_bundle(source: str | Path = DEFAULT, trust: Trust | None = None) -> Bundle:
    """Read and verify a bundle: a name (DEFAULT, of BUILT, CURRENT), a directory, or a .zip.

    With `trust` it must be signed by the pinned key, but for those that came with this program.
    Raises BundleError, in one line that says which file and why, for a missing or unreadable
    file, a wrong hash, an unknown schema, or fields and shapes that do not fit together.
    """
    path = _place(str(source))
    files = open_files(path)
    try:
        content = files.read(MANIFEST)
        if trust is not None and not path.resolve().is_relative_to(MODELS.resolve()):
            check_file(files, MANIFEST, content, statement_of(files, trust))
        try:
            raw = parse_json(content)
        except ValueError as error:
            raise BundleError(f"bundle {path}: {MANIFEST} is not JSON: {error}") from error
        manifest = _parse(raw, path)
        specs = _files_of(manifest)
        contents = {}
        for role, spec in specs.items():
            content = _verified(files, spec)
            if not path.is_dir():
                contents[role] = content
        for further in manifest.files:
            _verified(files, further)
    finally:
        files.close()
    _check_shapes(manifest, path)
    if path.is_dir():
        bundle = Bundle(manifest, _FolderContents(path, specs), str(path))
    else:
        bundle = Bundle(manifest, contents, str(path))
    if manifest.text:
        bundle.embeddings()  # refuses a table that does not fit
    bundle.reference()
    bundle.pretrained()
    bundle.pretrained_reference()
    bundle.familiarity()
    return bundle


def statement_of(files: BundleFiles, trust: Trust) -> Statement:
    """What was signed of a bundle. BundleError where it is not signed as `trust` asks."""
    try:
        content, signature = files.read(STATEMENT), files.read(SIGNATURE)
    except BundleError:
        raise BundleError(
            f"bundle {files.path} is not signed, and this device takes what {trust.key} has "
            "signed; on the workstation: python -m conversion sign"
        ) from None
    try:
        return verified_statement(content, signature, trust)
    except ValueError as error:
        raise BundleError(f"bundle {files.path} {error}") from None


def check_file(files: BundleFiles, name: str, content: bytes, statement: Statement) -> None:
    """BundleError where the file of that `name` is not the one that was signed."""
    if digest_of(content) != statement.files.get(name):
        raise BundleError(f"bundle {files.path}: {name} is not the one that was signed")


def _files_of(manifest: Manifest) -> dict[str, GraphSpec | FileSpec]:
    """The files that a manifest names for what runs it, by role."""
    files: dict[str, GraphSpec | FileSpec] = {**manifest.graphs}
    if manifest.text:
        files |= {VOCABULARY: manifest.text.vocabulary, EMBEDDINGS: manifest.text.embeddings}
        if manifest.text.keywords:
            files[KEYWORDS] = manifest.text.keywords
    if manifest.phrases:
        files[KEYWORDS] = manifest.phrases.keywords
    if manifest.reference:
        files[REFERENCE] = manifest.reference.arrays
    if manifest.pretrained:
        files[PRETRAINED_ARRAYS] = manifest.pretrained.arrays
    if manifest.pretrained_reference:
        files[PRETRAINED_REFERENCE] = manifest.pretrained_reference.arrays
    if manifest.familiarity:
        files[FAMILIARITY] = manifest.familiarity.arrays
    return files


def _verified(files: BundleFiles, spec: GraphSpec | FileSpec) -> bytes:
    """A file of a bundle. BundleError where it is not the one that the manifest describes."""
    content = files.read(spec.file)
    digest = digest_of(content)
    if digest != spec.sha256:
        raise BundleError(
            f"bundle {files.path}: {spec.file} is damaged: sha256 is {digest[:12]}..., "
            f"the manifest says {spec.sha256[:12]}...; copy or build the bundle again"
        )
    return content


def _place(source: str) -> Path:
    """Where the bundle of that name is, if it is a name. BundleError where it was not built."""
    if source == DEFAULT:
        return MODELS / DEFAULT
    if source == CURRENT:
        # Followed now: what is switched later is another bundle.
        place = (releases_folder() / CURRENT / "bundle").resolve()
        if not place.is_dir():
            raise BundleError(
                "no bundle was delivered here: edge-emotion update BUNDLE, or, on the workstation, "
                "python -m conversion deploy"
            )
        return place
    if source not in BUILT:
        with suppress(RuntimeError):  # ~ of somebody who is not here
            return Path(source).expanduser()
        return Path(source)
    own = data_folder("models") / source
    for folder in (MODELS / source, own):
        if folder.is_dir():
            return folder
    raise BundleError(
        f"the bundle {source} is not here: in a checkout, on a workstation, python -m conversion "
        f"build training/models/default --tier {source} --keywords "
        f"training/models/default/keywords.txt --out {own} builds it; copy that folder to a device"
    )


def keyword_file(bundle: Bundle) -> Path | None:
    """The bundle's key phrases as a file that another process can read; None without."""
    if KEYWORDS not in bundle.contents:
        return None
    handle, name = tempfile.mkstemp(prefix="keywords-", suffix=".txt")
    with os.fdopen(handle, "wb") as file:
        file.write(bundle.contents[KEYWORDS])
    return Path(name)
