"""A Wyoming server that hears words, such as wyoming-faster-whisper or wyoming-vosk.

Each utterance has a connection of its own, as Home Assistant's have: many servers close it behind
their transcript. Where the server is another machine, audio goes there, and is not encrypted.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import TextError
from edge_runtime.events import Word
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.text import Transcript
from edge_runtime.text.engines import Engine
from edge_runtime.text.engines.pieces import spoken
from edge_runtime.wyoming.discovery import Found, find_services
from edge_runtime.wyoming.protocol import (
    PROGRAM,
    READ_BYTES,
    EventReader,
    ProtocolError,
    event_bytes,
    parse_address,
    text_of,
)

if TYPE_CHECKING:
    from wyoming.event import Event

_CONNECT_SECONDS = 3.0  # to a machine of the same house
_INFO_SECONDS = 5.0
_AT_ONCE = 16  # servers that are asked what they are
_SEND_SECONDS = 10.0  # in which a server takes some audio
_ANSWER_SECONDS = 60.0  # to a whole utterance; in a live stream less is borne with
_FORMAT = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}
_MOST_TEXT = 100_000  # characters of an utterance; nobody says more


class WyomingWords:
    """The server at `address`, HOST:PORT; the first by name that zeroconf finds, where it is "".

    TextError where it is not there, or hears no words; MissingPackageError without wyoming, or
    zeroconf to find it.
    """

    name = "wyoming"
    notes: tuple[str, ...] = ()

    def __init__(self, address: str) -> None:
        if address:
            self._host, self._port = _address(address)
            service = _service(_described(self._host, self._port))
            if service is None:
                raise TextError(f"wyoming: {address} hears no words: its info names no asr program")
            self.notes = (f"{service} at {address} hears",)
        else:
            found, service, others = _found()
            self._host, self._port = found.host, found.port
            note = f"{service} at {found.host}:{found.port} ({found.name}) hears"
            self.notes = (f"{note}; {others} more could" if others else note,)
        self._connection: _Connection | None = None
        self._start = 0.0
        self._chunks = ""
        self._whole: str | None = None  # what a server has sent that finds the end by itself
        self._said: tuple[Word, ...] = ()

    def restart(self) -> None:
        """See TextSource."""
        self.close()

    def begin(self, t: float) -> None:
        """See TextSource. TextError where the server does not answer."""
        self.close()
        self._start, self._chunks, self._whole, self._said = t, "", None, ()
        self._connection = _Connection(self._host, self._port)
        self._connection.send("transcribe", {})
        self._connection.send("audio-start", _FORMAT)

    def feed(self, samples: Int16) -> Transcript | None:
        """See TextSource; words come before the end where the server sends transcript-chunks."""
        connection = self._open()
        if self._whole is not None:
            return None
        connection.send("audio-chunk", _FORMAT, samples.astype("<i2").tobytes())
        for event in connection.arrived(0.0):
            self._take(event)
        words = self._words(self._chunks)
        if words == self._said:
            return None
        self._said = words
        return Transcript(words, False, self._start, self.name)

    def end(self) -> Transcript:
        """See TextSource. TextError where no transcript comes."""
        connection = self._open()
        if self._whole is None:
            connection.send("audio-stop", {})
        deadline = time.monotonic() + _ANSWER_SECONDS
        while self._whole is None:
            if time.monotonic() > deadline:
                raise TextError(f"wyoming: no transcript within {_ANSWER_SECONDS:g} s")
            for event in connection.arrived(deadline - time.monotonic()):
                self._take(event)
        self.close()
        return Transcript(self._words(self._whole), True, self._start, self.name)

    def close(self) -> None:
        """See TextSource."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> _Connection:
        if self._connection is None:
            raise TextError("wyoming: samples, or an end, before an utterance began")
        return self._connection

    def _take(self, event: Event) -> None:
        if self._whole is not None:
            return
        if event.type == "transcript":
            self._whole = text_of(event.data)
        elif event.type == "transcript-start":
            self._chunks = ""
        elif event.type == "transcript-chunk":
            self._chunks = (self._chunks + text_of(event.data))[:_MOST_TEXT]
        elif event.type == "transcript-stop":
            self._whole = self._chunks
        elif event.type == "error":
            raise TextError(f"wyoming: the server says {text_of(event.data)!r:.200}")

    def _words(self, text: str) -> tuple[Word, ...]:
        """Words without times stand at the beginning of their utterance."""
        found = (spoken(word) for word in text[:_MOST_TEXT].split())
        return tuple(Word(word, self._start, self._start) for word in found if word)


class _Connection:
    """Events to and from a server. TextError for whatever goes wrong with it."""

    def __init__(self, host: str, port: int) -> None:
        self._where = f"{host}:{port}"
        self._events = EventReader()
        try:
            self._socket = socket.create_connection((host, port), _CONNECT_SECONDS)
        except (OSError, ValueError) as error:  # ValueError: a name that is none
            raise self._gone(error) from None
        self._socket.settimeout(_SEND_SECONDS)

    def send(self, kind: str, data: dict[str, Any], payload: bytes | None = None) -> None:
        """Send one event."""
        from wyoming.event import Event

        try:
            self._socket.sendall(event_bytes(Event(kind, data, payload)))
        except OSError as error:
            raise self._gone(error) from None

    def arrived(self, seconds: float) -> list[Event]:
        """Events that are here, or come within so many seconds: none, where none is complete."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._socket, selectors.EVENT_READ)
            if not ready.select(max(0.0, seconds)):
                return []
        try:
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise TextError(f"wyoming: {self._where} closed the connection")
            events = self._events.take(data)
        except OSError as error:
            raise self._gone(error) from None
        except ProtocolError as error:
            raise TextError(f"wyoming: {self._where} sends what is no Wyoming: {error}") from None
        return events

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def _gone(self, error: OSError | ValueError) -> TextError:
        why = getattr(error, "strerror", None) or error
        return TextError(f"wyoming: {self._where} does not answer: {why}")


def _address(text: str) -> tuple[str, int]:
    """Refuse what is no address, without asking for it."""
    try:
        host, port = parse_address(text)
    except ValueError:
        host, port = "", 0
    if not host or not port:
        raise TextError(f"wyoming: {text!r} is no server; expected HOST:PORT")
    return host, port


def _described(host: str, port: int) -> dict[str, Any]:
    """What a server tells of itself. TextError where it does not."""
    connection = _Connection(host, port)
    try:
        connection.send("describe", {})
        deadline = time.monotonic() + _INFO_SECONDS
        while time.monotonic() < deadline:
            for event in connection.arrived(deadline - time.monotonic()):
                if event.type == "info":
                    return event.data
    finally:
        connection.close()
    raise TextError(f"wyoming: {host}:{port} does not say what it is within {_INFO_SECONDS:g} s")


def _service(info: dict[str, Any]) -> str | None:
    """The name of the first service in it that hears words; None without."""
    programs = info.get("asr")
    for program in programs if isinstance(programs, list) else []:
        if isinstance(program, dict) and program.get("installed"):
            return str(program.get("name"))[:100]
    return None


def _found() -> tuple[Found, str, int]:
    """The server to take, its service, and how many others there are. Not a device like ours."""
    try:
        services = find_services()
    except OSError as error:
        raise TextError(f"wyoming: there is no network to look in: {error}") from None
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        names = list(pool.map(_name, services))
    able = [(one, name) for one, name in zip(services, names, strict=True) if name]
    if not able:
        raise TextError(
            f"wyoming: zeroconf finds no server that hears words, among {len(services)} services; "
            "name one: --text wyoming:HOST:PORT"
        )
    return *able[0], len(able) - 1


def _name(found: Found) -> str | None:
    """The service by which it hears words, where it does, and is none like ours."""
    try:
        service = _service(_described(found.host, found.port))
    except TextError:
        return None
    return None if service == PROGRAM else service


def _check(argument: str, _: Path | None) -> None:
    if argument:
        _address(argument)


ENGINE = Engine(
    forms=("wyoming", "wyoming:HOST:PORT"),
    package="wyoming",
    extra="wyoming",
    requirement="wyoming>=1.5",
    hears="a [Wyoming](wyoming.md) server, named or found by zeroconf",
    proven="run, tested on real speech against servers made with the package",
    load=lambda argument, _: WyomingWords(argument),
    check=_check,
)
