"""Clips of speech by prompts: which class comes next, what was heard, and keys to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge_runtime.audio import AudioSource, Block, LiveSource
from edge_runtime.audio.levels import Level, Levels
from edge_runtime.audio.recent import Recent
from edge_runtime.collect.collection import Collection, Row
from edge_runtime.collect.keyboard import END, Keyboard
from edge_runtime.collect.labels import KEYS
from edge_runtime.collect.screen import Screen
from edge_runtime.console import UntilInterrupted, counted
from edge_runtime.devices import bar
from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, amplified
from edge_runtime.segment import Boundary, Segmenter, SegmentParams, SpeechEnd, SpeechStart

SHORTEST = 0.4
"""Seconds of a clip: what is less is a cough, or the click of a key."""
_BAR = 20  # columns of a full bar
_QUIET_DB = -50.0  # of a clip: below, it is lost in the noise of its own microphone


@dataclass(frozen=True)
class Plan:
    """What is to be recorded."""

    labels: tuple[str, ...]
    """The classes."""
    count: int | None
    """Clips that each is to have, those there already included; None: until somebody ends it."""
    speaker: str
    """Who speaks; "" where that is not known."""
    gain_db: float = 0.0
    """Makes what comes so much louder, dB."""


class Recording:
    """Asks for one class after the other and stores what is said, cut by the end-pointer.

    Parameters
    ----------
    collection : where clips go.
    plan : what is to be recorded.
    segment : when an utterance begins and ends: as the device has it that will judge.
    keyboard : keys of whoever sits there; None where nobody does.
    screen : says what is wanted and what was stored.
    """

    def __init__(
        self,
        collection: Collection,
        plan: Plan,
        segment: SegmentParams,
        keyboard: Keyboard | None,
        screen: Screen,
    ) -> None:
        self._collection, self._plan = collection, plan
        self._segmenter = Segmenter(segment)
        self._keyboard, self._screen = keyboard, screen
        self._recent = Recent()
        self._start: float | None = None  # of the running utterance
        self._said = ""  # the class that was asked for when it began
        self._made: list[Row] = []
        self._paused = self._over = False
        self.stopped = False
        """Whether a signal has ended it, not the sound."""
        self._wanted = ""
        self._ask()

    @property
    def made(self) -> int:
        """Clips of this session."""
        return len(self._made)

    @property
    def complete(self) -> bool:
        """Whether every class has as many clips as it is to have."""
        return not self._wanted

    def listen(self, source: AudioSource) -> None:
        """Record until there is enough, the key that ends is pressed, Ctrl-C, or the source ends.

        What is being said at its end is stored where the source ends by itself. Raises EdgeError
        where nothing more can be stored, AudioError where the source fails.
        """
        if self._over:
            return
        with UntilInterrupted(source.blocks()) as blocks:
            for block in blocks:
                for status in block.status:
                    self._screen.say(status.message)
                self._take(block)
                self._press()
                if self._over:
                    return
                self._show(source)
        self.stopped = blocks.interrupted
        if not self.stopped:
            self._handle(self._segmenter.finish())

    def _take(self, block: Block) -> None:
        if self._paused:
            self._cut_off(block.lost + block.samples.size)
            return
        if block.lost:
            self._cut_off(block.lost)
        elif block.ends:  # who sent has said all: a key was let go, a connection closed
            self._handle(self._segmenter.skip(0))
        samples = amplified(block.samples, self._plan.gain_db)
        self._recent.take(self._segmenter.position, samples)
        self._handle(self._segmenter.feed(samples))

    def _cut_off(self, lost: int) -> None:
        """Some audio is not heard: what is being said now is no whole utterance."""
        self._segmenter.skip(lost)
        if self._start is not None:
            self._start = None
            self._screen.say("      cut off, not stored")

    def _handle(self, boundaries: list[Boundary]) -> None:
        for item in boundaries:
            if isinstance(item, SpeechStart):
                self._start, self._said = item.t, self._wanted
            elif isinstance(item, SpeechEnd) and self._start is not None and not self._over:
                start, self._start = self._start, None
                self._store(start, item.t)

    def _store(self, start: float, end: float) -> None:
        if end - start < SHORTEST:
            self._screen.say(f"      {end - start:.1f} s: too short, not stored")
            return
        begin, samples = self._recent.cut(start, end)
        values = {
            "label": self._said,
            "speaker": self._plan.speaker,
            "start": f"{start - begin:.3f}",
            "end": f"{end - begin:.3f}",
        }
        row = self._collection.add(samples, values)
        self._made.append(row)
        levels = Levels(SAMPLE_RATE)
        levels.take(samples.astype(np.float32) / np.float32(FULL_SCALE), samples)
        self._screen.say(_described(row, end - start, levels.level))
        self._ask()

    def _ask(self, other_than: str = "") -> None:
        """Choose the class of which there are fewest, and say so; the first one given of several.

        Another one, where there is one, than `other_than`.
        """
        counts, most = self._collection.counts, self._plan.count
        open_ = [label for label in self._plan.labels if most is None or counts[label] < most]
        others = [label for label in open_ if label != other_than] or open_
        wanted = min(others, key=lambda label: counts[label], default="")
        if wanted and wanted != self._wanted:
            self._screen.say(
                f"say something: {wanted.upper()}   ({_progress(counts[wanted], most)})"
            )
        self._wanted = wanted
        self._over |= not wanted

    def _press(self) -> None:
        while self._keyboard is not None and not self._over and (key := self._keyboard.key()):
            if key == END:
                self._over = True
            elif key == "p":
                self._paused = not self._paused
                self._screen.say("paused: nothing is recorded; p goes on" if self._paused else "on")
            elif key == "s":
                self._ask(other_than=self._wanted)
            elif key == "d" and self._made:
                row = self._made.pop()
                self._collection.drop(row)
                self._screen.say(f"      {_name(row)} dropped: its file is deleted")
                self._ask()
            elif key in KEYS[: len(self._plan.labels)] and self._made:
                row, label = self._made[-1], self._plan.labels[KEYS.index(key)]
                self._collection.relabel(row, label)
                self._screen.say(f"      {_name(row)} is {label}")
                self._ask()

    def _show(self, source: AudioSource) -> None:
        level = source.level if isinstance(source, LiveSource) else Level()
        running = " ..." if self._start is not None else "    "
        what = "PAUSED" if self._paused else f"{self._wanted.upper()}{running}"
        self._screen.show(f"{what} {bar(level, _BAR)}")


def keys_for(labels: tuple[str, ...]) -> Iterator[str]:
    """Lines that say which key does what."""
    yield "keys: " + "  ".join(f"{key} {label}" for key, label in zip(KEYS, labels, strict=False))
    yield "      give the last clip another label; d drops it, and then the one before;"
    yield "      s asks for another class, p pauses, q ends"


def _name(row: Row) -> str:
    return row["path"].rpartition("/")[2]


def _progress(count: int, most: int | None) -> str:
    return f"{count + 1} of {most}" if most else f"{counted(count, 'clip')} so far"


def _described(row: Row, seconds: float, level: Level) -> str:
    line = f"      {_name(row)} {row['label']}, {seconds:.1f} s, {level.rms_db:.0f} dB"
    if level.clipped:
        return f"{line}: CLIPPED, turn the microphone down (d drops it)"
    if level.rms_db < _QUIET_DB:
        return f"{line}: very quiet, come nearer (d drops it)"
    return line
