"""The sound of utterances kept for review: a WAV file each, deleted in time."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_runtime.audio.recent import Recent
from edge_runtime.audio.wav import (
    HEAD_BYTES,
    LEAST_FREE,
    private_folder,
    write_readme,
    write_wav,
)
from edge_runtime.errors import EdgeError
from edge_runtime.events import UNSURE, EmotionEvent, Event, RevisedEvent, SourceEvent, StorageEvent
from edge_runtime.pcm import Int16
from edge_runtime.settings import Settings, setting
from edge_runtime.sinks import Context, disk
from edge_runtime.sinks.lines import Trouble, tell
from edge_runtime.sinks.outbox import Outbox

_DAY = 24 * 60 * 60.0
_LOOK_SECONDS = 60.0  # between two looks at how old files are, while nobody speaks
_WAITING = 16  # utterances, while the disk is slow: 2 MB at most each
_CLOSE_SECONDS = 2.0  # in which what waits is written
_REVISABLE = 16  # utterances whose verdict may still come again
_OURS = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}-\d{6}\.wav")
_TOLD = """# Sound of utterances

`edge-emotion run --keep-audio` has kept here what was said near a microphone: a WAV file for each
utterance, named in the field `audio` of its final event. Listen to it and correct the verdicts:
`edge-emotion review EVENTS.jsonl --audio THIS_FOLDER --manifest clips/manifest.csv`.

Whoever was heard has a say in what becomes of it. The oldest files are deleted by the program as
it was set up; deleting this folder deletes all of it.
"""


@dataclass(frozen=True)
class KeepSettings(Settings):
    """Whether the sound of utterances is kept."""

    audio: Path | None = setting(
        None,
        "Keep the sound of each utterance in this folder, a WAV file for its owner alone, for "
        "`edge-emotion review`; its final event names it. Tell whoever can be heard.",
        metavar="DIR",
    )
    below: float | None = setting(
        None,
        "Keep only what is unsure, or has less confidence than this.",
        minimum=0,
        maximum=1,
    )
    megabytes: float = setting(
        200.0,
        "Size of all of it at most, MB; the oldest are deleted (an hour of speech is 115).",
        minimum=2,
        maximum=1_000_000,
    )
    days: float = setting(30.0, "Age at which the sound is deleted, days.", above=0, maximum=36_500)


def open_keep(settings: KeepSettings, context: Context) -> KeepSink | None:
    """The sink that `settings` ask for; None where they ask for none. See `KeepSink`."""
    return None if settings.audio is None else KeepSink(settings, settings.audio)


def check(settings: KeepSettings) -> tuple[bool | None, str]:
    """Whether the folder can be written, and has room to grow; see `disk.check`."""
    assert settings.audio is not None  # or nothing is kept
    folder = settings.audio.resolve()
    options = "--keep-audio", "--keep-megabytes, --keep-below"
    return disk.check(folder, settings.megabytes, "*.wav", *options, least=LEAST_FREE / 1e6)


class KeepSink:
    """Keeps the sound of utterances in a folder, and says so on standard error when it begins.

    The last minute of the stream is in memory; what an utterance was of it goes to a thread, which
    writes. What could not be written is counted in `dropped`.
    Raises EdgeError where nothing can be kept there.
    """

    def __init__(self, settings: KeepSettings, folder: Path) -> None:
        self._below = settings.below
        self._recent = Recent()
        self._named: deque[tuple[float, str]] = deque(maxlen=_REVISABLE)
        self._count = 0
        # Of this process alone, whatever the clock of a board without a battery says.
        self._stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.urandom(2).hex()}"
        self._folder = _Folder(folder, round(settings.megabytes * 1e6), settings.days * _DAY)
        what = "the sound of utterances"
        if settings.below is not None:
            what += f" that are unsure or below {settings.below:g}"
        place = self._folder.path
        notice = (
            f"{what} is kept in {place}, at most {settings.megabytes:g} MB and "
            f"{settings.days:g} days"
        )
        self.stored = StorageEvent(
            0.0, "sound", True, str(place), settings.megabytes, settings.days, notice
        )
        """What is kept, where, and for how long."""
        tell(notice)
        self._outbox: Outbox[tuple[str, Int16]] = Outbox(
            "keep", self._folder.write, _WAITING, self._folder.look, _LOOK_SECONDS
        )

    @property
    def queued(self) -> int:
        """Utterances that are not written yet."""
        return self._outbox.queued

    @property
    def dropped(self) -> int:
        """Utterances that are not kept: the disk was full, too slow, or gone."""
        return self._outbox.dropped + self._folder.lost

    def take(self, position: int, samples: Int16) -> None:
        """Hold samples (n,) of the stream from number `position` on."""
        self._recent.take(position, samples)

    def keep(self, event: EmotionEvent) -> str:
        """Let the sound of a final verdict be kept, where the settings want it; its file, or ""."""
        if isinstance(event, RevisedEvent):
            return next((name for start, name in self._named if start == event.start), "")
        wanted = self._below is None or event.label == UNSURE or event.confidence < self._below
        samples = self._recent.cut(event.start, event.end)[1] if wanted else None
        if samples is None or not samples.size:
            return ""
        self._count += 1
        name = f"{self._stamp}-{self._count:06d}.wav"
        self._outbox.put((name, samples))
        self._named.append((event.start, name))
        return name

    def write(self, event: Event) -> None:
        """Forget what was heard where another stream begins."""
        if isinstance(event, SourceEvent):
            self._recent.clear()
            self._named.clear()

    def close(self) -> None:
        """Write what waits, for two seconds at most."""
        self._outbox.close(_CLOSE_SECONDS)


class _Folder:
    """Files of ours within bounds: `limit` bytes in all, `age` seconds. Others' stay as they are.

    Raises EdgeError where it cannot be written to.
    """

    def __init__(self, path: Path, limit: int, age: float) -> None:
        self._limit, self._age = limit, age
        self._trouble = Trouble()
        self.lost = 0
        """Utterances that were not written."""
        try:
            self.path = path.resolve()
            private_folder(self.path)
            write_readme(self.path, _TOLD)
            self._tend(0)
        except (OSError, ValueError, RuntimeError) as error:  # a NUL in it, a home that is unknown
            why = getattr(error, "strerror", None) or error
            raise EdgeError(
                f"cannot keep sound in {path}: {why}; name a folder that can be written"
            ) from None

    def write(self, item: tuple[str, Int16]) -> None:
        """Write a file of that name, and delete the oldest for it."""
        name, samples = item
        try:
            private_folder(self.path)
            self._tend(HEAD_BYTES + samples.nbytes)
            write_wav(self.path / name, samples)
        except OSError as error:
            self.lost += 1
            self._trouble.begin(self.path, error, "sound is lost until that is over")
            return
        self._trouble.end(f"{self.path}: sound is kept again; {self.lost} utterances are lost")

    def look(self) -> None:
        """Delete what has become too old."""
        with suppress(OSError):
            self._tend(0)

    def _tend(self, room: int) -> None:
        """Delete what is too old, and the oldest of what is too much with `room` bytes more."""
        found = []
        for file in self.path.iterdir():
            if _OURS.fullmatch(file.name) and file.is_file() and not file.is_symlink():
                state = file.stat()
                found.append((state.st_mtime, file.name, state.st_size))
        total = room + sum(size for _, _, size in found)
        oldest = time.time() - self._age
        for written, name, size in sorted(found):
            if written >= oldest and total <= self._limit:
                break
            (self.path / name).unlink(missing_ok=True)
            total -= size
