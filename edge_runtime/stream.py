"""EmotionStream: the one pipeline, samples in, events out."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from edge_runtime.audio import BLOCK
from edge_runtime.bundle import Bundle
from edge_runtime.errors import EdgeError
from edge_runtime.events import UNSURE, EmotionEvent, Event, HealthEvent, SpeechStartEvent
from edge_runtime.mfcc import SAMPLE_RATE, Float32, Int16
from edge_runtime.pcm import to_pcm
from edge_runtime.process import resident_megabytes
from edge_runtime.recognizer import Recognizer, StageTimes, Verdict
from edge_runtime.segment import Boundary, Segmenter, SegmentParams, Speech, SpeechStart

HEALTH_SECONDS = 60.0  # audio between two health events
PARTIAL_SECONDS = 0.25  # audio between two verdicts on the running utterance


class EmotionStream:
    """Finds the utterances in a stream of audio and says how each was felt.

    Parameters
    ----------
    bundle : what `load_bundle` returns.
    text : where the words come from: "off" for nowhere but `read`.
    segment : when utterances begin and end; by default as the model was trained. Its `whole()`
        form takes everything between two `finish` calls for one utterance.
    partial_seconds : audio between two verdicts on a running utterance, s; 0 for none.
    threads : threads of the interpreter.
    engine : force an interpreter, see `edge_runtime.graph.available_engines`.

    Raises
    ------
    EdgeError : an unknown text source, or a bundle whose graphs cannot be opened here.
    """

    def __init__(
        self,
        bundle: Bundle,
        text: str = "off",
        *,
        segment: SegmentParams | None = None,
        partial_seconds: float = PARTIAL_SECONDS,
        threads: int = 1,
        engine: str | None = None,
    ) -> None:
        if text != "off" and bundle.manifest.text is None:
            raise EdgeError(
                f"text source {text!r}: the {bundle.manifest.variant} model of bundle "
                f"{bundle.source} takes no words; use 'off'"
            )
        if text != "off":
            raise EdgeError(f"unknown text source {text!r}; there is off")
        self.bundle = bundle
        self.recognizer = Recognizer(bundle, threads, engine)
        self._segmenter = Segmenter(segment or bundle.manifest.segment)
        self._partial_samples = round(partial_seconds * SAMPLE_RATE)
        self.times = self.recognizer.times
        self._before = StageTimes()
        self._start = 0.0
        self._heard = 0  # samples of the running utterance
        self._said = 0  # samples of it that the last verdict covered
        self._text = ""  # words of the running utterance
        self._dropped = 0
        self._invalid = 0
        self._busy = 0.0
        self._next_health = HEALTH_SECONDS

    @property
    def time(self) -> float:
        """Seconds of audio since the stream began, lost audio included."""
        return self._segmenter.position / SAMPLE_RATE

    def feed(self, samples: npt.ArrayLike) -> list[Event]:
        """Take any number of samples at a time; return the events they lead to.

        Parameters
        ----------
        samples : float in [-1, 1] or int16, mono, 16 kHz, shape (n,). NaN and infinity are
            taken for silence and counted in the health events.

        Raises
        ------
        ValueError : another shape or type.
        """
        begin = perf_counter()
        self._before = replace(self.times)
        pcm, invalid = to_pcm(samples)
        self._invalid += invalid
        boundaries = self._segmenter.feed(pcm)
        self.times.segmentation += perf_counter() - begin
        events = self._handle(boundaries, begin)
        self._busy += perf_counter() - begin
        if self.time >= self._next_health:
            self._next_health = self.time + HEALTH_SECONDS
            events.append(self.health())
        return events

    @property
    def speaker(self) -> Float32 | None:
        """Embedding of who speaks, (width,), for a model that takes one; None: not known."""
        return self.recognizer.speaker

    @speaker.setter
    def speaker(self, embedding: Float32 | None) -> None:
        self.recognizer.speaker = embedding

    def read(self, text: str) -> None:
        """Take `text` for the words of the running utterance so far, in place of earlier ones.

        For words from elsewhere: a transcript, a recognizer of one's own. A model without a text
        branch ignores them. The words count for one utterance, up to its final event.
        """
        self._text = text

    def finish(self) -> list[Event]:
        """Close the running utterance, if there is one; the stream can go on afterwards."""
        begin = perf_counter()
        self._before = replace(self.times)
        events = self._handle(self._segmenter.finish(), begin)
        self._busy += perf_counter() - begin
        return events

    def judge_text(self, text: str) -> EmotionEvent | None:
        """The verdict on words alone; None without a word, or if the model does not read."""
        begin = perf_counter()
        self._before = replace(self.times)
        self._text, self._start = text, self.time
        verdict = self.recognizer.judge_text(text)
        event = self._event(verdict, True, self.time, begin) if verdict else None
        self._text = ""
        return event

    def skip(self, samples: int) -> list[Event]:
        """Account for `samples` lost before they got here; closes the running utterance."""
        self._before = replace(self.times)
        self._dropped += samples
        return self._handle(self._segmenter.skip(samples), perf_counter())

    def health(self) -> HealthEvent:
        """How the stream keeps up, from its beginning to now."""
        heard = self.time - self._dropped / SAMPLE_RATE
        return HealthEvent(
            t=self.time,
            dropped_ms=1000.0 * self._dropped / SAMPLE_RATE,
            invalid_samples=self._invalid,
            real_time_factor=self._busy / heard if heard > 0 else 0.0,
            rss_mb=resident_megabytes(),
        )

    def _handle(self, boundaries: list[Boundary], begin: float) -> list[Event]:
        events: list[Event] = []
        for item in boundaries:
            if isinstance(item, SpeechStart):
                self._start, self._heard, self._said = item.t, 0, 0
                events.append(SpeechStartEvent(t=item.t))
            elif isinstance(item, Speech):
                self._hear(item.samples, begin, events)
            else:
                verdict = self.recognizer.finish(self._text)
                events.append(self._event(verdict, True, item.t, begin))
                self._text = ""
        return events

    def _hear(self, samples: Int16, begin: float, events: list[Event]) -> None:
        """Verdicts fall on multiples of the interval, however the samples were cut."""
        interval = self._partial_samples or samples.size
        while samples.size:
            due = self._said + interval - self._heard
            piece, samples = samples[:due], samples[due:]
            self.recognizer.feed(piece)
            self._heard += piece.size
            if self._heard - self._said < interval:
                continue
            self._said = self._heard
            verdict = self.recognizer.verdict(self._text) if self._partial_samples else None
            if verdict is not None:
                end = self._start + self._heard / SAMPLE_RATE
                events.append(self._event(verdict, False, end, begin))

    def _event(
        self, verdict: Verdict | None, final: bool, end: float, begin: float
    ) -> EmotionEvent:
        manifest = self.bundle.manifest
        labels = manifest.labels
        if verdict is None:
            even = np.full(len(labels), 1.0 / len(labels), np.float32)
            verdict = Verdict(even, manifest.modalities[0])
        scores = verdict.scores
        best = int(scores.argmax())
        confidence = float(scores[best])
        sure = confidence >= manifest.calibration[verdict.modality].threshold
        return EmotionEvent(
            t=self.time,
            final=final,
            start=self._start,
            end=end,
            label=labels[best] if sure else UNSURE,
            confidence=confidence,
            scores=dict(zip(labels, map(float, scores), strict=True)),
            text=self._text if manifest.text else "",
            modality=verdict.modality,
            latency_ms={
                "features": 1000.0 * (self.times.features - self._before.features),
                "text": 1000.0 * (self.times.text - self._before.text),
                "graph": 1000.0 * (self.times.graph - self._before.graph),
                "total": 1000.0 * (perf_counter() - begin),
            },
        )


def classify(
    stream: EmotionStream, samples: npt.ArrayLike, text: str = "", block: int = BLOCK
) -> EmotionEvent:
    """The verdict on a clip that holds one utterance, through the whole streaming path.

    Parameters
    ----------
    stream : made with `segment=bundle.manifest.segment.whole()`; it can be used again.
    samples : as for `EmotionStream.feed`; none if there is text alone.
    text : the words of the clip.
    block : samples fed at a time.

    Raises ValueError when there is nothing that the model hears or reads.
    """
    event = judge_clip(stream, samples, text, block)
    if event is None:
        raise ValueError("a clip without samples or words has no emotion")
    return event


def judge_clip(
    stream: EmotionStream, samples: npt.ArrayLike, text: str = "", block: int = BLOCK
) -> EmotionEvent | None:
    """As `classify`, but None when there is nothing that the model hears or reads."""
    array = np.asarray(samples)
    if not array.size:
        return stream.judge_text(text)
    events: list[Event] = []
    stream.read(text)
    for start in range(0, len(array), block):
        events += stream.feed(array[start : start + block])
    events += stream.finish()
    return next(e for e in reversed(events) if isinstance(e, EmotionEvent) and e.final)
