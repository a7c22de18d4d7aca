"""Doubtful verdicts, heard again by somebody who knows better: the least certain first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from edge_runtime.audio.file import read_file
from edge_runtime.collect.collection import Collection, Row
from edge_runtime.collect.keyboard import END, Keyboard
from edge_runtime.collect.labels import KEYS
from edge_runtime.collect.play import Player
from edge_runtime.collect.screen import Screen
from edge_runtime.console import counted
from edge_runtime.errors import AudioError, EdgeError
from edge_runtime.events import UNSURE, EmotionEvent, RevisedEvent
from edge_runtime.untrusted import printable

_TYPES = (EmotionEvent.type, RevisedEvent.type)
_LONGEST_LINE = 1 << 20  # bytes
_SHOWN = 4  # classes of a verdict
_LOOK_SECONDS = 0.25  # between two looks at what plays
NO_EVENT = "lines that are no events"
NO_FILE = "files that are gone: too old, or of another folder"


@dataclass(frozen=True)
class Doubt:
    """A verdict on an utterance whose sound is kept."""

    file: Path
    """Its sound."""
    label: str
    """The most probable class, also where it was "unsure"."""
    confidence: float
    """Of that class, 0 to 1."""
    scores: dict[str, float]
    """Of all classes."""
    text: str
    """Words that were heard; "" for none."""
    unsure: bool
    """Whether it said "unsure"."""

    def __str__(self) -> str:
        best = sorted(self.scores, key=lambda label: -self.scores[label])[:_SHOWN]
        scores = ", ".join(f"{label} {100 * self.scores[label]:.0f}" for label in best)
        words = f'  "{self.text}"' if self.text else ""
        return f"{self.label}{' (unsure)' if self.unsure else ''}  [{scores}]{words}"


def doubts_in(
    files: Iterable[Path], folder: Path, below: float | None = None
) -> tuple[list[Doubt], Counter[str]]:
    """What events say of the sound in `folder`, the least certain first; what was left out, why.

    Of several verdicts on one utterance the last counts. With `below`, those of more confidence are
    left out unless they are unsure. Raises EdgeError for a file that cannot be read.
    """
    found: dict[str, Doubt] = {}
    left_out: Counter[str] = Counter()
    for file in files:
        for line in _lines(file):
            try:
                doubt = _doubt(json.loads(line), folder)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                left_out[NO_EVENT] += 1
                continue
            if doubt is not None:
                found[doubt.file.name] = doubt
    doubts = []
    for doubt in found.values():
        if not doubt.file.is_file():
            left_out[NO_FILE] += 1
        elif below is None or doubt.unsure or doubt.confidence < below:
            doubts.append(doubt)
    return sorted(doubts, key=lambda doubt: doubt.confidence), left_out


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as lines:
            while line := lines.readline(_LONGEST_LINE):
                if line.strip():
                    yield line
    except OSError as error:
        raise EdgeError(f"{file} cannot be read: {error.strerror}") from None


def _doubt(event: dict[str, Any], folder: Path) -> Doubt | None:
    """What an event says; None where it is of something else. ValueError and others: it is none."""
    if event["type"] not in _TYPES or not event["final"] or not event.get("audio"):
        return None
    name = event["audio"]
    if Path(name).name != name or name.startswith("."):
        raise ValueError("a file elsewhere")
    scores = {printable(label): float(score) for label, score in event["scores"].items()}
    if not scores or not all(map(isfinite, scores.values())):
        raise ValueError("no scores")
    label = max(scores, key=lambda label: scores[label])
    text = printable(event.get("text", ""))
    return Doubt(folder / name, label, scores[label], scores, text, event["label"] == UNSURE)


@dataclass
class _Step:
    """Something that was decided, and can be taken back."""

    doubt: Doubt
    row: Row | None = None
    dropped: bool = False


class Review:
    """Plays what is doubtful and stores the label that somebody gives it.

    Parameters
    ----------
    collection : where clips go. What is in it already is not asked again.
    labels : classes, in the order of their keys.
    player : plays sound.
    keyboard : keys of whoever listens.
    screen : shows words and verdict.
    speaker : who spoke in all of it, "" where that is not known.
    """

    def __init__(
        self,
        collection: Collection,
        labels: tuple[str, ...],
        player: Player,
        keyboard: Keyboard,
        screen: Screen,
        speaker: str = "",
    ) -> None:
        self._collection, self._labels, self._speaker = collection, labels, speaker
        self._player, self._keyboard, self._screen = player, keyboard, screen
        self._steps: list[_Step] = []

    @property
    def told(self) -> str:
        """What was done, in words."""
        labelled = sum(step.row is not None for step in self._steps)
        dropped = sum(step.dropped for step in self._steps)
        skipped = len(self._steps) - labelled - dropped
        return f"{counted(labelled, 'clip')} labelled, {dropped} dropped, {skipped} skipped"

    def ask(self, doubts: list[Doubt]) -> None:
        """Ask for one after the other, until all are decided on or the key that ends is pressed.

        Files that were dropped are deleted at the end. Raises EdgeError where nothing more can be
        stored.
        """
        try:
            while len(self._steps) < len(doubts):
                place = len(self._steps)
                doubt = doubts[place]
                self._screen.say(f"{place + 1} of {len(doubts)}: {doubt}")
                step = self._decided(doubt)
                if step is None:
                    return
                if step.doubt is doubt:
                    self._steps.append(step)
        finally:
            self._player.stop()
            for step in self._steps:
                if step.dropped:
                    step.doubt.file.unlink(missing_ok=True)

    def _decided(self, doubt: Doubt) -> _Step | None:
        """What is decided on it; a step that was taken back; None to end."""
        self._player.start(doubt.file)
        while True:
            key = self._keyboard.key(_LOOK_SECONDS)
            if trouble := self._player.trouble():
                self._screen.say(f"      it cannot be played: {trouble}")
            if key == END:
                return None
            if key in (" ", "r"):
                self._player.start(doubt.file)
            elif key in ("s", "d"):
                self._screen.say("      skipped" if key == "s" else "      dropped")
                return _Step(doubt, dropped=key == "d")
            elif key == "u" and self._steps:
                return self._taken_back()
            elif label := self._label(key, doubt):
                return self._stored(doubt, label)

    def _label(self, key: str, doubt: Doubt) -> str:
        if key in ("k", "\n"):
            return doubt.label if doubt.label in self._labels else ""
        known = key and key in KEYS[: len(self._labels)]
        return self._labels[KEYS.index(key)] if known else ""

    def _stored(self, doubt: Doubt, label: str) -> _Step:
        values = {"label": label, "speaker": self._speaker, "text": doubt.text}
        try:
            samples = read_file(doubt.file)
        except AudioError as error:
            self._screen.say(f"      skipped: {error}")
            return _Step(doubt)
        row = self._collection.add(samples, values, doubt.file.name)
        self._screen.say(f"      {label}")
        return _Step(doubt, row)

    def _taken_back(self) -> _Step:
        step = self._steps.pop()
        if step.row is not None:
            self._collection.drop(step.row)
        self._screen.say("      taken back:")
        return step


def keys_for(labels: tuple[str, ...]) -> Iterator[str]:
    """Lines that say which key does what."""
    yield "keys: " + "  ".join(f"{key} {label}" for key, label in zip(KEYS, labels, strict=False))
    yield "      k or Enter: the verdict is right; space plays it again; s skips it for now;"
    yield "      d drops it: its sound is deleted; u takes the last one back; q ends"
