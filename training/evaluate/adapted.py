"""Verdicts that are adapted to a speaker, of clips that did not train, by the device's own code.

What is fitted of confidence is fitted here: over the folds of a cross-validation, or over the clips
that a run kept out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.bundle import Bundle
from edge_runtime.manifest import AUDIO, REFERENCE, FileSpec, ReferencePart
from edge_runtime.model.familiarity import Familiarity, tempered
from edge_runtime.model.pretrained import with_encoder
from edge_runtime.model.reference import Reference, least_alike
from edge_runtime.pcm import Float32
from edge_runtime.reference_arrays import ReferenceArrays
from training.begun import PLAN
from training.corpora import NEUTRAL, Utterance, class_indices
from training.errors import TrainingError
from training.evaluate.crossval_files import PREDICTIONS, clip_name
from training.evaluate.histories import CHANGES, TRAINED, Draw, Speakers
from training.evaluate.reference import LIMIT, Heard
from training.run import REFERENCE_FILE

KEEP, CHANGE, TRUST, STRENGTH = 0.98, 0.05, 0.5, 2.5  # how they were found: docs/speakers.md
REFUSED = 0.05  # share of the enrolments of one voice that are taken for two
ENROLLED_UTTERANCES = 4  # of those ten seconds of speech hold
_ENROLMENTS = 20  # a speaker


@dataclass(frozen=True, eq=False)
class Adapted:
    """Verdicts on utterances, each after a history of its own."""

    scores: Float32
    """Class probabilities, (utterances, classes)."""
    shares: npt.NDArray[np.float64]
    """How much the reference counted in each, 0 to 1."""
    changed: npt.NDArray[np.float64]
    """Probability that the speaker was another than that of the history; NaN without one."""


def settings_of(temperature: dict[str, float] | None = None, one_voice: float = 0.0) -> Settings:
    """The numbers of a reference part; without the arguments as before anything is calibrated."""
    return {
        "limit": LIMIT,
        "keep": KEEP,
        "change": CHANGE,
        "trust": TRUST,
        "strength": STRENGTH,
        "temperature": temperature or {},
        "one_voice": one_voice,
    }


Settings = dict[str, Any]


def with_reference(bundle: Bundle, arrays: ReferenceArrays, settings: Settings) -> Bundle:
    """`bundle` with the part that adapts it to a speaker."""
    part = ReferencePart(FileSpec(REFERENCE_FILE, ""), **settings)
    return replace(
        bundle,
        manifest=replace(bundle.manifest, reference=part),
        contents={**bundle.contents, REFERENCE: arrays.content()},
    )


@dataclass(frozen=True, eq=False)
class Along:
    """What a pre-trained encoder hears of the same utterances."""

    states: Float32
    """Statistics of its states, (utterances, 2 x width)."""
    said: Float32
    """Log probabilities of the classes by them, (utterances, classes)."""


def adapt(
    bundle: Bundle,
    heard: Heard,
    cold: Float32,
    draw: Draw,
    speakers: Speakers,
    enrolled: bool = False,
    modality: str = AUDIO,
    along: Along | None = None,
) -> Adapted:
    """The verdict on each utterance after the history that `draw` gives it.

    Parameters
    ----------
    bundle : one with a reference part.
    heard : the utterances, of which histories are drawn as well.
    cold : calibrated class probabilities of each by itself, (utterances, classes), before what is
        unlike all that trained is made less sure.
    draw, speakers : what was heard before each.
    enrolled : whether the history is one voice for sure, as when it is enrolled.
    modality : what the verdicts rest on.
    along : of a bundle with an encoder; its verdicts are joined, and adapted where it has the part.
    """
    reference = Reference(bundle, running=True)
    encoded: list[Float32 | None] = [None] * len(heard.utterances)
    if along is not None:
        encoded = [reference.standardize_encoded(states) for states in along.states]
    manifest = bundle.manifest
    known = Familiarity(bundle) if manifest.familiarity else None
    scores, shares, changed = [], [], []
    for place in range(len(heard.utterances)):
        reference.reset()
        for earlier in draw(speakers, place):
            standard = heard.standard[earlier]
            opinion = None if enrolled else reference.opinion(standard)
            seconds = float(heard.seconds[earlier])
            reference.learn(standard, opinion, seconds, encoded[earlier])
        opinion = reference.opinion(heard.standard[place], encoded[place])
        found = reference.join(cold[place], opinion, modality) if opinion else cold[place]
        if along is not None and manifest.pretrained:
            said, beside = along.said[place].tolist(), manifest.pretrained_reference
            found = with_encoder(found, said, modality, manifest.pretrained, beside, opinion)
        if known is not None:
            found = tempered(found, known.factor_of(heard.standard[place]))
        scores.append(found)
        shares.append(opinion.share if opinion else 0.0)
        changed.append(opinion.changed if opinion else np.nan)
    return Adapted(np.stack(scores), np.array(shares), np.array(changed))


def calibrate_adapted(
    parts: Sequence[tuple[Bundle, Heard, dict[str, Float32]]], labels: Sequence[str], seed: int = 0
) -> Settings:
    """The numbers of a reference part, fitted on clips that did not train.

    Parameters
    ----------
    parts : bundles with a reference part (`with_reference`), what each is judged by, and of that
        the calibrated probabilities by modality.
    labels : the classes.

    Two judgements of one utterance are not independent: joined they need a temperature of their
    own. It is fitted over all kinds of histories in equal parts, each clip after one of them.
    """
    plain, ratios = [], []
    for bundle, heard, cold in parts:
        part = bundle.manifest.reference
        assert part is not None
        unscaled = replace(bundle.manifest, reference=replace(part, temperature={}))
        plain.append((replace(bundle, manifest=unscaled), heard, cold, None))
        ratios += enrolment_ratios(bundle, heard, labels, seed)
    temperature = shared_temperatures(plain, labels, seed)
    return settings_of(temperature, float(np.quantile(ratios, REFUSED)) if ratios else 0.0)


HeardFold = tuple[Bundle, Heard, dict[str, Float32], Along | None]
"""A bundle with a reference part, what it is judged by, of that the calibrated probabilities of the
model by modality, and what the encoder hears of it, if it hears along."""


def shared_temperatures(
    parts: Sequence[HeardFold], labels: Sequence[str], seed: int
) -> dict[str, float]:
    """What adapted verdicts are to be divided by, by modality: over all kinds of histories."""
    found: defaultdict[str, list[tuple[Adapted, npt.NDArray[np.int64]]]] = defaultdict(list)
    for bundle, heard, cold, along in parts:
        truth = np.array(class_indices(heard.utterances, labels))
        for modality, scores in cold.items():
            speakers = Speakers(heard.utterances, labels, seed)
            adapted = adapt(
                bundle, heard, scores, _in_turn, speakers, modality=modality, along=along
            )
            found[modality].append((adapted, truth))
    return {name: _fit_shared(pairs) for name, pairs in found.items()}


_KINDS = (*TRAINED.values(), *CHANGES.values())


def _in_turn(speakers: Speakers, place: int) -> list[int]:
    return _KINDS[place % len(_KINDS)](speakers, place)


def _fit_shared(pairs: Sequence[tuple[Adapted, npt.NDArray[np.int64]]]) -> float:
    """The temperature of what rests on the reference alone; less of it, less of the temperature."""
    logits = np.concatenate([np.log(np.maximum(a.scores, 1e-9)) for a, _ in pairs])
    shares = np.concatenate([a.shares for a, _ in pairs])
    truth = np.concatenate([t for _, t in pairs])
    best, lowest = 1.0, np.inf
    for candidate in np.geomspace(0.5, 20.0, 200):
        scaled = logits / (1 + (candidate - 1) * shares)[:, None]
        own = scaled[np.arange(len(truth)), truth]
        loss = float((np.log(np.exp(scaled).sum(axis=1)) - own).mean())
        if loss < lowest:
            best, lowest = float(candidate), loss
    return round(best, 4)


def enrolment_ratios(
    bundle: Bundle, heard: Heard, labels: Sequence[str], seed: int = 0, strangers: int = 0
) -> list[float]:
    """Of plain utterances as somebody enrolls, how much the least alike is by the others' voice.

    `strangers` of the utterances are by somebody else of the corpus, the first and the third.
    """
    speakers = Speakers(heard.utterances, labels, seed)
    label = NEUTRAL if NEUTRAL in labels else None
    first: dict[str, int] = {}
    for place, utterance in enumerate(heard.utterances):
        if utterance.speaker and label in (None, utterance.label):
            first.setdefault(utterance.speaker, place)
    ratios = []
    for place in first.values():
        for _ in range(_ENROLMENTS):
            own = [place, *speakers.own(place, ENROLLED_UTTERANCES - 1, label)]
            foreign = speakers.other(place, strangers, label)
            if len(own) < ENROLLED_UTTERANCES or len(foreign) < strangers:
                continue
            for number, other in enumerate(foreign):
                own[2 * number] = other
            ratios.append(least_alike(bundle, [heard.standard[i] for i in own]))
    return ratios


Part = tuple[Path, list[Utterance], dict[str, Float32]]


def crossval_parts(folder: Path, utterances: Sequence[Utterance]) -> list[Part]:
    """As `crossval_verdicts`; logits by modality, of int8."""
    return [
        (fold, found, {key.partition("/")[0]: rows for key, rows in logits.items()})
        for fold, found, logits in crossval_verdicts(folder, utterances, ("int8",))
    ]


def crossval_verdicts(
    folder: Path, utterances: Sequence[Utterance], forms: Sequence[str]
) -> list[Part]:
    """Of each fold of a finished crossval: folder, the utterances that it judged, their logits.

    Only of those in `utterances` that are spoken; logits (n, classes) of sound by "modality/form",
    of those of `forms` that there are. Raises TrainingError where it is no crossval, or none of the
    utterances is in it.
    """
    try:
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))["test"]
    except (OSError, ValueError, KeyError):
        raise TrainingError(f"{folder} is not a finished crossval: there is no {PLAN}") from None
    named: defaultdict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        if utterance.path is not None:
            named[clip_name(utterance)].append(utterance)
    parts = []
    for number, names in enumerate(plan, 1):
        fold = folder / f"fold{number}"
        if not (fold / PREDICTIONS).exists():
            raise TrainingError(f"{folder} is not a finished crossval: {fold.name} is not judged")
        logits = {
            key: rows
            for key, rows in np.load(fold / PREDICTIONS).items()
            if key.partition("/")[2] in forms and key.startswith(AUDIO)
        }
        if not logits:
            raise TrainingError(f"{fold} has no {forms[0]} figures of sound")
        places, found = [], []
        for place, name in enumerate(names):
            # Behind these four are its words, which may hold anything.
            waiting = named.get("/".join(name.split("/", 4)[:4]))
            if waiting:
                places.append(place)
                found.append(waiting.pop(0))
        parts.append((fold, found, {name: rows[places] for name, rows in logits.items()}))
    if not any(found for _, found, _ in parts):
        raise TrainingError(f"none of these clips was judged in {folder}; name its corpora")
    return parts
