"""Clips of any classes and a finished run become another run, and what it is worth."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.console import counted
from edge_runtime.manifest import AUDIO, Calibration
from edge_runtime.model.fusion import softmax
from edge_runtime.pcm import Float32
from edge_runtime.pretrained_arrays import PretrainedArrays
from training.adapt.base import Base, encoder_view, open_base
from training.adapt.clips import Sound, check_clips, inspect, warnings_of
from training.adapt.cross import (
    FOLD_SEED,
    Curve,
    Judge,
    Plan,
    choose_strength,
    learning_curve,
    out_of_fold,
    plan_folds,
)
from training.adapt.doubtful import Doubt, doubtful_labels, with_troubles, with_two_voices
from training.adapt.head import (
    Indices,
    Linear,
    View,
    finely_quantized,
    fit_linear,
    quantized,
    quantized_logits,
    with_head,
)
from training.adapt.voices import two_voices
from training.corpora import Found, Utterance, class_indices, speakers_of
from training.corpora.class_map import record_of
from training.data.fingerprint import Origins, data_record, seen_before
from training.data.folds import check_classes
from training.data.teachers.whisper import FRAMES
from training.errors import TrainingError
from training.evaluate import verdicts
from training.evaluate.judge import Verdicts, calibrate
from training.evaluate.metrics import Metrics, measure, unsure_threshold
from training.evaluate.pretrained import log_probabilities, opinions, part_settings, together
from training.evaluate.reference import Heard
from training.network.fakequant import Phase, set_phase
from training.network.model import Head
from training.provenance import provenance
from training.rounding import Loss, changes, loss_of
from training.run import FLOAT_HEAD, Pretrained, Run, forms_of, with_origin
from training.tiers import SMALL

FAKE_QUANT = "fake-quant"

Quantize = Callable[[Linear, Float32, float, float], Head]
"""As `training.adapt.head.quantized`."""


@dataclass(frozen=True, eq=False)
class Adapted:
    """A run of new classes, and what to tell of it."""

    run: Run
    curve: Curve | None
    """None for too few clips."""
    base: Metrics | None
    """The base on the same clips, where their classes are among its own."""
    majority: float
    """Share of the largest class: the WA of always saying it."""
    doubts: list[Doubt]
    """Clips to listen to, the worst first."""
    notes: list[str]
    """What makes this doubtful, a sentence each."""
    trained: list[Utterance]
    """The clips that trained it."""
    origins: Origins
    """The training record of the run that it was adapted from, by its folder."""
    rows: list[verdicts.Row]
    """What heads that did not learn from it said of each clip."""


def adapt(
    found: Mapping[str, Found],
    source: str,
    strength: float | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Adapted:
    """Fit a head of the clips' own classes to the encoder of a finished run.

    Parameters
    ----------
    found : corpora by name; their texts are not read.
    source : a tier of the shipped run, or the folder of a run.
    strength : of the penalty, as in `training.adapt.head`; None: by cross-validation.
    jobs : processes that hear clips; by default one a core.

    Raises TrainingError for clips or a base that cannot be used.
    """
    utterances = [u for part in found.values() for u in part.utterances if u.path is not None]
    check_classes(utterances)
    # Before clips are counted: two that are long may be a hundred.
    sounds = inspect(utterances, jobs, progress)
    usable = [u for u, sound in zip(utterances, sounds, strict=True) if sound.usable]
    check_clips(usable)
    with tempfile.TemporaryDirectory() as work:
        base = open_base(source, Path(work))
        heard, _ = base.hear(usable, jobs, progress)
        more = encoder_view(base, heard, jobs, progress) if base.tier != SMALL else None
    heard = more[0] if more else heard
    known = {id(u) for u in heard.utterances}
    labels = check_clips(heard.utterances)
    truth = np.array(class_indices(heard.utterances, labels))
    plan = plan_folds(heard.utterances, truth)
    origins = {base.folder: base.run.training}
    seen = ", ".join(seen_before(heard.utterances, origins))
    if seen:
        plan = replace(plan, protocol=f"{plan.protocol}; {base.name} was trained on {seen}")
    views = [View(heard.standard), *([more[1]] if more else [])]
    chosen = strength or choose_strength(views, truth, plan.folds)
    data = HeadData(heard.utterances, views, truth, labels, plan, chosen)
    run, said = fit_run(base, data)
    curve = learning_curve(views, truth, plan.folds, chosen)
    run.training = {**_record(found, base, heard, data, curve), **run.training}
    lost = [u for u in utterances if id(u) not in known]
    notes = warnings_of(heard.utterances)
    doubters = views
    if not more:
        try:
            doubters = _with_encoder(base, heard, views, jobs, progress)
        except TrainingError as error:  # the encoder is not installed
            notes.append(f"labels are doubted by what {base.name} hears alone: {error}")
    doubts = doubtful_labels(heard.utterances, doubters, truth, labels, chosen)
    try:
        voices = two_voices(heard.utterances, jobs, progress)
        doubts = with_two_voices(doubts, [heard.utterances[place] for place in voices])
    except TrainingError as error:  # the encoder is not installed
        notes.append(str(error))
    if seen:
        notes.append(
            f"{base.name} was trained on {seen}: people who taught its encoder judge it, and the "
            "figures flatter"
        )
    if lost:
        notes.append(f"{counted(len(lost), 'clip')} could not be heard and did not train")
    return Adapted(
        run,
        curve,
        _of_base(base, heard, views, truth, labels),
        max(Counter(truth.tolist()).values()) / len(truth),
        with_troubles(doubts, _troubles(utterances, sounds, known)),
        notes,
        heard.utterances,
        origins,
        verdicts.rows_of(heard.utterances, said, labels, run.calibration),
    )


def _with_encoder(
    base: Base, heard: Heard, views: list[View], jobs: int | None, progress: bool
) -> list[View]:
    """What doubts labels: the pre-trained encoder as well, where it hears every clip.

    It finds more of them (docs/your-own-data.md); the model that is made does without it.
    """
    both, view = encoder_view(base, heard, jobs, progress)
    return [*views, view] if len(both.utterances) == len(heard.utterances) else views


@dataclass(frozen=True, eq=False)
class HeadData:
    """What a head is fitted to."""

    utterances: list[Utterance]
    views: list[View]
    """What the base pools, and perhaps what the pre-trained encoder makes of the clips."""
    truth: Indices
    labels: list[str]
    plan: Plan
    strength: float

    def out_of_fold(self, views: list[View], judge: Judge | None = None) -> Float32:
        """Logits of all clips, (n, classes)."""
        return out_of_fold(views, self.truth, self.plan.folds, self.strength, judge)

    def layer(self, view: View) -> Linear:
        """What learns from all clips."""
        every = np.arange(len(self.truth))
        return fit_linear(view, every, self.truth, len(self.labels), self.strength)


def fit_run(base: Base, data: HeadData) -> tuple[Run, Verdicts]:
    """The run, with figures and confidence by what is out of fold; and that, logits (n, classes).

    By "modality/form"; those with a pre-trained encoder are of temperature 1 once divided by the
    run's own.
    """
    pooled = data.views[0]
    low, high = base.run.model().head.input.range()

    def out_of_fold(quantize: Quantize) -> Float32:
        def judge(linear: Linear, train: Indices, test: Indices) -> Float32:
            head = quantize(linear, pooled.values[train], low, high)
            return quantized_logits(head, pooled.values[test])

        return data.out_of_fold([pooled], judge)

    exact, rounded = data.out_of_fold([pooled]), out_of_fold(quantized)
    quantize: Quantize = quantized
    tried = _lost(data, exact, rounded)
    if tried:
        # Which ranges is decided on the clips that trained, in each fold and in all.
        quantize, rounded = finely_quantized, out_of_fold(finely_quantized)
    head = quantize(data.layer(pooled), pooled.values, low, high)
    run = with_head(base.run, head, data.labels)
    forms = {FLOAT_HEAD: exact, FAKE_QUANT: rounded}
    run.calibration, run.metrics = _measured(data, forms)
    said = {f"{AUDIO}/{form}": logits for form, logits in forms.items()}
    if tried:
        left = _loss(data, exact, rounded)
        run.training["remedy"] = {
            "because": f"{100 * tried.ua:.1f} points of UA lost out of fold",
            "lost": [round(tried.ua, 4), round(left.ua, 4)],
            "kept": True,
        }
    if len(data.views) > 1:
        own = run.calibration[AUDIO].temperature
        joined, logits, temperature = _joined(data, rounded, own, base)
        run.pretrained = {joined.tier: joined}
        said[f"{AUDIO}/{verdicts.JOINED}"] = logits * np.float32(own / temperature)
    return run, said


def _lost(data: HeadData, exact: Float32, rounded: Float32) -> Loss | None:
    """What rounding the head loses out of fold, where that is notable and more than chance."""
    loss = _loss(data, exact, rounded)
    return loss if loss.notable and loss.sure else None


def _loss(data: HeadData, exact: Float32, rounded: Float32) -> Loss:
    return loss_of(data.truth, exact.argmax(axis=1), rounded.argmax(axis=1), data.labels)


def _joined(
    data: HeadData, rounded: Float32, temperature: float, base: Base
) -> tuple[Pretrained, Float32, float]:
    """A layer behind the pre-trained encoder, judged together with the head.

    That encoder is the one of `base`, or the published one.
    With the logits of both together, (n, classes), and their temperature.
    """
    said = log_probabilities(data.out_of_fold(data.views[1:]))
    logits = np.log(np.maximum(together(rounded, temperature, said), 1e-9)).astype(np.float32)
    calibration, metrics = _measured(data, {FAKE_QUANT: logits})
    layer, known = data.layer(data.views[1]), base.pretrained
    part = Pretrained(
        PretrainedArrays(layer.weights, layer.bias),
        part_settings(calibration, known.settings["frames"] if known else FRAMES),
        {AUDIO: calibration[AUDIO].threshold},
        metrics,
        encoder=known.encoder if known else None,
        tier=base.tier,
    )
    return part, logits, calibration[AUDIO].temperature


def _measured(
    data: HeadData, forms: dict[str, Float32]
) -> tuple[dict[str, Calibration], dict[str, Any]]:
    """Calibration and figures of logits out of fold, by form; the last form is calibrated."""
    truth, speakers = data.truth, [u.speaker for u in data.utterances]
    logits = list(forms.values())[-1]
    temperature, error = calibrate(logits, truth)
    confidence = softmax(logits, temperature).max(axis=1)
    threshold = unsure_threshold(confidence, logits.argmax(axis=1) == truth)
    corpora = np.array([u.corpus for u in data.utterances])
    figures: dict[str, Any] = {}
    for name in sorted(set(corpora.tolist())):
        mine = np.flatnonzero(corpora == name)
        whose = [speakers[place] for place in mine]
        guesses = {form: said[mine].argmax(axis=1) for form, said in forms.items()}
        figures[name] = {
            AUDIO: {
                form: measure(truth[mine], guess, data.labels, whose).to_dict()
                for form, guess in guesses.items()
            }
        }
        if FLOAT_HEAD in guesses:
            exact, rounded = guesses[FLOAT_HEAD], guesses[FAKE_QUANT]
            figures[name][AUDIO][FAKE_QUANT] |= changes(truth[mine], exact, rounded, data.labels)
    metrics: dict[str, Any] = {
        "protocol": data.plan.protocol,
        "corpora": figures,
        "calibration_error": {AUDIO: round(error, 4)},
    }
    metrics["forms"] = forms_of(metrics)
    metrics["all"] = measure(truth, logits.argmax(axis=1), data.labels, speakers).to_dict()
    return {AUDIO: Calibration(temperature, threshold)}, metrics


def _of_base(
    base: Base, heard: Heard, views: Sequence[View], truth: Indices, labels: list[str]
) -> Metrics | None:
    """How the base judges the same clips, among their classes; None where it has other ones."""
    own = base.run.config.labels
    if not set(labels) <= set(own):
        return None
    head = base.run.model().head
    set_phase(head, Phase.INT8)
    logits = quantized_logits(head, heard.standard)
    if base.pretrained:
        said = opinions(base.pretrained.arrays, views[1].values)
        strength = base.pretrained.settings["strength"][AUDIO]
        logits = together(logits, base.run.calibration[AUDIO].temperature, said, strength)
    guess = logits[:, [own.index(label) for label in labels]].argmax(axis=1)
    return measure(truth, guess, labels, [u.speaker for u in heard.utterances])


def _troubles(
    utterances: Sequence[Utterance], sounds: Sequence[Sound], known: set[int]
) -> list[Doubt]:
    """Clips whose samples are at fault; `known` are the ids of those that could be heard."""
    found = []
    for utterance, sound in zip(utterances, sounds, strict=True):
        reason = sound.trouble or ("" if id(utterance) in known else "no speech in it")
        if reason:
            found.append(Doubt(utterance, "", 0.0, reason))
    return found


def _record(
    found: Mapping[str, Found],
    base: Base,
    heard: Heard,
    data: HeadData,
    curve: Curve | None,
) -> dict[str, Any]:
    """What the run was trained on; the base's data, and its terms, are the run's as well."""
    corpora = {}
    for name, part in found.items():
        mine = [i for i, u in enumerate(heard.utterances) if u.corpus == name]
        own = [heard.utterances[i] for i in mine]
        corpora[name] = {
            "clips": len(own),
            "speakers": speakers_of(own),
            "hours": round(float(heard.seconds[mine].sum()) / 3600, 3),
            "classes": dict(sorted(Counter(u.label for u in own).items())),
            "licence": part.licence,
            "citation": part.citation,
        }
    licences = [f"{part.licence} ({name})" for name, part in found.items() if part.licence]
    record = {
        "corpora": corpora,
        "classes": record_of(found),
        "licence": ", ".join(licences) or "that of the manifest's data",
        "settings": {
            "adapted_from": base.name,
            "strength": data.strength,
            "folds": len(data.plan.folds),
            "by_speaker": data.plan.by_speaker,
        },
        "start": base.run.training.get("settings", {}),
        "data": data_record(heard.utterances),
        "seeds": {"folds": FOLD_SEED},
        **provenance(),
    }
    if curve:
        record["learning_curve"] = {"clips": curve.clips, "ua": [round(u, 4) for u in curve.ua]}
    return with_origin(record, base.run)
