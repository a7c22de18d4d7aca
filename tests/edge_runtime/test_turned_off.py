"""What SIGHUP turns off is told: to pages that show it, and to whoever waits for words."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.audio import Block
from edge_runtime.bundle import Bundle
from edge_runtime.commands.run import parts
from edge_runtime.commands.settings import RunSettings
from edge_runtime.events import Event, StorageEvent, TextStatusEvent
from edge_runtime.listening import listen
from edge_runtime.sinks import Outputs, Part
from edge_runtime.sinks.file import FileSettings
from edge_runtime.sinks.keep import KeepSettings
from edge_runtime.stream import EmotionStream

PATIENCE = 60  # seconds until something that should have happened counts as a hang


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None: ...

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class HungUp:
    """A source in which SIGHUP comes, and that goes on until that was seen to."""

    name = "hung up"

    def __init__(self, done: Callable[[], bool]) -> None:
        self.warnings: list[str] = []
        self.answered: list[Event] = []
        self._done = done

    def answer(self, event: Event) -> None:
        self.answered.append(event)

    def blocks(self) -> Iterator[Block]:
        os.kill(os.getpid(), signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while not self._done():
            assert time.monotonic() < deadline
            time.sleep(0.01)
            yield Block(np.zeros(160, np.int16))
        yield Block(np.zeros(160, np.int16))

    def close(self) -> None:
        """Nothing is open."""


def test_what_is_kept_no_more_is_told(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Kept()
    page = {"page": Part(1, lambda: kept)}
    file = FileSettings(tmp_path / "kept.jsonl")
    before = RunSettings(out="none", file=file, keep=KeepSettings(tmp_path / "sound"))
    after = replace(before, file=FileSettings(), keep=replace(before.keep, days=1.0))

    def again() -> tuple[EmotionStream, dict[str, Part]]:
        return EmotionStream(bundle), page | dict(parts(after, bundle))

    def done() -> bool:
        return "the settings were read again" in capsys.readouterr().err

    with (
        EmotionStream(bundle) as stream,
        closing(Outputs(page | dict(parts(before, bundle)))) as outputs,
    ):
        listen(HungUp(done), stream, outputs, again=again)
    told = [(e.what, e.days, e.message == "") for e in kept.of(StorageEvent)]
    assert told == [
        ("events", 30.0, False),
        ("sound", 30.0, False),
        ("events", 0.0, True),
        ("sound", 1.0, False),
    ]
    assert kept.of(TextStatusEvent) == [], "there were no words before either"


@pytest.mark.parametrize("ended", [False, True])
def test_words_that_are_turned_off_are_told(bundle: Bundle, tmp_path: Path, ended: bool) -> None:
    words = tmp_path / "words"
    os.mkfifo(words)
    speaker = os.open(words, os.O_RDWR)
    kept = Kept()
    page = {"page": Part(1, lambda: kept)}

    def again() -> tuple[EmotionStream, dict[str, Part]]:
        deadline = time.monotonic() + PATIENCE
        while ended and not kept.of(TextStatusEvent):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return EmotionStream(bundle), page

    def done() -> bool:
        return any(event.wanted == "off" for event in kept.of(TextStatusEvent))

    source = HungUp(done)
    with EmotionStream(bundle, f"jsonl:{words}") as stream:
        if ended:  # which is told, and leaves nothing that hears words
            os.close(speaker)
        listen(source, stream, Outputs(page), again=again)
    if not ended:
        os.close(speaker)
    (*_, last) = kept.of(TextStatusEvent)
    assert (last.source, last.wanted, last.reason) == ("off", "off", "words are turned off")
    assert last in source.answered, "a client of Wyoming waits for no more words"
