"""One utterance at a time: samples and words in, calibrated class probabilities out.

Features, int8 encoder and statistics run along with the samples, in constant memory; when the
utterance ends, a few frames, the words and the head are all that is left to compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from edge_runtime.bundle import Bundle
from edge_runtime.model.audio_branch import AudioBranch, StageTimes
from edge_runtime.model.fusion import Fusion, modality
from edge_runtime.model.text_branch import TextEncoder
from edge_runtime.pcm import Float32, Int16


@dataclass(frozen=True, eq=False)
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
