"""One source from its first sample to its last: into a stream, and its events out."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge_runtime.audio import AnsweringSource, AudioSource, Block, LiveSource
from edge_runtime.console import PROGRAM, UntilInterrupted, note
from edge_runtime.errors import AudioError, EdgeError
from edge_runtime.events import (
    EmotionEvent,
    Event,
    HealthEvent,
    SourceEvent,
    StorageEvent,
    TextStatusEvent,
)
from edge_runtime.notify import Notifier
from edge_runtime.pcm import SAMPLE_RATE, amplified
from edge_runtime.sinks import Outputs, Parts
from edge_runtime.stream import EmotionStream
from edge_runtime.text import OFF

LATE_SECONDS = 1.0  # behind the microphone: what is said then is marked late
STAYED = "the settings stay as they are"  # in a status: what was to be read again was not taken
_PATIENCE = 15.0  # seconds for which new settings wait for the end of an utterance
_LAST_SECONDS = 1.0  # for what is opened still: a model may take a minute, a service manager waits

Again = Callable[[], tuple[EmotionStream, Parts]]
"""What opens a stream anew, and says to which outputs its events go."""


def listen(
    source: AudioSource,
    stream: EmotionStream,
    outputs: Outputs,
    *,
    realtime: bool = False,
    gain_db: float = 0.0,
    again: Again | None = None,
    notifier: Notifier | None = None,
) -> bool:
    """Stream one source to its end; an interrupt is an end like any other, but returns False.

    Parameters
    ----------
    source : where audio comes from; closed at the end.
    stream : takes it; the caller closes it.
    outputs : get its events.
    realtime : whether a file is played at the speed of speech.
    gain_db : makes what comes so much louder, dB.
    again : what SIGHUP calls, on a thread. When it is done and nobody speaks, its stream goes on
        where this one stands: no sample is lost. What it raises is told, and nothing changes.
        Unless given, SIGHUP is an interrupt.
    notifier : is told that this loop is ready, alive, and ends.

    Raises AudioError where the source does, after what was heard before is said.
    """
    return _Listening(source, stream, outputs, gain_db, again, notifier).run(realtime)


class _Listening:
    def __init__(
        self,
        source: AudioSource,
        stream: EmotionStream,
        outputs: Outputs,
        gain_db: float,
        again: Again | None,
        notifier: Notifier | None,
    ) -> None:
        self._source, self._stream, self._outputs = source, stream, outputs
        self._gain_db = gain_db
        self._again = again
        self._notifier = notifier or Notifier({})  # which tells nobody
        self._answer = source.answer if isinstance(source, AnsweringSource) else None
        self._status = f"listening to {source.name}"
        self._kept = ""  # why settings that were to be read again were not taken
        self._verdicts = 0
        self._words_wanted = OFF  # as it was told last
        self._wanted = False  # another stream, by SIGHUP: a handler may wait for no lock
        self._opening: threading.Thread | None = None  # from the wish until it is taken
        self._opened: tuple[EmotionStream, Parts] | None = None
        self._opened_at = 0.0  # second of the monotonic clock
        self._over = False  # nobody takes what is opened now
        self._handing = threading.Lock()  # over what was opened, or that all is over

    def run(self, realtime: bool) -> bool:
        """See `listen`."""
        first = self._stream
        try:
            return self._run(realtime)
        finally:
            self._source.close()  # whose blocks may never have begun
            with self._handing:
                self._over = True
            if self._opening is not None:
                self._opening.join(_LAST_SECONDS)
            for stream in (self._opened and self._opened[0], self._stream):
                if stream is not None and stream is not first:
                    stream.close()

    def _run(self, realtime: bool) -> bool:
        self._outputs.write(SourceEvent(0.0, self._source.name))
        self._tell_storage()
        begin = time.monotonic()
        failure: AudioError | None = None
        show = self._level_shown()
        show(0.0)
        self._notifier.ready(self._status)
        hangup = self._want if self._again is not None else None
        with UntilInterrupted(self._source.blocks(), hangup) as blocks:
            try:
                for block in blocks:
                    self._take(block)
                    show(self._stream.time)
                    if realtime:
                        time.sleep(max(0.0, begin + self._stream.time - time.monotonic()))
                    self._reload()
                    self._notifier.alive()
            except AudioError as error:
                failure = error  # what was heard before is still said
        self._notifier.stopping()
        self._end(self._stream)
        self._write(self._stream.health())
        for warning in self._source.warnings:
            note(f"{PROGRAM}: warning: {warning}")
        if failure:
            raise failure
        if not self._verdicts:
            note(f"{PROGRAM}: {self._source.name}: no speech found")
        return not blocks.interrupted

    def _tell_storage(self, before: Sequence[StorageEvent] = ()) -> None:
        """What is kept on disk, and, with no message, what was kept `before` and is not now."""
        stored = self._outputs.stored
        kinds = {event.what for event in stored}
        ended = [
            replace(event, words=False, megabytes=0.0, days=0.0, message="")
            for event in before
            if event.what not in kinds
        ]
        for event in [*ended, *stored]:
            self._outputs.write(replace(event, t=self._stream.time))

    def _take(self, block: Block) -> None:
        stream = self._stream
        events = stream.skip(block.lost) if block.lost or block.ends else []
        samples = amplified(block.samples, self._gain_db)
        stream.count_invalid(block.invalid)
        self._outputs.take(round(stream.time * SAMPLE_RATE), samples)
        for event in [*events, *stream.feed(samples), *block.status]:
            self._write(event)

    def _end(self, stream: EmotionStream) -> None:
        for event in [*stream.finish(), *stream.settle()]:
            self._write(event)

    def _write(self, event: Event) -> None:
        self._verdicts += isinstance(event, EmotionEvent) and event.final
        if isinstance(event, TextStatusEvent):
            self._words_wanted = event.wanted
        event = self._completed(event)
        self._outputs.write(event)
        if self._answer is not None:
            self._answer(event)

    def _completed(self, event: Event) -> Event:
        """With what the stream cannot know: what waits before it, and behind it."""
        if isinstance(event, HealthEvent):
            event = replace(event, queued=self._outputs.queued, queue_dropped=self._outputs.dropped)
        if isinstance(event, EmotionEvent) and event.final:
            event = replace(event, audio=self._outputs.keep(event))
        if not isinstance(self._source, LiveSource):
            return event
        if isinstance(event, HealthEvent):
            behind, reconnects = self._source.behind, self._source.reconnects
            return replace(event, audio_waiting_s=behind, reconnects=reconnects)
        if isinstance(event, EmotionEvent) and self._source.behind > LATE_SECONDS:
            return replace(event, late=True)
        return event

    def _level_shown(self) -> Callable[[float], None]:
        """What shows, at a second of the stream, how loud a live source is."""
        source, outputs = self._source, self._outputs
        if not isinstance(source, LiveSource):
            return lambda t: None
        if not outputs.show_level and sys.stdout.isatty():
            note(f"{PROGRAM}: {source.name}, {source.form}: speak now; Ctrl-C ends it")
        return lambda t: outputs.hear(t, source.form, source.level)

    def _want(self) -> None:
        self._wanted = True

    def _reload(self) -> None:
        """Begin to open another stream where that is wanted; take it when it is there."""
        if self._opening is None:
            if self._wanted:
                self._wanted = False
                self._notifier.reloading()
                self._opening = threading.Thread(target=self._open, name="settings", daemon=True)
                self._opening.start()
            return
        if self._opening.is_alive():
            return
        if self._opened is not None:
            # Not the stream's clock: a sender that pauses within a word stops it.
            if self._stream.speaking and time.monotonic() - self._opened_at < _PATIENCE:
                return
            self._take_over(*self._opened)
        self._opening = self._opened = None
        self._notifier.ready(f"{self._status}{self._kept}")

    def _take_over(self, stream: EmotionStream, parts: Parts) -> None:
        before, stored = self._stream, self._outputs.stored
        words = self._words_wanted != OFF or before.health().text_source != OFF
        self._end(before)
        stream.follow(before)
        self._stream = stream
        before.close()
        for trouble in self._outputs.change(parts):
            note(f"{PROGRAM}: {trouble}")
        self._tell_storage(stored)
        if words and stream.health().text_source == OFF:  # an engine says itself that it is ready
            self._write(TextStatusEvent(stream.time, OFF, OFF, "words are turned off"))
        note(f"{PROGRAM}: the settings were read again, bundle {stream.bundle.manifest.name}")

    def _open(self) -> None:
        """On a thread: what is opened is there when it ends; nothing where it could not be.

        Where all is over by then, it is closed again.
        """
        assert self._again is not None  # or nothing is wanted
        try:
            stream, parts = self._again()
            try:
                stream.wait_ready()
            except BaseException:
                stream.close()
                raise
        except (EdgeError, OSError) as error:
            note(f"{PROGRAM}: {STAYED}: {error}")
            self._kept = f"; {STAYED}: {error}"
            return
        with self._handing:
            if not self._over:
                self._kept = ""
                self._opened_at = time.monotonic()
                self._opened = stream, parts
                return
        stream.close()
