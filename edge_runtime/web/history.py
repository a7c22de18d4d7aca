"""What a page that is opened now has missed: the last hour's verdicts, and how things stand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

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

MOST_VERDICTS = 1200  # an hour of utterances of three seconds; some 500 kB
_CHUNK = 100  # verdicts in one message: 50 kB


@dataclass(frozen=True, slots=True)
class _Final:
    at: float
    """When it was said, s since 1970."""
    start: float
    """Second of its stream."""
    line: str
    """Its message."""


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
            if event.start == self._start:
                self._running[event.type] = line
        elif isinstance(event, RevisedEvent):
            self._revise(_Final(at, event.start, line))
        elif isinstance(event, EmotionEvent):
            if event.final:
                self._begin(None)
                self._finals.append(_Final(at, event.start, line))
            else:
                self._running[event.type] = line
        elif isinstance(event, AudioStatusEvent):
            self._wrong.pop(event.what, None)
            if event.active:
                self._wrong[event.what] = line
        elif isinstance(event, StorageEvent):
            self._states[f"{event.type} {event.what}"] = line
        elif isinstance(event, HealthEvent | TextStatusEvent):
            self._states[event.type] = line

    def messages(self, now: float) -> list[str]:
        """JSON messages `{"type": "history", "events": [...]}`, oldest events first."""
        while self._finals and self._finals[0].at < now - self._seconds:
            self._finals.popleft()
        lines = [
            *self._states.values(),
            *(final.line for final in self._finals),
            *self._wrong.values(),
            *self._running.values(),
        ]
        return [
            f'{{"type":"history","events":[{",".join(chunk)}]}}' for chunk in _chunks(lines, _CHUNK)
        ]

    def _begin(self, start: float | None) -> None:
        self._start = start
        self._running.clear()

    def _revise(self, final: _Final) -> None:
        for place in range(len(self._finals) - 1, -1, -1):
            if self._finals[place].start == final.start:
                self._finals[place] = final
                return


def _chunks(lines: list[str], size: int) -> Iterator[list[str]]:
    for begin in range(0, len(lines), size):
        yield lines[begin : begin + size]
