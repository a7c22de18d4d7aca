"""Audio sources: each yields int16 blocks at 16 kHz, mono, each with what was lost before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edge_runtime.events import AudioStatusEvent, Event
from edge_runtime.pcm import SAMPLE_RATE, Int16

if TYPE_CHECKING:
    from edge_runtime.audio.levels import Level

BLOCK_SECONDS = 0.1  # audio handed over at a time
BLOCK = round(BLOCK_SECONDS * SAMPLE_RATE)  # the same in samples
QUEUE_SECONDS = 30.0  # audio of a live source that may wait while inference is starved


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some audio, in its place in the stream."""

    samples: Int16
    """int16 at 16 kHz, shape (n,); n may be 0 where a source ends on a loss."""
    lost: int = 0
    """Samples that were lost between the block before and this one."""
    ends: bool = False
    """Whether what was said before ends here though nothing was lost: another one speaks."""
    status: tuple[AudioStatusEvent, ...] = ()
    """What has changed about the source by the end of this block, if it is a live one."""
    invalid: int = 0
    """Samples of the source, at its own rate, that were NaN or infinite and became 0."""


class AudioSource(Protocol):
    """Where samples come from."""

    warnings: list[str]
    """What was survived and should be told: truncation, overflow."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Blocks, about 0.1 s each, in order, until the source ends. Raises AudioError."""
        ...

    def close(self) -> None:
        """Give back what it holds, whether or not a block was asked for; once more does nothing."""
        ...


@runtime_checkable
class LiveSource(AudioSource, Protocol):
    """A source whose level can be shown."""

    @property
    def form(self) -> str:
        """Rate and channels, in words."""
        ...

    @property
    def level(self) -> Level:
        """Of what came last."""
        ...

    @property
    def behind(self) -> float:
        """Seconds since what was read last was captured; 0 while nothing comes."""
        ...

    @property
    def reconnects(self) -> int:
        """How often it came back after it was away."""
        ...


@runtime_checkable
class AnsweringSource(AudioSource, Protocol):
    """A source whose senders are told what was heard of them."""

    def answer(self, event: Event) -> None:
        """Send an event of the stream to whom it is about; on the stream's thread, never waits."""
        ...
