"""What a bundle says of itself: manifest.json as typed objects, read and written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from edge_runtime.branches import STATISTICS as STATISTICS  # its checks take it from here
from edge_runtime.branches import branch_widths, query_count, text_context
from edge_runtime.errors import BundleError
from edge_runtime.graph import TensorSpec
from edge_runtime.made_for import TARGETS, check_made_for
from edge_runtime.mfcc import MfccParams
from edge_runtime.segment import SegmentParams
from edge_runtime.untrusted import shown

SCHEMA_VERSION = 2

MANIFEST = "manifest.json"

AUDIO_ENCODER = "audio_encoder"

TEXT_ENCODER = "text_encoder"

ATTENTION = "attention"

HEAD = "head"

REFERENCE = "reference"

PRETRAINED = "pretrained"
PRETRAINED_REFERENCE = "pretrained_reference"

FAMILIARITY = "familiarity"

WHOLE = "whole"

WINDOW_FRAMES = 750  # what the whole-window graph sees: 7.5 s, as in the paper

VOCABULARY, EMBEDDINGS, KEYWORDS = "vocabulary", "embeddings", "keywords"

AUDIO, TEXT, BOTH = "audio", "text", "audio+text"  # what a verdict can rest on

READS_TARGETS = "0.1.0"  # the version that `targets`, `runtime` and `files` came with

# Parts that may be left out.
_OPTIONAL = (
    REFERENCE,
    PRETRAINED,
    PRETRAINED_REFERENCE,
    FAMILIARITY,
    "phrases",
    "targets",
    "form",
    "runtime",
    "files",
    "dimensions",
)

_PHASES = "phases"  # of the audio part, likewise
_DISTANCE = ("usual_distance", "distance_slope")  # of the pre-trained part, likewise

_LONGEST_TEXT = 4096  # converters make long names of tensors

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
    """Logits are divided by this before the softmax (Guo et al. 2017); finite, above 0."""
    threshold: float
    """Below this confidence, 0 to 1, the label is "unsure"; 0 never says so."""


@dataclass(frozen=True, eq=False)
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
    phases: int = 1
    """Grids of maps, a frame apart, whose statistics are averaged, `stride` of them at most: scores
    depend less on where an utterance begins. May be left out, for 1."""


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
        return text_context(self.kernels)


@dataclass(frozen=True)
class AttentionPart:
    """The attention of the audio statistics over the words."""

    scale: float
    """Factor of the audio statistics when they become queries."""
    pairs: str
    """Scale pairs that are joined: all, or matched (first with first, and so on)."""


@dataclass(frozen=True)
class ReferencePart:
    """How earlier utterances of a speaker judge the next one (`edge_runtime.model.reference`)."""

    arrays: FileSpec
    """NumPy's .npz of what `edge_runtime.reference_arrays` holds, float16 or float32."""
    limit: float
    """Standardized audio statistics are clipped to this, on both sides."""
    keep: float
    """Share of its weight that what is known of the speaker keeps with each new utterance."""
    change: float
    """Probability that an utterance is by somebody else, before anything is heard of it."""
    trust: float
    """Factor of the log likelihood ratio of voices: what they say is not independent."""
    strength: float
    """Weight of the judgement by the reference, where much is known of the speaker."""
    temperature: dict[str, float]
    """What the joined log probabilities are divided by, by what the verdict rests on."""
    one_voice: float
    """Log likelihood ratio below which an utterance is not by the voice that is being enrolled."""


@dataclass(frozen=True)
class PretrainedPart:
    """A pre-trained encoder beside the model (`edge_runtime.model.pretrained`)."""

    arrays: FileSpec
    """NumPy's .npz of what `edge_runtime.pretrained_arrays` holds."""
    frames: int
    """Length of the windows that it hears, frames of 10 ms."""
    strength: dict[str, float]
    """Weight of what it says beside the model's own scores, by what the verdict rests on."""
    temperature: dict[str, float]
    """What the joined log probabilities are divided by, by what the verdict rests on."""
    usual_distance: float = 0.0
    """As `FamiliarityPart.usual`, by what the encoder hears."""
    distance_slope: float = 0.0
    """As `FamiliarityPart.slope`, beside that; 0 never changes anything."""


@dataclass(frozen=True)
class PretrainedReferencePart:
    """How what a pre-trained encoder hears is judged beside the speaker's earlier utterances.

    How much these count, and when they are forgotten, says `ReferencePart`.
    """

    arrays: FileSpec
    """NumPy's .npz of `edge_runtime.pretrained_arrays.PretrainedReferenceArrays`."""
    strength: float
    """Weight of this judgement, where much is known of the speaker."""
    temperature: dict[str, float]
    """What all that is joined is further divided by where much is known of the speaker, by what
    the verdict rests on."""


@dataclass(frozen=True)
class FamiliarityPart:
    """How sure a verdict is of what is unlike all that trained (`edge_runtime.model.familiarity`).

    What log probabilities are divided by is exp(slope (d - usual)), held to 0.5 to 4, where d is
    the logarithm of the squared distance to the nearest corpus.
    """

    arrays: FileSpec
    """NumPy's .npz of what `edge_runtime.familiarity_arrays` holds, float16 or float32."""
    limit: float
    """Standardized audio statistics are clipped to this, on both sides."""
    usual: float
    """d of clips of corpora that trained, by speakers who did not: there the factor is 1."""
    slope: float
    """How fast the factor grows with d; 0 never changes anything."""
    without: dict[str, Calibration]
    """The calibration of whatever cannot measure d (`Manifest.plain`), by what the verdict rests
    on."""


@dataclass(frozen=True)
class DimensionsPart:
    """How valence and arousal follow from the class probabilities: as their mean over classes."""

    valence: dict[str, float]
    """Of each class, from -1 (unpleasant) to 1 (pleasant)."""
    arousal: dict[str, float]
    """Of each class, from -1 (still) to 1 (stirred)."""
    source: str
    """Where these numbers are from: a table of words, or clips that people rated."""


@dataclass(frozen=True)
class PhrasesPart:
    """Phrases of the user's own (`edge_runtime.model.spotted`)."""

    keywords: FileSpec
    """The list, which the device spots as it does that of `TextPart`."""
    limit: float
    """Natural logarithm by which the odds between two classes change at most for hearing them in an
    utterance; 0 where the list does not say what its phrases tell: they are only told then."""


@dataclass(frozen=True, eq=False)
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
    reference: ReferencePart | None = None
    """How it adapts to a speaker; may be left out where it does not."""
    pretrained: PretrainedPart | None = None
    """A pre-trained encoder that hears along; may be left out where there is none."""
    pretrained_reference: PretrainedReferencePart | None = None
    """How the encoder adapts to a speaker; may be left out where it does not."""
    familiarity: FamiliarityPart | None = None
    """How sure it is of what is unlike all that trained; may be left out."""
    phrases: PhrasesPart | None = None
    """Phrases that are spotted, and may count in a verdict; may be left out."""
    targets: tuple[str, ...] = (TARGETS[0],)
    """Targets that it is good for; may be left out, for raspberry-pi."""
    form: str = ""
    """What its graphs compute in: int8, float16 or float; may be left out."""
    runtime: dict[str, str] = field(default_factory=dict)
    """Least versions of what runs it, by distribution: edge-emotion's, and of each interpreter that
    can, of which one is enough. One that is not named may be of any version."""
    files: tuple[FileSpec, ...] = ()
    """Further files, which whoever installs it needs and `edge-emotion` does not read."""
    dimensions: DimensionsPart | None = None
    """Valence and arousal of each class; may be left out, and then events have neither."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """What a verdict of this bundle can rest on."""
        one = ((AUDIO,) if self.audio else ()) + ((TEXT,) if self.text else ())
        return (*one, BOTH) if len(one) > 1 else one

    @property
    def reads(self) -> bool:
        """Whether words can change a verdict."""
        return bool(self.text or (self.phrases and self.phrases.limit))

    def plain(self) -> Manifest:
        """The model alone, for what has no more: no encoder hears along.

        It is calibrated without how familiar a sound is, and has one grid of maps.
        """
        audio = self.audio
        if audio and audio.phases > 1:
            audio = replace(audio, phases=1)
        if self.familiarity is None and self.pretrained is None and audio is self.audio:
            return self
        without = self.familiarity.without if self.familiarity else {}
        return replace(
            self,
            audio=audio,
            calibration={**self.calibration, **without},
            familiarity=None,
            pretrained=None,
            pretrained_reference=None,
        )

    def threshold(self, modality: str) -> float:
        """Least confidence of a verdict that rests on `modality`, 0 to 1.

        That of the sound alone where phrases count beside it: nothing else was measured.
        """
        return self.calibration.get(modality, self.calibration[self.modalities[0]]).threshold

    @property
    def branches(self) -> dict[str, int]:
        """What the head reads, in order: name to width."""
        audio, text = self.audio, self.text
        return branch_widths(
            filters=self.filters,
            audio_scales=len(audio.kernels) if audio else 0,
            text_scales=len(text.kernels) if text else 0,
            queries=self.queries,
            embedding=text.width if text and text.swem else 0,
            speaker=self.speaker,
        )

    def dimension(self, name: str, scores: dict[str, float]) -> float | None:
        """The valence or arousal, -1 to 1, of class probabilities; None where nothing says it."""
        if self.dimensions is None:
            return None
        table: dict[str, float] = getattr(self.dimensions, name)
        return sum(scores[label] * value for label, value in table.items())

    @property
    def queries(self) -> int:
        """Audio vectors that attend to each text scale; 0 without attention."""
        if not self.audio or not self.attention:
            return 0
        return query_count(len(self.audio.kernels), self.attention.pairs)


def manifest_to_json(manifest: Manifest) -> str:
    """The text of manifest.json."""
    raw = {"schema": SCHEMA_VERSION, **asdict(manifest)}
    for name in _OPTIONAL:
        if not raw[name]:
            del raw[name]
    if raw["audio"] and raw["audio"][_PHASES] == 1:
        del raw["audio"][_PHASES]
    if raw.get("pretrained") and not raw["pretrained"]["distance_slope"]:
        for name in _DISTANCE:
            del raw["pretrained"][name]
    return json.dumps(raw, indent=1, default=_array_to_list) + "\n"


def _array_to_list(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        # The shortest text that reads back as the same float32.
        return [float(str(item)) for item in value]
    raise TypeError(f"{type(value).__name__} has no place in a manifest")


def _parse(raw: Any, path: Path) -> Manifest:
    check_made_for(raw, path)
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if schema != SCHEMA_VERSION:
        raise BundleError(
            f"bundle {path}: schema {shown(schema)} is not the {SCHEMA_VERSION} that this version "
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
        lacking = kinds.keys() - raw - {*_OPTIONAL, _PHASES, *_DISTANCE}
        for what, names in (("lacks", lacking), ("has an unknown", raw.keys() - kinds)):
            if names:
                raise ValueError(f"{where} {what} {shown(min(names))}")
        made = {name: _from_json(kinds[name], raw[name], name) for name in kinds if name in raw}
        try:
            return kind(**made)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if raw is None else _from_json(parts[0], raw, where)
    if kind == npt.NDArray[np.float32]:
        with np.errstate(over="ignore"):
            values = np.asarray(_from_json(tuple[float, ...], raw, where), np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"{where} holds numbers beyond float32")
        return values
    if origin is tuple and isinstance(raw, list):
        return tuple(_from_json(parts[0], item, where) for item in raw)
    if origin is dict and isinstance(raw, dict):
        keys = [_from_json(str, key, f"a name in {where}") for key in raw]
        return {key: _from_json(parts[1], raw[key], key) for key in keys}
    if kind is float and type(raw) in (int, float) and isfinite(raw):
        return float(raw)
    if kind is int and type(raw) is int and abs(raw) < _INTEGER_BOUND:
        return raw
    if kind is str and isinstance(raw, str):
        # It is shown on terminals and in messages.
        if not raw.isprintable() or len(raw) > _LONGEST_TEXT:
            raise ValueError(f"{where}: {shown(raw)} is no plain text of one line")
        return raw
    if kind is Any or (kind is bool and type(raw) is bool):
        return raw
    name = getattr(origin or kind, "__name__", kind)
    raise ValueError(f"{where}: {json.dumps(raw)[:40]} is not of type {name}")
