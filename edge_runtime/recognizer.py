"""One utterance at a time: samples in, calibrated class probabilities out.

Features, int8 encoder and statistics run along with the samples, in constant memory; when the
utterance ends, a few frames and the head are all that is left to compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from edge_runtime.bundle import AUDIO_ENCODER, HEAD, Bundle
from edge_runtime.graph import Array
from edge_runtime.mfcc import Float32, Int16, MfccStream
from edge_runtime.spu import RunningStatistics


@dataclass
class StageTimes:
    """Processing time by stage since the beginning, seconds."""

    segmentation: float = 0.0
    """Voice activity and end-pointing."""
    features: float = 0.0
    """MFCC and deltas."""
    graph: float = 0.0
    """Quantization, the int8 graphs, and pooling between them."""


class Recognizer:
    """The model of a bundle, running.

    `feed` samples, ask for `scores` at any time, `finish` at the end of the utterance; it is then
    ready for the next one. Raises EngineError or BundleError when the graphs cannot be opened.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, engine: str | None = None) -> None:
        manifest = bundle.manifest
        self.manifest = manifest
        self.times = StageTimes()
        self._encoder = bundle.open_graph(AUDIO_ENCODER, threads, engine)
        self._head = bundle.open_graph(HEAD, threads, engine)
        self._mfcc = MfccStream(manifest.mfcc)
        # Normalization and quantization are one multiplication and one addition per feature.
        frames, pooled = self._encoder.inputs[0], self._head.inputs[0]
        self._frame_gain = np.float32(1) / (manifest.feature_std * np.float32(frames.scale or 1))
        self._frame_offset = frames.zero_point - manifest.feature_mean * self._frame_gain
        self._pooled_gain = np.float32(1) / manifest.pooled_std
        self._pooled = pooled
        # Silence beyond the edges of an utterance is zero after normalization.
        context = (manifest.context_frames, manifest.mfcc.features)
        self._edge = np.full(context, frames.zero_point, frames.dtype)
        self._window = manifest.chunk_frames + 2 * manifest.context_frames
        self._reset()

    @property
    def engine(self) -> str:
        """The interpreter in use."""
        return self._encoder.engine

    def feed(self, samples: Int16) -> None:
        """Take the next samples of the utterance, int16 or float, shape (n,)."""
        start = perf_counter()
        frames = self._mfcc.feed(samples)
        middle = perf_counter()
        self._encode(frames)
        self.times.features += middle - start
        self.times.graph += perf_counter() - middle

    def scores(self) -> Float32 | None:
        """Class probabilities of what is pooled so far, shape (classes,); None before that."""
        if self._statistics[0].count == 0:
            return None
        start = perf_counter()
        result = self._classify()
        self.times.graph += perf_counter() - start
        return result

    def finish(self) -> Float32 | None:
        """Close the utterance: class probabilities, shape (classes,); None if it had no sample."""
        start = perf_counter()
        frames = self._mfcc.flush()
        middle = perf_counter()
        self._encode(frames)
        self._encode_rest()
        result = self._classify() if self._statistics[0].count else None
        self._reset()
        self.times.features += middle - start
        self.times.graph += perf_counter() - middle
        return result

    def _reset(self) -> None:
        self._mfcc.reset()
        self._frames: Array = self._edge
        self._statistics = [
            RunningStatistics(self.manifest.filters) for _ in self.manifest.audio_kernels
        ]

    def _encode(self, features: Float32) -> None:
        """Pool over every chunk whose context is complete."""
        if len(features) == 0:
            return
        spec = self._encoder.inputs[0]
        values = features * self._frame_gain + self._frame_offset
        if spec.scale:
            info = np.iinfo(spec.dtype)
            values = np.clip(np.rint(values), info.min, info.max)
        self._frames = np.concatenate([self._frames, values.astype(spec.dtype)])
        step = self.manifest.chunk_frames
        while len(self._frames) >= self._window:
            self._pool(self._frames[: self._window], step)
            self._frames = self._frames[step:]

    def _encode_rest(self) -> None:
        """Pool over what is left, with silence after the end."""
        step = self.manifest.chunk_frames
        left = len(self._frames) - len(self._edge)
        while left > 0:
            window = self._frames[: self._window]
            padding = np.resize(self._edge, (self._window - len(window), window.shape[1]))
            self._pool(np.concatenate([window, padding]), min(left, step))
            self._frames = self._frames[step:]
            left -= step

    def _pool(self, window: Array, valid: int) -> None:
        """Pool the maps of a window's first `valid` frames behind the context."""
        maps_there = -(-valid // self.manifest.stride)
        outputs = self._encoder(window[None, None])
        for statistics, spec, maps in zip(
            self._statistics, self._encoder.outputs, outputs, strict=True
        ):
            statistics.update(maps[0, 0, :maps_there], spec.zero_point)

    def _classify(self) -> Float32:
        pooled = np.concatenate(
            [
                statistics.result(spec.scale or 1.0).reshape(-1)
                for statistics, spec in zip(self._statistics, self._encoder.outputs, strict=True)
            ]
        )
        standardized = (pooled - self.manifest.pooled_mean) * self._pooled_gain
        (logits,) = self._head(self._pooled.quantize(standardized[None]))
        return softmax(
            self._head.outputs[0].dequantize(logits)[0], self.manifest.calibration.temperature
        )


def softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> Float32:
    """Probabilities of logits (..., classes) divided by `temperature`, over the last axis."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    total = exponentials.sum(axis=-1, keepdims=True)
    return np.asarray(exponentials / total, np.float32)
