"""The live terminal view: a line per utterance, and the running one moving below."""

from __future__ import annotations

from textwrap import wrap

from edge_runtime.errors import MissingPackageError
from edge_runtime.events import (
    UNSURE,
    EmotionEvent,
    Event,
    HealthEvent,
    RevisedEvent,
    SourceEvent,
    SpeechStartEvent,
    TextEvent,
    TextStatusEvent,
)
from edge_runtime.text import OFF

try:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from edge_runtime.terminal import Terminal
except ImportError:
    raise MissingPackageError("the terminal view", "rich", "view") from None

_COLORS = {"angry": "red", "happy": "yellow", "neutral": "cyan", "sad": "blue", UNSURE: "white"}
_OTHER_COLORS = ("green", "magenta", "bright_cyan", "bright_magenta")
_BAR = 10  # cells of a full confidence bar
_OTHERS = 2  # further classes in a line: with three it would not fit 80 columns
_INDENT = 16  # columns of begin and length, before words and verdict
_KEPT = 32  # finished utterances whose label is remembered, to say what a revision changed
_SHOWN_LAG = 0.5  # s; less is what every engine needs
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class PrettySink:
    """Draws to a terminal; elsewhere it prints the finished utterances alone.

    Words stand above the verdict that read them; those of the running utterance, which may still
    change, are dim.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Terminal()
        self._live = Live(console=self._console, refresh_per_second=12, transient=True)
        self._live.start()
        self._start: float | None = None  # of the running utterance
        self._words = ""
        self._verdict: EmotionEvent | None = None
        self._late: TextEvent | None = None  # words on their way to an utterance that is over
        self._labels: dict[float, str] = {}  # of the last finished utterances, by their beginning

    def write(self, event: Event) -> None:
        """Draw one event."""
        if isinstance(event, SourceEvent):
            self._begin(None)
            self._labels.clear()
            self._live.console.print(Text(f"\n{event.name}", style="bold"), soft_wrap=True)
        elif isinstance(event, SpeechStartEvent):
            self._begin(event.t)
        elif isinstance(event, HealthEvent):
            self._health(event)
        elif isinstance(event, TextStatusEvent):
            self._status(event)
        elif isinstance(event, TextEvent):
            self._hear(event)
        elif isinstance(event, RevisedEvent):
            self._print(event)
        elif event.final:
            self._begin(None)
            self._print(event)
        else:
            self._verdict = event
        self._draw()

    def close(self) -> None:
        """Give the terminal back."""
        self._live.update(Text(""))
        self._live.stop()

    def _begin(self, start: float | None) -> None:
        self._start, self._words, self._verdict = start, "", None

    def _hear(self, event: TextEvent) -> None:
        if event.start == self._start:
            self._words = event.text
        elif self._labels and event.start <= max(self._labels):
            self._late = None if event.final else event

    def _print(self, event: EmotionEvent) -> None:
        """An utterance that is over: its words, and the verdict beneath."""
        was = self._labels.get(event.start, "")
        self._labels[event.start] = event.label
        while len(self._labels) > _KEPT:
            del self._labels[min(self._labels)]
        end = f"{event.latency_ms.get('total', 0):.1f} ms"
        if isinstance(event, RevisedEvent):
            end = f"was {was}" if was not in ("", event.label) else "as before"
        head = f"{_clock(event.start)} {event.end - event.start:4.1f} s"
        lines = wrap(event.text, self._console.width - _INDENT) if event.text else []
        text = Text(no_wrap=True)
        for number, line in enumerate(lines):
            text.append(f"{'' if number else head:<{_INDENT}}", style="dim")
            text.append(f"{line}\n", style="italic")
        if isinstance(event, RevisedEvent):
            text.append(f"{'revised':<{_INDENT}}", style="yellow")
        else:
            text.append(f"{'' if lines else head:<{_INDENT}}", style="dim")
        self._live.console.print(text.append_text(_verdict(event, end)))

    def _draw(self) -> None:
        """What is still under way, below everything that is finished."""
        room = self._console.width - _INDENT
        text = Text(no_wrap=True, style="dim")
        if self._late is not None:
            head = f"{_clock(self._late.start)}  late"
            text.append(f"{head:<{_INDENT}}{_tail(self._late.text, room)}\n", style="italic")
        if self._start is not None:
            event = self._verdict
            spoken = f" {event.end - self._start:4.1f} s" if event else ""
            head = f"{_clock(self._start)}{spoken:<7}"
            if self._words:
                text.append(f"{head:<{_INDENT}}{_tail(self._words, room)}\n", style="italic")
                head = ""
            text.append(f"{head:<{_INDENT}}")
            text.append_text(_verdict(event, "…") if event else Text("listening ..."))
        self._live.update(text)

    def _status(self, event: TextStatusEvent) -> None:
        style = "dim" if event.source == event.wanted else "yellow"
        self._note(event.t, f"words from {event.source}: {event.reason}", style)

    def _health(self, event: HealthEvent) -> None:
        lost = f", {event.dropped_ms:.0f} ms lost" if event.dropped_ms else ""
        invalid = f", {event.invalid_samples} invalid samples" if event.invalid_samples else ""
        words = ""
        if event.text_source != OFF:
            words = f"; words from {event.text_source}"
            words += f", {event.text_rss_mb:.0f} MB" if event.text_rss_mb else ""
            words += f", {event.text_lag_s:.1f} s behind" if event.text_lag_s >= _SHOWN_LAG else ""
        unheard = f", {event.text_dropped_s:.1f} s unheard" if event.text_dropped_s else ""
        self._note(
            event.t,
            f"real-time factor {event.real_time_factor:.4f}, {event.rss_mb:.0f} MB"
            f"{lost}{invalid}{words}{unheard}",
            "red" if lost or invalid else "dim",
        )

    def _note(self, t: float, what: str, style: str) -> None:
        indent = " " * len(head := f"{_clock(t)}  ")
        lines = wrap(what, self._console.width - len(head))
        self._live.console.print(Text(head + f"\n{indent}".join(lines), style=style))


def _verdict(event: EmotionEvent, end: str) -> Text:
    """`label  confidence  bar  other classes  end`."""
    color = label_color(event.label, event.scores)
    text = Text(no_wrap=True)
    text.append(f"{event.label:<8}", style=f"bold {color}" if event.final else color)
    text.append(f"{100 * event.confidence:3.0f} % ", style="bold" if event.final else "")
    text.append(_bar(event.confidence), style=color)
    ranked = sorted(event.scores, key=lambda label: -event.scores[label])
    others = [f"{k} {100 * event.scores[k]:.0f}" for k in ranked if k != event.label][:_OTHERS]
    text.append(f" {', '.join(others)}  {end}", style="dim")
    return text


def _tail(words: str, room: int) -> str:
    """The words, or the last of them that fit into `room` columns."""
    return words if len(words) <= room else f"…{words[1 - room :]}"


def label_color(label: str, labels: dict[str, float]) -> str:
    """A color of its own for each class, the same in every line."""
    if label in _COLORS:
        return _COLORS[label]
    others = sorted(set(labels) - set(_COLORS))
    return _OTHER_COLORS[others.index(label) % len(_OTHER_COLORS)] if label in others else "white"


def _bar(share: float) -> str:
    eighths = round(share * _BAR * 8)
    full, part = divmod(eighths, 8)
    bar = _EIGHTHS[8] * full + (_EIGHTHS[part] if part else "")
    return bar.ljust(_BAR)


def _clock(second: float) -> str:
    minutes, seconds = divmod(second, 60)
    return f"{int(minutes):02d}:{seconds:04.1f}"
