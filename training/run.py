"""A training run on disk: weights, settings, measurements, and what it was trained on.

RUN/run.json       everything but the weights
RUN/weights.pt     the quantization-aware weights with their learned ranges
RUN/float.pt       the float weights before quantization-aware training; may be left out
RUN/vocabulary.txt the words that the model knows, one a line, if it reads
RUN/reference.npz  what adapts it to a speaker, if it was fitted (python -m training reference)
RUN/familiarity.npz  what tells how unlike all that trained an utterance is, if it was fitted
                   (python -m training familiarity)
RUN/pretrained-TIER.npz  what follows a pre-trained encoder, for each tier in which it is joined
                   with one (python -m training pretrained)
RUN/pretrained_reference-TIER.npz  how that is adapted to a speaker
RUN/encoder-TIER.npz  that encoder's weights, if it was trained further
RUN/plan.json      what fit began it with, and goes on with alone
RUN/doubtful.csv   clips to listen to again, if it was adapted (python -m training adapt)
RUN/log/, RUN/checkpoints/, RUN/*.png
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from edge_runtime.bundle import DEFAULT
from edge_runtime.familiarity_arrays import FamiliarityArrays, read_familiarity
from edge_runtime.manifest import TEXT, Calibration
from edge_runtime.mfcc import MfccParams
from edge_runtime.pretrained_arrays import (
    PretrainedArrays,
    PretrainedReferenceArrays,
    read_pretrained,
    read_pretrained_reference,
)
from edge_runtime.reference_arrays import ReferenceArrays, read_reference
from edge_runtime.segment import SegmentParams
from training.data.features import FeatureSettings
from training.data.teachers.whisper import WIDTH
from training.data.whisper_encoder import WhisperEncoder, encoder_of
from training.errors import TrainingError
from training.network.config import ModelConfig
from training.network.fakequant import Phase, set_phase
from training.network.model import MscnnSpu
from training.output import into_at_once
from training.tiers import EXTENTS, LARGE

RUN_FILE, WEIGHTS_FILE, FLOAT_FILE = "run.json", "weights.pt", "float.pt"
LOG_FOLDER = "log"
FLOAT_HEAD = "float head"
FORM_TEXTS = {
    "float": "the float weights, as they were before quantization-aware training",
    "fake-quant": "the quantization-aware weights, rounded to int8 in PyTorch",
    "degraded": "fake-quant, each clip once more as some device might hear it, among the noises, "
    "rooms and voices that trained",
    FLOAT_HEAD: "the head not rounded, on what the int8 encoder pools by the device's own code",
    "int8": "the quantization-aware weights in the converted bundle, through the device's own code",
}
"""The forms of a model that figures are of, and which of its two sets of weights each has."""
VOCABULARY_FILE = "vocabulary.txt"
REFERENCE_FILE = "reference.npz"
FAMILIARITY_FILE = "familiarity.npz"
PRETRAINED_FILE = "pretrained-{tier}.npz"
PRETRAINED_REFERENCE_FILE = "pretrained_reference-{tier}.npz"
ENCODER_FILE = "encoder-{tier}.npz"
DEFAULT_RUN = Path(__file__).parent / "models" / "default"  # what the default bundle is built from
_VERSION = 2
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SpeakerReference:
    """What adapts a model to a speaker, see `training.evaluate.reference`."""

    arrays: ReferenceArrays
    """Its weights."""
    settings: dict[str, Any]
    """The other fields of the manifest's `ReferencePart`."""


@dataclass(frozen=True, eq=False)
class KnownCorpora:
    """What tells how unlike all that trained a clip is, see `training.evaluate.familiarity`."""

    arrays: FamiliarityArrays
    """Where the corpora are that trained."""
    settings: dict[str, Any]
    """The other fields of the manifest's `FamiliarityPart`."""


@dataclass(frozen=True, eq=False)
class PretrainedReference:
    """What adapts a joined encoder to a speaker, see `training.evaluate.pretrained_reference`."""

    arrays: PretrainedReferenceArrays
    """Its weights."""
    settings: dict[str, Any]
    """The other fields of the manifest's `PretrainedReferencePart`."""


@dataclass(frozen=True, eq=False)
class Pretrained:
    """What joins a pre-trained encoder to a model, see `training.evaluate.pretrained`."""

    arrays: PretrainedArrays
    """The layer behind it."""
    settings: dict[str, Any]
    """The other fields of the manifest's `PretrainedPart`."""
    thresholds: dict[str, float]
    """Confidence below which both together are unsure, by what the verdict rests on."""
    metrics: dict[str, Any]
    """Accuracy of both together, with what it was measured on."""
    reference: PretrainedReference | None = None
    """What adapts it to a speaker; None where that was not fitted."""
    encoder: bytes | None = None
    """Its weights, where it was trained further (`training.fit.encoder`), as a file; None where it
    is as published."""
    tier: str = LARGE
    """Which one of `EXTENTS`."""

    def network(self) -> WhisperEncoder:
        """The encoder. Raises TrainingError as `encoder_of`."""
        return encoder_of(self.encoder, EXTENTS[self.tier], f"encoder of the tier {self.tier}")

    def metrics_beside(self, own: dict[str, Any]) -> dict[str, Any]:
        """`metrics`, and of a model's `own` those of words alone, which no encoder hears."""
        if not self.metrics.get("corpora"):
            return self.metrics
        corpora = dict(self.metrics["corpora"])
        for corpus, modalities in own.get("corpora", {}).items():
            if TEXT in modalities:
                corpora[corpus] = {**corpora.get(corpus, {}), TEXT: modalities[TEXT]}
        protocol = own.get("protocol", self.metrics.get("protocol", ""))
        return {**self.metrics, "protocol": protocol, "corpora": corpora}


@dataclass(frozen=True)
class Dimensions:
    """Valence and arousal of each class, see `training.evaluate.dimensions`."""

    valence: dict[str, float]
    """By class, from -1 to 1."""
    arousal: dict[str, float]
    """By class, from -1 to 1."""
    source: str
    """Where they are from."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Agreement with ratings, with what it was measured on; empty for a table of words."""


@dataclass(eq=False)
class Run:
    """What `load` gives back and `save` writes."""

    config: ModelConfig
    features: FeatureSettings
    weights: dict[str, torch.Tensor]
    float_weights: dict[str, torch.Tensor]
    calibration: dict[str, Calibration] = field(default_factory=dict)
    """Temperature and threshold, by what the verdict rests on: audio, text, audio+text."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Accuracy, with what it was measured on."""
    training: dict[str, Any] = field(default_factory=dict)
    """Corpora, clips, speakers, licence, schedule, seed, versions."""
    vocabulary: list[str] = field(default_factory=list)
    """The words of a model that reads, in the order of its embedding table."""
    reference: SpeakerReference | None = None
    """What adapts it to a speaker."""
    familiarity: KnownCorpora | None = None
    """What tells how unlike all that trained an utterance is."""
    pretrained: dict[str, Pretrained] = field(default_factory=dict)
    """What joins a pre-trained encoder to it, by tier."""
    dimensions: Dimensions | None = None
    """Valence and arousal of its classes."""

    def start(self) -> dict[str, torch.Tensor]:
        """Weights for float training to start from: float ones, or else what became of them."""
        return self.float_weights or self.weights

    @property
    def plain_calibration(self) -> dict[str, Calibration]:
        """As `edge_runtime.manifest.Manifest.plain`: of what cannot tell how familiar a clip is."""
        known = self.familiarity.settings["without"] if self.familiarity else {}
        return self.calibration | {name: Calibration(**chosen) for name, chosen in known.items()}

    def model(self, phase: Phase = Phase.INT8) -> MscnnSpu:
        """The model with its weights, in evaluation mode.

        FLOAT gives the float weights, INT8 the quantization-aware ones imitating int8. Raises
        TrainingError for a run without float weights.
        """
        if phase is Phase.FLOAT and not self.float_weights:
            raise TrainingError(f"the run has no {FLOAT_FILE}, the weights before quantization")
        model = MscnnSpu(self.config)
        model.load_state_dict(self.float_weights if phase is Phase.FLOAT else self.weights)
        set_phase(model, phase)
        return model.eval()

    def save(self, folder: Path) -> None:
        """Write the run into `folder`, all of it or nothing, beside logs and checkpoints."""
        raw = {
            "version": _VERSION,
            "config": asdict(self.config),
            "features": asdict(self.features),
            "calibration": {name: asdict(chosen) for name, chosen in self.calibration.items()},
            "metrics": self.metrics,
            "training": self.training,
        }
        if self.reference:
            raw["reference"] = self.reference.settings
        if self.familiarity:
            raw["familiarity"] = self.familiarity.settings
        raw["pretrained"] = {tier: _of_pretrained(one) for tier, one in self.pretrained.items()}
        if self.dimensions:
            raw["dimensions"] = asdict(self.dimensions)
        with into_at_once(folder, last=RUN_FILE) as new:
            torch.save(self.weights, new / WEIGHTS_FILE)
            if self.float_weights:
                torch.save(self.float_weights, new / FLOAT_FILE)
            if self.vocabulary:
                text = "".join(f"{word}\n" for word in self.vocabulary)
                (new / VOCABULARY_FILE).write_text(text, encoding="utf-8")
            if self.reference:
                (new / REFERENCE_FILE).write_bytes(self.reference.arrays.content())
            if self.familiarity:
                (new / FAMILIARITY_FILE).write_bytes(self.familiarity.arrays.content())
            for tier, one in self.pretrained.items():
                file = PRETRAINED_FILE.format(tier=tier)
                (new / file).write_bytes(one.arrays.content())
                if one.encoder:
                    (new / ENCODER_FILE.format(tier=tier)).write_bytes(one.encoder)
                if one.reference:
                    file = PRETRAINED_REFERENCE_FILE.format(tier=tier)
                    (new / file).write_bytes(one.reference.arrays.content())
            (new / RUN_FILE).write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> Run:
    """Read a run. Raises TrainingError for a folder that holds none, or one that does not parse."""
    try:
        raw = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        if raw["version"] != _VERSION:
            raise TrainingError(f"{folder}: run version {raw['version']}, expected {_VERSION}")
        config = raw["config"]
        for name in ("labels", "audio_kernels", "audio_dilations", "text_kernels", "hidden"):
            config[name] = tuple(config[name])
        features = raw["features"]
        floats = folder / FLOAT_FILE
        words = folder / VOCABULARY_FILE
        vocabulary = words.read_text(encoding="utf-8").split("\n")[:-1] if words.exists() else []
        shape = ModelConfig(**config)
        return Run(
            config=shape,
            features=FeatureSettings(
                MfccParams(**features["mfcc"]),
                SegmentParams(**features["segment"]),
                features["trim"],
            ),
            weights=torch.load(folder / WEIGHTS_FILE, weights_only=True),
            float_weights=torch.load(floats, weights_only=True) if floats.exists() else {},
            calibration={name: Calibration(**c) for name, c in raw["calibration"].items()},
            metrics=raw["metrics"],
            training=raw["training"],
            vocabulary=vocabulary,
            reference=_reference(folder, raw.get("reference"), shape),
            familiarity=_familiarity(folder, raw.get("familiarity"), shape),
            pretrained={
                tier: _pretrained(folder, tier, one, shape)
                for tier, one in _tiers(folder, raw.get("pretrained", {})).items()
            },
            dimensions=Dimensions(**raw["dimensions"]) if "dimensions" in raw else None,
        )
    except FileNotFoundError as error:
        raise TrainingError(
            f"{folder} is not a finished training run: there is no {Path(error.filename).name}"
        ) from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{folder} is not a training run that can be read: {error}") from None


def _reference(
    folder: Path, settings: dict[str, Any] | None, config: ModelConfig
) -> SpeakerReference | None:
    if settings is None:
        return None
    content = (folder / REFERENCE_FILE).read_bytes()
    arrays = read_reference(content, config.audio_statistics, len(config.labels))
    return SpeakerReference(arrays, settings)


def _familiarity(
    folder: Path, settings: dict[str, Any] | None, config: ModelConfig
) -> KnownCorpora | None:
    if settings is None:
        return None
    content = (folder / FAMILIARITY_FILE).read_bytes()
    return KnownCorpora(read_familiarity(content, config.audio_statistics), settings)


def _of_pretrained(joined: Pretrained) -> dict[str, Any]:
    """What of it is no array."""
    raw = {name: getattr(joined, name) for name in ("settings", "thresholds", "metrics")}
    raw["trained_further"] = joined.encoder is not None
    if joined.reference:
        raw["reference"] = joined.reference.settings
    return raw


def _tiers(folder: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """What was joined, by tier; nothing where an earlier version did, which knew of no tiers."""
    if "settings" not in raw:
        return raw
    log.warning(
        "warning: %s was joined with an encoder by an earlier version, which does not count: "
        "python -m training pretrained does it again",
        folder,
    )
    return {}


def _pretrained(folder: Path, tier: str, raw: dict[str, Any], config: ModelConfig) -> Pretrained:
    if tier not in EXTENTS:
        raise ValueError(f"it is joined in a tier {tier!r}, not one of {', '.join(EXTENTS)}")
    classes, settings = len(config.labels), raw.pop("reference", None)
    own = raw.pop("trained_further")  # a file that a run before left tells nothing
    content = (folder / PRETRAINED_FILE.format(tier=tier)).read_bytes()
    arrays = read_pretrained(content, WIDTH, classes)
    reference = None
    if settings is not None:
        content = (folder / PRETRAINED_REFERENCE_FILE.format(tier=tier)).read_bytes()
        beside = read_pretrained_reference(content, WIDTH, classes)
        reference = PretrainedReference(beside, settings)
    encoder = (folder / ENCODER_FILE.format(tier=tier)).read_bytes() if own else None
    return Pretrained(arrays, **raw, reference=reference, encoder=encoder, tier=tier)


def forms_of(metrics: dict[str, Any]) -> dict[str, str]:
    """What the forms are that occur in `metrics`, as in `FORM_TEXTS`."""
    every = [forms for found in metrics.get("corpora", {}).values() for forms in found.values()]
    return {
        form: text for form, text in FORM_TEXTS.items() if any(form in forms for forms in every)
    }


def with_origin(record: dict[str, Any], origin: Run) -> dict[str, Any]:
    """Add to a run's training record the data of one that it began with, and their terms."""
    for name, part in origin.training.get("corpora", {}).items():
        known = record["corpora"].get(name)
        if known == part:
            continue
        if known and _is_same(known, part):
            record["corpora"][name] = max(known, part, key=lambda one: int(one["clips"]))
            continue
        while name in record["corpora"]:  # a manifest of its own, and not this one
            name += "-base" if "@" in name else "@base"
        record["corpora"] = {name: part, **record["corpora"]}
    licence = origin.training.get("licence", "")
    if licence and licence not in record["licence"]:
        parts = [*record["licence"].split(", "), *licence.split(", ")]
        record["licence"] = ", ".join(dict.fromkeys(parts))
    return record


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two records are of one published corpus by the same classes.

    They may differ by a few clips, such as texts that have no word for a model of words alone.
    """
    return bool(
        one.get("citation")
        and one["citation"] == other.get("citation")
        and one["classes"].keys() == other["classes"].keys()
    )


def load_run_of(bundle: str, folder: Path | None) -> Run:
    """The run a bundle was built from: `folder`, or the one that ships for the default bundle.

    Raises TrainingError when neither is known.
    """
    if folder is None and bundle != DEFAULT:
        raise TrainingError("name the run that the bundle was built from: --run RUN")
    return load(folder or DEFAULT_RUN)
