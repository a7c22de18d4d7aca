"""EmotionStream: the one pipeline, samples in, events out."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import RLock
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_runtime.audio import BLOCK
from edge_runtime.bundle import Bundle, keyword_file
from edge_runtime.events import (
    UNSURE,
    EmotionEvent,
    Event,
    HealthEvent,
    RevisedEvent,
    SpeechStartEvent,
    TextEvent,
)
from edge_runtime.model.recognizer import Heard, Recognizer, Verdict
from edge_runtime.model.reference import Reference
from edge_runtime.pcm import SAMPLE_RATE, Float32, to_pcm
from edge_runtime.profile import Profile
from edge_runtime.segment import Boundary, Segmenter, SegmentParams, Speech, SpeechStart
from edge_runtime.settings import Limits, check_number
from edge_runtime.system import resident_megabytes
from edge_runtime.text import GIVEN_SCHEMES, OFF
from edge_runtime.thermal import this_board

if TYPE_CHECKING:
    from edge_runtime.text.supervisor import Patience

HEALTH_SECONDS = 60.0  # audio between two health events
PARTIAL_SECONDS = 0.25  # audio between two verdicts on the running utterance
PARTIAL_LIMITS = Limits(minimum=0, maximum=3600)
SHARE = Limits(minimum=0, maximum=1)
SETTLE_SECONDS = 10.0  # how long the end of a live stream waits for its last words
_REVISABLE = 16  # utterances that late words can still change


@dataclass(eq=False)
class _Utterance:
    """An utterance: while it is spoken, and as long as late words can change its verdict."""

    start: float
    """Second of the stream at which it began."""
    text: str = ""
    """Its words, as far as they are known."""
    heard: int = 0
    """Samples of it that the model has taken."""
    judged: int = 0
    """Samples of it that the last verdict covered."""
    end: float = 0.0
    """Second at which it ended, once it has."""
    sound: Heard | None = None
    """How it sounded, once it has ended."""


class EmotionStream:
    """Finds the utterances in a stream of audio and says how each was felt.

    Safe to use from several threads: calls take turns, each is done before the next begins. Who
    feeds from two threads has to see to the order of the samples himself.

    Parameters
    ----------
    bundle : what `load_bundle` returns.
    text : where the words come from: "off" for nowhere but `read`; "keywords" or "asr"
        (pocketsphinx), an engine with its model ("vosk:DIR"), or words that somebody else hears
        ("jsonl:FILE"): see `edge_runtime.text`. Engines run in a process of their own; `close`
        ends it.
    live : whether the audio comes at the speed of speech. Then a verdict goes out on time with the
        words there are, and a `RevisedEvent` follows where more come; otherwise verdicts wait for
        their words.
    patience : when an engine that hears the words counts as failed, and when it is tried again.
    segment : when utterances begin and end; by default as the model was trained. Its `whole()`
        form takes everything between two `finish` calls for one utterance.
    partial_seconds : audio between two verdicts on a running utterance, s, to 3600; 0 for none.
    threshold : least confidence of a verdict, 0 to 1, below which it is "unsure"; by default that
        of the bundle, which differs with what a verdict rests on.
    threads : threads of the interpreter, see `edge_runtime.graph.Graph`.
    engine : force an interpreter, see `edge_runtime.graph.available_engines`.
    adapt : whether the utterances of this stream become a reference for those that follow: the
        speaker's plain voice. It fades, counts less where somebody else seems to speak, and is
        forgotten by `restart` and `reset_speaker`.
    profile : an enrolled voice to judge by, see `edge_runtime.profile`.

    Raises
    ------
    EdgeError : an unknown text source, a bundle whose graphs cannot be opened here or that cannot
        be adapted, a profile of another bundle, or a number out of bounds.
    """

    def __init__(
        self,
        bundle: Bundle,
        text: str = OFF,
        *,
        segment: SegmentParams | None = None,
        partial_seconds: float = PARTIAL_SECONDS,
        threshold: float | None = None,
        threads: int = 1,
        engine: str | None = None,
        live: bool = True,
        patience: Patience | None = None,
        adapt: bool = False,
        profile: Profile | None = None,
    ) -> None:
        check_number("partial_seconds", partial_seconds, float, PARTIAL_LIMITS)
        if threshold is not None:
            check_number("threshold", threshold, float, SHARE)
        self._threshold = threshold
        self.bundle = bundle = bundle.as_computed(threads, engine)
        self.recognizer = Recognizer(bundle, threads, engine)
        self.times = self.recognizer.times
        if adapt or profile is not None:
            self.recognizer.reference = Reference(bundle, profile, running=adapt)
        self._segment = segment or bundle.manifest.segment
        self._partial_samples = round(partial_seconds * SAMPLE_RATE)
        self._live = live
        self._lock = RLock()
        self._words = None
        self._words_stay = False  # whether those that are not final are not taken back either
        self._forget_keywords: weakref.finalize[..., EmotionStream] | None = None
        self._begin_stream()
        if text != OFF:
            from edge_runtime.text.supervisor import open_text

            keywords = keyword_file(bundle)
            if keywords is not None:  # gone with the stream, whether or not that is closed
                self._forget_keywords = weakref.finalize(self, keywords.unlink, missing_ok=True)
            self._words_stay = text.startswith(GIVEN_SCHEMES)
            self._words = open_text(text, keywords, live, patience)

    def _begin_stream(self) -> None:
        self._segmenter = Segmenter(self._segment)
        self._running: _Utterance | None = None
        self._finished: deque[_Utterance] = deque(maxlen=_REVISABLE)
        self._given = ""  # words read before their utterance began
        self._dropped = 0
        self._invalid = 0
        self._busy = 0.0
        self._next_health = HEALTH_SECONDS
        self._before = replace(self.times)  # where the stages stood when this call began
        self._begun = 0.0  # when it did; later by what it only waited

    @contextmanager
    def _call(self) -> Iterator[None]:
        """One call at a time; what its events cost is counted from here."""
        with self._lock:
            self._before = replace(self.times)
            self._begun = perf_counter()
            try:
                yield
            finally:
                self._busy += perf_counter() - self._begun

    def restart(self) -> None:
        """Begin a new stream of audio: its clock is 0, and nothing is known of the one before.

        The bundle's graphs and the engine that hears the words stay open, so that many files cost
        the loading of one. What is still running is dropped: call `finish` and `settle` first.
        """
        with self._lock:
            self.recognizer.finish()
            self.reset_speaker()
            self._begin_stream()
            if self._words is not None:
                self._words.restart()

    def reset_speaker(self) -> None:
        """Forget who spoke in this stream: somebody else will. A profile stays."""
        with self._lock:
            if self.recognizer.reference is not None:
                self.recognizer.reference.reset()

    @property
    def time(self) -> float:
        """Seconds of audio since the stream began, lost audio included."""
        return self._segmenter.position / SAMPLE_RATE

    @property
    def speaking(self) -> bool:
        """Whether an utterance is running."""
        return self._running is not None

    def follow(self, other: EmotionStream) -> None:
        """Go on where `other` stands: its clock, and what it counted, are this one's from now on.

        For one stream of audio that is heard by another bundle, or other settings, from here on.
        Neither may be in an utterance: call `finish` first.
        """
        with self._lock, other._lock:
            self._segmenter.skip(other._segmenter.position - self._segmenter.position)
            self._dropped, self._invalid = other._dropped, other._invalid
            self._busy, self._next_health = other._busy, other._next_health

    def feed(self, samples: npt.ArrayLike) -> list[Event]:
        """Take any number of samples at a time; return the events they lead to.

        Parameters
        ----------
        samples : float in [-1, 1] or int16, mono, 16 kHz, shape (n,) or (n, 1). NaN and infinity
            are taken for silence and counted in the health events.

        Raises
        ------
        ValueError : another shape or type, or floats that are plainly not in [-1, 1]; the message
            names the remedy.
        """
        with self._call():
            pcm, invalid = to_pcm(samples)  # before words are taken: it may refuse
            events = self._poll()
            self._invalid += invalid
            start = perf_counter()
            boundaries = self._segmenter.feed(pcm)
            self.times.segmentation += perf_counter() - start
            events += self._handle(boundaries)
        if self.time >= self._next_health:
            self._next_health = self.time + HEALTH_SECONDS
            events.append(self.health())
        return events

    def count_invalid(self, samples: int) -> None:
        """Have the health events count samples that were mended before they were fed."""
        with self._lock:
            self._invalid += samples

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
        branch ignores them. The words count for one utterance, up to its final event; where none is
        running, for the next.
        """
        with self._lock:
            if self._running is not None:
                self._running.text = text
            else:
                self._given = text

    def finish(self) -> list[Event]:
        """Close the running utterance, if there is one; the stream can go on afterwards."""
        with self._call():
            return self._handle(self._segmenter.finish())

    def settle(self, seconds: float = SETTLE_SECONDS) -> list[Event]:
        """Wait for words that are still on their way, up to `seconds`; what they lead to.

        Raises SettingError for a time that is none.
        """
        check_number("seconds", seconds, float, Limits(minimum=0))
        if self._words is None:
            return []
        self._words.wait(seconds)
        with self._call():
            return self._poll()

    def wait_ready(self) -> None:
        """Wait until the text source is loaded. TextError where it cannot be."""
        if self._words is not None:
            self._words.wait_ready()

    @property
    def text_pid(self) -> int | None:
        """The process that hears the words; None without one."""
        return self._words.pid if self._words else None

    def close(self) -> None:
        """End the text source; the stream can go on without."""
        if self._words is not None:
            self._words.close()
            self._words = None
        if self._forget_keywords is not None:
            self._forget_keywords()

    def __enter__(self) -> EmotionStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def judge_text(self, text: str) -> EmotionEvent | None:
        """The verdict on words alone; None without a word, or if the model does not read.

        An utterance that is running goes on as it was.
        """
        with self._call():
            verdict = self.recognizer.judge_text(text)
            alone = _Utterance(self.time, text, end=self.time)
            return self._event(verdict, alone, True, self.time) if verdict else None

    def skip(self, samples: int) -> list[Event]:
        """Account for `samples` lost before they got here; closes the running utterance.

        Raises SettingError for a number below 0.
        """
        check_number("samples", samples, int, Limits(minimum=0))
        with self._call():
            self._dropped += samples
            return self._handle(self._segmenter.skip(samples))

    def health(self) -> HealthEvent:
        """How the stream keeps up, from its beginning to now."""
        heard = self.time - self._dropped / SAMPLE_RATE
        return HealthEvent(
            t=self.time,
            dropped_ms=1000.0 * self._dropped / SAMPLE_RATE,
            invalid_samples=self._invalid,
            real_time_factor=self._busy / heard if heard > 0 else 0.0,
            rss_mb=resident_megabytes(),
            temperature_c=this_board().temperature_c,
            throttled=this_board().throttled,
            **self._text_health(),
        )

    def _text_health(self) -> dict[str, Any]:
        words = self._words
        if words is None:
            return {}
        return {
            "text_source": words.source,
            "text_lag_s": words.lag_seconds,
            "text_dropped_s": words.dropped_samples / SAMPLE_RATE,
            "text_rss_mb": words.rss_mb,
            "text_real_time_factor": words.real_time_factor,
            "text_lost_lines": words.lost_lines,
            "text_invalid_lines": words.invalid_lines,
        }

    def _poll(self, t: float | None = None) -> list[Event]:
        """Words that have arrived by second `t`: for the running utterance, or for earlier ones."""
        if self._words is None:
            return []
        events: list[Event] = []
        for event in self._words.poll(self.time if t is None else t):
            events.append(event)
            if isinstance(event, TextEvent):
                events += self._take_words(event)
        return events

    def _take_words(self, event: TextEvent) -> list[Event]:
        if self._running is not None and event.start == self._running.start:
            self._running.text = event.text
            return []
        done = next((u for u in self._finished if u.start == event.start), None)
        if done is None or event.text == done.text or not (event.final or self._words_stay):
            return []
        done.text = event.text
        reads = self.bundle.manifest.reads
        verdict = self.recognizer.judge(done.sound, event.text) if reads else None
        if verdict is None:
            return []
        return [self._event(verdict, done, True, done.end, RevisedEvent)]

    def _handle(self, boundaries: list[Boundary]) -> list[Event]:
        events: list[Event] = []
        for item in boundaries:
            if isinstance(item, SpeechStart):
                self._running, self._given = _Utterance(item.t, self._given), ""
                if self._words:
                    self._words.begin(item.t)
                events.append(SpeechStartEvent(t=item.t))
                continue
            utterance = self._running
            assert utterance is not None  # every boundary but the first belongs to one
            if isinstance(item, Speech):
                if self._words:
                    self._words.feed(item.samples)
                self._hear(utterance, item, events)
            else:
                if self._words:
                    events += self._end_words(item.t)
                verdict = self.recognizer.finish(utterance.text)
                utterance.end, utterance.sound = item.t, self.recognizer.last
                events.append(self._event(verdict, utterance, True, item.t))
                self._finished.append(utterance)
                self._running = None
        return events

    def _end_words(self, t: float) -> list[Event]:
        assert self._words is not None
        self._words.end(t)
        if not self._live:
            start = perf_counter()
            self._words.wait()
            # No part of a latency, nor of the real-time factor: a file waits, a live stream not.
            self._begun += perf_counter() - start
        # Of a long block, as much as it took to find this end: words of what follows come later.
        decided = t + self._segmenter.params.end_ms / 1000
        return self._poll(min(self.time, decided))

    def _hear(self, utterance: _Utterance, speech: Speech, events: list[Event]) -> None:
        """Verdicts fall on multiples of the interval, however the samples were cut."""
        samples, at = speech.samples, speech.start
        interval = self._partial_samples or samples.size
        while samples.size:
            due = utterance.judged + interval - utterance.heard
            piece, samples = samples[:due], samples[due:]
            self.recognizer.feed(piece)
            utterance.heard, at = utterance.heard + piece.size, at + piece.size
            if utterance.heard - utterance.judged < interval:
                continue
            utterance.judged = utterance.heard
            if not self._partial_samples:
                continue
            verdict = self.recognizer.verdict(utterance.text)
            if verdict is not None:
                events.append(self._event(verdict, utterance, False, at / SAMPLE_RATE))

    def _event(
        self,
        verdict: Verdict | None,
        utterance: _Utterance,
        final: bool,
        end: float,
        kind: type[EmotionEvent] = EmotionEvent,
    ) -> EmotionEvent:
        manifest, labels = self.bundle.manifest, self.bundle.manifest.labels
        if verdict is None:
            even = np.full(len(labels), 1.0 / len(labels), np.float32)
            verdict = Verdict(even, manifest.modalities[0])
        best = int(verdict.scores.argmax())
        named = dict(zip(labels, map(float, verdict.scores), strict=True))
        confidence = named[labels[best]]
        threshold = self._threshold
        if threshold is None:
            threshold = manifest.threshold(verdict.modality)
        return kind(
            t=self.time,
            final=final,
            start=utterance.start,
            end=end,
            label=labels[best] if confidence >= threshold else UNSURE,
            confidence=confidence,
            scores=named,
            valence=manifest.dimension("valence", named),
            arousal=manifest.dimension("arousal", named),
            text=utterance.text if manifest.reads else "",
            modality=verdict.modality,
            latency_ms={
                "features": 1000.0 * (self.times.features - self._before.features),
                "text": 1000.0 * (self.times.text - self._before.text),
                "graph": 1000.0 * (self.times.graph - self._before.graph),
                "total": 1000.0 * (perf_counter() - self._begun),
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
    finals = (e for e in reversed(events) if isinstance(e, EmotionEvent) and e.final)
    return next(finals, None)  # digital silence is no utterance
