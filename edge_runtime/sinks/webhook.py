"""A web server gets an event. By itself, for HTTP and TLS take two megabytes."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from edge_runtime.errors import SettingError
from edge_runtime.sinks.actions import Outcome

SCHEMES = ("http", "https")


class Webhook:
    """A POST of the event to a web address.

    Parameters
    ----------
    address : http or https; a user and password in it are sent as HTTP's basic authentication.
    timeout : seconds that the server may take to be reached, and again to answer.
    version : of this program, which names itself.

    Raises SettingError for what is no such address.
    """

    def __init__(self, address: str, timeout: float, version: str) -> None:
        self._timeout = timeout
        self.name = masked(address)
        """The address without what may be a secret in it."""
        wrong = SettingError(
            f"{self.name} is no address that events can be sent to; expected http://HOST/... or "
            "https://HOST/..., and other characters than ASCII as %XX"
        )
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError:
            raise wrong from None
        plain = address.isascii() and address.isprintable() and " " not in address
        if parts.scheme.lower() not in SCHEMES or not parts.hostname or not plain:
            raise wrong
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        place = f"{host}:{port}" if port is not None else host
        self._url = urlunsplit((parts.scheme, place, parts.path or "/", parts.query, ""))
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"edge-emotion/{version}",
        }
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
        self._opener = build_opener(_NoRedirects)

    def run(self, line: bytes, variables: Mapping[str, str]) -> Outcome:
        """See `Action`."""
        request = Request(self._url, data=line.strip(), headers=self._headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout):
                return Outcome()
        except HTTPError as error:
            with error:
                moved = ": name the address that it leads to" if 300 <= error.code < 400 else ""
                return Outcome(f"{self.name} answers with HTTP status {error.code}{moved}")
        except URLError as error:
            return Outcome(f"{self.name} cannot be reached", _why(error.reason))
        except OSError as error:
            return Outcome(f"{self.name} does not answer", _why(error))
        except (HTTPException, ValueError) as error:
            # Their texts may hold the address.
            return Outcome(f"{self.name} does not speak HTTP", type(error).__name__)


class _NoRedirects(HTTPRedirectHandler):
    """A POST that is sent elsewhere would become a GET, without the event; and who knows where."""

    def redirect_request(self, *_: object) -> None:
        return None


def masked(address: str) -> str:
    """An address as it may be shown: user, password, path and query may all be secrets.

    A webhook's key is often its path.
    """
    try:
        parts = urlsplit(address)
        place = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return f"{address.partition(':')[0]}://…"
    rest = "/…" if parts.path not in ("", "/") or parts.query else parts.path
    return f"{parts.scheme}://{'***@' if '@' in parts.netloc else ''}{place}{rest}"


def _why(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
