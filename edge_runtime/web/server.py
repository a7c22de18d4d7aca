"""The server of the page: a thread with a loop of its own, plain HTTP and one WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import socket
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Thread
from typing import Any

from edge_runtime.audio.levels import Level
from edge_runtime.errors import EdgeError, MissingPackageError
from edge_runtime.events import Event, time_of_day, to_message
from edge_runtime.sinks import Context
from edge_runtime.web.access import PROTOCOL, Access
from edge_runtime.web.history import History
from edge_runtime.web.pages import SECURITY, load_assets
from edge_runtime.web.ports import holder_of
from edge_runtime.web.settings import WebSettings

try:
    from websockets.asyncio.server import Server as WebSocketServer
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.datastructures import Headers, MultipleValuesError
    from websockets.exceptions import ConnectionClosed
    from websockets.http11 import Request, Response
    from websockets.typing import Subprotocol

    from edge_runtime.web.client import Client
except ImportError:
    raise MissingPackageError("the page", "websockets", "web") from None

EVENTS = "/events"
"""Path of the WebSocket."""
ACCESS = "/access"
"""Path that tells a page whether its token is right: 204 or 401."""
MOST_HANDED_OVER = 4096
"""Events between the audio's thread and the server's; more are dropped, the oldest first."""
_START_SECONDS = 10.0
_CLOSE_SECONDS = 1.0  # for each of: what waits, the closing handshakes
_OPEN_SECONDS = 10.0  # for a request, to its last byte
_LEAVE_SECONDS = 5.0  # for an answer, to its last byte
_MOST_REQUEST_BYTES = 1 << 14
_MOST_MESSAGE_BYTES = 1 << 10  # from a page, which has nothing to say
_OTHER_CONNECTIONS = 32  # beside the open pages: those that fetch its files
_BUSY, _NOTHING_TO_SAY = 1013, 1008  # close codes: try again later, policy violation


class Server:
    """Listens from its construction to `close`; every public method may be called by any thread.

    Raises EdgeError where it cannot listen.
    """

    def __init__(self, settings: WebSettings, access: Access, context: Context) -> None:
        self._settings, self._access, self._context = settings, access, context
        self._assets = load_assets()
        self._history = History(settings.summary_seconds)
        self._clients: set[Client] = set()
        self._connections: set[ServerConnection] = set()  # with those that fetch files
        self._handed: deque[tuple[Event, datetime]] = deque(maxlen=MOST_HANDED_OVER)
        self._called = False  # whether the loop is going to look at them
        self._level: tuple[float, str, Level] | None = None
        self.dropped = 0
        """Events that the server's thread did not take in time."""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        listening: Future[int] = Future()
        self._thread = Thread(target=self._run, args=(listening,), name="page", daemon=True)
        self._thread.start()
        try:
            self.port = listening.result(_START_SECONDS)
        except (OSError, ValueError) as error:
            raise EdgeError(_refused(settings, error)) from None

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        host = self._settings.host
        if host in ("0.0.0.0", "::", ""):
            host = _address_of_this_machine()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def hand_over(self, event: Event, at: datetime) -> None:
        """Take an event that was said at that time; returns at once."""
        if len(self._handed) == MOST_HANDED_OVER:
            self.dropped += 1
        self._handed.append((event, at))
        self._call()

    def hand_over_level(self, t: float, form: str, level: Level) -> None:
        """Take a level; one that nobody has seen yet is forgotten."""
        if self._clients:
            self._level = (t, form, level)
            self._call()

    def close(self) -> None:
        """Send what waits and end the thread, within a few seconds."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(4 * _CLOSE_SECONDS)

    def _call(self) -> None:
        if not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._called = False  # first: what comes from now on calls again
        while self._handed:
            event, at = self._handed.popleft()
            line = _text(to_message(event, at))
            self._history.take(event, line, at.timestamp())
            for client in self._clients:
                client.put(line)
        if self._level is not None:
            level, self._level = self._level, None
            line = _text(_level_message(*level))
            for client in self._clients:
                client.put_level(line)

    def _run(self, listening: Future[int]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(listening))

    async def _serve(self, listening: Future[int]) -> None:
        logger = logging.getLogger(__name__)
        logger.setLevel(logging.CRITICAL)  # what strangers send is no fault of this program
        try:
            server = await serve(
                self._attend,
                self._settings.host,
                self._settings.port,
                process_request=self._answer,
                process_response=_secured,
                select_subprotocol=lambda _, offered: _ours(offered),
                compression=None,  # its memory, a page, is more than all else
                max_size=_MOST_MESSAGE_BYTES,
                max_queue=1,
                open_timeout=_OPEN_SECONDS,
                close_timeout=_LEAVE_SECONDS,
                server_header=None,
                create_connection=_connection_class(
                    self._connections, self._settings.clients + _OTHER_CONNECTIONS
                ),
                logger=logger,
            )
        except Exception as error:  # whoever has made this waits for it
            listening.set_exception(error)
            return
        listening.set_result(server.sockets[0].getsockname()[1])
        await self._stop.wait()
        await self._leave(server)

    async def _leave(self, server: WebSocketServer) -> None:
        self._deliver()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                for client in list(self._clients):
                    await client.flushed()
        server.close(reason="the program has ended")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await server.wait_closed()
        for connection in list(self._connections):
            connection.transport.abort()

    def _answer(self, _: ServerConnection, request: Request) -> Response | None:
        """What a request gets; None where it is to become a WebSocket."""
        if request.method != "GET":
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "this page is read with GET", Allow="GET")
        try:
            headers = {name.lower(): request.headers[name] for name in request.headers}
        except MultipleValuesError:
            return _plain(HTTPStatus.BAD_REQUEST, "a header came twice")
        refusal = self._access.host_refusal(headers)
        if refusal is not None:
            return _plain(*refusal)
        path = request.path.partition("?")[0]
        if path in (EVENTS, ACCESS):
            refusal = self._access.refusal(headers)
            if refusal is not None:
                return _plain(*refusal)
            return None if path == EVENTS else _response(HTTPStatus.NO_CONTENT, b"")
        asset = self._assets.get(path)
        if asset is None:
            return _plain(HTTPStatus.NOT_FOUND, "there is no such page; the page is at /")
        return _response(HTTPStatus.OK, asset.content, **{"Content-Type": asset.kind})

    async def _attend(self, connection: ServerConnection) -> None:
        """One page, from its first message to its end."""
        if len(self._clients) >= self._settings.clients:
            await connection.close(_BUSY, f"{len(self._clients)} pages are open, which is all")
            return
        client = Client(connection)
        # Nothing comes between these two: no event is missed, none is told twice.
        first = [self._hello(), *self._history.messages(time.time())]
        self._clients.add(client)
        sending = asyncio.create_task(client.send(first))
        try:
            with contextlib.suppress(ConnectionClosed):
                async for _ in connection:
                    await connection.close(_NOTHING_TO_SAY, "this page only listens")
        finally:
            self._clients.discard(client)
            sending.cancel()

    def _hello(self) -> str:
        message = {
            "type": "hello",
            "time": time_of_day(datetime.now(UTC)),
            "name": self._context.name,
            "version": self._context.version,
            "bundle": self._context.bundle,
            "labels": list(self._context.labels),
            "summary_s": self._settings.summary_seconds,
        }
        return _text(message)


def _connection_class(others: set[ServerConnection], most: int) -> type[ServerConnection]:
    """Connections that refuse what is too much before it is read; `others` are all open ones."""

    class Connection(ServerConnection):
        received = 0  # bytes of the request

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            others.add(self)
            if len(others) > most:
                self.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            others.discard(self)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.request is None:
                self.received += len(data)
                if self.received > _MOST_REQUEST_BYTES:
                    self.transport.abort()
                    return
            super().data_received(data)

    return Connection


def _ours(offered: Any) -> Subprotocol | None:
    return Subprotocol(PROTOCOL) if PROTOCOL in offered else None


def _plain(status: HTTPStatus, text: str, **headers: str) -> Response:
    kind = {"Content-Type": "text/plain; charset=utf-8"}
    return _response(status, f"{text}\n".encode(), **kind, **headers)


def _response(status: HTTPStatus, body: bytes, **headers: str) -> Response:
    every = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
    return Response(status, status.phrase, Headers(every), body)


def _secured(_: ServerConnection, __: Request, response: Response) -> None:
    for name, value in SECURITY.items():
        response.headers[name] = value


def _text(message: Mapping[str, Any]) -> str:
    """A message as JSON; what no UTF-8 has (half a surrogate pair, of words or a name) as ?."""
    text = json.dumps(message, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="replace").decode()


def _level_message(t: float, form: str, level: Level) -> dict[str, Any]:
    return {
        "type": "level",
        "t": round(t, 2),
        "form": form,
        "rms_db": round(level.rms_db, 1),
        "peak_db": round(level.peak_db, 1),
        "clipped": level.clipped,
    }


def _refused(settings: WebSettings, error: OSError | ValueError) -> str:
    """Why the page cannot be served there, and what helps. ValueError: the name is none."""
    host, port = settings.host, settings.port
    if isinstance(error, socket.gaierror | ValueError) or error.errno == errno.EADDRNOTAVAIL:
        return (
            f"the page: this machine has no address {host!r}; name one of its own (--web-host "
            "127.0.0.1, or 0.0.0.0 for all)"
        )
    if error.errno == errno.EADDRINUSE:
        return (
            f"the page: port {port} is taken{holder_of(port).by}; end that, or choose another "
            "(--web-port)"
        )
    if error.errno == errno.EACCES:
        return f"the page: port {port} is for root alone; choose one above 1023 (--web-port)"
    return f"the page: cannot listen at {host}, port {port}: {error.strerror or error}"


def _address_of_this_machine() -> str:
    """That by which others reach it. No packet is sent: the address is one for documentation."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect(("192.0.2.1", 9))
            return str(trial.getsockname()[0])
        except OSError:
            return socket.gethostname()
