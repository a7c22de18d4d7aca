"""Words for a live stream of audio: an engine in its own process, watched, replaced, brought back.

The stream hands over what it hears and takes what has arrived; it never waits. An engine that dies,
hangs or falls behind real time is replaced by the next cheaper one (asr, then keywords, then
nothing), which hears the unanswered utterances again from the beginning; after a pause that doubles
with every failure the better one is started beside it and takes over when it is ready.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from edge_runtime.errors import TextError
from edge_runtime.events import TextEvent, TextStatusEvent
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.text import GIVEN_SCHEMES, OFF, Transcript
from edge_runtime.text.engine_process import EngineProcess
from edge_runtime.text.engines import check_source
from edge_runtime.text.given import GivenStream, open_given
from edge_runtime.text.phrases import LIST

TextStreamEvent = TextEvent | TextStatusEvent


@dataclass(frozen=True)
class Patience:
    """How long an engine is borne with."""

    start_seconds: float = 60.0
    """It may take so long to load."""
    stall_seconds: float = 5.0
    """It may be silent so long while there is work; with files, as long as it may take to load."""
    behind_seconds: float = 4.0
    """It may lag so much, if it hears more slowly than people speak."""
    keep_seconds: float = 30.0
    """Unanswered audio that is kept; what comes beyond is dropped and counted."""
    retry_seconds: float = 5.0
    """Pause before a failed engine is tried again; doubles with every failure."""
    retry_limit_seconds: float = 300.0
    """The longest pause."""
    reset_seconds: float = 60.0
    """An engine that has worked for so long begins with a short pause again."""


@dataclass
class _Utterance:
    start: float
    chunks: list[bytes] = field(default_factory=list)
    samples: int = 0
    ended: bool = False


@dataclass
class _Level:
    """One rung of the ladder."""

    name: str
    failures: int = 0
    retry_at: float = math.inf
    since: float = 0.0
    """When it took over last."""


class TextStream:
    """Words of one stream of audio. Every call returns at once, except `wait` and `wait_ready`.

    Parameters
    ----------
    name : the engine that is wanted, one of `edge_runtime.text.engines.forms()`.
    keywords : keyword list, for the fall-back too; without it there is none.
    patience : when an engine counts as failed.
    live : audio comes at the speed of speech. Where it does not (files), no engine counts as too
        slow, `feed` waits for it rather than dropping audio, and `wait` gives it the time it needs.

    Raises
    ------
    TextError, MissingPackageError : the engine cannot work here, as far as can be seen without
        loading it: unknown name, package, model folder, keyword list.
    """

    lost_lines = invalid_lines = 0  # an engine hands over no lines

    def __init__(
        self,
        name: str,
        keywords: Path | None = None,
        *,
        patience: Patience | None = None,
        live: bool = True,
    ) -> None:
        check_source(name, keywords)
        self.wanted = name
        self.patience = patience or Patience()
        self.dropped_samples = 0
        self._keywords = keywords
        self._live = live
        self._levels = [_Level(level) for level in (name, _cheaper(name, keywords)) if level]
        self._level = 0
        self._candidate: EngineProcess | None = None
        self._killed: list[EngineProcess] = []
        self._pending: deque[_Utterance] = deque()
        self._events: list[TextStreamEvent] = []
        self._t = 0.0
        self._announced = False
        self._engine: EngineProcess | None = self._started(0)

    @property
    def source(self) -> str:
        """What hears the words now, or "off"."""
        return self._levels[self._level].name if self._engine else OFF

    @property
    def lag_seconds(self) -> float:
        """Audio handed over that is not heard yet, s."""
        return self._engine.outstanding_seconds if self._engine else 0.0

    @property
    def rss_mb(self) -> float:
        """Memory of the engine's process, MB; 0 without one."""
        return self._engine.rss_mb if self._engine else 0.0

    @property
    def real_time_factor(self) -> float:
        """Processor time of the engine's process over audio time since it took over."""
        return self._engine.real_time_factor if self._engine else 0.0

    @property
    def pid(self) -> int | None:
        """The engine's process."""
        return self._engine.pid if self._engine else None

    def begin(self, t: float) -> None:
        """An utterance begins at second `t`; one that is still open ends there."""
        if self._open():
            self.end(t)
        self._t = max(self._t, t)
        self._switch()
        if self._engine is None:
            return
        self._pending.append(_Utterance(t))
        self._engine.begin(t)

    def feed(self, samples: Int16) -> None:
        """Samples of the utterance, int16, mono, 16 kHz, shape (n,); dropped where none is open."""
        self._t += samples.size / SAMPLE_RATE
        utterance = self._open()
        if self._engine is None or utterance is None or samples.size == 0:
            return
        kept = self.patience.keep_seconds
        while not self._live and self._engine and self._engine.outstanding_seconds > kept:
            self._step(0.05)
        if self._engine is None:
            return
        if self._engine.outstanding_seconds > kept:
            self.dropped_samples += samples.size
            return
        chunk = samples.tobytes()
        utterance.chunks.append(chunk)
        utterance.samples += samples.size
        self._engine.feed(chunk)
        self._forget_oldest()

    def end(self, t: float) -> None:
        """The utterance ends at second `t`."""
        self._t = max(self._t, t)
        utterance = self._open()
        if utterance is None:
            return
        utterance.ended = True
        if self._engine:
            self._engine.end()

    def poll(self, t: float | None = None) -> list[TextStreamEvent]:
        """What has arrived, for second `t` of the stream (by default: up to where it was fed)."""
        self._t = self._t if t is None else t
        self._step()
        events, self._events = self._events, []
        return events

    def wait(self, timeout: float = math.inf) -> bool:
        """Give the engine time for the utterances that have ended; whether it is done with them.

        What arrives meanwhile is in the next `poll`. An engine that fails is replaced here too.
        """
        deadline = monotonic() + timeout
        while any(utterance.ended for utterance in self._pending):
            if monotonic() > deadline:
                return False
            self._step(0.05)
        return True

    def wait_ready(self, timeout: float = math.inf) -> None:
        """Wait until the engine is loaded. TextError where it cannot be, with its own reason."""
        deadline = monotonic() + timeout
        while self._engine and not self._engine.ready:
            trouble = self._trouble(self._engine)
            if trouble:
                raise TextError(f"text source {self.wanted}: {trouble}")
            if monotonic() > deadline:
                return
            self._events += [self._heard(transcript) for transcript in self._engine.pump(0.05)]

    def restart(self) -> None:
        """A new stream of audio begins: second 0, another microphone perhaps.

        Words of the stream before that have not arrived are given up: its engine begins anew.
        """
        self._events.clear()
        self._t, self.dropped_samples = 0.0, 0
        if self._engine is None:
            return
        if self._pending:
            self._pending.clear()
            self._engine.kill()
            self._killed.append(self._engine)
            self._engine = self._started(self._level)
        else:
            self._engine.restart()

    def close(self) -> None:
        """End the processes; words that have not arrived are lost."""
        for engine in (self._engine, self._candidate):
            if engine:
                engine.kill()
                self._killed.append(engine)
        self._engine = self._candidate = None
        for engine in self._killed:
            engine.reap(5.0)
        self._killed.clear()
        self._pending.clear()

    def _step(self, wait: float = 0.0) -> None:
        """Take what has come, look after the engines."""
        self._killed = [engine for engine in self._killed if not engine.reap()]
        if self._engine:
            for transcript in self._engine.pump(wait):
                self._events.append(self._heard(transcript))
            self._judge(self._engine)
        elif wait:
            sleep(wait)
        self._retry()
        if not self._pending:
            self._switch()

    def _judge(self, engine: EngineProcess) -> None:
        level = self._levels[self._level]
        trouble = self._trouble(engine)
        if trouble:
            self._fall(trouble)
        elif engine.ready and not self._announced:
            self._announced = True
            self._tell("; ".join(("it is ready", *engine.notes)))
        elif level.failures and monotonic() - level.since > self.patience.reset_seconds:
            level.failures = 0

    def _trouble(self, engine: EngineProcess) -> str:
        p = self.patience
        # A file can wait for a slow engine; only one that hangs is given up.
        stall, behind = (
            (p.stall_seconds, p.behind_seconds) if self._live else (p.start_seconds, math.inf)
        )
        return engine.trouble(p.start_seconds, stall, behind)

    def _fall(self, reason: str) -> None:
        """Down to the next engine, which hears the unanswered utterances again."""
        assert self._engine is not None
        failed = self._levels[self._level]
        self._fail(self._engine, failed)
        self._drop_candidate()
        self._engine = None
        while self._engine is None and self._level + 1 < len(self._levels):
            self._level += 1
            try:
                self._engine = self._started(self._level)
            except TextError as error:
                self._put_off(self._levels[self._level])
                reason = f"{reason}; {error}"
        if self._engine is not None:
            self._announced = True
            self._replay()
        else:
            self._level = len(self._levels)
            self.dropped_samples += sum(utterance.samples for utterance in self._pending)
            self._pending.clear()
        self._tell(f"{failed.name} failed: {reason}")

    def _retry(self) -> None:
        """Load the engine above beside the one that runs, when its pause is over."""
        if self._candidate is None:
            above = self._levels[self._level - 1]
            if self._level and monotonic() > above.retry_at:
                try:
                    self._candidate = self._process(above)
                except TextError as error:
                    self._put_off(above)
                    self._tell(f"{above.name} does not come back: {error}")
            return
        self._candidate.pump()
        trouble = self._trouble(self._candidate)
        if trouble:
            above = self._levels[self._level - 1]
            self._fail(self._candidate, above)
            self._candidate = None
            self._tell(f"{above.name} does not come back: {trouble}")

    def _switch(self) -> None:
        """Up to the engine above, where it is ready; between utterances."""
        if self._candidate is None or not self._candidate.ready:
            return
        if self._engine:
            self._engine.kill()
            self._killed.append(self._engine)
        self._level -= 1
        self._engine, self._candidate = self._candidate, None
        self._levels[self._level].since = monotonic()
        self._replay()
        self._tell("it is back")

    def _replay(self) -> None:
        assert self._engine is not None
        for utterance in self._pending:
            self._engine.begin(utterance.start)
            for chunk in utterance.chunks:
                self._engine.feed(chunk)
            if utterance.ended:
                self._engine.end()

    def _started(self, level: int) -> EngineProcess:
        self._levels[level].since = monotonic()
        return self._process(self._levels[level])

    def _process(self, level: _Level) -> EngineProcess:
        """Its process. TextError where the system has none left, for memory or another limit."""
        try:
            return EngineProcess(level.name, self._keywords)
        except OSError as error:
            raise TextError(f"{level.name} cannot be started: {error.strerror or error}") from None

    def _fail(self, engine: EngineProcess, level: _Level) -> None:
        engine.kill()
        self._killed.append(engine)
        self._put_off(level)

    def _put_off(self, level: _Level) -> None:
        """It failed: it is tried again after a pause that grows."""
        pause = self.patience.retry_seconds * 2.0 ** min(level.failures, 30)
        level.retry_at = monotonic() + min(pause, self.patience.retry_limit_seconds)
        level.failures += 1

    def _drop_candidate(self) -> None:
        if self._candidate:
            self._candidate.kill()
            self._killed.append(self._candidate)
            self._candidate = None

    def _open(self) -> _Utterance | None:
        return self._pending[-1] if self._pending and not self._pending[-1].ended else None

    def _forget_oldest(self) -> None:
        """Audio is kept to be heard again by another engine, up to a limit."""
        limit = self.patience.keep_seconds * SAMPLE_RATE
        kept = sum(len(c) // 2 for u in self._pending for c in u.chunks)
        for utterance in self._pending:
            while kept > limit and utterance.chunks:
                kept -= len(utterance.chunks.pop(0)) // 2

    def _heard(self, transcript: Transcript) -> TextEvent:
        if transcript.final:
            # Answers come in order, so what is before it was never ended by the engine.
            while self._pending and self._pending[0].start <= transcript.start:
                self._pending.popleft()
        return TextEvent(
            self._t,
            transcript.text,
            transcript.final,
            transcript.source,
            transcript.start,
            transcript.words,
        )

    def _tell(self, reason: str) -> None:
        self._events.append(
            TextStatusEvent(
                t=self._t,
                source=self.source,
                wanted=self.wanted,
                reason=reason,
                lag_s=self.lag_seconds,
                dropped_s=self.dropped_samples / SAMPLE_RATE,
            )
        )


def _cheaper(name: str, keywords: Path | None) -> str:
    """The engine that takes over from `name`; empty for none.

    A list of another language than is spoken is worth nothing, so beside a model in a folder only
    the list in that folder is.
    """
    kind, _, argument = name.partition(":")
    if kind == "asr" and argument:
        listed = (Path(argument).expanduser() / LIST).is_file()
        return f"keywords:{argument}" if listed else ""
    return "keywords" if keywords is not None and kind != "keywords" else ""


def open_text(
    name: str,
    keywords: Path | None = None,
    live: bool = True,
    patience: Patience | None = None,
) -> TextStream | GivenStream | None:
    """The words that `--text name` asks for; None for "off".

    Parameters
    ----------
    name : "off", one of `edge_runtime.text.engines.forms()`, or of `edge_runtime.text.GIVEN_FORMS`.
    keywords : the bundle's list of key phrases: for "keywords", and to fall back to.
    live : whether audio comes at the speed of speech.
    patience : when an engine counts as failed; words that somebody else hears are only waited for.

    Raises TextError or MissingPackageError for what cannot work here.
    """
    if name == OFF:
        return None
    if name.startswith(GIVEN_SCHEMES):
        return open_given(name)
    return TextStream(name, keywords, patience=patience, live=live)
