"""The process of the microphone: a sound server that hangs holds it up, a plugin can crash it.

    python -m edge_runtime.portaudio.worker BINDING...

Out: messages as `edge_runtime.portaudio.HEADER` has them. First the devices or an error, which is
the end; then an answer to each request, and frames once one of them was granted. In: a request a
line, an object of JSON with what `PortAudio.open` takes, and the sound server's `source`. The
process ends when its input does, whatever PortAudio is doing then, or when the device has gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

from edge_runtime.errors import AudioError
from edge_runtime.portaudio import ANSWER, FRAMES, HEADER, Capture, PortAudio, open_portaudio

GRACE_SECONDS = 1.0
"""From the end of the input to the end of the process."""
_LOOK_SECONDS = 1.0  # from one look whether PortAudio still captures to the next
_SOURCE = "PULSE_SOURCE"  # by which the sound server's library is told which one is meant
_READ = 1 << 12


class _Output:
    """Messages, of PortAudio's thread and ours."""

    def __init__(self) -> None:
        # For messages alone: what a library prints goes elsewhere.
        self._descriptor = os.dup(1)
        os.dup2(2, 1)
        self._lock = Lock()

    def answer(self, **content: Any) -> None:
        self._send(ANSWER, False, json.dumps(content).encode())

    def frames(self, data: Any, overflowed: bool) -> None:
        """Where nobody reads, this waits; PortAudio then says what overflowed."""
        self._send(FRAMES, overflowed, data)

    def _send(self, kind: bytes, overflowed: bool, content: Any) -> None:
        now = time.monotonic()
        content = bytes(content)
        rest = memoryview(HEADER.pack(kind, overflowed, now, len(content)) + content)
        # A pipe without a reader: our input has ended, too.
        with self._lock, suppress(BrokenPipeError):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


def main(*names: str) -> None:
    """Serve with the first of these bindings that works; never returns."""
    # A terminal and a service manager send these to all processes; the other side still has to
    # close what it has heard, and ends this one by closing its pipe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    output = _Output()
    requests: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_receive, args=(requests,), daemon=True).start()
    try:
        portaudio = open_portaudio(names)
        output.answer(devices=portaudio.devices())
        _serve(portaudio, requests, output)
    except AudioError as error:
        output.answer(error=str(error))
    except Exception as error:  # of a binding: whatever it is, it is the reason
        what = " ".join(f"{type(error).__name__}: {error}".split())
        output.answer(error=f"PortAudio does not work: {what}")
    # Not by way of the interpreter's end, where PortAudio is given back: that may hang.
    os._exit(0)


def _receive(requests: SimpleQueue[bytes]) -> None:
    """Requests as they come, an empty one at the end; then the end of the process, in time."""
    rest = b""
    while data := os.read(0, _READ):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            requests.put(line)
    requests.put(b"")
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def _serve(portaudio: PortAudio, requests: SimpleQueue[bytes], output: _Output) -> None:
    """Until there are no more requests, or the device has gone."""
    own_source = os.environ.get(_SOURCE, "")
    capture: Capture | None = None
    while True:
        try:
            line = requests.get(timeout=None if capture is None else _LOOK_SECONDS)
        except Empty:
            assert capture is not None  # or it would wait on
            if capture.active():
                continue
            line = b""
        if not line:
            break
        request = json.loads(line)
        os.environ.pop(_SOURCE, None)
        if source := request.pop("source") or own_source:  # one without a name is none of its
            os.environ[_SOURCE] = source
        try:
            capture = _opened(portaudio, request, output)
        except OSError as error:
            output.answer(refused=str(error))
        else:
            output.answer(opened=True)
    if capture is not None:
        capture.close()


def _opened(portaudio: PortAudio, request: dict[str, Any], output: _Output) -> Capture:
    capture = portaudio.open(**request, receive=output.frames)
    try:
        capture.start()
    except OSError:
        capture.close()
        raise
    return capture


if __name__ == "__main__":
    main(*sys.argv[1:])
