"""The sink of the page: hands events over to the server's thread, and goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic

from edge_runtime.audio.levels import Level
from edge_runtime.console import note
from edge_runtime.events import Event
from edge_runtime.sinks import Context
from edge_runtime.web.access import access_of
from edge_runtime.web.server import Server
from edge_runtime.web.settings import WebSettings

_LEVEL_SECONDS = 0.1  # between two levels; the eye sees no more


class WebSink:
    """Shows events and levels to every browser that has the page open.

    Parameters
    ----------
    settings : where it listens, and who may see it.
    context : what the page tells of the program.

    Raises
    ------
    SettingError : the token, or the name of the proxy, cannot be one.
    EdgeError : the address or the port cannot be had, or the token's file cannot be used.
    MissingPackageError : `websockets` is not installed.
    """

    def __init__(self, settings: WebSettings, context: Context) -> None:
        access = access_of(settings)
        self._server = Server(settings, access, context)
        self._heard = 0.0  # when a level was handed over
        self._loudest: Level | None = None  # since then
        self.url = self._server.url
        """Address for a browser of this machine, or of another where it is bound beyond
        loopback; without its token, and not by a proxy."""
        address = self.url if access.public is None else f"https://{access.public}/"
        if access.token is None:
            note(f"page: {address}")
        elif settings.token is None and settings.token_file is None:
            note(f"page: {address}#token={access.token}")
        else:
            where = settings.token_file if settings.token is None else "the settings"
            note(f"page: {address}#token=... (the token is in {where})")

    @property
    def dropped(self) -> int:
        """Events that no page will see: the server was too busy to take them."""
        return self._server.dropped

    def write(self, event: Event) -> None:
        """Hand one event over; never waits."""
        self._server.hand_over(event, datetime.now(UTC))

    def hear(self, t: float, form: str, level: Level) -> None:
        """How loud a live source is at second `t`: the loudest moment of each tenth of a second."""
        if self._loudest is None or level.rms_db > self._loudest.rms_db:
            self._loudest = level
        now = monotonic()
        if now - self._heard >= _LEVEL_SECONDS:
            self._server.hand_over_level(t, form, self._loudest)
            self._heard, self._loudest = now, None

    def close(self) -> None:
        """Send what waits, for a second at most, and close every page."""
        self._server.close()
