"""The audio branch: samples to features to int8 maps to running statistics."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from edge_runtime.branches import STATISTICS
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError
from edge_runtime.manifest import AUDIO_ENCODER
from edge_runtime.mfcc import MfccStream
from edge_runtime.model.spu import RunningStatistics
from edge_runtime.pcm import Float32, Int16

_ROOM = 64  # frames taken at a time


@dataclass
class StageTimes:
    """Processing time by stage since the beginning, seconds."""

    segmentation: float = 0.0
    """Voice activity and end-pointing."""
    features: float = 0.0
    """MFCC and deltas."""
    text: float = 0.0
    """Tokens, embeddings and the text encoder."""
    graph: float = 0.0
    """Quantization, the other int8 graphs, and pooling between them."""


class AudioBranch:
    """Features, int8 step encoder and pooling of one utterance, in constant memory.

    Processing time is added to `times`.
    """

    def __init__(
        self, bundle: Bundle, times: StageTimes, threads: int = 1, engine: str | None = None
    ) -> None:
        manifest, part = bundle.manifest, bundle.manifest.audio
        if part is None:
            raise BundleError(f"bundle {bundle.source}: its model hears nothing")
        self._times, self._step, self._filters = times, part.chunk_frames, manifest.filters
        self._stride = part.stride
        self._encoder = bundle.open_graph(AUDIO_ENCODER, threads, engine)
        self._mfcc = MfccStream(manifest.mfcc)
        scales = len(self._encoder.outputs)
        self._form = (STATISTICS, scales, self._filters)
        zeros = [s.zero_point for s in self._encoder.outputs]
        self._zeros = np.repeat(np.array(zeros, np.float32), self._filters)
        self._scales = np.repeat([s.scale or 1.0 for s in self._encoder.outputs], self._filters)
        # Normalization and quantization are one multiplication and one addition per feature.
        frames = self._encoder.inputs[0]
        self._gain = np.float32(1) / (part.feature_std * np.float32(frames.scale or 1))
        self._offset = frames.zero_point - part.feature_mean * self._gain
        # Silence beyond the edges of an utterance is zero after normalization.
        context = (part.context_frames, manifest.mfcc.features)
        self._edge = np.full(context, frames.zero_point, frames.dtype)
        self._window = part.chunk_frames + 2 * part.context_frames
        # Grids of maps begin a frame apart, and each has statistics of its own.
        self._phases = part.phases
        self._waited = self._window + part.phases - 1
        # Frames that the encoder waits for, and room for those that come at a time.
        rows = self._waited + _ROOM
        self._frames = np.full((rows, manifest.mfcc.features), frames.zero_point, frames.dtype)
        self._real = np.empty((_ROOM, manifest.mfcc.features), np.float32)
        self._range = np.iinfo(frames.dtype) if frames.scale else None
        self._reset()

    def feed(self, samples: Int16) -> None:
        """Take the next samples of the utterance, int16 or float, shape (n,)."""
        start = perf_counter()
        frames = self._mfcc.feed(samples)
        middle = perf_counter()
        self._encode(frames)
        self._times.features += middle - start
        self._times.graph += perf_counter() - middle

    def pooled(self) -> Float32 | None:
        """Statistics so far, (scales, 3, filters); None before the first chunk is complete."""
        found = [grid.result(self._scales) for grid in self._statistics if grid.count]
        if not found:
            return None
        # The first has every frame of the others. (3, scales x filters), the scales side by side
        mean = found[0] if len(found) == 1 else np.mean(found, axis=0, dtype=np.float32)
        return np.asarray(mean, np.float32).reshape(self._form).transpose(1, 0, 2)

    def finish(self) -> Float32 | None:
        """Close the utterance: its statistics, (scales, 3, filters); None if it had no sample."""
        start = perf_counter()
        frames = self._mfcc.flush()
        middle = perf_counter()
        self._encode(frames)
        self._encode_rest()
        result = self.pooled()
        self._reset()
        self._times.features += middle - start
        self._times.graph += perf_counter() - middle
        return result

    def _reset(self) -> None:
        self._mfcc.reset()
        self._filled = len(self._edge)
        self._frames[: self._filled] = self._edge
        self._statistics = [RunningStatistics(self._zeros.size) for _ in range(self._phases)]

    def _encode(self, features: Float32) -> None:
        """Pool over every chunk whose context is complete."""
        for start in range(0, len(features), _ROOM):
            piece = features[start : start + _ROOM]
            real, end = self._real[: len(piece)], self._filled + len(piece)
            np.multiply(piece, self._gain, out=real)
            real += self._offset
            if self._range:
                np.rint(real, out=real)
                np.clip(real, self._range.min, self._range.max, out=real)
            self._frames[self._filled : end] = real
            begin = 0
            while end - begin >= self._waited:
                self._pool(begin, self._step)
                begin += self._step
            self._drop(begin, end)

    def _encode_rest(self) -> None:
        """Pool over what is left, with silence after the end."""
        left = self._filled - len(self._edge)
        while left > 0:
            self._frames[self._filled : self._waited] = self._edge[0, 0]
            self._pool(0, min(left, self._step))
            self._drop(self._step, max(self._filled, self._step))
            left -= self._step

    def _drop(self, begin: int, end: int) -> None:
        """Keep the frames from `begin` to `end`, at the front."""
        self._filled = end - begin
        if begin:
            self._frames[: self._filled] = self._frames[begin:end]

    def _pool(self, begin: int, valid: int) -> None:
        """Over the maps of so many frames, of each grid those that begin in them."""
        for phase, grid in enumerate(self._statistics):
            steps = -(-(valid - phase) // self._stride)
            if steps > 0:
                window = self._frames[begin + phase : begin + phase + self._window]
                maps = [scale[0, 0, :steps] for scale in self._encoder(window[None, None])]
                grid.update(maps, self._zeros)
