"""A source that people leave running: what breaks is told, tried again, and its loss counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from edge_runtime.audio import BLOCK_SECONDS, Block
from edge_runtime.audio.channels import LiveMono, mended
from edge_runtime.audio.levels import Finding, Level, Levels
from edge_runtime.audio.ring import Taken
from edge_runtime.errors import AudioError
from edge_runtime.events import AudioStatusEvent
from edge_runtime.pcm import SAMPLE_RATE, Int16

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
"""Seconds between two attempts: doubled from the one to the other."""
_WAIT_SECONDS = 0.25  # for audio, before the feed is asked whether it is still there
_MOST_REASONS = 8  # that are told of one absence: a program may say another at each attempt
_NOTHING: Int16 = np.empty(0, np.int16)
_NONE: list[Finding] = []


class Feed(Protocol):
    """Where live frames come from: a device, a program, a socket. Opened again when it breaks."""

    name: str
    """What to call it in messages."""
    rate: int
    """Frames a second, Hz; known once it is open."""
    channels: int
    """Samples a frame; known once it is open."""
    gaps_are_lost: bool
    """Whether what is not heard while it is away was lost; or else nobody spoke."""

    def begin(self) -> None:
        """Begin; after a failure, once more. Raises AudioError where it cannot be now."""
        ...

    def read(self, seconds: float, most: int) -> Taken | None:
        """At most `most` frames; None where none came in `seconds`. AudioError: it is gone."""
        ...

    def close(self) -> None:
        """Give it back, open or not."""
        ...

    def advice(self, what: str) -> str:
        """What else helps against a `Finding`, a sentence; or nothing."""
        ...


class EndlessSource:
    """Blocks of a feed until closed: the blocks, or where none was asked for yet, the source.

    What happens to the feed is told by `Block.status`, once per change. While it is away, blocks
    without samples tell what is lost, so that the clock of the stream goes on.

    Parameters
    ----------
    feed : where frames come from; closed with the source.
    channel : the one to take, from 1; None mixes those that are not dead.
    wait : try again where the feed cannot be opened at first; else that raises AudioError.
    """

    def __init__(self, feed: Feed, channel: int | None = None, wait: bool = False) -> None:
        self.warnings: list[str] = []
        self.reconnects = 0
        """How often it came back after it was away."""
        self._taken_at = 0.0  # when what was read last was captured; 0 where nothing comes
        self._feed, self._channel = feed, channel
        self._position = 0  # samples at 16 kHz that were told, lost ones too
        self._heard_at: float | None = None  # when the last frame came; None: none ever did
        self._missing = 0  # samples that were told of the absence that began then
        self._away: AudioError | None = None
        self._levels = Levels(feed.rate)
        try:
            self._open()
        except BaseException as error:  # also Ctrl-C: a program that was started would live on
            feed.close()
            if not (wait and isinstance(error, AudioError)):
                raise
            self._away = error

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return self._feed.name

    @property
    def form(self) -> str:
        """Rate and channels."""
        channels = self._feed.channels
        return f"{self._feed.rate / 1000:g} kHz, {channels} channel{'s' if channels > 1 else ''}"

    @property
    def level(self) -> Level:
        """Of what came last, before it is resampled."""
        return self._levels.level if self._away is None else Level()

    @property
    def wrong(self) -> dict[str, str]:
        """What was wrong in the last whole second, lasting or not, and what to do.

        By the `what` that its event would have.
        """
        return {what: self._advised(what, text) for what, text in self._levels.wrong.items()}

    @property
    def behind(self) -> float:
        """Seconds since the last frame that was read was captured; 0 while nothing comes."""
        return time.monotonic() - self._taken_at if self._taken_at else 0.0

    def blocks(self) -> Iterator[Block]:
        """Blocks until closed."""
        try:
            if self._away is not None:
                yield from self._regain(self._away)
            while True:
                try:
                    taken = self._feed.read(_WAIT_SECONDS, self._most)
                except AudioError as error:
                    yield self._block(self._mono.flush())
                    yield from self._regain(error)
                    continue
                self._taken_at = 0.0 if taken is None else taken.at
                # Nothing came, and whoever reads is to know that time goes by.
                yield from self._heard(taken) if taken is not None else [self._block(_NOTHING)]
        finally:
            self.close()

    def close(self) -> None:
        """Give the feed back, open or not."""
        self._feed.close()

    def _open(self) -> None:
        self._feed.begin()
        if self._channel is not None and self._channel > self._feed.channels:
            self._feed.close()
            raise AudioError(
                f"{self.name} has {self.form}, and --channel asks for number {self._channel}"
            )
        self._mono = LiveMono(self._feed.rate, self._feed.channels, self._channel)
        self._levels.reopened(self._feed.rate)
        self._most = max(1, round(BLOCK_SECONDS * self._feed.rate))

    def _heard(self, taken: Taken) -> Iterator[Block]:
        """A stretch of frames, after what was lost before it."""
        lost = round(taken.lost * SAMPLE_RATE / self._feed.rate)
        if lost or taken.ends:
            yield self._block(self._mono.flush())  # what the resampler holds is from before
        if not len(taken.frames):
            yield self._block(_NOTHING, lost, taken.ends)
            return
        findings: list[Finding] = []
        if self._away is not None:
            lost = self._absence(taken.at - len(taken.frames) / self._feed.rate)
            findings.append(Finding("lost", False, f"back, with {self.form}"))
            self._away = None
            self.reconnects += self._heard_at is not None
        frames, invalid = mended(taken.frames)
        mixed = self._mono.mix(frames)
        converted = self._mono.convert(mixed)
        dead = self._mono.dead if self._mono.judged else None
        findings += self._levels.take(mixed, converted, dead, self._mono.cancelling)
        self._heard_at, self._missing = taken.at, 0
        yield self._block(converted, lost, taken.ends, findings, invalid)

    def _regain(self, error: AudioError) -> Iterator[Block]:
        """Try until the feed is open again. What is missing is told as time goes by."""
        self._away = error
        told: set[str] = set()
        pause = FIRST_PAUSE
        while True:
            reason = str(self._away)
            findings = []
            first = not told
            if reason not in told and len(told) < _MOST_REASONS:
                told.add(reason)
                findings.append(Finding("lost", True, f"{reason}; trying again until it is back"))
            yield self._block(_NOTHING, self._absence(time.monotonic()), first, findings)
            if first:
                self._feed.close()  # after it was told: a server that hangs holds this up
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                self._open()
                return
            except AudioError as again:
                self._away = again

    def _absence(self, until: float) -> int:
        """Samples missed up to that second of the monotonic clock, less those that were told."""
        if self._heard_at is None or not self._feed.gaps_are_lost:
            return 0
        missed = max(0, round((until - self._heard_at) * SAMPLE_RATE) - self._missing)
        self._missing += missed
        return missed

    def _block(
        self,
        samples: Int16,
        lost: int = 0,
        ends: bool = False,
        findings: list[Finding] = _NONE,
        invalid: int = 0,
    ) -> Block:
        self._position += lost + samples.size
        t = self._position / SAMPLE_RATE
        status = tuple(self._event(t, found) for found in findings)
        return Block(samples, lost, ends, status, invalid)

    def _event(self, t: float, found: Finding) -> AudioStatusEvent:
        message = self._advised(found.what, found.message) if found.active else found.message
        return AudioStatusEvent(t, self.name, found.what, found.active, message)

    def _advised(self, what: str, message: str) -> str:
        advice = self._feed.advice(what)
        return f"{message}; {advice}" if advice else message
