"""An engine in a process of its own, seen from the stream: nothing here ever blocks."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from edge_runtime.console import DEBUG_VARIABLE
from edge_runtime.events import Word
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.system import module_command
from edge_runtime.text import Transcript
from edge_runtime.text.worker import BEGIN, END, RESTART, SAMPLES, TIME, message

_READ = 1 << 16
_LAST_WORDS = 4096  # bytes of what an engine writes to standard error that are kept
_WINDOW_SECONDS = 5.0  # over which the engine's speed is measured


@dataclass
class _Sent:
    """A message that is not answered yet."""

    utterance: float
    samples: int = 0


class EngineProcess:
    """Starts the engine `name`; hand it utterances, and `pump` to move bytes both ways."""

    def __init__(self, name: str, keywords: Path | None = None) -> None:
        self.name = name
        self.ready = False
        self.error = ""
        """Why it could not start, in its own words."""
        self.started = self.progress = monotonic()
        self.cpu_seconds = 0.0
        self.rss_mb = 0.0
        self.heard_samples = 0
        self.source = name
        self._loading_cpu = 0.0
        self._outbox = bytearray()
        self._inbox = bytearray()
        self._sent: deque[_Sent] = deque()
        self._window = (self.started, 0)
        self._utterance = 0.0
        self.notes: tuple[str, ...] = ()
        """What its loading left out, in words."""
        self._last_words = b""
        debug = bool(os.environ.get(DEBUG_VARIABLE))
        self._process = subprocess.Popen(
            [
                *module_command("edge_runtime.text.worker"),
                name,
                *([str(keywords)] if keywords else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if debug else subprocess.PIPE,
            bufsize=0,
        )
        # Else subprocess keeps a process that nobody ended, and its pipes, for good.
        weakref.finalize(self, self._process.kill)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._errors = self._process.stderr
        for pipe in (self._to, self._from, self._errors):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def outstanding_seconds(self) -> float:
        """Audio handed over that is not heard yet, s."""
        return sum(sent.samples for sent in self._sent) / SAMPLE_RATE

    @property
    def real_time_factor(self) -> float:
        """Processor time over audio time since it started, loading included in neither."""
        return self.cpu_seconds / max(self.heard_samples / SAMPLE_RATE, 1e-9)

    def begin(self, t: float) -> None:
        """An utterance begins at second `t`."""
        self._utterance = t
        self._send(message(BEGIN, TIME.pack(t)), 0)

    def feed(self, samples: bytes) -> None:
        """PCM16 of the utterance."""
        self._send(message(SAMPLES, samples), len(samples) // 2)

    def end(self) -> None:
        """The utterance ends."""
        self._send(message(END), 0)

    def restart(self) -> None:
        """A new stream begins: nothing is known of its microphone and speaker."""
        self._send(message(RESTART), 0)

    def pump(self, wait: float = 0.0) -> list[Transcript]:
        """Write and read what does not block, after `wait` seconds at most if there is nothing."""
        self._write()
        if wait:
            self._await(wait)
            self._write()
        return self._read()

    def _await(self, seconds: float) -> None:
        """Until bytes can move either way."""
        # Not select: it refuses descriptors above 1,023, which a server may well hold.
        with selectors.DefaultSelector() as ready:
            ready.register(self._from, selectors.EVENT_READ)
            if self._outbox:
                ready.register(self._to, selectors.EVENT_WRITE)
            ready.select(seconds)

    def _read(self) -> list[Transcript]:
        if self._errors is not None:
            with suppress(BlockingIOError):
                while piece := os.read(self._errors.fileno(), _READ):
                    self._last_words = (self._last_words + piece)[-_LAST_WORDS:]
        with suppress(BlockingIOError):
            while piece := os.read(self._from.fileno(), _READ):
                self._inbox += piece
        *lines, rest = self._inbox.split(b"\n")
        self._inbox = rest
        return [
            transcript
            for line in lines
            if (transcript := self._answer(json.loads(line))) is not None
        ]

    def trouble(self, start: float, stall: float, behind: float) -> str:
        """What is wrong with it now, or nothing.

        Parameters
        ----------
        start : seconds it may take to load.
        stall : seconds for which it may be silent while there is work.
        behind : seconds of audio by which it may lag; infinity where audio comes as fast as it can.
        """
        now = monotonic()
        if self._process.poll() is not None:
            code = self._process.returncode
            how = f"ended with {code}" if code >= 0 else f"was killed by signal {-code}"
            return self.error or f"its process {how}{self._said()}"
        if not self.ready:
            return f"it did not start within {start:g} s" if now - self.started > start else ""
        if self._sent and now - self.progress > stall:
            return f"it has not answered for {stall:g} s"
        since, heard = self._window
        if not self._sent or now - since > _WINDOW_SECONDS:
            self._window = (now, self.heard_samples)
            speed = (self.heard_samples - heard) / SAMPLE_RATE / max(now - since, 1e-9)
            lag = self.outstanding_seconds
            if lag > behind and speed < 1.0:
                return f"it is {lag:.1f} s behind and hears {speed:.2f} s in a second"
        return ""

    def _said(self) -> str:
        """The last line that a dead process wrote, which is why it died where it knew."""
        with suppress(OSError, ValueError):
            self._read()
        lines = self._last_words.decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()[:300]}" if lines else ""

    def kill(self) -> None:
        """End it at once, even a stopped one; `reap` afterwards."""
        with suppress(OSError):
            self._process.kill()
        for pipe in (self._to, self._from, self._errors):
            if pipe is not None:
                pipe.close()

    def reap(self, timeout: float = 0.0) -> bool:
        """Whether a killed process has gone; the wait is only up to `timeout` seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _send(self, content: bytes, samples: int) -> None:
        if not self._sent:
            self.progress = monotonic()
        self._sent.append(_Sent(self._utterance, samples))
        self._outbox += content
        self._write()

    def _write(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            while self._outbox:
                del self._outbox[: os.write(self._to.fileno(), self._outbox)]

    def _answer(self, answer: dict[str, Any]) -> Transcript | None:
        self.progress = monotonic()
        self.rss_mb = answer.get("rss_mb", self.rss_mb)
        if "error" in answer:
            self.error = answer["error"]
            return None
        if "ready" in answer:
            self.ready, self.source = True, answer["ready"]
            self.notes = tuple(answer.get("notes", ()))
            self._window = (self.progress, 0)
            self._loading_cpu = answer["cpu"]
            return None
        sent = self._sent.popleft()
        self.heard_samples += sent.samples
        self.cpu_seconds = answer["cpu"] - self._loading_cpu
        if "words" not in answer:
            return None
        words = tuple(Word(*word) for word in answer["words"])
        return Transcript(words, answer["final"], sent.utterance, self.source)
