"""Events from bytes that anybody may have sent: bounded, and refused in one way.

An event is a line of JSON with its type, then as many bytes of JSON (more data) and of payload as
that line says.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import EdgeError, MissingPackageError

if TYPE_CHECKING:
    from wyoming.event import Event

HEADER_BYTES = 64 << 10
"""Of the line, at most."""
DATA_BYTES = 1 << 20
"""Of further data, at most: what a server tells of itself can be long."""
PAYLOAD_BYTES = 1 << 20
"""Of audio in one event, at most: 32 s at 16 kHz, mono, 16 bits."""
READ_BYTES = 64 << 10
"""To read at a time."""
PROGRAM = "edge-emotion"
"""What we are called in what we tell of ourselves."""
EXTRA = "wyoming"


class ProtocolError(EdgeError):
    """What the other end sends is no Wyoming, or more than anybody means to send."""


@dataclass(frozen=True)
class _Header:
    type: str
    data: dict[str, Any]
    data_bytes: int
    payload_bytes: int


class EventReader:
    """Bytes as they come to events; never holds more than one event of the largest size.

    Raises MissingPackageError without the package.
    """

    def __init__(self) -> None:
        try:
            from wyoming.event import Event
        except ImportError:
            raise MissingPackageError("Wyoming", "wyoming", EXTRA) from None
        self._made = Event
        self._buffer = bytearray()
        self._searched = 0  # bytes of it in which no line ends
        self._header: _Header | None = None

    @property
    def amid(self) -> bool:
        """Whether an event has begun that is not complete."""
        return bool(self._buffer) or self._header is not None

    def take(self, data: bytes) -> list[Event]:
        """The events that are complete by now. ProtocolError: no more can be read from there."""
        self._buffer += data
        events = []
        while (event := self._next()) is not None:
            events.append(event)
        return events

    def _next(self) -> Event | None:
        if self._header is None:
            line = self._line()
            if line is None:
                return None
            self._header = _header(line)
        header = self._header
        whole = header.data_bytes + header.payload_bytes
        if len(self._buffer) < whole:
            return None
        data = header.data
        if header.data_bytes:
            data = data | _object(bytes(self._buffer[: header.data_bytes]))
        payload = bytes(self._buffer[header.data_bytes : whole])
        del self._buffer[:whole]
        self._header = None
        return self._made(header.type, data, payload or None)

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._searched)
        self._searched = len(self._buffer) if end < 0 else 0
        if (len(self._buffer) if end < 0 else end) > HEADER_BYTES:
            raise ProtocolError(f"a line of more than {HEADER_BYTES} bytes")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


def event_bytes(event: Event) -> bytes:
    """An event as it is sent."""
    from wyoming.event import write_event

    written = io.BytesIO()
    try:
        write_event(event, written)
    except UnicodeEncodeError:  # half a surrogate pair, from words that somebody else sends
        text = json.dumps(event.data, ensure_ascii=False)
        event.data = json.loads(text.encode(errors="replace"))
        written = io.BytesIO()
        write_event(event, written)
    return written.getvalue()


def parse_address(text: str) -> tuple[str, int]:
    """Host, "" where none is named, and port of "[HOST:]PORT". ValueError for what is none."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) < 1 << 16) or text.startswith(":"):
        raise ValueError(f"{text!r} is no [HOST:]PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host, int(port)


def whole_number(data: dict[str, Any], name: str, least: int, most: int) -> int:
    """A number that an event must carry. ProtocolError where it does not, or out of bounds."""
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ProtocolError(f"{name} {value!r:.40}; expected {least} to {most}")
    return value


def text_of(data: dict[str, Any]) -> str:
    """The text that an event carries, half a surrogate pair as ?. ProtocolError without one."""
    text = data.get("text")
    if not isinstance(text, str):
        raise ProtocolError(f"text {text!r:.40}; expected words")
    return text.encode(errors="replace").decode()


def _header(line: bytes) -> _Header:
    found = _object(line)
    kind, data = found.get("type"), found.get("data")
    if not isinstance(kind, str):
        raise ProtocolError("a line without the type of its event")
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ProtocolError(f"the data of {kind!r:.40} are no object")
    lengths = []
    for name, most in (("data_length", DATA_BYTES), ("payload_length", PAYLOAD_BYTES)):
        given = found.get(name) is not None
        lengths.append(whole_number(found, name, 0, most) if given else 0)
    return _Header(kind, data, *lengths)


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise ProtocolError(f"{line[:40]!r} is no JSON") from None
    if not isinstance(found, dict):
        raise ProtocolError(f"{line[:40]!r} is no JSON object")
    return found
