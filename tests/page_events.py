"""A page that is served, ways to ask it, and made-up events to show on it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from websockets.sync.client import ClientConnection, connect

from edge_runtime.events import EmotionEvent, RevisedEvent
from edge_runtime.sinks import Context
from edge_runtime.web.sink import WebSink

PATIENCE = 30.0  # seconds until something hangs
LABELS = ("angry", "happy", "neutral", "sad")
CONTEXT = Context("living room", "0.1.0", "default", LABELS)
SCORES = {"angry": 0.7, "happy": 0.1, "neutral": 0.15, "sad": 0.05}


def verdict(t: float, *, final: bool = True, text: str = "", start: float = -1) -> EmotionEvent:
    """Two seconds of anger that ended just before `t`."""
    begun = t - 2 if start < 0 else start
    return EmotionEvent(t, final, begun, t - 0.1, "angry", 0.7, SCORES, text, "audio", {"total": 8})


def revised(t: float, start: float, text: str) -> RevisedEvent:
    """The same utterance with other words."""
    return RevisedEvent(t, True, start, start + 2, "angry", 0.7, SCORES, text, "audio+text", {})


def receive(connection: ClientConnection, seconds: float = 30) -> dict[str, Any]:
    """The next message."""
    return dict(json.loads(connection.recv(seconds)))


def receive_until(connection: ClientConnection, kind: str) -> list[dict[str, Any]]:
    """Messages up to the first of that type, which is the last of them."""
    found = [receive(connection)]
    while found[-1]["type"] != kind:
        found.append(receive(connection))
    return found


@dataclass
class Served:
    """A sink, and its port."""

    sink: WebSink
    port: int
    stack: ExitStack

    def get(
        self, path: str = "/", method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; `_` in the name of a header is `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def open(self, **options: Any) -> ClientConnection:
        """A WebSocket to its events."""
        address = f"ws://127.0.0.1:{self.port}/events"
        return self.stack.enter_context(connect(address, proxy=None, **options))

    def raw(self) -> socket.socket:
        """A bare connection."""
        return self.stack.enter_context(
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        )


Serve = Callable[..., Served]
