"""One utterance at a time: samples and words in, calibrated class probabilities out.

Features, int8 encoder and statistics run along with the samples, in constant memory; when the
utterance ends, a few frames, the words and the head are all that is left to compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from edge_runtime.bundle import AUDIO_ENCODER, STATISTICS, Bundle
from edge_runtime.errors import BundleError
from edge_runtime.fusion import Fusion, modality
from edge_runtime.graph import Array
from edge_runtime.mfcc import Float32, Int16, MfccStream
from edge_runtime.spu import RunningStatistics
from edge_runtime.text.encoder import TextEncoder

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


@dataclass(frozen=True)
class Verdict:
    """What a model says of an utterance."""

    scores: Float32
    """Class probabilities, (classes,)."""
    modality: str
    """What they rest on: audio, text or audio+text."""


class Recognizer:
    """The model of a bundle, running.

    `feed` samples, ask for a `verdict` at any time, `finish` at the end of the utterance; it is
    then ready for the next one. Raises EngineError or BundleError when the graphs cannot be
    opened.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, engine: str | None = None) -> None:
        manifest = bundle.manifest
        self.manifest = manifest
        self.times = StageTimes()
        self._fusion = Fusion(bundle, threads, engine)
        self._audio = AudioBranch(bundle, self.times, threads, engine) if manifest.audio else None
        self._text = TextEncoder(bundle, threads, engine) if manifest.text else None
        self._last: Float32 | None = None
        self.speaker: Float32 | None = None
        """Embedding of who speaks, (width,), for a model that takes one; None: not known."""

    @property
    def engine(self) -> str:
        """The interpreter in use."""
        return self._fusion.engine

    def feed(self, samples: Int16) -> None:
        """Take the next samples of the utterance, int16 or float, shape (n,)."""
        if self._audio:
            self._audio.feed(samples)

    def verdict(self, text: str = "") -> Verdict | None:
        """What is pooled so far, with the words so far; None while there is nothing of either."""
        return self._judge(self._audio.pooled() if self._audio else None, text)

    def finish(self, text: str = "") -> Verdict | None:
        """Close the utterance; None if it had no sample and has no word."""
        self._last = self._audio.finish() if self._audio else None
        return self._judge(self._last, text)

    @property
    def last(self) -> Float32 | None:
        """Audio statistics of the last finished utterance, for `judge`."""
        return self._last

    def judge(self, audio: Float32 | None, text: str) -> Verdict | None:
        """A finished utterance again, by its `last`, with words that came too late for it."""
        return self._judge(audio, text)

    def judge_text(self, text: str) -> Verdict | None:
        """The verdict on words alone; None without a word, or without a text branch."""
        return self._judge(None, text)

    def _judge(self, audio: Float32 | None, text: str) -> Verdict | None:
        start = middle = perf_counter()
        reading = None
        if self._text and text:
            reading = self._text.read(text)
            middle = perf_counter()
            self.times.text += middle - start
        if audio is None and reading is None:
            return None
        scores = self._fusion.scores(audio, reading, self.speaker)
        self.times.graph += perf_counter() - middle
        return Verdict(scores, modality(audio, reading))


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
        # Frames that the encoder waits for, and room for those that come at a time.
        rows = self._window + _ROOM
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
        if self._statistics.count == 0:
            return None
        # (3, scales x filters), the scales side by side
        return self._statistics.result(self._scales).reshape(self._form).transpose(1, 0, 2)

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
        self._statistics = RunningStatistics(self._zeros.size)

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
            while end - begin >= self._window:
                self._pool(self._frames[begin : begin + self._window], self._step)
                begin += self._step
            self._drop(begin, end)

    def _encode_rest(self) -> None:
        """Pool over what is left, with silence after the end."""
        left = self._filled - len(self._edge)
        while left > 0:
            self._frames[self._filled : self._window] = self._edge[0, 0]
            self._pool(self._frames[: self._window], min(left, self._step))
            self._drop(self._step, max(self._filled, self._step))
            left -= self._step

    def _drop(self, begin: int, end: int) -> None:
        """Keep the frames from `begin` to `end`, at the front."""
        self._filled = end - begin
        if begin:
            self._frames[: self._filled] = self._frames[begin:end]

    def _pool(self, window: Array, valid: int) -> None:
        steps = -(-valid // self._stride)
        maps = [scale[0, 0, :steps] for scale in self._encoder(window[None, None])]
        self._statistics.update(maps, self._zeros)
