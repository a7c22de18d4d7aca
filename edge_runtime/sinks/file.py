"""Events kept in a file: JSON lines, rotated by size and age, deleted in time."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge_runtime.errors import EdgeError
from edge_runtime.events import Event, StorageEvent, TextEvent
from edge_runtime.settings import Settings, setting
from edge_runtime.sinks import Context, disk
from edge_runtime.sinks.lines import Trouble, is_partial, json_line, tell
from edge_runtime.sinks.outbox import Outbox

_BEGIN = b'{"time": "'  # of every line that is kept here, and of no other program's files
_LONGEST = 1 << 20  # bytes of a line that may have been torn off
_DAY = 24 * 60 * 60.0
_LOOK_SECONDS = (0.05, 60.0)  # at least and at most between two looks at how old files are
_LOSS = "events are lost until that is over"
_WAITING = 1000  # events, while the disk is slow
_CLOSE_SECONDS = 2.0  # in which what waits is written


@dataclass(frozen=True)
class FileSettings(Settings):
    """A file in which events are kept."""

    path: Path | None = setting(
        None,
        "Keep events in this file, one JSON object a line; for its owner alone.",
        metavar="PATH",
        main=True,
    )
    megabytes: float = setting(
        10.0, "Size at which it is rotated, MB.", minimum=0.001, maximum=100_000
    )
    keep: int = setting(5, "Rotated files beside it, at most.", minimum=0, maximum=1000)
    days: float = setting(30.0, "Age at which events are deleted, days.", above=0, maximum=36_500)
    partial: bool = setting(False, "Keep what is said of utterances still spoken, too.")
    text: bool = setting(True, "Keep the words that were heard, too.")


def open_file(settings: FileSettings, context: Context) -> FileSink | None:
    """The sink that `settings` ask for; None where they ask for none. See `FileSink`."""
    return None if settings.path is None else FileSink(settings, settings.path)


def check(settings: FileSettings) -> tuple[bool | None, str]:
    """Whether the file can be written, and has room to grow; see `disk.check`."""
    assert settings.path is not None  # or nothing is kept
    path = Path(os.path.realpath(settings.path))
    most = (settings.keep + 1) * settings.megabytes
    if os.access(path, os.F_OK) and not (path.is_file() and os.access(path, os.W_OK)):
        return False, f"{path} is no file that can be written; name another (--file)"
    own = f"{glob.escape(path.stem)}*{glob.escape(path.suffix)}"
    return disk.check(path.parent, most, own, "--file", "--file-megabytes, --file-keep")


class FileSink:
    """Keeps events at `path`, and says so on standard error when it begins.

    Disks are slow: a thread writes. What could not be written is counted in `dropped`.
    Raises EdgeError where nothing can be kept there, or where `path` is somebody else's file.
    """

    def __init__(self, settings: FileSettings, path: Path) -> None:
        self._settings = settings
        log = _Log(path, round(settings.megabytes * 1e6), settings.keep, settings.days * _DAY)
        self._log = log
        most = (settings.keep + 1) * settings.megabytes
        words = "with" if settings.text else "without"
        notice = (
            f"events, {words} the words, are kept in {log.path}, at most {most:g} MB and "
            f"{settings.days:g} days"
        )
        self.stored = StorageEvent(
            0.0, "events", settings.text, str(log.path), most, settings.days, notice
        )
        """What is kept, where, and for how long."""
        tell(notice)
        self._outbox: Outbox[bytes] = Outbox("file", log.write, _WAITING, log.look, log.every)

    @property
    def queued(self) -> int:
        """Events that are not written yet."""
        return self._outbox.queued

    @property
    def dropped(self) -> int:
        """Events that are not kept: the disk was full, too slow, or gone."""
        return self._outbox.dropped + self._log.lost

    def write(self, event: Event) -> None:
        """Let one event be kept, where the settings want it."""
        if not self._settings.text and isinstance(event, TextEvent):
            return  # there is nothing else in it
        if self._settings.partial or not is_partial(event):
            self._outbox.put(json_line(event, self._settings.text))

    def close(self) -> None:
        """Write what waits, for two seconds at most."""
        if self._outbox.close(_CLOSE_SECONDS):
            self._log.close()


class _Log:
    """The file, and those that it was before: `NAME.000001.SUFFIX`, the highest is the newest.

    One rename rotates it, so that a program killed at any point leaves nothing half done. Numbers
    and not dates order the files: the clock of a board without a battery jumps.

    Parameters
    ----------
    path : the file; its folder is made where it is missing.
    limit : bytes of a file, at most.
    keep : rotated files, at most.
    age : seconds after which a line is deleted. A file is deleted when its first line is that old,
        and rotated after a part of it, so that little goes with that line.
    """

    def __init__(self, path: Path, limit: int, keep: int, age: float) -> None:
        self._limit, self._keep, self._age = limit, keep, age
        self._part = age / (keep + 1)
        self.every = min(max(self._part / 10, _LOOK_SECONDS[0]), _LOOK_SECONDS[1])
        self.lost = 0
        """Lines that were not written."""
        self._file: int | None = None
        self._born = 0.0  # time of its first line
        self._looked = 0.0
        self._trouble = Trouble()
        try:
            self.path = Path(os.path.realpath(path))
            pattern = rf"{re.escape(self.path.stem)}\.(\d{{6,}}){re.escape(self.path.suffix)}"
            self._rotated = re.compile(pattern)
            self._open()
        except (OSError, ValueError, RuntimeError) as error:  # a NUL in it, a home that is unknown
            why = getattr(error, "strerror", None) or error
            raise EdgeError(
                f"cannot keep events in {path}: {why}; name a file that can be written"
            ) from None

    def write(self, line: bytes) -> None:
        """Append a line, whole or not at all."""
        try:
            self._append(line)
        except (OSError, EdgeError) as error:
            self.lost += 1
            self._trouble.begin(self.path, error, _LOSS)
            return
        self._trouble.end(f"{self.path}: events are kept again; {self.lost} are lost")

    def look(self) -> None:
        """Rotate and delete what has become too old."""
        try:
            self._tend()
        except (OSError, EdgeError) as error:
            self._trouble.begin(self.path, error, _LOSS)

    def close(self) -> None:
        """Give the file back."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _append(self, line: bytes) -> None:
        self._tend(len(line))
        assert self._file is not None  # that is what tending is for
        before = os.fstat(self._file).st_size
        if not before:
            self._born = time.time()
        written = os.write(self._file, line)
        if written < len(line):
            os.ftruncate(self._file, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _tend(self, room: int = 0) -> None:
        """Have the file open, with `room` bytes in it and nothing too old in it or beside it."""
        if room > self._limit:
            raise EdgeError(f"an event of {room:,} bytes is larger than the file may become")
        if self._file is None or self._moved(self._file):
            self.close()
            self._open()
        assert self._file is not None  # it was opened
        size = os.fstat(self._file).st_size
        if size and (size + room > self._limit or time.time() - self._born >= self._part):
            self._rotate()
        if time.monotonic() - self._looked >= self.every:
            self._expire()

    def _moved(self, file: int) -> bool:
        """Whether somebody, logrotate say, has put it elsewhere or deleted it."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return True
        opened = os.fstat(file)
        return (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino)

    def _open(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        file = os.open(self.path, flags, 0o600)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise EdgeError(f"{self.path} is no file; events are kept in a plain file")
            head = os.pread(file, len(_BEGIN), 0)
            if head != _BEGIN[: len(head)]:
                raise EdgeError(
                    f"{self.path} is there and holds something else than events with their time; "
                    "name another file"
                )
            with suppress(PermissionError):  # of another owner who lets us write
                os.fchmod(file, 0o600)
            _mend(file, found.st_size)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        self._born = _begun(self.path)
        self._expire()

    def _rotate(self) -> None:
        last = max((number for number, _ in self._others()), default=0)
        name = f"{self.path.stem}.{last + 1:06d}{self.path.suffix}"
        self.path.rename(self.path.with_name(name))
        self.close()
        self._expire()
        self._open()

    def _expire(self) -> None:
        """Delete the oldest files: of too many, and those that begin too long ago."""
        self._looked = time.monotonic()
        others = self._others()
        for place, (_, file) in enumerate(others):
            if place < len(others) - self._keep or time.time() - _begun(file) >= self._age:
                try:
                    file.unlink(missing_ok=True)
                except OSError as error:
                    self._trouble.report(f"{file}: {error.strerror}: delete it, it is too old")

    def _others(self) -> list[tuple[int, Path]]:
        """Rotated files with their numbers, the oldest first."""
        found = []
        for file in self.path.parent.iterdir():
            match = self._rotated.fullmatch(file.name)
            if match and file.is_file() and not file.is_symlink():
                found.append((int(match[1]), file))
        return sorted(found)


def _mend(file: int, size: int) -> None:
    """Take away the half of a line that a loss of power has left at the end."""
    begin = max(0, size - _LONGEST)
    tail = os.pread(file, size - begin, begin)
    if not size or tail.endswith(b"\n"):
        return
    whole = tail.rfind(b"\n") + 1
    if whole or not begin:
        os.ftruncate(file, begin + whole)
    else:
        os.write(file, b"\n")


def _begun(file: Path) -> float:
    """When the first line of a file was written, s since 1970; where it does not say, its last.

    A file that is empty, or gone, begins now.
    """
    try:
        with file.open("rb") as lines:
            first = lines.readline(_LONGEST)
            changed = os.fstat(lines.fileno()).st_mtime
    except OSError:
        return time.time()
    if not first:
        return time.time()
    try:
        return datetime.fromisoformat(json.loads(first)["time"]).timestamp()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return changed
