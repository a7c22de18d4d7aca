"""Messages that wait on disk until somebody has taken them, in order.

Segments of records, each with its length, its number and a CRC, and a file with the number up to
which all are done. Why not SQLite: on a full disk it needs room to delete, where unlinking a
segment frees it at once; one damaged page can cost it the whole buffer; and it does not notice a
changed byte within a row.

What is promised. A killed process (SIGKILL) loses nothing that `append` was given: what is written
is the kernel's. When the power fails, up to `sync` counts, and what was done since may come again:
nothing is synchronized for a single message, because flash wears. A full disk costs the oldest.
What is damaged is counted and skipped. Nothing here raises.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
import time
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge_runtime.system import sync_folder

_MAGIC = b"\xffEM1"  # never within a record: 0xFF is no part of UTF-8
_HEAD = struct.Struct(">4sIQI")  # magic, bytes that follow, number, CRC-32
_CURSOR = struct.Struct(">QI")  # the first number that is not done, CRC-32
_NAME = re.compile(r"^([0-9]{16})\.seg$")
_HIGHEST = 10**16 - 1  # number that a name has room for; nobody sends so many
_SEGMENT_BYTES = 65_536
_SEGMENTS = 8  # at least, in a full buffer: as much as is dropped at once
_IN_MEMORY = 1_000  # messages that are kept where the disk takes none
_RETRY_SECONDS = 5.0  # between two attempts to open a folder that cannot be used
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Record(NamedTuple):
    """One message."""

    number: int
    """Rises from message to message; negative where it is in memory alone."""
    topic: str
    payload: bytes


@dataclass
class _Segment:
    """A file of records."""

    path: Path
    end: int
    """The number after its last record."""
    size: int
    """Bytes in use."""
    unread: int
    """Records that were not taken yet."""
    begun: float
    """When, in seconds of the monotonic clock: the other one jumps when it is set."""
    written: float
    """When last, likewise."""
    read: int = 0
    """Bytes that were read."""


class Spool:
    """A buffer in `folder`, of at most `megabytes` (10^6 bytes) and `hours`; of one thread."""

    def __init__(self, folder: Path, megabytes: float, hours: float) -> None:
        self.folder = folder
        self.dropped = 0
        """Messages that were given up since this was made: no room, or too old."""
        self.damaged = 0
        """Records that could not be read, at least."""
        self.trouble = ""
        """Why messages cannot be written; nothing where they can."""
        self._capacity = int(megabytes * 1e6)
        self._segment_bytes = min(_SEGMENT_BYTES, self._capacity // _SEGMENTS)
        self._seconds = hours * 3600
        self._segments: deque[_Segment] = deque()  # oldest first; what is written goes to the last
        self._ahead: deque[Record] = deque()  # read from the first segment with unread records
        self._memory: deque[tuple[str, bytes]] = deque()  # newer than all that is on disk
        self._taken: dict[int, None] = {}  # numbers that are on their way, rising
        self._next = 1  # the number of the next record on disk
        self._last_taken = 0  # of those on disk
        self._loose = 0  # the number of the last record that was taken from memory
        self._cursor = 1  # all numbers below it are done
        self._file = self._cursor_file = self._lock = -1
        self._unsynced = False
        self._full = False  # whether it is for want of room that the disk takes none
        self._tried = -_RETRY_SECONDS
        self._open()

    @property
    def queued(self) -> int:
        """Messages that are not done."""
        return sum(s.unread for s in self._segments) + len(self._memory) + len(self._taken)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self._segments)

    def append(self, topic: str, payload: bytes) -> None:
        """Keep one message, at the end; `payload` is UTF-8."""
        self._memory.append((topic, payload))
        self._flush()
        while len(self._memory) > _IN_MEMORY:
            if self.size and self._full:  # what is on disk is older, and makes room
                self._drop_oldest()
                self._flush()
            else:
                self._memory.popleft()
                self.dropped += 1

    def take(self) -> Record | None:
        """The next message that was not taken yet; None where there is none."""
        for segment in self._segments:
            if segment.unread and not self._ahead:
                self._read(segment)
            if segment.unread:
                segment.unread -= 1
                record = self._ahead.popleft()
                self._taken[record.number] = None
                self._last_taken = record.number
                return record
        if not self._memory:
            return None
        self._loose -= 1
        self._taken[self._loose] = None
        return Record(self._loose, *self._memory.popleft())

    def done(self, number: int) -> None:
        """The message of that number has arrived; others may arrive out of order."""
        if number not in self._taken:
            return
        del self._taken[number]
        if number < 0:
            return
        waiting = [n for n in self._taken if n > 0]
        self._cursor = min(waiting) if waiting else self._last_taken + 1
        with suppress(OSError):
            mark = struct.pack(">Q", self._cursor)
            os.pwrite(self._cursor_file, _CURSOR.pack(self._cursor, zlib.crc32(mark)), 0)
        while self._segments and self._segments[0].size and not self._segments[0].unread:
            if self._segments[0].end > self._cursor:
                break
            self._remove_first()

    def sync(self) -> None:
        """Have what waits survive a power failure, and give up what is too old. May take a second.

        A message that is taken at once never gets here, and mostly not to the disk either.
        """
        self._flush()
        since = time.monotonic() - self._seconds
        while self._segments and self._segments[0].size and self._segments[0].written < since:
            self._drop_oldest()
        if self._unsynced and self._file >= 0 and self.queued:
            self._unsynced = False
            with suppress(OSError):
                os.fdatasync(self._file)
                sync_folder(self.folder)

    def close(self) -> None:
        """Leave what is not done for the next time."""
        self.sync()
        self._release()

    def _release(self) -> None:
        for descriptor in (self._file, self._cursor_file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._cursor_file = self._lock = -1

    def _open(self) -> bool:
        """Whether the folder can be used; what an earlier process left is found."""
        if self._cursor_file >= 0:
            return True
        if time.monotonic() - self._tried < _RETRY_SECONDS:
            return False
        self._tried = time.monotonic()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._cursor_file = os.open(self.folder / "done", os.O_RDWR | os.O_CREAT, 0o600)
            self._recover()
        except OSError as error:
            self._release()
            self._segments.clear()
            held = isinstance(error, BlockingIOError)
            self.trouble = "another process uses it" if held else error.strerror or str(error)
            return False
        return True

    def _recover(self) -> None:
        found = os.pread(self._cursor_file, _CURSOR.size, 0)
        if len(found) == _CURSOR.size:
            cursor, crc = _CURSOR.unpack(found)
            if zlib.crc32(found[:8]) == crc and cursor <= _HIGHEST:
                self._cursor = max(self._cursor, cursor)
        self._next = max(self._next, self._cursor)
        for path in sorted(p for p in self.folder.iterdir() if _NAME.match(p.name)):
            self._next = max(self._next, int(path.stem))
            try:
                data = path.read_bytes()
                age = max(0.0, time.time() - path.stat().st_mtime)
            except OSError:
                self.damaged += 1
                continue
            records, end, damaged = parse(data)
            self.damaged += damaged
            unread = sum(record.number >= self._cursor for record in records)
            if not unread:
                with suppress(OSError):
                    path.unlink()
                continue
            after = records[-1].number + 1
            self._next = max(self._next, after)
            written = time.monotonic() - age
            self._segments.append(_Segment(path, after, end, unread, written, written))
        if self._segments and self._segments[-1].size < self._segment_bytes:
            self._file = os.open(self._segments[-1].path, os.O_RDWR)
            os.ftruncate(self._file, self._segments[-1].size)

    def _flush(self) -> None:
        """From memory to disk, while that takes it."""
        if not self._memory or not self._open():
            return
        while self._memory:
            topic, payload = self._memory[0]
            data = pack(Record(self._next, topic, payload))
            if len(data) > self._capacity:
                self._memory.popleft()
                self.dropped += 1
                continue
            while self.size + len(data) > self._capacity and self._drop_oldest():
                pass
            if not self._write(data):
                return
            self._memory.popleft()
            self._next += 1
            self._segments[-1].end = self._next
            self._segments[-1].unread += 1
            self._unsynced = True
            self.trouble = ""

    def _write(self, data: bytes) -> bool:
        while True:
            try:
                segment = self._segment_for(len(data))
                done = 0
                while done < len(data):
                    done += os.pwrite(self._file, data[done:], segment.size + done)
                segment.size += len(data)
                segment.written = time.monotonic()
                return True
            except OSError as error:
                self.trouble = error.strerror or str(error)
                self._full = error.errno in _FULL
                with suppress(OSError):  # the torn part would be written over, too
                    os.ftruncate(self._file, self._segments[-1].size if self._segments else 0)
                # The last segment is kept: memory has room for newer ones.
                if not self._full or len(self._segments) < 2 or not self._drop_oldest():
                    return False

    def _segment_for(self, size: int) -> _Segment:
        """The one to write `size` bytes to, open. Raises OSError."""
        now = time.monotonic()
        last = self._segments[-1] if self._segments and self._file >= 0 else None
        if last and (
            not last.size
            or (
                last.size + size <= self._segment_bytes
                and now - last.begun < self._seconds / _SEGMENTS
            )
        ):
            last.begun = last.begun if last.size else now
            return last
        path = self.folder / f"{self._next:016d}.seg"
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._file = opened
        self._segments.append(_Segment(path, self._next, 0, 0, now, now))
        return self._segments[-1]

    def _read(self, segment: _Segment) -> None:
        """Fill what is ahead from where `segment` was read up to."""
        try:
            with open(segment.path, "rb") as file:
                file.seek(segment.read)
                data = file.read(segment.size - segment.read)
        except OSError:
            data = b""
        segment.read = segment.size
        records = [r for r in parse(data)[0] if r.number >= self._cursor][: segment.unread]
        # The disk lost what was there before.
        self.damaged += segment.unread - len(records)
        segment.unread = len(records)
        self._ahead.extend(records)

    def _drop_oldest(self) -> bool:
        """Give up the oldest segment; False where there is none."""
        if not self._segments:
            return False
        self.dropped += self._segments[0].unread
        if self._segments[0].unread:
            self._ahead.clear()
        self._segments[0].unread = 0
        self._remove_first(drop=True)
        return True

    def _remove_first(self, drop: bool = False) -> None:
        segment = self._segments[0]
        if len(self._segments) > 1 or self._file < 0 or drop:
            self._segments.popleft()
            if not self._segments and self._file >= 0:
                os.close(self._file)
                self._file = -1
            with suppress(OSError):
                segment.path.unlink()
        else:
            # It is the one that is written to. What never lay long is not even written to flash.
            segment.size = segment.read = 0
            with suppress(OSError):
                os.ftruncate(self._file, 0)


def pack(record: Record) -> bytes:
    """A record as it is on disk."""
    body = record.topic.encode() + b"\0" + record.payload
    crc = _crc(len(body), record.number, body)
    return _HEAD.pack(_MAGIC, len(body), record.number, crc) + body


def parse(data: bytes) -> tuple[list[Record], int, int]:
    """The records in `data`, where the last of them ends, and how many at least are damaged."""
    records: list[Record] = []
    at = end = damaged = 0
    while True:
        at = data.find(_MAGIC, at)
        record, after = _record_at(data, at) if at >= 0 else (None, 0)
        if at >= 0 and (record is None or (records and record.number <= records[-1].number)):
            at += 1
            continue
        if (at if record else len(data)) > end:
            gap = record.number - records[-1].number - 1 if record and records else 1
            damaged += max(1, gap)
        if record is None:
            return records, end, damaged
        records.append(record)
        at = end = after


def _record_at(data: bytes, at: int) -> tuple[Record | None, int]:
    """The record that begins there and where it ends; None where there is none that is whole."""
    if len(data) - at < _HEAD.size:
        return None, at
    _, size, number, crc = _HEAD.unpack_from(data, at)
    end = at + _HEAD.size + size
    body = data[at + _HEAD.size : end]
    if len(body) != size or number > _HIGHEST or _crc(size, number, body) != crc:
        return None, at
    topic, separator, payload = body.partition(b"\0")
    try:
        return (Record(number, topic.decode(), payload) if separator else None), end
    except UnicodeDecodeError:
        return None, at


def _crc(size: int, number: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack(">IQ", size, number)))
