"""One utterance at a time: samples and words in, calibrated class probabilities out.

Features, int8 encoder and statistics run along with the samples, in constant memory; when the
utterance ends, a few frames, the words and the head are all that is left to compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from edge_runtime.bundle import Bundle
from edge_runtime.model.audio_branch import AudioBranch, StageTimes
from edge_runtime.model.familiarity import Familiarity, tempered
from edge_runtime.model.fusion import Fusion, joined, modality
from edge_runtime.model.pretrained import Pretrained
from edge_runtime.model.reference import Opinion, Reference
from edge_runtime.model.spotted import Spotted
from edge_runtime.model.text_branch import TextEncoder
from edge_runtime.pcm import SAMPLE_RATE, Float32, Int16


@dataclass(frozen=True, eq=False)
class Heard:
    """All that is known of how an utterance sounds."""

    audio: Float32
    """Statistics of the audio maps, (scales, 3, filters)."""
    pretrained: tuple[float, ...] | None = None
    """Log probability of each class by the pre-trained encoder; None without, or too early."""
    opinion: Opinion | None = None
    """What the reference says of who speaks; None without."""
    factor: float = 1.0
    """Of the temperature: above 1 where it sounds unlike what trained, below where alike."""


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
        self._pretrained = Pretrained(bundle, threads, engine) if manifest.pretrained else None
        self._familiarity = Familiarity(bundle) if manifest.familiarity else None
        self._spotted = Spotted.of(bundle)
        self._last: Heard | None = None
        self.speaker: Float32 | None = None
        """Embedding of who speaks, (width,), for a model that takes one; None: not known."""
        self.reference: Reference | None = None
        """What is known of who speaks; None where verdicts are not adapted to it."""
        self._samples = 0

    @property
    def engine(self) -> str:
        """The interpreter in use."""
        return self._fusion.engine

    def feed(self, samples: Int16) -> None:
        """Take the next samples of the utterance, int16 or float, shape (n,)."""
        if self._audio:
            self._audio.feed(samples)
            self._samples += len(samples)
        if self._pretrained:
            start = perf_counter()
            self._pretrained.feed(samples)
            self.times.graph += perf_counter() - start

    def verdict(self, text: str = "") -> Verdict | None:
        """What is pooled so far, with the words so far; None while there is nothing of either."""
        audio = self._audio.pooled() if self._audio else None
        states = self._pretrained.result() if self._pretrained else None
        return self._judge(self._heard(audio, states), text)

    def finish(self, text: str = "") -> Verdict | None:
        """Close the utterance; None if it had no sample and has no word."""
        audio = self._audio.finish() if self._audio else None
        seconds, self._samples = self._samples / SAMPLE_RATE, 0
        start = perf_counter()
        states = self._pretrained.finish() if self._pretrained else None
        self.times.graph += perf_counter() - start
        self._last = self._heard(audio, states, seconds)
        return self._judge(self._last, text)

    @property
    def last(self) -> Heard | None:
        """How the last finished utterance sounded, for `judge`."""
        return self._last

    def judge(self, heard: Heard | None, text: str) -> Verdict | None:
        """A finished utterance again, its `last`, with words that came too late for it."""
        return self._judge(heard, text)

    def judge_text(self, text: str) -> Verdict | None:
        """The verdict on words alone; None without a word, or without a text branch."""
        return self._judge(None, text)

    def _heard(
        self, audio: Float32 | None, states: Float32 | None, finished: float | None = None
    ) -> Heard | None:
        """With the reference's opinion, if there is one; what is `finished`, of s, it learns.

        `states` are the statistics of the pre-trained encoder.
        """
        if audio is None:
            return None
        said = self._pretrained.opinion(states) if self._pretrained else None
        start = perf_counter()
        factor, opinion = 1.0, None
        if self.reference is not None:
            standard = self.reference.standardize(audio)
            encoded = self.reference.standardize_encoded(states)
            opinion = self.reference.opinion(standard, encoded)
            if finished is not None:
                self.reference.learn(standard, opinion, finished, encoded)
            if self._familiarity:  # of what is standardized already
                factor = self._familiarity.factor_of(standard)
        elif self._familiarity:
            factor = self._familiarity.factor(audio)
        if self._pretrained:
            factor *= self._pretrained.factor(states)
        self.times.graph += perf_counter() - start
        return Heard(audio, said, opinion, factor)

    def _judge(self, heard: Heard | None, text: str) -> Verdict | None:
        start = middle = perf_counter()
        reading = None
        if self._text and text:
            reading = self._text.read(text)
            middle = perf_counter()
            self.times.text += middle - start
        if heard is None and reading is None:
            return None
        audio = heard.audio if heard else None
        scores = self._fusion.scores(audio, reading, self.speaker)
        basis = modality(audio, reading)
        # The reference of the model's own statistics is calibrated with its verdicts alone; joined
        # behind the encoder it would drown that (docs/speakers.md).
        opinion = heard.opinion if heard else None
        if self.reference is not None and opinion is not None:
            scores = self.reference.join(scores, opinion, basis)
        if self._pretrained and heard and heard.pretrained is not None:
            scores = self._pretrained.join(scores, heard.pretrained, basis, opinion)
        if heard and heard.factor != 1:
            scores = tempered(scores, heard.factor)
        told = self._spotted.evidence(text) if self._spotted else None
        if told is not None:
            scores, basis = joined(scores, told, 1.0, 1.0), modality(audio, text)
        self.times.graph += perf_counter() - middle
        return Verdict(scores, basis)
