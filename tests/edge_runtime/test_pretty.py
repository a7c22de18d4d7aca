"""The terminal view: what a user sees, at 80 columns."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

pytest.importorskip("rich")
from rich.cells import cell_len
from rich.console import Console

from edge_runtime.events import (
    EmotionEvent,
    Event,
    HealthEvent,
    RevisedEvent,
    SourceEvent,
    SpeechStartEvent,
    TextEvent,
    TextStatusEvent,
)
from edge_runtime.sinks.pretty import PrettySink

LONG = "nobody would have believed in the last years of the nineteenth century " * 3


def verdict(kind: type[EmotionEvent], label: str, text: str, final: bool = True) -> EmotionEvent:
    rest = [name for name in ("angry", "happy", "neutral", "sad") if name != label]
    scores = {label: 0.7, **dict.fromkeys(rest, 0.1)}
    return kind(9.0, final, 1.0, 3.5, label, 0.7, scores, text, latency_ms={"total": 0.8})


def shown(*events: Event, terminal: bool = False, width: int = 80) -> list[str]:
    """Lines on the screen; on a terminal everything that was ever drawn there."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=24, force_terminal=terminal, highlight=False)
    sink = PrettySink(console)
    for event in events:
        sink.write(event)
        if terminal:
            sink._live.refresh()
    sink.close()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


def test_words_stand_above_the_verdict_that_read_them() -> None:
    lines = shown(SourceEvent(0, "talk.wav"), verdict(EmotionEvent, "sad", "she is gone"))
    assert lines == [
        "talk.wav",
        "00:01.0  2.5 s  she is gone",
        "                sad      70 % ███████    angry 10, happy 10  0.8 ms",
    ]


def test_without_words_an_utterance_is_one_line() -> None:
    (line,) = shown(verdict(EmotionEvent, "sad", ""))
    assert line.startswith("00:01.0  2.5 s  sad      70 %")


def test_a_revised_verdict_says_what_it_was() -> None:
    first = verdict(EmotionEvent, "sad", "gone")
    again = verdict(RevisedEvent, "angry", "she is gone")
    lines = shown(first, again, verdict(RevisedEvent, "angry", "she is gone now"))
    assert lines[2] == "00:01.0  2.5 s  she is gone"
    assert lines[3].startswith("revised         angry    70 %")
    assert lines[3].endswith("was sad")
    assert lines[5].endswith("as before")


def test_running_and_late_words_stream_and_nothing_is_wider_than_the_terminal() -> None:
    lines = shown(
        verdict(EmotionEvent, "sad", LONG),
        SpeechStartEvent(5.0),
        TextEvent(6.0, "she is", False, "asr", 5.0),
        verdict(EmotionEvent, "sad", LONG, final=False),
        TextEvent(6.0, LONG, False, "asr", 5.0),
        TextEvent(6.0, "late ones", False, "asr", 1.0),
        TextStatusEvent(7.0, "keywords", "asr", f"asr failed: {LONG}"),
        HealthEvent(8.0, 20.0, 1, 0.01, 60.0, "asr", 4.2, 1.5, 130.0),
        terminal=True,
    )
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "00:05.0         she is" in text
    assert "listening ..." in text
    assert re.search(r"\n00:05.0.{9}…", text)
    assert "00:01.0  late   late ones" in text
    assert "words from keywords: asr failed: nobody" in text
    assert "words from asr, 130 MB, 4.2 s behind, 1.5 s unheard" in re.sub(r"\n +", " ", text)


def late_line(*after: Event) -> list[str]:
    """What stands beneath everything, with late words and what came after them."""
    sink = PrettySink(Console(file=io.StringIO(), width=80, force_terminal=True))
    for event in (verdict(EmotionEvent, "sad", ""), TextEvent(6.0, "gone", False, "asr", 1.0)):
        sink.write(event)
    for event in after:
        sink.write(event)
    late = [] if sink._late is None else [sink._late.text]
    sink.close()
    return late


def test_late_words_stand_until_they_were_read_or_cannot_be() -> None:
    assert late_line() == ["gone"]
    assert late_line(verdict(RevisedEvent, "angry", "gone")) == []
    assert late_line(TextStatusEvent(7.0, "off", "asr", "asr failed")) == []
    assert late_line(SourceEvent(0.0, "another.wav")) == []


def test_words_of_another_utterance_do_not_stand_with_the_running_one() -> None:
    lines = shown(
        SpeechStartEvent(5.0), TextEvent(6.0, "not these", False, "asr", 4.0), terminal=True
    )
    assert not any("not these" in line for line in lines)


def of_labels(label: str, labels: tuple[str, ...]) -> EmotionEvent:
    rest = 0.3 / (len(labels) - 1)
    scores = {name: 0.7 if name == label else rest for name in labels}
    return EmotionEvent(9.0, True, 1.0, 3.5, label, 0.7, scores, latency_ms={"total": 0.8})


@pytest.mark.parametrize(
    "labels",
    [
        ("frustrated", "fearful", "calm"),
        ("surprise", "disgust", "fear", "joy"),
        ("a-label-of-no-less-than-forty-characters", "sad"),
        ("an" + " even longer label" * 6, "sad"),
        ("高兴", "伤心", "愤怒的"),
    ],
)
@pytest.mark.parametrize("width", [40, 80, 120])
def test_figures_stand_beneath_each_other_whatever_the_labels_are(
    labels: tuple[str, ...], width: int
) -> None:
    lines = shown(*(of_labels(label, labels) for label in labels), width=width)
    assert len(lines) == len(labels)
    places = {cell_len(line[: line.index(" 70 %")]) for line in lines}
    assert len(places) == 1
    assert all(cell_len(line) <= width for line in lines)
    for label, line in zip(labels, lines, strict=True):
        assert label in line or "… " in line


@pytest.mark.parametrize(
    ("second", "clock"),
    [(59.94, "00:59.9"), (59.96, "01:00.0"), (3599.99, "60:00.0"), (7205.0, "120:05.0")],
)
def test_a_minute_has_sixty_seconds(second: float, clock: str) -> None:
    event = replace(verdict(EmotionEvent, "sad", ""), start=second, end=second + 1)
    (line,) = shown(event)
    assert line.startswith(f"{clock}  1.0 s ")


def test_a_long_utterance_does_not_run_into_its_label() -> None:
    (line,) = shown(replace(verdict(EmotionEvent, "sad", ""), start=6000.0, end=7500.0))
    assert line.startswith("100:00.0 1500.0 s sad ")


@pytest.mark.parametrize("width", [1, 2, 5, 15, 16, 17, 30, 39])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_narrow_terminal_shows_what_fits(width: int, terminal: bool) -> None:
    lines = shown(
        SourceEvent(0, "talk.wav"),
        SpeechStartEvent(5.0),
        TextEvent(6.0, LONG, False, "asr", 5.0),
        verdict(EmotionEvent, "sad", LONG, final=False),
        verdict(EmotionEvent, "sad", LONG),
        verdict(RevisedEvent, "angry", LONG),
        TextStatusEvent(7.0, "keywords", "asr", f"asr failed: {LONG}"),
        HealthEvent(8.0, 20.0, 1, 0.01, 60.0, "asr", 4.2, 1.5, 130.0),
        terminal=terminal,
        width=width,
    )
    assert max(map(cell_len, lines)) <= width
    if width >= 15:
        text = "\n".join(lines)
        assert "00:01.0  2.5 s" in text
        assert re.search(r"sad .*70 %", text)
        assert "nineteenth" in text


def test_wide_characters_are_wrapped_by_their_columns() -> None:
    lines = shown(verdict(EmotionEvent, "sad", "我很高兴见到你" * 20))
    assert max(map(cell_len, lines)) <= 80
    # Beside and beneath the 16 columns of begin and length.
    assert "".join(line[16:] for line in lines[:-1]) == "我很高兴见到你" * 20


def test_words_and_names_from_elsewhere_do_not_move_the_cursor() -> None:
    out = io.StringIO()
    sink = PrettySink(Console(file=out, width=80, highlight=False))
    sink.write(SourceEvent(0, "a\nb\x1b[2J.wav"))
    sink.write(verdict(EmotionEvent, "sad", "she\x1b[1A is\ngone"))
    sink.close()
    assert "\x1b" not in out.getvalue()
    assert "a b [2J.wav" in out.getvalue()
    assert "she [1A is gone" in out.getvalue()
