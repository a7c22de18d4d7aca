"""Float, fake-quantized and int8 side by side, on real clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from conversion.export import export_onnx
from edge_runtime import EmotionStream
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import AUDIO_ENCODER, HEAD, Bundle
from edge_runtime.graph import Graph
from edge_runtime.mfcc import mfcc
from edge_runtime.recognizer import softmax
from edge_runtime.segment import speech_of
from edge_runtime.spu import RunningStatistics
from edge_runtime.stream import classify
from training.corpora import Utterance
from training.fakequant import Phase, set_phase
from training.metrics import Metrics, measure
from training.model import MscnnSpu
from training.run import Run

Float32 = npt.NDArray[np.float32]

TORCH, ONNX, FAKE_QUANT, INT8 = "float torch", "float ONNX Runtime", "fake-quant", "int8 device"
FORMS = (TORCH, ONNX, FAKE_QUANT, INT8)


@dataclass(frozen=True)
class Parity:
    """Scores of every form of one model on the same clips."""

    scores: dict[str, Float32]
    """Form to probabilities (n, classes)."""
    truth: npt.NDArray[np.int64]
    labels: list[str]

    def agreement(self, one: str, other: str) -> float:
        """Share of clips on which two forms name the same class."""
        return float((self.scores[one].argmax(axis=1) == self.scores[other].argmax(axis=1)).mean())

    def difference(self, one: str, other: str) -> float:
        """Largest difference of a probability between two forms."""
        return float(np.abs(self.scores[one] - self.scores[other]).max())

    def metrics(self, form: str) -> Metrics:
        """Accuracy of one form on these clips."""
        return measure(self.truth, self.scores[form].argmax(axis=1), self.labels)


def parity(bundle: Bundle, run: Run, utterances: list[Utterance], work: Path) -> Parity:
    """Run every form of `run`'s model, and its bundle, over the clips.

    The float forms carry the quantization-aware weights without rounding: what is compared is the
    arithmetic. ONNX graphs go into the folder `work`. Raises ConversionError or AudioError, and
    TrainingError for an utterance that is text only.
    """
    model = run.model()
    graphs = {role: Graph(e.path) for role, e in export_onnx(model, work).items()}
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    temperature = bundle.manifest.calibration.temperature
    rows: dict[str, list[Any]] = {form: [] for form in FORMS}
    for utterance in utterances:
        samples = read_file(utterance.audio, utterance.start, utterance.end)
        rows[INT8].append(list(classify(stream, samples).scores.values()))
        features = mfcc(speech_of(samples, bundle.manifest.segment), bundle.manifest.mfcc)
        rows[ONNX].append(_onnx_logits(features, model, graphs))
        for form, phase in ((TORCH, Phase.FLOAT), (FAKE_QUANT, Phase.INT8)):
            set_phase(model, phase)
            with torch.no_grad():
                logits = model(torch.from_numpy(features)[None], torch.tensor([len(features)]))
            rows[form].append(logits[0].numpy())
    labels = list(bundle.manifest.labels)
    return Parity(
        scores={
            form: np.asarray(values, np.float32)
            if form == INT8
            else softmax(np.asarray(values), temperature)
            for form, values in rows.items()
        },
        truth=np.array([labels.index(u.label) for u in utterances]),
        labels=labels,
    )


def _onnx_logits(features: Float32, model: MscnnSpu, graphs: dict[str, Graph]) -> Float32:
    """The float graphs with the device's chunking and pooling."""
    encoder, head = graphs[AUDIO_ENCODER], graphs[HEAD]
    window = encoder.inputs[0].shape[2]
    context, stride = model.config.audio_context, model.config.audio_stride
    step = window - 2 * context  # a whole number of maps
    normal = (features - model.feature_mean.numpy()) / model.feature_std.numpy()
    count = -(-len(normal) // step)
    padded = np.zeros((count * step + 2 * context, normal.shape[1]), np.float32)
    padded[context : context + len(normal)] = normal
    statistics = [RunningStatistics(model.config.filters) for _ in encoder.outputs]
    for start in range(0, len(normal), step):
        outputs = encoder(padded[None, None, start : start + window])
        for running, maps in zip(statistics, outputs, strict=True):
            running.update(maps[0, 0, : -(-(len(normal) - start) // stride)])
    pooled = np.concatenate([s.result().reshape(-1) for s in statistics])
    mean, std = model.pooled_statistics()
    standard = (pooled - mean.numpy()) / std.numpy()
    (logits,) = head(standard[None].astype(np.float32))
    return np.asarray(logits[0], np.float32)
