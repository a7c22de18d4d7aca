"""`edge-emotion run` in a process of its own, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from sound_server import PATIENCE

Events = list[dict[str, Any]]


class Running:
    """`edge-emotion run` in a process of its own, and its events as they come."""

    def __init__(self, command: list[str], arguments: tuple[str, ...]) -> None:
        self.process = subprocess.Popen(
            [*command, "run", "--out", "jsonl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ),
            text=True,
        )
        self.events: Events = []
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.events.append({**json.loads(line), "heard_at": time.monotonic()})

    def wait_for(self, seconds: float = PATIENCE, **fields: Any) -> dict[str, Any]:
        """The first event, of those to come too, that has these fields."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for event in self.events:
                if fields.items() <= event.items():
                    return event
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        said = self.process.stderr.read() if self.process.poll() is not None else ""
        pytest.fail(f"no {fields} in {self.events}; {said}")

    def count(self, **fields: Any) -> int:
        return sum(fields.items() <= event.items() for event in self.events)

    def finals(self) -> Events:
        return [e for e in self.events if e["type"] == "emotion" and e["final"]]

    def stop(self) -> str:
        """End it as a terminal does; what it said beside its events."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stderr
        return self.process.stderr.read()


Run = Callable[..., Running]


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("it does not come about")
        time.sleep(0.02)
