"""The live terminal view: a line per utterance, and the running one moving below."""

from __future__ import annotations

from time import monotonic

from edge_runtime.audio.levels import Level
from edge_runtime.console import counted
from edge_runtime.errors import MissingPackageError
from edge_runtime.events import (
    UNSURE,
    AudioStatusEvent,
    EmotionEvent,
    Event,
    HealthEvent,
    RevisedEvent,
    SourceEvent,
    SpeechStartEvent,
    StorageEvent,
    TextEvent,
    TextStatusEvent,
)
from edge_runtime.text import OFF
from edge_runtime.untrusted import printable

try:
    from rich.cells import cell_len, set_cell_size
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from edge_runtime.sinks.first_minute import FirstMinute
    from edge_runtime.terminal import Terminal
except ImportError:
    raise MissingPackageError("the terminal view", "rich", "view") from None

_COLORS = {"angry": "red", "happy": "yellow", "neutral": "cyan", "sad": "blue", UNSURE: "white"}
_OTHER_COLORS = ("green", "magenta", "bright_cyan", "bright_magenta")
_BAR = 10  # cells of a full confidence bar
_OTHERS = 2  # further classes in a line: with three it would not fit 80 columns
_INDENT = 16  # columns of begin and length, before words and verdict
_BESIDE = 24  # columns that words need beside them; with fewer they go beneath
_LABEL = 8  # columns of a label, if none is longer
_FIGURE = 6  # columns of a confidence
_KEPT = 32  # finished utterances whose label is remembered, to say what a revision changed
_SHOWN_LAG = 0.5  # s; less is what every engine needs
_HOT = 70.0  # degrees C; a Pi slows down from 80, in a closed case sooner than one thinks
_FRAME = 0.05  # s; what changes sooner, as where files are read, is drawn with what follows
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class PrettySink:
    """Draws to a terminal; elsewhere it prints the finished utterances alone.

    Words stand above the verdict that read them; those of the running utterance, which may still
    change, are dim.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Terminal()
        # Drawn when something has changed: twelve times a second would be work in silence, too.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._drawn = 0.0  # when
        self._first = FirstMinute()
        self._start: float | None = None  # of the running utterance
        self._words = ""
        self._verdict: EmotionEvent | None = None
        self._late: TextEvent | None = None  # words on their way to an utterance that is over
        self._labels: dict[float, str] = {}  # of the last finished utterances, by their beginning

    def write(self, event: Event) -> None:
        """Draw one event."""
        if isinstance(event, SourceEvent):
            self._begin(None)
            self._late = None
            self._labels.clear()
            self._first = FirstMinute()
            # Of a long path the end, which tells it from others.
            name = _tail(printable(event.name), max(2, self._console.width))
            self._live.console.print(Text(f"\n{name}", style="bold"), no_wrap=True, overflow="crop")
        elif isinstance(event, SpeechStartEvent):
            self._begin(event.t)
            self._first.end()
        elif isinstance(event, HealthEvent):
            self._health(event)
        elif isinstance(event, TextStatusEvent):
            if event.source == OFF:
                self._late = None  # and go no further
            self._status(event)
        elif isinstance(event, StorageEvent):
            pass  # it was said before the view began
        elif isinstance(event, AudioStatusEvent):
            self._note(event.t, event.message, "yellow" if event.active else "dim")
        elif isinstance(event, TextEvent):
            self._hear(event)
        elif isinstance(event, RevisedEvent):
            if self._late is not None and self._late.start == event.start:
                self._late = None  # they have been read
            self._print(event)
        elif event.final:
            self._begin(None)
            self._print(event)
        else:
            self._verdict = event
        self._draw()

    def hear(self, t: float, form: str, level: Level) -> None:
        """How loud a live source is at second `t`, its rate and channels; until somebody speaks."""
        if self._console.is_terminal and not self._first.over:
            self._first.take(t, form, level)
            self._drawn = 0.0  # this is drawn at once: the next may take a while
            self._draw()

    def close(self) -> None:
        """Give the terminal back."""
        self._live.update(Text(""), refresh=True)
        self._live.stop()

    def _begin(self, start: float | None) -> None:
        self._start, self._words, self._verdict = start, "", None

    def _hear(self, event: TextEvent) -> None:
        if event.start == self._start:
            self._words = printable(event.text)
        elif self._labels and event.start <= max(self._labels):
            self._late = None if event.final else event

    def _print(self, event: EmotionEvent) -> None:
        """An utterance that is over: its words, and the verdict beneath."""
        was = self._labels.get(event.start, "")
        self._labels[event.start] = event.label
        while len(self._labels) > _KEPT:
            del self._labels[min(self._labels)]
        end = f"{'late, ' if event.late else ''}{event.latency_ms.get('total', 0):.1f} ms"
        if isinstance(event, RevisedEvent):
            end = f"was {was}" if was not in ("", event.label) else "as before"
        head = f"{_clock(event.start)} {event.end - event.start:4.1f} s"
        for line in self._wrapped(printable(event.text), self._room):
            line.stylize("italic")
            self._live.console.print(self._row(head, line), no_wrap=True, overflow="crop")
            head = ""
        verdict = _verdict(event, end, self._room)
        if isinstance(event, RevisedEvent):
            self._live.console.print(
                self._row("revised", verdict, "yellow"), no_wrap=True, overflow="crop"
            )
        else:
            self._live.console.print(self._row(head, verdict), no_wrap=True, overflow="crop")

    def _draw(self) -> None:
        """What is still under way, below everything that is finished."""
        rows: list[Text] = []
        first = self._first.rows() if self._start is None else []
        if self._late is not None:
            words = _tail(printable(self._late.text), self._room)
            rows.append(self._row(f"{_clock(self._late.start)}  late", Text(words, "italic")))
        if self._start is not None:
            event = self._verdict
            spoken = f" {event.end - self._start:4.1f} s" if event else ""
            head = f"{_clock(self._start)}{spoken}"
            if self._words:
                words = _tail(self._words, self._room)
                rows.append(self._row(head, Text(words, "italic")))
                head = ""
            verdict = _verdict(event, "…", self._room) if event else Text("listening ...")
            rows.append(self._row(head, verdict))
        text = Text("\n", no_wrap=True).join(rows)
        text.style = "dim"
        now = monotonic()
        due = now - self._drawn >= _FRAME
        self._drawn = now if due else self._drawn
        self._live.update(Group(text, *first) if first else text, refresh=due)

    @property
    def _indent(self) -> int:
        """Columns before words and verdict; 0 where the terminal is too narrow for both."""
        return _INDENT if self._console.width >= _INDENT + _BESIDE else 0

    @property
    def _room(self) -> int:
        """Columns of words and verdict."""
        return max(1, self._console.width - self._indent)

    def _row(self, head: str, body: Text, style: str = "dim") -> Text:
        """`head`, and `body` beside it; in a narrow terminal beneath it."""
        row = Text(no_wrap=True)
        if self._indent:
            row.append(f"{head:<{_INDENT - 1}} ", style=style)
        elif head:
            row.append(f"{head}\n", style=style)
        return row.append_text(body)

    def _wrapped(self, words: str, room: int) -> list[Text]:
        """Lines of at most `room` columns; none without a word."""
        return list(Text(words).wrap(self._console, room)) if words else []

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
        board, troubled = _board(event)
        self._note(
            event.t,
            f"real-time factor {event.real_time_factor:.4f}, {event.rss_mb:.0f} MB"
            f"{lost}{invalid}{board}{words}{unheard}",
            "red" if lost or invalid else "yellow" if troubled else "dim",
        )

    def _note(self, t: float, what: str, style: str) -> None:
        head = f"{_clock(t)}  "
        beside = self._console.width >= len(head) + _BESIDE
        indent = len(head) if beside else 0
        lines = self._wrapped(printable(what), max(1, self._console.width - indent))
        text = Text(head if beside else f"{head}\n", style=style, no_wrap=True)
        self._live.console.print(
            text.append_text(Text("\n" + " " * indent).join(lines)), no_wrap=True, overflow="crop"
        )


def _board(event: HealthEvent) -> tuple[str, bool]:
    """What is notable of the device and of what waits in it; and whether it is a fault."""
    hot = event.temperature_c is not None and event.temperature_c >= _HOT
    notes = [
        f"{event.temperature_c:.0f} °C" if hot else "",
        f"slowed down: {event.throttled}" if event.throttled else "",
        f"{event.audio_waiting_s:.1f} s of audio waiting"
        if event.audio_waiting_s >= _SHOWN_LAG
        else "",
        counted(event.reconnects, "reconnect") if event.reconnects else "",
        f"{counted(event.queue_dropped, 'message')} dropped" if event.queue_dropped else "",
    ]
    return "".join(f", {note}" for note in notes if note), any(notes)


def _verdict(event: EmotionEvent, end: str, room: int) -> Text:
    """`label  confidence  bar  other classes  end`; of the last three as much as fits."""
    color = label_color(event.label, event.scores)
    # One column for every label there can be, so that the figures stand beneath each other.
    widest = max(cell_len(printable(label)) for label in (*event.scores, UNSURE))
    column = max(1, min(max(_LABEL, widest + 1), room - _FIGURE))
    label = set_cell_size(_head(printable(event.label), column - 1), column)
    text = Text(no_wrap=True)
    text.append(label, style=f"bold {color}" if event.final else color)
    text.append(f"{100 * event.confidence:3.0f} % ", style="bold" if event.final else "")
    if column + _FIGURE + _BAR <= room:
        text.append(_bar(event.confidence), style=color)
    ranked = sorted(event.scores, key=lambda label: -event.scores[label])
    others = [f"{printable(k)} {100 * event.scores[k]:.0f}" for k in ranked if k != event.label]
    left = room - text.cell_len
    tails = (f" {', '.join(others[:count])}  {end}" for count in range(_OTHERS, 0, -1))
    text.append(next((t for t in tails if cell_len(t) <= left), f"  {end}"), style="dim")
    return text


def _head(words: str, room: int) -> str:
    """The words, or the first of them that fit into `room` columns."""
    return words if cell_len(words) <= room else f"{set_cell_size(words, max(0, room - 1))}…"


def _tail(words: str, room: int) -> str:
    """The words, or the last of them that fit into `room` columns."""
    if cell_len(words) <= room:
        return words
    kept, columns = len(words), 1  # that of the mark
    while columns + cell_len(words[kept - 1]) <= room:
        kept -= 1
        columns += cell_len(words[kept])
    return f"…{words[kept:]}"


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
    # Rounded first: 59.96 s are a minute, not "00:60.0".
    minutes, tenths = divmod(round(10 * second), 600)
    return f"{minutes:02d}:{tenths / 10:04.1f}"
