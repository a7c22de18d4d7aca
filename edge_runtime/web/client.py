"""One open page: what waits for it, and what it lost because it reads too slowly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import deque

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

MOST_WAITING = 256  # messages: a minute of speech
ALIVE_SECONDS = 15.0  # after which a page is told that there is nothing to tell
HOPELESS_SECONDS = 20.0  # after which one that takes nothing is closed
_ALIVE = '{"type":"alive"}'
_KERNEL_BYTES = 1 << 16  # of its socket's buffer, which would else grow to megabytes


class Client:
    """A bounded queue to one browser. Used in the server's loop alone."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._waiting: deque[str] = deque()
        self._level: str | None = None
        self._told = 0
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self.missed = 0
        """Messages that were dropped, the oldest first, since it was opened."""
        # Another kind of transport may have no such buffer.
        with contextlib.suppress(OSError, AttributeError):
            connection.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES
            )

    @property
    def waiting(self) -> int:
        """Messages that are not sent yet."""
        return len(self._waiting)

    def put(self, line: str) -> None:
        """A message for later; what finds no room takes that of the oldest."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self.missed += 1
        self._waiting.append(line)
        self._idle.clear()
        self._news.set()

    def put_level(self, line: str) -> None:
        """How loud it is; only the newest waits."""
        self._level = line
        self._news.set()

    async def send(self, first: list[str]) -> None:
        """Send the messages of `first`, then what comes, until the connection ends."""
        with contextlib.suppress(ConnectionClosed):
            for line in first:
                await self._send(line)
            while True:
                await self._send_waiting()
                self._idle.set()
                try:
                    async with asyncio.timeout(ALIVE_SECONDS):
                        await self._news.wait()
                except TimeoutError:
                    await self._send(_ALIVE)
                self._news.clear()

    async def flushed(self) -> None:
        """Return when nothing waits any more."""
        await self._idle.wait()

    async def _send_waiting(self) -> None:
        while self._waiting or self._level:
            if self.missed > self._told:
                self._told = self.missed
                await self._send(json.dumps({"type": "missed", "count": self.missed}))
            if self._waiting:
                await self._send(self._waiting.popleft())
            if self._level:
                level, self._level = self._level, None
                await self._send(level)

    async def _send(self, line: str) -> None:
        try:
            async with asyncio.timeout(HOPELESS_SECONDS):
                await self._connection.send(line)
        except TimeoutError:
            self._connection.transport.abort()
            await self._connection.wait_closed()
