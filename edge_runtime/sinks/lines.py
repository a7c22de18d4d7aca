"""Events as lines of JSON with the time of day, for files, sockets and programs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime

from edge_runtime.console import PROGRAM, note
from edge_runtime.events import EmotionEvent, Event, TextEvent, TextStatusEvent, to_message

_TELL_SECONDS = 60.0  # between two reports of trouble, where it comes and goes


def is_partial(event: Event) -> bool:
    """Whether it is about an utterance that is still spoken, or words that may still change."""
    return isinstance(event, EmotionEvent | TextEvent) and not event.final


def without_words(event: Event) -> Event:
    """The event without what somebody said; a status may quote a line that cannot be read."""
    if isinstance(event, TextEvent):
        return replace(event, text="", words=())
    if isinstance(event, EmotionEvent):
        return replace(event, text="")
    if isinstance(event, TextStatusEvent):
        return replace(event, reason="")
    return event


def json_line(event: Event, words: bool = True) -> bytes:
    """The event as `to_message` gives it, with the time of now, in UTF-8 with its line break.

    Without `words`, what somebody said is left empty.
    """
    message = to_message(event if words else without_words(event), datetime.now(UTC))
    text = json.dumps(message, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, from words that somebody else sends, becomes the escape that JSON has.
    return text.encode("utf-8", "backslashreplace") + b"\n"


class Trouble:
    """What keeps an output from its work: said when it begins and when it is over.

    Where it comes and goes, it is said once a minute at most.
    """

    def __init__(self) -> None:
        self._lasts = False
        self._told = -_TELL_SECONDS

    def begin(self, place: object, error: Exception, loss: str) -> None:
        """Say what fails at `place`, and what is lost by it; not again as long as it lasts."""
        if not self._lasts:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            self._lasts = self.report(f"{place}: {why}: {loss}")

    def end(self, line: str) -> None:
        """Say that it is over, where it was said that it began."""
        if self._lasts:
            self._lasts = False
            tell(line)

    def report(self, line: str) -> bool:
        """Say it, unless something was said a moment ago; whether it is said."""
        now = time.monotonic()
        if now - self._told < _TELL_SECONDS:
            return False
        self._told = now
        tell(line)
        return True


def tell(line: str) -> None:
    """Say what happens to an output, on standard error."""
    note(f"{PROGRAM}: {line}")
