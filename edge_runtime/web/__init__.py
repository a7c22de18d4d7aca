"""The page: what the stream says, in a browser. Off unless asked for; loopback unless told to."""

from __future__ import annotations

from edge_runtime.sinks import Context, Sink
from edge_runtime.web.settings import WebSettings

__all__ = ["WebSettings", "open_page"]


def open_page(settings: WebSettings, context: Context) -> Sink | None:
    """The sink that serves the page; None where it is off.

    Raises what `edge_runtime.web.sink.WebSink` raises.
    """
    if not settings.on:
        return None
    from edge_runtime.web.sink import WebSink

    return WebSink(settings, context)
