"""What is broken of a conversion: int8 that is another model than the one that was trained.

Three things are looked at. What the run's own figures lost by rounding, on clips that judged it;
how far rounding moves the scores of speech that is in the box; how far the device's own code, with
the graphs that were built, is from the fake-quantized model there. The last two need no clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

import edge_runtime
from edge_runtime import EmotionStream
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import AUDIO, TEXT, WHOLE
from edge_runtime.mfcc import MfccParams, mfcc
from edge_runtime.model.fusion import softmax
from edge_runtime.model.window import WholeWindow
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.segment import SegmentParams, speech_of
from edge_runtime.stream import judge_clip
from edge_runtime.tokenizer import Tokenizer
from training.evaluate.advice import broken_by_rounding
from training.evaluate.judge import modalities
from training.evaluate.predict import predict
from training.network.fakequant import Phase, set_phase
from training.run import Run

ROUNDING_LIMIT = 0.20
"""How much probability rounding may move between classes, 0 to 1, on the mean of the examples. It
moves 0.008 of the default bundle's, 0.04 of a small model's that never heard such speech; 0.36 to
0.43 with the range of the audio input or of a hidden map at a tenth."""
LIMIT = 0.10
"""The same of what differs by arithmetic alone. What runs on the device is 0.001 from the
fake-quantized model, a whole window, in which an utterance is repeated, up to 0.05."""

Float32 = npt.NDArray[np.float32]

_SCENE = Path(edge_runtime.__file__).parent / "demo" / "scene.flac"
_SECONDS, _HOP_SECONDS = 3.0, 1.5
_WORDS, _COMMON = 8, 2000  # of an example; of the vocabulary, the first of which are the commonest


@dataclass(frozen=True, eq=False)
class Examples:
    """Speech in the box, and words of a run's own vocabulary: the same each time."""

    sounds: list[Int16]
    texts: list[str]


def examples_of(run: Run) -> Examples:
    """Fourteen of each; no words for a model that reads none."""
    sounds = _sounds()
    words = run.vocabulary[:_COMMON] if run.config.parts.text else []
    texts = [
        " ".join(
            words[(7 * (place + len(sounds) * number)) % len(words)] for number in range(_WORDS)
        )
        if words
        else ""
        for place in range(len(sounds))
    ]
    return Examples(sounds, texts)


@cache
def _sounds() -> list[Int16]:
    samples = read_file(_SCENE)
    length, hop = (int(seconds * SAMPLE_RATE) for seconds in (_SECONDS, _HOP_SECONDS))
    return [samples[at : at + length] for at in range(0, len(samples) - length + 1, hop)]


@cache
def _features(segment: SegmentParams, params: MfccParams) -> list[Float32]:
    """Of the speech in each sound, (frames, features): looked at before rounding and after."""
    return [mfcc(speech_of(sound, segment), params) for sound in _sounds()]


def of_run(run: Run, form: str) -> list[str]:
    """What rounding has broken of a run, a sentence each; nothing where `form` is not int8."""
    if form != "int8":
        return []
    found = broken_by_rounding(run.metrics)
    examples = examples_of(run)
    exact, rounded = (torch_scores(run, phase, examples) for phase in (Phase.FLOAT, Phase.INT8))
    for modality, scores in rounded.items():
        moved = distance(exact[modality], scores)
        if moved > ROUNDING_LIMIT:
            found.append(
                f"{modality}: rounding to int8 moves {100 * moved:.0f} % of the probability to "
                "other classes, on speech and words in the box (at most "
                f"{100 * ROUNDING_LIMIT:.0f} %)"
            )
    return found


def of_bundle(run: Run, bundle: Bundle, form: str) -> list[str]:
    """Where a bundle that was built of a run does not compute what its model does."""
    examples = examples_of(run)
    phase = Phase.INT8 if form == "int8" else Phase.FLOAT
    name = "fake-quantized" if form == "int8" else "unrounded"
    expected = torch_scores(run, phase, examples)
    found = []
    for where, scores in device_scores(bundle, examples).items():
        apart = distance(expected[where.partition(",")[0]], scores)
        if apart > LIMIT:
            found.append(
                f"{where}: the graphs that were built are {100 * apart:.0f} % of the probability "
                f"away from the {name} model, on speech and words in the box (at "
                f"most {100 * LIMIT:.0f} %)"
            )
    return found


def distance(one: Float32, other: Float32) -> float:
    """Mean total variation of probabilities (n, classes), 0 to 1, where both have some."""
    return float(np.nanmean(np.abs(one - other).sum(axis=1)) / 2)


def torch_scores(run: Run, phase: Phase, examples: Examples) -> dict[str, Float32]:
    """Calibrated probabilities (n, classes) of the quantization-aware weights, by modality."""
    model = run.model()
    set_phase(model, phase)
    config = run.config
    features = tokens = None
    if config.parts.audio:
        features = _features(run.features.segment, run.features.mfcc)
    if config.parts.text:
        reader = Tokenizer(run.vocabulary, config.tokens, config.punctuation)
        tokens = [reader.encode(text).ids for text in examples.texts]
    found = {}
    for modality in modalities(config.parts):
        logits = predict(
            model,
            features if modality != TEXT else None,
            tokens if modality != AUDIO else None,
        )
        known = run.plain_calibration.get(modality)
        found[modality] = softmax(logits, known.temperature if known else 1.0)
    return found


def device_scores(bundle: Bundle, examples: Examples) -> dict[str, Float32]:
    """The same by the device's own code; and of the whole-window graph, where there is one.

    It is the model alone: a pre-trained encoder has one form, and how familiar a sound is the model
    in PyTorch cannot tell.
    """
    bundle = bundle.plain()
    manifest = bundle.manifest
    stream = EmotionStream(bundle, segment=manifest.segment.whole(), partial_seconds=0, live=False)
    found: dict[str, Float32] = {}
    for modality in manifest.modalities:
        rows = []
        for sound, text in zip(examples.sounds, examples.texts, strict=True):
            heard = sound if modality != TEXT else np.zeros(0, np.int16)
            event = judge_clip(stream, heard, text if modality != AUDIO else "")
            rows.append([*event.scores.values()] if event else [np.nan] * len(manifest.labels))
        found[modality] = np.array(rows, np.float32)
    if WHOLE in manifest.graphs:
        window = WholeWindow(bundle)
        held: list[Float32] = []
        for sound, text in zip(examples.sounds, examples.texts, strict=True):
            heard = speech_of(sound, manifest.segment)
            scores = window.scores(mfcc(heard, manifest.mfcc) if manifest.audio else None, text)
            held.append(np.full(len(manifest.labels), np.nan) if scores is None else scores)
        found[f"{manifest.modalities[-1]}, whole window"] = np.array(held, np.float32)
    return found
