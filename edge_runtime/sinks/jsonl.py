"""One JSON object a line on standard output, as soon as it is known."""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import TextIO

from edge_runtime.events import Event, to_json


class JsonLinesSink:
    """Lines that another program reads, flushed one by one."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        if isinstance(self._out, io.TextIOWrapper):
            # Whatever the locale, what comes out is JSON and says the same.
            self._out.reconfigure(errors=_ESCAPED)

    def write(self, event: Event) -> None:
        """Write and flush one line."""
        self._out.write(to_json(event) + "\n")
        self._out.flush()

    def close(self) -> None:
        """Nothing is held back."""


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Characters that the encoding lacks, as JSON writes them (\u00e9): all are within strings."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


_ESCAPED = "edge-emotion-json"
codecs.register_error(_ESCAPED, _escaped)
