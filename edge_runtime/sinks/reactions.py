"""Things to do when an emotion is heard: `--on angry:0.8 COMMAND`, `--on sad https://...`."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge_runtime.errors import SettingError
from edge_runtime.events import UNSURE, EmotionEvent, Event, RevisedEvent, SourceEvent
from edge_runtime.settings import Pairs, Settings, setting
from edge_runtime.sinks import Context
from edge_runtime.sinks.actions import Action, Command
from edge_runtime.sinks.lines import json_line, tell
from edge_runtime.sinks.outbox import Outbox

ANY = "any"
_WAITING = 16  # reactions; of what is older than that many nobody wants to know
_REVISABLE = 16  # utterances whose verdict may still come again
_LONGEST = 4000  # characters of words in a variable; systems end at 128 KB
_CLOSE_SECONDS = 2.0  # in which what waits is done
_END_SECONDS = 3.0  # in which a command that is ended is gone


@dataclass(frozen=True)
class ReactionSettings(Settings):
    """What to do when an emotion is heard."""

    rules: Pairs = setting(
        (),
        "At a final verdict of LABEL (a class, 'any' or 'unsure') with at least that confidence, "
        "run COMMAND, or send the event to an http(s):// address. May be given several times.",
        metavar=("LABEL[:MIN]", "COMMAND"),
        main=True,
    )
    every: float = setting(
        10.0,
        "Seconds from one reaction of a rule to its next, at least.",
        minimum=0,
        maximum=86_400,
    )
    timeout: float = setting(
        10.0, "Seconds after which a command is ended, or a server given up.", above=0, maximum=3600
    )


def open_reactions(settings: ReactionSettings, context: Context) -> ReactionSink | None:
    """The sink that `settings` ask for; None where they ask for none. See `ReactionSink`."""
    return ReactionSink(settings, context) if settings.rules else None


class ReactionSink:
    """Reacts to final verdicts, one reaction at a time in a thread of its own.

    A rule that has just reacted does not for `every` seconds (`limited` counts it); what a slow
    command leaves waiting is dropped, the oldest first. What fails is counted in `failed` and told
    when that changes. Raises SettingError for a rule that cannot be meant.
    """

    def __init__(self, settings: ReactionSettings, context: Context) -> None:
        self._every = settings.every
        self._stop = threading.Event()
        self._rules = list(_rules(settings, context, self._stop))
        self.failed = 0
        """Reactions that did not do what they should."""
        self.limited = 0
        """Verdicts that a rule left out: it had just reacted."""
        self._outbox: Outbox[_Due] = Outbox("on", self._react, _WAITING)

    @property
    def queued(self) -> int:
        """Reactions that wait or are under way."""
        return self._outbox.queued

    @property
    def dropped(self) -> int:
        """Reactions that were never done: commands were too slow."""
        return self._outbox.dropped

    def write(self, event: Event) -> None:
        """Let the rules react to one event."""
        if isinstance(event, SourceEvent):  # whose clock begins anew
            for rule in self._rules:
                rule.taken.clear()
        if not isinstance(event, EmotionEvent) or not event.final:
            return
        now = time.monotonic()
        line = b""
        for rule in self._rules:
            if not rule.takes(event):
                continue
            if rule.reacted is not None and now - rule.reacted < self._every:
                self.limited += 1
                continue
            rule.reacted = now
            line = line or json_line(event)
            self._outbox.put(_Due(rule, line, _variables(event)))

    def close(self) -> None:
        """Do what waits, for two seconds; end what is under way then."""
        if not self._outbox.close(_CLOSE_SECONDS):
            self._stop.set()
            self._outbox.close(_END_SECONDS)

    def _react(self, due: _Due) -> None:
        rule = due.rule
        outcome = rule.action.run(due.line, due.variables)
        if outcome.trouble:
            self.failed += 1
        if outcome.trouble != rule.trouble:
            rule.trouble = outcome.trouble
            detail = f": {outcome.detail}" if outcome.detail else ""
            tell(f"--on {rule.name}: {outcome.trouble or 'works again'}{detail}")


class _Rule:
    """When to do what, and how that went the last time."""

    def __init__(self, name: str, label: str, least: float, action: Action) -> None:
        self.name, self.action = name, action
        self._label, self._least = label, least
        self.reacted: float | None = None
        self.trouble = ""
        self.taken: deque[float] = deque(maxlen=_REVISABLE)
        """When the utterances began of which it took a verdict."""

    def takes(self, event: EmotionEvent) -> bool:
        """Whether a verdict is for it; a revised one only where none before was."""
        if self._label not in (ANY, event.label) or event.confidence < self._least:
            return False
        if isinstance(event, RevisedEvent) and event.start in self.taken:
            return False
        self.taken.append(event.start)
        return True


@dataclass(frozen=True)
class _Due:
    rule: _Rule
    line: bytes
    variables: Mapping[str, str]


def _rules(settings: ReactionSettings, context: Context, stop: threading.Event) -> Iterator[_Rule]:
    for name, what in settings.rules:
        label, least = _condition(name, context.labels)
        scheme = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://", what)
        if not what.strip():
            raise SettingError(f"on {name}: expected a command or an http(s):// address, not ''")
        action: Action
        if scheme:
            action = _webhook(name, what.strip(), scheme[1], settings.timeout, context.version)
        else:
            action = Command(what, settings.timeout, stop)
        yield _Rule(name, label, least, action)


def _webhook(name: str, address: str, scheme: str, timeout: float, version: str) -> Action:
    from edge_runtime.sinks.webhook import SCHEMES, Webhook

    if scheme.lower() not in SCHEMES:
        raise SettingError(
            f"on {name}: events are sent to http:// and https:// addresses, not {scheme}://"
        )
    try:
        return Webhook(address, timeout, version)
    except SettingError as error:
        raise SettingError(f"on {name}: {error}") from None


def _condition(name: str, labels: Sequence[str]) -> tuple[str, float]:
    """Label and least confidence of `LABEL[:MIN]`."""
    known = (*labels, UNSURE, ANY)
    if name in known:
        return name, 0.0
    label, _, least = name.rpartition(":")
    if (label or name) not in known:
        raise SettingError(
            f"on {name!r}: this bundle has no {label or name!r}; it has {', '.join(labels)}; and "
            f"there is {UNSURE} and {ANY}"
        )
    try:
        confidence = float(least)
    except ValueError:
        confidence = -1.0
    if not 0 <= confidence <= 1:
        raise SettingError(
            f"on {name!r}: confidence must be a number from 0 to 1, not {least!r}: {label}:0.8"
        )
    return label, confidence


def _variables(event: EmotionEvent) -> dict[str, str]:
    """What a command finds in its environment."""
    # A variable ends at a NUL, and is no Unicode with half a surrogate pair.
    words = event.text[:_LONGEST].replace("\0", " ")
    return {
        "LABEL": event.label,
        "CONFIDENCE": f"{event.confidence:.4f}",
        "TEXT": words.encode("utf-8", "replace").decode(),
    }
