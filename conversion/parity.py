"""Float, fake-quantized and int8 side by side, on real clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

import training.run
from conversion.bundle import build
from conversion.errors import ConversionError
from conversion.faults import LIMIT, distance
from conversion.targets import bundle_target
from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.console import counted
from edge_runtime.manifest import AUDIO, WHOLE, WINDOW_FRAMES
from edge_runtime.mfcc import mfcc
from edge_runtime.model.fusion import softmax
from edge_runtime.model.window import WholeWindow
from edge_runtime.segment import speech_of
from edge_runtime.stream import judge_clip
from edge_runtime.tokenizer import Tokenizer
from training.corpora import Utterance
from training.data.tokens import encode
from training.evaluate.metrics import Metrics, measure
from training.evaluate.predict import predict
from training.network.fakequant import Phase, set_phase
from training.rounding import described, loss_of
from training.run import Run

Float32 = npt.NDArray[np.float32]

FLOAT, FAKE_QUANT, INT8, WINDOW = "float", "fake-quant", "int8 device", "int8 whole window"
TORCH, ONNX = "unrounded torch", "unrounded ONNX Runtime"
AGAINST = "the other bundle"
COMPARED = {
    FLOAT: training.run.FORM_TEXTS["float"],
    TORCH: "the quantization-aware weights, not rounded, in PyTorch",
    ONNX: "the quantization-aware weights, not rounded, in ONNX Runtime",
    FAKE_QUANT: training.run.FORM_TEXTS["fake-quant"],
    WINDOW: "the quantization-aware weights, as one int8 graph over a window",
    AGAINST: "the bundle of --against, through the device's own code",
    INT8: training.run.FORM_TEXTS["int8"],
}
"""Every form, and which of a run's two sets of weights it has. Only the first is what `fit` calls
float; the others are one set of weights, so that what differs between them is the arithmetic."""


@dataclass(frozen=True, eq=False)
class Parity:
    """Scores of every form of one model on the same clips."""

    scores: dict[str, Float32]
    """Form, of `COMPARED`, to probabilities (n, classes); NaN for an utterance that a window does
    not hold. No window where the bundle has none, no float where the run has no such weights."""
    truth: npt.NDArray[np.int64]
    labels: list[str]
    speakers: list[str | None] | None = None
    """Who speaks in each clip, None where that is not known; None: not known of any."""
    silent: int = 0
    """Clips that were left out: digital silence, in which a device hears no utterance."""

    def agreement(self, one: str, other: str) -> float:
        """Share of clips on which two forms name the same class."""
        here = self._both(one, other)
        labels = [self.scores[form][here].argmax(axis=1) for form in (one, other)]
        return float((labels[0] == labels[1]).mean())

    def difference(self, one: str, other: str) -> float:
        """Largest difference of a probability between two forms."""
        here = self._both(one, other)
        return float(np.abs(self.scores[one][here] - self.scores[other][here]).max())

    def metrics(self, form: str) -> Metrics:
        """Accuracy of one form on these clips."""
        here = self._both(form, form)
        speakers = self.speakers and [self.speakers[index] for index in np.flatnonzero(here)]
        guess = self.scores[form][here].argmax(axis=1)
        return measure(self.truth[here], guess, self.labels, speakers)

    def broken(self, form: str) -> list[str]:
        """What makes the bundle, of this form, another model than was trained; a sentence each.

        On these clips, what `conversion build` refuses: int8 that lost as `Loss.broken` says to
        float, or to the unrounded weights where the run has no float ones; forms that are to be
        the same but for the arithmetic, further apart than `conversion.faults.LIMIT`.
        """
        exact = FLOAT if FLOAT in self.scores else TORCH
        before, after = (self.scores[name].argmax(axis=1) for name in (exact, INT8))
        found = []
        if loss_of(self.truth, before, after, self.labels).broken:
            figures = [self.metrics(name).to_dict() for name in (exact, INT8)]
            found.append(f"against {exact}, {described(*figures)}")
        model = FAKE_QUANT if form == "int8" else TORCH
        for one, other in ((TORCH, ONNX), (model, INT8), (WINDOW, INT8)):
            if one in self.scores:
                apart = distance(self.scores[one], self.scores[other])
                if apart > LIMIT:
                    found.append(
                        f"{one} and {other} are {100 * apart:.0f} % of the probability apart (at "
                        f"most {100 * LIMIT:.0f} %)"
                    )
        return found

    def _both(self, one: str, other: str) -> npt.NDArray[np.bool_]:
        """Clips that both forms judged."""
        judged = np.isfinite(self.scores[one]) & np.isfinite(self.scores[other])
        return np.asarray(judged.all(axis=1))


def parity(
    bundle: Bundle,
    run: Run,
    utterances: list[Utterance],
    work: Path,
    against: Bundle | None = None,
) -> Parity:
    """Run every form of `run`'s model, and its bundle, over the clips, with words where it reads.

    The weights before quantization-aware training are there where the run has them. The bundle in
    float goes into the folder `work`. The model alone is compared: a pre-trained encoder has one
    form, and how familiar a clip is PyTorch cannot tell.
    `against` is a bundle of the same classes for another target. Raises
    ConversionError or AudioError, and TrainingError for an utterance that is text only.
    """
    bundle = bundle.plain()
    build(
        run,
        work / "float",
        bundle_target(bundle.manifest.target),
        "float",
        form="float",
        whole=False,
    )
    streams = {INT8: _stream(bundle), ONNX: _stream(load_bundle(work / "float").plain())}
    if against:
        if against.manifest.labels != bundle.manifest.labels:
            raise ConversionError(
                f"{against.source} knows {', '.join(against.manifest.labels)}, {bundle.source} "
                f"{', '.join(bundle.manifest.labels)}: bundles of one model can be compared"
            )
        streams[AGAINST] = _stream(against.plain())
    models = {TORCH: run.model(), FAKE_QUANT: run.model()}
    set_phase(models[TORCH], Phase.FLOAT)
    if run.float_weights:
        models[FLOAT] = run.model(Phase.FLOAT)
    window = WholeWindow(bundle) if WHOLE in bundle.manifest.graphs else None
    reader = Tokenizer(run.vocabulary, run.config.tokens, run.config.punctuation)
    absent = {FLOAT: FLOAT not in models, WINDOW: window is None, AGAINST: against is None}
    rows: dict[str, list[Any]] = {form: [] for form in COMPARED if not absent.get(form)}
    judged = []
    for utterance in track(utterances, "comparing", console=Console(stderr=True), transient=True):
        samples = read_file(utterance.audio, utterance.start, utterance.end)
        said = [judge_clip(stream, samples, utterance.text) for stream in streams.values()]
        events = [event for event in said if event is not None]
        if len(events) < len(said):
            continue
        judged.append(utterance)
        for form, event in zip(streams, events, strict=True):
            rows[form].append(list(event.scores.values()))
        raw = mfcc(speech_of(samples, bundle.manifest.segment), bundle.manifest.mfcc)
        if window:
            whole = window.scores(raw, utterance.text) if len(raw) <= WINDOW_FRAMES else None
            rows[WINDOW].append([np.nan] * len(event.scores) if whole is None else whole)
        temperature = bundle.manifest.calibration[event.modality].temperature
        features = tokens = None
        if run.config.parts.audio:
            features = [raw]
        if event.modality != AUDIO:
            tokens = encode([utterance], reader)
        for form, model in models.items():
            rows[form].append(softmax(predict(model, features, tokens)[0], temperature))
    if not judged:
        silent = counted(len(utterances), "silent clip")
        raise ConversionError(f"nothing to compare in {silent}")
    labels = list(bundle.manifest.labels)
    return Parity(
        scores={form: np.asarray(values, np.float32) for form, values in rows.items()},
        truth=np.array([labels.index(u.label) for u in judged]),
        labels=labels,
        speakers=[u.speaker for u in judged],
        silent=len(utterances) - len(judged),
    )


def _stream(bundle: Bundle) -> EmotionStream:
    return EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
