"""What a page that is opened now has missed: the last hour's verdicts, and how things stand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from edge_runtime.events import (
    AudioStatusEvent,
    EmotionEvent,
    Event,
    HealthEvent,
    RevisedEvent,
    SourceEvent,
    SpeechStartEvent,
    StorageEvent,
    TextEvent,
    TextStatusEvent,
)

MOST_VERDICTS = 1200  # an hour of utterances of three seconds; some 500 kB, twice that with words
_CHUNK = 100  # events in one message: 50 kB


@dataclass(slots=True)
class _Final:
    """A finished utterance."""

    start: float
    """Second of its stream."""
    at: float = 0.0
    """When the last verdict on it was said, s since 1970."""
    text: str = ""
    """The words that this verdict tells."""
    lines: dict[str, str] = field(default_factory=dict)
    """Its messages by type, in order: the first verdict, the last one, words that came after."""


class History:
    """Keeps messages, the events of which make a new page look like one that was open all along.

    Parameters
    ----------
    seconds : how long a final verdict is kept, s.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._finals: deque[_Final] = deque(maxlen=MOST_VERDICTS)
        self._states: dict[str, str] = {}  # the last of its kind, by type
        self._wrong: dict[str, str] = {}  # what is wrong with the audio now
        self._start: float | None = None
        self._running: dict[str, str] = {}  # of the running utterance, by type

    def take(self, event: Event, line: str, at: float) -> None:
        """One event, its message, and when it was said, s since 1970."""
        if isinstance(event, SourceEvent):
            self._begin(None)
            self._wrong.clear()
            self._states[event.type] = line
        elif isinstance(event, SpeechStartEvent):
            self._begin(event.t)
            self._running[event.type] = line
        elif isinstance(event, TextEvent):
            self._hear(event, line)
        elif isinstance(event, EmotionEvent):
            if event.final:
                self._judge(event, line, at)
            else:
                self._running[event.type] = line
        elif isinstance(event, AudioStatusEvent):
            self._wrong.pop(event.what, None)
            if event.active:
                self._wrong[event.what] = line
        elif isinstance(event, StorageEvent):
            key = f"{event.type} {event.what}"
            self._states.pop(key, None)
            if event.message:  # else it is kept no more
                self._states[key] = line
        elif isinstance(event, HealthEvent | TextStatusEvent):
            self._states[event.type] = line

    def messages(self, now: float) -> list[str]:
        """JSON messages `{"type": "history", "events": [...]}`, oldest events first."""
        while self._finals and self._finals[0].at < now - self._seconds:
            self._finals.popleft()
        lines = [
            *self._states.values(),
            *(line for final in self._finals for line in final.lines.values()),
            *self._wrong.values(),
            *self._running.values(),
        ]
        return [
            f'{{"type":"history","events":[{",".join(chunk)}]}}' for chunk in _chunks(lines, _CHUNK)
        ]

    def _begin(self, start: float | None) -> None:
        self._start = start
        self._running.clear()

    def _hear(self, event: TextEvent, line: str) -> None:
        if event.start == self._start:
            self._running[event.type] = line
            return
        final = self._find(event.start)
        # A bundle that reads tells the words with its verdict; of another they are here alone.
        if final is not None and event.text and event.text != final.text:
            final.lines[event.type] = line

    def _judge(self, event: EmotionEvent, line: str, at: float) -> None:
        revised = isinstance(event, RevisedEvent)
        final = self._find(event.start) if revised else None
        if final is None:
            final = _Final(event.start)
            self._finals.append(final)
        final.at, final.text = at, event.text
        final.lines[event.type] = line
        final.lines.pop(TextEvent.type, None)  # the verdict tells them
        if not revised:
            words = self._running.get(TextEvent.type)
            if words is not None and not event.text:
                final.lines[TextEvent.type] = words
            self._begin(None)

    def _find(self, start: float) -> _Final | None:
        return next((final for final in reversed(self._finals) if final.start == start), None)


def _chunks(lines: list[str], size: int) -> Iterator[list[str]]:
    for begin in range(0, len(lines), size):
        yield lines[begin : begin + size]
