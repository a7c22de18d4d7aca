"""What a terminal shows before anybody has spoken, and of a microphone in trouble."""

from __future__ import annotations

import io
import re

import pytest

pytest.importorskip("rich")
from rich.console import Console

from edge_runtime.audio.levels import Level
from edge_runtime.events import AudioStatusEvent, SourceEvent, SpeechStartEvent
from edge_runtime.sinks import LevelSink
from edge_runtime.sinks.pretty import PrettySink

FORM = "48 kHz, 2 channels"


class View:
    """A sink, and all that it ever drew."""

    def __init__(self, terminal: bool = True) -> None:
        self._out = io.StringIO()
        self.sink = PrettySink(Console(file=self._out, width=80, force_terminal=terminal))
        assert isinstance(self.sink, LevelSink)
        self.sink.write(SourceEvent(0, "microphone usb"))

    def hear(self, db: float, seconds: float, since: float = 0.0) -> str:
        """What is drawn while it is so loud."""
        before = len(self._out.getvalue())
        for tenth in range(round(10 * seconds)):
            self.sink.hear(since + tenth / 10, FORM, Level(db, db))
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._out.getvalue()[before:])


def test_it_shows_at_once_that_it_hears() -> None:
    view = View()
    assert "speak now  48 kHz, 2 channels" in view.hear(-99, 0.1)
    drawn = view.hear(-30, 0.2, 0.1)
    assert "█" * 10 + " " * 10 + "  -30 dB" in drawn
    assert "gain" not in drawn


@pytest.mark.parametrize(
    ("db", "advice"),
    [(-99, "it is muted"), (-62, "nothing louder than -62 dB"), (-30, "no speech was found")],
)
def test_after_ten_seconds_it_says_what_may_be_wrong(db: float, advice: str) -> None:
    view = View()
    assert advice not in view.hear(db, 9.9)
    assert advice in view.hear(db, 1, 10)


def test_whoever_speaks_ends_it() -> None:
    view = View()
    view.hear(-30, 1)
    view.sink.write(SpeechStartEvent(1.0))
    assert view.hear(-30, 20, 1) == ""


def test_in_a_pipe_nothing_of_it_is_said() -> None:
    assert View(terminal=False).hear(-99, 20) == ""


def test_trouble_is_a_line() -> None:
    view = View(terminal=False)
    event = AudioStatusEvent(61.0, "microphone usb", "muted", True, "muted: pactl ...")
    view.sink.write(event)
    assert "01:01.0  muted: pactl ..." in view._out.getvalue()
