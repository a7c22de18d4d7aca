"""The live terminal view: a line per utterance, and the running one moving below."""

from __future__ import annotations

from edge_runtime.errors import MissingPackageError
from edge_runtime.events import (
    UNSURE,
    EmotionEvent,
    Event,
    HealthEvent,
    SourceEvent,
    SpeechStartEvent,
    TextEvent,
    TextStatusEvent,
)

try:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text
except ImportError:
    raise MissingPackageError("the terminal view", "rich", "view") from None

_COLORS = {"angry": "red", "happy": "yellow", "neutral": "cyan", "sad": "blue", UNSURE: "white"}
_OTHER_COLORS = ("green", "magenta", "bright_cyan", "bright_magenta")
_BAR = 10  # cells of a full confidence bar
_OTHERS = 2  # further classes in a line: with three it would not fit 80 columns
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command end as it does with every other output; rich would exit with 1."""
        raise BrokenPipeError


class PrettySink:
    """Draws to a terminal; elsewhere it prints the finished utterances alone."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=12, transient=True)
        self._live.start()

    def write(self, event: Event) -> None:
        """Draw one event."""
        if isinstance(event, SourceEvent):
            self._live.update(Text(""))
            self._live.console.print(Text(f"\n{event.name}", style="bold"))
        elif isinstance(event, SpeechStartEvent):
            self._live.update(Text(f"{_clock(event.t)}  listening ...", style="dim"))
        elif isinstance(event, HealthEvent):
            self._health(event)
        elif isinstance(event, TextStatusEvent):
            self._live.console.print(
                Text(f"{_clock(event.t)}  words from {event.source}: {event.reason}", style="dim")
            )
        elif isinstance(event, TextEvent):
            return  # shown beneath the verdict that read it
        elif event.final:
            self._live.update(Text(""))
            self._live.console.print(_line(event))
        else:
            self._live.update(_line(event))

    def close(self) -> None:
        """Give the terminal back."""
        self._live.update(Text(""))
        self._live.stop()

    def _health(self, event: HealthEvent) -> None:
        lost = f", {event.dropped_ms:.0f} ms lost" if event.dropped_ms else ""
        invalid = f", {event.invalid_samples} invalid samples" if event.invalid_samples else ""
        self._live.console.print(
            Text(
                f"{_clock(event.t)}  real-time factor {event.real_time_factor:.4f}, "
                f"{event.rss_mb:.0f} MB{lost}{invalid}",
                style="red" if lost or invalid else "dim",
            )
        )


def _line(event: EmotionEvent) -> Text:
    """`time  duration  label  confidence  bar  other classes  latency`, the words beneath."""
    color = label_color(event.label, event.scores)
    text = Text(no_wrap=True)
    text.append(f"{_clock(event.start)} {event.end - event.start:4.1f} s  ", style="dim")
    text.append(f"{event.label:<8}", style=f"bold {color}" if event.final else color)
    text.append(f"{100 * event.confidence:3.0f} % ", style="bold" if event.final else "")
    text.append(_bar(event.confidence), style=color)
    ranked = sorted(event.scores, key=lambda label: -event.scores[label])
    others = [f"{k} {100 * event.scores[k]:.0f}" for k in ranked if k != event.label][:_OTHERS]
    text.append(f" {', '.join(others)}", style="dim")
    if event.final:
        text.append(f"  {event.latency_ms.get('total', 0):.1f} ms", style="dim")
    else:
        text.append(" …", style="dim")
    if event.text:
        text.append(f"\n{'':16}“{event.text}”", style="italic")
    return text


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
