"""Words that somebody else hears: JSON lines from standard input, a file or an MQTT topic.

One object a line, with times in seconds of the audio stream:

    {"text": "so happy", "start": 1.3, "end": 1.9, "confidence": 0.8, "final": true}
    {"words": [{"text": "so", "start": 1.3, "end": 1.5}, ...], "final": true}

Only text (or words) is required. Without times the words belong to the utterance that is running
or, where none is, to the last one. "final": true says that the words of that utterance are
complete; without it they are as well once the source has ended. What has been said is not taken
back: further words of an utterance join those that it has.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from edge_runtime.errors import TextError
from edge_runtime.events import TextEvent, TextStatusEvent, Word
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.text import OFF, without_password
from edge_runtime.untrusted import printable

GivenEvent = TextEvent | TextStatusEvent
MOST_BYTES = 65_536
"""Of a line."""
_MOST_WORDS = 1000  # of an utterance; a model reads no more than a hundred
_KEPT = 200  # words whose utterance has not come yet, and lines that nobody has polled
STANDARD_INPUT = "-"
_LOOK = 0.1  # seconds between two looks whether anybody still listens
_HOLD = 2.0  # seconds that a word waits for its utterance: it is found a little after its beginning
_AHEAD = 60.0  # seconds by which words may be ahead of the audio, of a feed that does not wait
_LATE = 16  # utterances that words are still given to after their end
_SLACK = 0.25  # seconds by which the clock of the words may differ at the edges of an utterance


@dataclass(frozen=True)
class GivenWords:
    """What one line says."""

    words: tuple[Word, ...]
    """With `timed` false, their times mean nothing."""
    final: bool
    timed: bool


class Feed(Protocol):
    """Where lines come from: calls `line` with each, then `end` once, from a thread of its own.

    A feed that can be away for a while calls `tell` with whether words come from now on, and why.
    """

    waits: bool
    """Whether the other side can be held up while nobody reads; else its oldest lines go."""
    repeats: bool
    """Whether it begins anew for each stream of audio."""

    def start(
        self,
        line: Callable[[bytes], None],
        end: Callable[[str], None],
        tell: Callable[[bool, str], None],
    ) -> None:
        """Begin; raises EdgeError where it cannot."""
        ...

    def stop(self) -> None:
        """Give back what is held."""
        ...


def parse(line: bytes | str) -> GivenWords:
    """One line. ValueError for one that is not as the module says."""
    if len(line) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES:,} bytes")
    message = json.loads(line)
    if not isinstance(message, dict) or not ("text" in message or "words" in message):
        raise ValueError('expected an object with "text" or "words"')
    items = message.get("words")
    if items is None:
        timed = "start" in message
        begin = float(message.get("start", 0.0))
        end = float(message.get("end", begin))
        items = _spread(
            printable(str(message["text"])).split(), begin, end, message.get("confidence")
        )
    else:
        timed = all("start" in item for item in items)
    words = tuple(
        Word(
            printable(str(item["text"])).lower(),
            float(item.get("start", 0.0)),
            float(item.get("end", item.get("start", 0.0))),
            None if item.get("confidence") is None else float(item["confidence"]),
        )
        for item in items
    )
    if any(not 0 <= word.start <= word.end < float("inf") for word in words):
        raise ValueError("a word ends before it starts, or at no time")
    if not all(isfinite(word.confidence or 0.0) for word in words):
        raise ValueError("a confidence is no number")
    return GivenWords(words, bool(message.get("final", False)), timed)


@dataclass
class _Utterance:
    start: float
    end: float | None = None
    words: list[Word] = field(default_factory=list)
    final: bool = False

    def holds(self, word: Word, now: float) -> bool:
        """Whether the word lies in it, as far as it has come at second `now`."""
        last = now if self.end is None else self.end
        return self.start - _SLACK <= (word.start + word.end) / 2 <= last + _SLACK


class GivenStream:
    """The words of a feed, as `edge_runtime.text.supervisor.TextStream` gives those of an engine.

    Nothing in it waits. A line that cannot be read is told once and counted; when the source ends,
    is away or comes back, that is an event, and the audio goes on. Raises what the feed raises.
    """

    def __init__(self, name: str, feed: Feed) -> None:
        self.wanted = self.source = name
        self.lag_seconds = self.rss_mb = self.real_time_factor = 0.0
        self.dropped_samples = 0
        self.invalid_lines = 0  # that cannot be read, since the source was opened
        self.lost_lines = 0  # that nobody polled in time; the feed's thread alone counts them
        self._lost_told = 0
        self.pid: int | None = None
        self._feed = feed
        self._why = ""
        self._utterances: deque[_Utterance] = deque(maxlen=_LATE)
        self._early: deque[GivenWords] = deque()
        self._closed = False
        self._t = 0.0
        self._listen()

    def _listen(self) -> None:
        """Open the feed; what an earlier opening still reads goes nowhere."""
        self._stopped = threading.Event()
        self._lines: queue.Queue[bytes | None] = queue.Queue(_KEPT)
        # Apart from the lines: of those the oldest may go.
        self._notices: deque[tuple[bool, str]] = deque()
        put, notices = partial(self._put, self._lines, self._stopped), self._notices

        def end(why: str) -> None:
            self._why = why
            put(None)

        def tell(heard: bool, reason: str) -> None:
            notices.append((heard, reason))

        self._feed.start(put, end, tell)

    def begin(self, t: float) -> None:
        """An utterance begins at second `t`; one that is still open ends there."""
        if self._utterances and self._utterances[-1].end is None:
            self.end(t)
        self._t = max(self._t, t)
        self._utterances.append(_Utterance(t))

    def feed(self, samples: Int16) -> None:
        """Only tells the time: somebody else hears the samples."""
        self._t += samples.size / SAMPLE_RATE

    def end(self, t: float) -> None:
        """The utterance ends at second `t`."""
        self._t = max(self._t, t)
        if self._utterances:
            self._utterances[-1].end = t

    def poll(self, t: float | None = None) -> list[GivenEvent]:
        """The words that have arrived, for second `t` of the stream."""
        self._t = self._t if t is None else t
        events: list[GivenEvent] = []
        while self._notices:
            heard, reason = self._notices.popleft()
            self.source = self.wanted if heard else OFF
            events.append(self._status(reason))
        lost = self.lost_lines
        if lost > self._lost_told:
            reason = f"{lost - self._lost_told} lines came too fast to be read"
            self._lost_told = lost
            events.append(self._status(reason))
        early, self._early = list(self._early), deque()
        for given in early:
            events += self._give(given)
        # What waits is told to wait; of the others the oldest go.
        while len(self._early) < _KEPT or not self._feed.waits:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                break
            events += self._ended() if line is None else self._take(line)
        return events + self._complete() if self._closed else events

    def wait(self, timeout: float = 0.0) -> bool:
        """Nothing says when somebody else's words are complete, so this does not wait."""
        return True

    def wait_ready(self, timeout: float = 0.0) -> None:
        """A feed is ready when it is open."""

    def restart(self) -> None:
        """A new stream of audio begins: its utterances get no words of the one before."""
        self._t = 0.0
        self.dropped_samples = 0
        self._utterances.clear()
        if self._feed.repeats or not self._feed.waits:
            self._early.clear()  # a file says them again, and others speak of the stream before
        if self._feed.repeats:
            self._stopped.set()
            self._closed, self.source = False, self.wanted
            self._listen()

    def close(self) -> None:
        """Stop listening; never waits for a queue that nobody reads."""
        self._stopped.set()
        self._feed.stop()

    def _put(
        self, lines: queue.Queue[bytes | None], stopped: threading.Event, line: bytes | None
    ) -> None:
        """From the feed's thread: a full queue holds up the other side, or loses its oldest."""
        if line is not None and not line.strip():
            return
        waits = self._feed.waits or line is None
        while not stopped.is_set():
            with suppress(queue.Full):
                lines.put(line, waits, _LOOK)
                return
            if not waits:
                with suppress(queue.Empty):
                    lines.get_nowait()
                    self.lost_lines += 1

    def _take(self, line: bytes) -> list[GivenEvent]:
        try:
            given = parse(line)
            if given.timed and not self._feed.waits:
                self._check_times(given)
            return self._give(given)
        except (
            LookupError,
            ArithmeticError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            self.invalid_lines += 1
            if self.invalid_lines > 1:
                return []
            shown = line[:60].decode(errors="replace").strip()
            return [self._status(f"a line that cannot be read: {shown!r} ({error})")]

    def _check_times(self, given: GivenWords) -> None:
        """ValueError for words of another clock: they would wait for a time that does not come."""
        if any(word.start > self._t + _AHEAD for word in given.words):
            raise ValueError("its times are not those of this stream")

    def _give(self, given: GivenWords) -> list[GivenEvent]:
        """Words to their utterances; those of a time that has not come yet wait for it."""
        touched: list[_Utterance] = []
        early: list[Word] = []
        for word in given.words:
            utterance = self._owner(word, given.timed)
            if utterance is None:
                if word.start > self._t - _HOLD:
                    early.append(word)
                continue
            if not given.timed:
                word = Word(word.text, self._t, self._t, word.confidence)
            if len(utterance.words) < _MOST_WORDS:
                utterance.words.append(word)
            if utterance not in touched:
                touched.append(utterance)
        if early:
            self._early.append(replace(given, words=tuple(early)))
            if len(self._early) > _KEPT and not self._feed.waits:
                self._early.popleft()
                self.lost_lines += 1
        if given.final and not given.words and self._utterances:
            touched = [self._utterances[-1]]
        for utterance in touched:
            utterance.words.sort(key=lambda word: word.start)
            utterance.final = utterance.final or (given.final and not early)
        return [self._event(utterance) for utterance in touched]

    def _owner(self, word: Word, timed: bool) -> _Utterance | None:
        if not timed:
            return self._utterances[-1] if self._utterances else None
        return next((u for u in reversed(self._utterances) if u.holds(word, self._t)), None)

    def _ended(self) -> list[GivenEvent]:
        self._closed, self.source = True, OFF
        return [self._status(self._why)]

    def _complete(self) -> list[GivenEvent]:
        """Nothing more will be said of the utterances that are over."""
        waiting = [word for given in self._early for word in given.words]
        complete = [
            u
            for u in self._utterances
            if u.words and not u.final and u.end is not None
            if not any(u.holds(word, self._t) for word in waiting)
        ]
        for utterance in complete:
            utterance.final = True
        return [self._event(utterance) for utterance in complete]

    def _event(self, utterance: _Utterance) -> TextEvent:
        words = tuple(utterance.words)
        text = " ".join(word.text for word in words)
        return TextEvent(self._t, text, utterance.final, self.wanted, utterance.start, words)

    def _status(self, reason: str) -> TextStatusEvent:
        return TextStatusEvent(self._t, self.source, self.wanted, reason)


class LinesFeed:
    """Lines of a file or pipe; "-" is standard input. TextError where it cannot be opened.

    Of feeds that are open on one pipe at a time, as while settings are read again, the first gets
    its lines until it is stopped, then the next: none is lost between them.
    """

    waits = True

    def __init__(self, path: str) -> None:
        self._path = path
        self.repeats = path != STANDARD_INPUT and Path(path).is_file()
        self._reader: _Reader | None = None

    def start(
        self,
        line: Callable[[bytes], None],
        end: Callable[[str], None],
        tell: Callable[[bool, str], None],
    ) -> None:
        """See Feed."""
        if self.repeats:
            file = _opened(self._path)
            lines = _lines(file)
            # Its first words are there when the audio begins, however fast that is read.
            for content in islice(lines, _KEPT // 2):
                line(content)
            _Reader(file, lines).add(self, line, end)
            return
        with _READERS_LOCK:
            reader = _READERS.get(self._path)
            if reader is None or not reader.add(self, line, end):
                file = _opened(self._path)
                reader = _READERS[self._path] = _Reader(file, _lines(file))
                reader.add(self, line, end)
        self._reader = reader

    def stop(self) -> None:
        """See Feed; what reads a pipe goes on for who comes next, or until the program ends."""
        if self._reader is not None:
            self._reader.remove(self)


class _Reader:
    """A thread that hands the lines of a file to the first of those who want them.

    Nothing can wake a thread that waits for a pipe: another beside it would have half the lines.
    """

    def __init__(self, file: BinaryIO, lines: Iterator[bytes]) -> None:
        self._file, self._lines = file, lines
        self._takers: dict[object, tuple[Callable[[bytes], None], Callable[[str], None]]] = {}
        self._lock = threading.Lock()
        self._over = self._begun = False

    def add(self, who: object, line: Callable[[bytes], None], end: Callable[[str], None]) -> bool:
        """Whether it can be had: a file that has ended cannot."""
        with self._lock:
            if self._over:
                return False
            self._takers[who] = line, end
            if not self._begun:
                self._begun = True
                # A daemon: it may wait for ever.
                threading.Thread(target=self._read, daemon=True).start()
        return True

    def remove(self, who: object) -> None:
        """No more lines for it."""
        with self._lock:
            self._takers.pop(who, None)

    def _read(self) -> None:
        why = "the source of the words has ended"
        try:
            with self._file:
                for content in self._lines:
                    self._hand_on(content)
        except (OSError, ValueError) as error:
            why = f"the source of the words cannot be read: {error}"
        with self._lock:
            self._over = True
            takers = list(self._takers.values())
        for _, end in takers:
            end(why)

    def _hand_on(self, content: bytes) -> None:
        with self._lock:
            taker = next(iter(self._takers.values()), None)
        if taker is not None:  # else nobody listens, and who writes is not to be held up
            taker[0](content)


_READERS: dict[str, _Reader] = {}
"""Of pipes, by their path."""
_READERS_LOCK = threading.Lock()


def _opened(path: str) -> BinaryIO:
    if path == STANDARD_INPUT:
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise TextError(f"words {path}: {error.strerror}") from None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    # A line that does not end comes in pieces, each of them refused.
    return iter(partial(file.readline, MOST_BYTES + 1), b"")


def _spread(
    texts: list[str], start: float, end: float, confidence: Any
) -> Iterator[dict[str, Any]]:
    """Words of one stretch of time, each with an equal part of it."""
    step = (end - start) / max(1, len(texts))
    for index, text in enumerate(texts):
        begin = start + index * step
        yield {"text": text, "start": begin, "end": begin + step, "confidence": confidence}


def open_given(name: str) -> GivenStream:
    """The stream for "jsonl:FILE", "jsonl:-" or "mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC".

    Raises TextError or MissingPackageError where it cannot be opened.
    """
    if name.startswith("mqtt:"):
        from edge_runtime.text.mqtt import MqttFeed

        return GivenStream(without_password(name), MqttFeed(name))
    path = name.partition(":")[2]
    if not path:
        raise TextError("jsonl: name a file of words, or - for standard input: jsonl:-")
    with suppress(RuntimeError):  # there is no such user, and so no such file
        path = str(Path(path).expanduser())
    if path != STANDARD_INPUT and not Path(path).exists():
        raise TextError(f"jsonl: there is no file {path}")
    return GivenStream(name, LinesFeed(path))
