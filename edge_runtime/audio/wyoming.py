"""Audio that Wyoming clients send (Home Assistant, voice satellites), and what they get for it."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np

from edge_runtime.addresses import is_loopback
from edge_runtime.audio import Block
from edge_runtime.audio.endless import EndlessSource
from edge_runtime.audio.ring import Taken
from edge_runtime.audio.wyoming_server import Server, Turn
from edge_runtime.errors import AudioError, MissingPackageError
from edge_runtime.events import (
    EmotionEvent,
    Event,
    HealthEvent,
    SpeechStartEvent,
    TextEvent,
    TextStatusEvent,
    to_message,
)
from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Int16
from edge_runtime.wyoming.discovery import Announcement
from edge_runtime.wyoming.protocol import EXTRA, event_bytes, parse_address

PREFIX = "edge-"
"""Before the type of each of our events, which could be one of Wyoming's some day."""
_LOOPBACK = "127.0.0.1"
_OFF = "off"  # what the text source is called where there is none
_RECENT = 16  # turns to which what is said of them late still goes
_MOST_UTTERANCES = 500  # of a turn, that its transcript holds; the last ones
_WORDS_SECONDS = 10.0  # for which a transcript waits for the words of what was said
_AHEAD_SECONDS = 20.0  # by which a client may send faster than people speak, where words are heard


class WyomingSource(EndlessSource):
    """One client at a time, others wait; what is said of its audio goes back to it by `answer`.

    Parameters
    ----------
    address : "[HOST:]PORT", loopback unless a host beyond is named; port 0 for any that is free.
    name : what people call this device; that of the machine unless given.
    channel : of what clients send the one to take, from 1; None mixes those that are not dead.

    Beyond loopback it is announced by zeroconf. Raises AudioError for an address that is none, or
    in use; MissingPackageError without wyoming, and beyond loopback without zeroconf.
    """

    def __init__(self, address: str, name: str | None = None, channel: int | None = None) -> None:
        self._clients = _Clients(address, name or socket.gethostname(), channel)
        super().__init__(self._clients)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._clients.port

    @property
    def dropped(self) -> int:
        """Connections that ended otherwise than by their client's leave."""
        return self._clients.dropped

    def blocks(self) -> Iterator[Block]:
        """See `EndlessSource`."""
        try:
            yield from super().blocks()
        finally:
            if self.dropped > 1:
                self.warnings.append(f"{self.name}: {self.dropped} connections were dropped")

    def answer(self, event: Event) -> None:
        """Send an event of the stream to the client that it is about; never waits."""
        self._clients.answer(event)


class _Heard:
    """A turn as the stream hears it: what is said of it, until its transcript is complete."""

    def __init__(self, turn: Turn, start: float) -> None:
        self.turn = turn
        self.start = start
        """Second of the stream at which it began."""
        self.samples = 0
        """That the stream has taken."""
        self.ended_at: float | None = None
        """When the stream had judged all of it, seconds of the monotonic clock."""
        self._awaited: set[float] = set()  # utterances whose words are still to come
        self._texts: dict[float, str] = {}
        self._verdicts: dict[float, dict[str, Any]] = {}

    def take(self, event: Event, message: dict[str, Any], words: bool) -> None:
        if isinstance(event, SpeechStartEvent):
            if words:
                self._awaited.add(event.t)
        elif isinstance(event, TextEvent):
            self._texts[event.start] = event.text
            if event.final:
                self._awaited.discard(event.start)
        elif isinstance(event, EmotionEvent) and event.final:
            self._texts.setdefault(event.start, event.text)
            self._verdicts[event.start] = message
        for kept in (self._texts, self._verdicts):
            while len(kept) > _MOST_UTTERANCES:
                del kept[next(iter(kept))]

    def complete(self, words: bool) -> bool:
        """Whether nothing more is waited for."""
        if self.ended_at is None:
            return False
        waited = time.monotonic() - self.ended_at
        return not (words and self._awaited) or waited > _WORDS_SECONDS

    def transcript(self) -> bytes:
        """Wyoming's own event, and in it the verdicts."""
        text = " ".join(filter(None, (self._texts[start] for start in sorted(self._texts))))
        verdicts = [self._verdicts[start] for start in sorted(self._verdicts)]
        return _bytes("transcript", {"text": text, "emotions": verdicts})


class _Clients:
    """See `edge_runtime.audio.endless.Feed`. Who does not send loses nothing."""

    gaps_are_lost = False

    def __init__(self, address: str, device: str, channel: int | None) -> None:
        self._address, self._device, self._channel = address, device, channel
        self._server: Server | None = None
        self._now: _Heard | None = None  # who is heard
        self._ended: _Heard | None = None  # whose last audio the stream has in hand
        self._recent: deque[_Heard] = deque(maxlen=_RECENT)
        self._position = 0  # samples handed over
        self._words = False
        self.name = f"wyoming {address}"
        self.rate, self.channels = SAMPLE_RATE, 1
        self.port = 0
        self._dropped = 0  # by servers that are closed

    @property
    def dropped(self) -> int:
        return self._dropped + (self._server.dropped if self._server is not None else 0)

    def begin(self) -> None:
        listening, host = _listening(self._address)
        self.port = listening.getsockname()[1]
        try:
            announcement = self._announcement(host)
            event_bytes(_event("ping", {}))  # raises without the package
        except BaseException:
            listening.close()
            raise
        self._server = Server(listening, self._device, self._channel, announcement)
        self._server.words = self._words

    def _announcement(self, host: str) -> Announcement | None:
        if is_loopback(host):
            return None
        addresses = () if host in ("0.0.0.0", "::") else (host.partition("%")[0],)
        return Announcement(self._device, self.port, addresses)

    def read(self, seconds: float, most: int) -> Taken | None:
        if self._ended is not None:  # all that the stream says of it is said
            self._ended.ended_at = time.monotonic()
            self._ended = None
        self._tell_transcripts()
        server = self._server
        assert server is not None  # it is open
        with server.changed:
            if not server.changed.wait_for(lambda: _ready(server), seconds):
                return None
            if not server.alive:
                raise AudioError(f"{self.name} serves nobody any more")
            turn = server.turns[0]
            if self._now is None or self._now.turn is not turn:
                self._now = _Heard(turn, self._position / SAMPLE_RATE)
                self._recent.append(self._now)
            if not turn.pieces:
                return self._end(server, self._now)
            ahead = self._now.samples / SAMPLE_RATE - (time.monotonic() - turn.begun)
            if self._words and ahead > _AHEAD_SECONDS:
                server.changed.wait(min(seconds, ahead - _AHEAD_SECONDS))
                return None
            samples, at = turn.pieces.popleft()
            if samples.size > most:
                turn.pieces.appendleft((samples[most:], at))
                samples = samples[:most]
            turn.held -= samples.size
        server.call(turn.room.set)
        self._now.samples += samples.size
        self._position += samples.size
        # Who sends faster than people speak is not late.
        return Taken(_frames(samples), at=time.monotonic() if ahead > 0 else at)

    def _end(self, server: Server, heard: _Heard) -> Taken:
        server.turns.popleft()
        server.call(heard.turn.taken.set)
        self._now, self._ended = None, heard
        return Taken(_frames(np.empty(0, np.int16)), ends=True)

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            self._dropped += server.dropped
            self._now = self._ended = None
            self._recent.clear()

    def advice(self, what: str) -> str:
        return ""

    def answer(self, event: Event) -> None:
        """See `WyomingSource.answer`."""
        if isinstance(event, TextStatusEvent):
            self._hear_words(event.source != _OFF)
        elif isinstance(event, HealthEvent):
            self._hear_words(event.text_source != _OFF)
        heard = self._about(event)
        if heard is None or self._server is None:
            return
        message = to_message(event, datetime.now(UTC))
        heard.take(event, message, self._words)
        self._server.call(heard.turn.client.offer, _bytes(PREFIX + event.type, message))

    def _hear_words(self, words: bool) -> None:
        self._words = words
        if self._server is not None:
            self._server.words = words

    def _about(self, event: Event) -> _Heard | None:
        """The turn in which it was said; of what is no utterance, the one that is heard now."""
        if isinstance(event, SpeechStartEvent):
            start = event.t
        elif isinstance(event, EmotionEvent | TextEvent):
            start = event.start
        else:
            return self._now
        # An utterance may begin with a part of a detector's frame from before.
        begun = start + 0.02
        return next((heard for heard in reversed(self._recent) if heard.start <= begun), None)

    def _tell_transcripts(self) -> None:
        for heard in self._recent:
            turn = heard.turn
            if turn.answered.is_set() or not heard.complete(self._words):
                continue
            assert self._server is not None  # it is open
            if turn.transcribes:
                self._server.call(turn.client.offer, heard.transcript())
            turn.transcribes = False
            self._server.call(turn.answered.set)


def _ready(server: Server) -> bool:
    if not server.alive:
        return True
    return bool(server.turns) and (bool(server.turns[0].pieces) or server.turns[0].over)


def _frames(samples: Int16) -> Any:
    return (samples.astype(np.float32) / np.float32(FULL_SCALE))[:, None]


def _listening(address: str) -> tuple[socket.socket, str]:
    """A socket, and the address of the internet protocol to which it is bound."""
    try:
        host, port = parse_address(address)
    except ValueError as error:
        raise AudioError(
            f"{error}; expected such as 10305 (this machine alone) or 0.0.0.0:10305 (whoever can "
            "reach it)"
        ) from None
    try:
        family, kind, number, _, where = socket.getaddrinfo(
            host or _LOOPBACK, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, number)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(where)
            listening.listen()
        except OSError:
            listening.close()
            raise
    except (OSError, ValueError) as error:  # ValueError: a name that is none
        why = getattr(error, "strerror", None) or error
        raise AudioError(f"cannot listen at {address}: {why}") from None
    return listening, str(where[0])


def _event(kind: str, data: dict[str, Any]) -> Any:
    try:
        from wyoming.event import Event as WyomingEvent
    except ImportError:
        raise MissingPackageError("Wyoming", "wyoming", EXTRA) from None
    return WyomingEvent(kind, data)


def _bytes(kind: str, data: dict[str, Any]) -> bytes:
    return event_bytes(_event(kind, data))
