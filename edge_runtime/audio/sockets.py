"""Raw samples that another program of this machine sends, by a Unix socket or TCP on loopback."""

from __future__ import annotations

import contextlib
import select
import socket
from pathlib import Path

import numpy as np

from edge_runtime.audio.command import Frames
from edge_runtime.audio.endless import EndlessSource
from edge_runtime.audio.raw import RawFormat
from edge_runtime.audio.ring import Taken
from edge_runtime.errors import AudioError
from edge_runtime.system import unix_listener

FORMS = ("unix:PATH", "tcp:PORT")
_LOOPBACK = "127.0.0.1"


class SocketSource(EndlessSource):
    """One sender at a time; the next one when it leaves, which ends what it said.

    Parameters
    ----------
    address : one of `FORMS`.
    raw : how bytes are read; s16le, 16 kHz, mono unless given.
    channel : as for `EndlessSource`.

    Raises AudioError for an address that is none, or in use.
    """

    def __init__(
        self, address: str, raw: RawFormat | None = None, channel: int | None = None
    ) -> None:
        super().__init__(_Socket(address, raw or RawFormat()), channel)


class _Socket:
    """See `edge_runtime.audio.endless.Feed`. Who does not send loses nothing."""

    gaps_are_lost = False

    def __init__(self, address: str, raw: RawFormat) -> None:
        self._address, self._raw = address, raw
        self._listening: socket.socket | None = None
        self._sender: socket.socket | None = None
        self.name = f"socket {address}"
        self.rate, self.channels = raw.rate, raw.channels

    def begin(self) -> None:
        kind, _, where = self._address.partition(":")
        if kind == "unix" and where:
            self._listening = _unix(Path(where))
        elif kind == "tcp" and where.isdecimal() and 0 < int(where) < 1 << 16:
            self._listening = _tcp(int(where))
        else:
            raise AudioError(
                f"{self._address!r} is nothing to listen to; expected {' or '.join(FORMS)} "
                "(loopback alone: audio does not leave this machine, nor come from another)"
            )

    def read(self, seconds: float, most: int) -> Taken | None:
        assert self._listening is not None  # it is open
        waiting = self._sender or self._listening
        if not select.select([waiting], [], [], seconds)[0]:
            return None
        if self._sender is None:
            try:
                self._sender, _ = self._listening.accept()
            except OSError as error:  # no descriptor is left
                why = error.strerror or error
                raise AudioError(f"{self.name} cannot let anybody in: {why}") from None
            self._frames = Frames(self._raw)
            return None
        try:
            data = self._sender.recv(most * self._raw.frame_bytes)
        except OSError:
            data = b""  # it was torn away
        if data:
            return self._frames.take(data)
        self._sender.close()
        self._sender = None
        return Taken(np.empty((0, self.channels), np.float32), ends=True)

    def close(self) -> None:
        for one in (self._sender, self._listening):
            if one is not None:
                one.close()
        if self._listening is not None and self._address.startswith("unix:"):
            with contextlib.suppress(OSError):
                Path(self._address.removeprefix("unix:")).unlink()
        self._sender = self._listening = None

    def advice(self, what: str) -> str:
        return ""


def _unix(path: Path) -> socket.socket:
    try:
        return unix_listener(path)
    except OSError as error:
        raise AudioError(f"cannot listen at {path}: {error.strerror or error}") from None


def _tcp(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((_LOOPBACK, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise AudioError(f"cannot listen at port {port}: {error.strerror or error}") from None
    return listening
