"""A page that is served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from page_events import CONTEXT, Serve, Served

from edge_runtime.web import WebSettings
from edge_runtime.web.sink import WebSink


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a page with these settings, at a free port."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Served:
            sink = WebSink(WebSettings(on=True, port=0, **settings), CONTEXT)
            stack.callback(sink.close)
            return Served(sink, int(sink.url.rpartition(":")[2].strip("/")), stack)

        yield start
