"""What can be chosen about the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.settings import Secret, Settings, setting


@dataclass(frozen=True)
class WebSettings(Settings):
    """Options of the page: section `web`."""

    on: bool = setting(False, "Serve a page that shows what is heard.", main=True)
    host: str = setting(
        "127.0.0.1",
        "Address of the page; any other than loopback (0.0.0.0 for all) needs a token.",
    )
    port: int = setting(8765, "Port of the page; 0 for any that is free.", minimum=0, maximum=65535)
    public: str | None = setting(
        None,
        "Name at which a proxy with TLS serves the page, as browsers show it; needs a token.",
        metavar="HOST[:PORT]",
    )
    token: Secret | None = setting(
        None,
        "What a browser has to know. Beyond loopback, or behind a proxy, one is made for each "
        "start unless it is given here or in a file.",
    )
    token_file: Path | None = setting(
        None, "File of the token; it is made, for its owner alone, where there is none."
    )
    clients: int = setting(50, "Pages that may be open at once.", minimum=1, maximum=1000)
    summary_seconds: float = setting(
        3600.0, "How far back a newly opened page sees, s.", above=0, maximum=86_400
    )
