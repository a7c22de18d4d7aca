"""The files of the page, read once: no path of a request ever reaches the disk."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Headers of every answer."""


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    kind: str
    """Its Content-Type."""
    content: bytes
    """What is in it."""


def load_assets() -> dict[str, Asset]:
    """Every file of the page by the path that asks for it; the page itself is also `/`."""
    found = {}
    for item in resources.files(__package__).joinpath("assets").iterdir():
        kind = _KINDS.get(f".{item.name.rpartition('.')[2]}")
        if kind is not None:
            found[f"/{item.name}"] = Asset(kind, item.read_bytes())
    return {"/": found[f"/{INDEX}"], **found}
