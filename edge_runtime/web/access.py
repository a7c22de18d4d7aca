"""Who may see the page: names of this machine on loopback, whoever knows the token elsewhere.

A proxy that brings the page elsewhere is known by the name at which it does (`web.public`).
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from edge_runtime.addresses import is_loopback
from edge_runtime.errors import EdgeError, SettingError
from edge_runtime.web.settings import WebSettings

PROTOCOL = "edge-emotion"
"""The WebSocket subprotocol of the page; the token is a second one."""
TOKEN_PREFIX = "token."  # a browser can send no header but subprotocols with a WebSocket
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,256}")  # goes into addresses and headers as it is
_TOKEN_BYTES = 18  # random ones, of a made token: 144 bits, 24 characters
_PUBLIC = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_BEARER = "Bearer "
_LOCAL_NAMES = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Access:
    """Judges a request by its headers, with names in lower case."""

    loopback: bool
    """Whether the page is bound to loopback alone."""
    token: str | None
    """What has to be known; None on loopback where nothing was asked for."""
    public: str | None = None
    """Host, and port unless it is that of https, at which a proxy serves the page."""

    def host_refusal(self, headers: Mapping[str, str]) -> tuple[HTTPStatus, str] | None:
        """Why this is not answered at all.

        On loopback only names of this machine are, and that of the proxy: somebody else's name
        that leads here (DNS rebinding) is a foreign page that asks through the browser of this
        machine's user.
        """
        host = headers.get("host", "")
        if not host:
            return HTTPStatus.BAD_REQUEST, "one Host header is needed"
        if self.loopback and _name_of(host) not in self._names | _loopback_name(host):
            return HTTPStatus.FORBIDDEN, "this page answers to localhost alone (or set web.public)"
        return None

    def refusal(self, headers: Mapping[str, str]) -> tuple[HTTPStatus, str] | None:
        """Why events are not shown: another page's script, or no token."""
        origin = headers.get("origin")
        pages = headers["host"].lower(), self.public
        if origin is not None and origin.partition("://")[2].lower() not in pages:
            return HTTPStatus.FORBIDDEN, "events are for the page of this server alone"
        if self.token is not None and not hmac.compare_digest(
            _token_in(headers).encode(), self.token.encode()
        ):
            return HTTPStatus.UNAUTHORIZED, "the token is missing or wrong"
        return None

    @property
    def _names(self) -> set[str]:
        return _LOCAL_NAMES if self.public is None else {*_LOCAL_NAMES, _name_of(self.public)}


def access_of(settings: WebSettings) -> Access:
    """What the settings ask for; a token that is needed and not there is made.

    Raises SettingError for a token that cannot be part of an address, or a name that is none,
    EdgeError for a file that cannot be read or written.
    """
    loopback, public = is_loopback(settings.host), settings.public
    if public is not None:
        if not _PUBLIC.fullmatch(public):
            raise SettingError(
                "web.public must be HOST or HOST:PORT, without https:// and path, as in "
                f"ear.example, not {public!r}"
            )
        public = public.lower().removesuffix(":443")  # as browsers write it
    token: str | None = settings.token
    if token is None and settings.token_file is not None:
        token = _token_of(settings.token_file)
    if token is None and not (loopback and public is None):
        token = secrets.token_urlsafe(_TOKEN_BYTES)
    if token is not None and not _TOKEN.fullmatch(token):
        raise SettingError(
            "web.token must be 16 to 256 letters, digits and . _ ~ - (it becomes part of an "
            f"address), not {len(token)} characters of which some may be others; make one: "
            "openssl rand -hex 16"
        )
    return Access(loopback, token, public)


def _token_of(path: Path) -> str:
    """The first line of a file, which is made where there is none."""
    try:
        with contextlib.suppress(FileExistsError):
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(made, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
        return (path.read_text(encoding="utf-8").splitlines() or [""])[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise EdgeError(
            f"cannot read or make the token's file {path}: {reason}; name another with "
            "--web-token-file"
        ) from None


def _token_in(headers: Mapping[str, str]) -> str:
    """The token that came with a request; nothing where none did."""
    bearer = headers.get("authorization", "")
    if bearer.startswith(_BEARER):
        return bearer.removeprefix(_BEARER).strip()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(TOKEN_PREFIX):
            return protocol.strip().removeprefix(TOKEN_PREFIX)
    return ""


def _name_of(host: str) -> str:
    """A Host header without its port: `[::1]:8765` is `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _loopback_name(host: str) -> set[str]:
    """The name itself where it is another address of loopback, as 127.0.0.2 is."""
    name = _name_of(host)
    return {name} if name != "localhost" and is_loopback(name) else set()
