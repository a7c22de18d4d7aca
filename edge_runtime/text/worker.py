"""The process of an engine: samples come in by a pipe, words go out by another.

A crash, a hang or a slow search in here costs words and never a verdict: the stream on the other
side (`edge_runtime.text.engine_process`) only ever writes and reads what does not block.

    python -m edge_runtime.text.worker NAME [KEYWORDS]

In: a byte for the kind, a length, and so many bytes. Out: one JSON object a line, one for every
message taken, in order; before them {"ready": ..., "notes": [...]}. {"error": ...} is the end.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from edge_runtime.errors import EdgeError
from edge_runtime.system import resident_megabytes
from edge_runtime.text import TextSource, Transcript
from edge_runtime.text.engines import source_named

HEADER = struct.Struct("<cI")
BEGIN, SAMPLES, END, RESTART = b"b", b"s", b"e", b"r"
TIME = struct.Struct("<d")
_NICENESS = 5  # words give way to the verdict


def message(kind: bytes, payload: bytes = b"") -> bytes:
    """One message to a worker."""
    return HEADER.pack(kind, len(payload)) + payload


def main(name: str, keywords: str = "") -> int:
    """Serve until the other side closes its end."""
    # A terminal and a service manager send these to all processes; the other side finishes what it
    # has heard, and ends this one by closing its pipe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(_NICENESS)
    incoming, out = sys.stdin.buffer, _private_output()
    try:
        engine = source_named(name, Path(keywords) if keywords else None)
    except EdgeError as error:
        _say(out, {"error": str(error)})
        return 2
    except Exception as error:  # of a library: whatever it is, it is the reason
        _say(out, {"error": _reason(error)})
        return 1
    _say(out, {"ready": engine.name, "notes": list(engine.notes), **_usage()})
    try:
        _serve(engine, incoming, out)
    except BrokenPipeError:
        pass
    except Exception as error:
        with suppress(OSError):
            _say(out, {"error": _reason(error)})
        return 1
    return 0


def _reason(error: Exception) -> str:
    """An exception in one line."""
    if isinstance(error, EdgeError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())


def _serve(engine: TextSource, incoming: BinaryIO, out: TextIO) -> None:
    while True:
        header = incoming.read(HEADER.size)
        if len(header) < HEADER.size:
            return
        kind, length = HEADER.unpack(header)
        payload = incoming.read(length)
        if len(payload) < length:
            return
        transcript = _take(engine, kind, payload)
        answer = _usage()
        if transcript is not None:
            answer["final"] = transcript.final
            answer["words"] = [(w.text, w.start, w.end, w.confidence) for w in transcript.words]
        _say(out, answer)


def _take(engine: TextSource, kind: bytes, payload: bytes) -> Transcript | None:
    if kind == BEGIN:
        engine.begin(TIME.unpack(payload)[0])
        return None
    if kind == RESTART:
        engine.restart()
        return None
    if kind == SAMPLES:
        return engine.feed(np.frombuffer(payload, np.int16))
    return engine.end()


def _usage() -> dict[str, Any]:
    return {"cpu": time.process_time(), "rss_mb": resident_megabytes()}


def _private_output() -> TextIO:
    """Standard output for answers alone: what an engine's library prints goes elsewhere."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _say(out: TextIO, answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
