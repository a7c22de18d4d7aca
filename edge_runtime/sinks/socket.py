"""Events for programs of this machine: JSON lines from a Unix socket, to any number of readers."""

from __future__ import annotations

import select
import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import EdgeError
from edge_runtime.events import Event
from edge_runtime.settings import Settings, setting
from edge_runtime.sinks import Context
from edge_runtime.sinks.lines import is_partial, json_line
from edge_runtime.system import unix_listener

_READERS = 64  # at once; of a socket of one user more are a mistake
_WAITING = 500  # lines for a reader that is slow: two minutes of speech
_FRESH = 1000  # lines that nobody has been given yet, where the processor is busy
_CLOSE_SECONDS = 1.0  # in which readers get what waits


@dataclass(frozen=True)
class SocketSettings(Settings):
    """A socket from which programs of this machine read events."""

    path: Path | None = setting(
        None,
        "Serve events from this Unix socket, one JSON object a line; for its owner alone.",
        metavar="PATH",
        main=True,
    )
    partial: bool = setting(True, "Serve what is said of utterances still spoken, too.")


def open_socket(settings: SocketSettings, context: Context) -> SocketSink | None:
    """The sink that `settings` ask for; None where they ask for none. See `SocketSink`."""
    return None if settings.path is None else SocketSink(settings, settings.path)


class SocketSink:
    """Whoever connects gets what happens from then on, at most 64 readers at once.

    A thread serves them. A reader that does not keep up loses the oldest lines that wait for it;
    they are counted in `dropped`, and delay nobody else. What readers send is ignored.
    Raises EdgeError where nothing can listen at `path`.
    """

    def __init__(self, settings: SocketSettings, path: Path) -> None:
        self._partial = settings.partial
        self._path = path.absolute()
        try:
            self._listening = unix_listener(self._path)
            self._identity = _identity(self._path)
        except OSError as error:
            raise EdgeError(
                f"cannot serve events at {path}: {error.strerror or error}; name a path "
                "where nothing is, or a socket that is no longer used"
            ) from None
        self._listening.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._readers: dict[socket.socket, _Reader] = {}
        self._fresh: deque[bytes] = deque()  # from the thread that writes to the one that serves
        self._unserved = 0  # of these, what nobody got
        self._dropped = 0  # what readers that have left were too slow for
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="socket", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Lines that wait, for all readers."""
        return sum(reader.queued for reader in list(self._readers.values()))

    @property
    def dropped(self) -> int:
        """Lines that readers were too slow for."""
        slow = sum(reader.dropped for reader in list(self._readers.values()))
        return self._unserved + self._dropped + slow

    @property
    def readers(self) -> int:
        """Who reads now."""
        return len(self._readers)

    def write(self, event: Event) -> None:
        """Let the readers have one event."""
        if self._readers and (self._partial or not is_partial(event)):
            self._fresh.append(json_line(event))
            if len(self._fresh) > _FRESH:
                with suppress(IndexError):  # it was served just now
                    self._fresh.popleft()
                    self._unserved += 1
            self._nudge()

    def close(self) -> None:
        """Give readers what waits, for a second at most; leave them, and take the socket away."""
        self._closing = True
        self._nudge()
        self._thread.join(2 * _CLOSE_SECONDS)
        with suppress(OSError):
            if _identity(self._path) == self._identity:  # and not of who came after us
                self._path.unlink()

    def _nudge(self) -> None:
        with suppress(OSError):  # it is awake already, or gone
            self._wake.send(b"\0")

    def _run(self) -> None:
        deadline: float | None = None
        try:
            while deadline is None or (self.queued and time.monotonic() < deadline):
                for key, mask in self._selector.select(None if deadline is None else 0.05):
                    self._serve(key.fileobj, mask)
                while self._fresh:
                    line = self._fresh.popleft()
                    for reader in list(self._readers.values()):
                        reader.offer(line)
                        self._send(reader)
                if self._closing and deadline is None:
                    deadline = time.monotonic() + _CLOSE_SECONDS
        finally:
            for reader in list(self._readers.values()):
                self._leave(reader)
            for one in (self._listening, self._woken, self._wake):
                one.close()
            self._selector.close()

    def _serve(self, who: object, mask: int) -> None:
        if who is self._listening:
            self._accept()
        elif who is self._woken:
            self._woken.recv(4096)
        elif who in self._readers:
            reader = self._readers[who]
            if mask & selectors.EVENT_READ:
                self._listen(reader)
            if mask & selectors.EVENT_WRITE:
                self._send(reader)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:
            time.sleep(0.05)  # no descriptor is left: not a loop that takes all of the processor
            return
        if len(self._readers) >= _READERS:
            connection.close()
            return
        connection.setblocking(False)
        self._readers[connection] = _Reader(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def _listen(self, reader: _Reader) -> None:
        """Nothing that readers send counts, but that they are gone, or will not send any more."""
        try:
            said = reader.connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            self._leave(reader)
            return
        if said:
            return
        if reader.gone:
            self._leave(reader)
        else:
            reader.mute = True
            self._watch(reader)

    def _send(self, reader: _Reader) -> None:
        if reader.connection not in self._readers:
            return
        try:
            reader.send()
        except OSError:
            self._leave(reader)
        else:
            self._watch(reader)

    def _watch(self, reader: _Reader) -> None:
        wanted = 0 if reader.mute else selectors.EVENT_READ
        wanted |= selectors.EVENT_WRITE if reader.queued else 0
        if wanted == reader.watched:
            return
        if not wanted:
            self._selector.unregister(reader.connection)
        elif not reader.watched:
            self._selector.register(reader.connection, wanted)
        else:
            self._selector.modify(reader.connection, wanted)
        reader.watched = wanted

    def _leave(self, reader: _Reader) -> None:
        self._dropped += reader.dropped
        del self._readers[reader.connection]
        if reader.watched:
            self._selector.unregister(reader.connection)
        reader.connection.close()


class _Reader:
    """A connection, and the lines that wait for it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.mute = False  # it has ended its side: it may read on
        self.watched: int = selectors.EVENT_READ
        self.dropped = 0
        self._waiting: deque[bytes] = deque()
        self._rest = b""  # of the line that is being sent: it is sent whole

    @property
    def queued(self) -> int:
        return len(self._waiting) + bool(self._rest)

    @property
    def gone(self) -> bool:
        """Whether nobody is at the other end, to read either."""
        end = select.poll()
        end.register(self.connection, 0)
        return bool(end.poll(0))

    def offer(self, line: bytes) -> None:
        self._waiting.append(line)
        if len(self._waiting) > _WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def send(self) -> None:
        """As much as the connection takes now. OSError where it is gone."""
        while self._rest or self._waiting:
            self._rest = self._rest or self._waiting.popleft()
            try:
                sent = self.connection.send(self._rest)
            except BlockingIOError:
                return
            self._rest = self._rest[sent:]


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
