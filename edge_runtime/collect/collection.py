"""A folder of labelled clips: sound, a manifest that trains, and what it all is.

    README.md      what is in here, from whom, and how it is deleted, unless one is there already
    about.json     the same for programs: labels, sessions, who agreed to what
    manifest.csv   path,label,speaker,session,text,split,start,end: a row a clip
    clips/*.wav    16 bit, mono, 16 kHz

Whatever happens (a full disk, Ctrl-C, a loss of power), the manifest is whole and names no file
that is not there: a clip is on the disk before its row, and goes after it; each file is replaced
by a new one, never changed.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_runtime.audio.wav import HEAD_BYTES, private_folder, write_readme, write_wav
from edge_runtime.collect.labels import COLUMNS
from edge_runtime.errors import EdgeError
from edge_runtime.events import time_of_day
from edge_runtime.pcm import Int16
from edge_runtime.system import write_private
from edge_runtime.untrusted import parse_json, read_regular

MANIFEST = "manifest.csv"
ABOUT = "about.json"
CLIPS = "clips"
_KIND = "edge-emotion clips"
_MOST_BYTES = 50_000_000  # of a manifest or what is said about it
_REQUIRED = COLUMNS[:2]

Row = dict[str, str]
"""A row of the manifest, by column."""


@dataclass(frozen=True)
class Session:
    """One sitting in which clips were made."""

    began: str
    """When, RFC 3339, UTC."""
    device: str
    """What people call the device."""
    source: str
    """What was listened to, or where the sound was kept."""
    speaker: str
    """Who spoke; "" where that is not known."""
    consent: str
    """Who agreed to what, in words."""

    @classmethod
    def now(cls, device: str, source: str, speaker: str, consent: str) -> Session:
        """A session that begins now."""
        return cls(time_of_day(datetime.now(UTC)), device, source, speaker, consent)


class Collection:
    """The folder of a manifest, open for one program at a time; `close` gives it back.

    Parameters
    ----------
    manifest : its file, `manifest.csv`; folder and file are made where they are missing.
    labels : classes of this session; those of earlier ones stay known.
    session : what is written about this session.
    limit : bytes that all clips may have together.

    Raises EdgeError where it cannot be written, holds something else, or is open already.
    """

    def __init__(self, manifest: Path, labels: Iterable[str], session: Session, limit: int) -> None:
        self.manifest = manifest.expanduser().absolute()
        self.folder = self.manifest.parent
        self._limit = limit
        self._lock = -1
        self._stamp = ""
        self.rows: list[Row] = []
        """What the manifest says."""
        try:
            private_folder(self.folder)
            private_folder(self.folder / CLIPS)
            self._lock = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._columns, self.rows = _read(self.manifest)
            self._stamp = self._session_name(session.began)
            self._size = sum(file.stat().st_size for file in self._files())
            self._describe(labels, session)
            self._save()
        except BlockingIOError:
            self.close()
            raise EdgeError(f"{self.folder}: another record or review writes there") from None
        except OSError as error:
            self.close()
            raise self._failed(error) from None
        except BaseException:
            self.close()
            raise

    @property
    def counts(self) -> Counter[str]:
        """Clips by label."""
        return Counter(row["label"] for row in self.rows)

    @property
    def unlisted(self) -> list[str]:
        """Clips that the manifest does not name: a program was killed between file and row."""
        listed = {Path(row["path"]).name for row in self.rows}
        return sorted(file.name for file in self._files() if file.name not in listed)

    def add(self, samples: Int16, values: Mapping[str, str], name: str = "") -> Row:
        """Store a clip (n,) and its row, `values` by column; by default it is named by the time.

        Raises EdgeError where the disk or the folder is full; then it has no row.
        """
        size = HEAD_BYTES + samples.nbytes
        if self._size + size > self._limit:
            raise EdgeError(
                f"{self.folder} has {self._size / 1e6:.0f} MB of sound and may have "
                f"{self._limit / 1e6:g} (--megabytes); all that was stored is in {MANIFEST}"
            )
        file = self.folder / CLIPS / (name or self._next_name())
        row = {column: values.get(column, "") for column in self._columns}
        row["path"] = f"{CLIPS}/{file.name}"
        row["session"] = self._stamp
        try:
            write_wav(file, samples)
            try:
                self._change([*self.rows, row])
            except OSError:
                file.unlink()
                raise
        except OSError as error:
            raise self._failed(error) from None
        self._size += size
        return row

    def relabel(self, row: Row, label: str) -> None:
        """Give a row another label. Raises EdgeError; then it has the old one."""
        before, row["label"] = row["label"], label
        try:
            self._save()
        except OSError as error:
            row["label"] = before
            raise self._failed(error) from None

    def drop(self, row: Row) -> None:
        """Delete a row, and its clip.

        Raises EdgeError; then both are there, or where the clip cannot be deleted, that alone.
        """
        file = self.folder / row["path"]
        try:
            self._change([other for other in self.rows if other is not row])
            with suppress(FileNotFoundError):
                size = file.stat().st_size
                file.unlink()
                self._size -= size
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Let others write there."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _files(self) -> list[Path]:
        return list((self.folder / CLIPS).glob("*.wav"))

    def _next_name(self) -> str:
        number = 1
        while (self.folder / CLIPS / (name := f"{self._stamp}-{number:04d}.wav")).exists():
            number += 1
        return name

    def _change(self, rows: list[Row]) -> None:
        before, self.rows = self.rows, rows
        try:
            self._save()
        except OSError:
            self.rows = before
            raise

    def _save(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_private(self.manifest, text.getvalue())

    def _session_name(self, began: str) -> str:
        """The second in which it began, and a number where another one did, too."""
        second = "".join(c for c in began.partition(".")[0] if c.isalnum()) + "Z"
        taken = {row.get("session", "") for row in self.rows}
        names = (second, *(f"{second}-{number}" for number in range(2, len(taken) + 3)))
        return next(name for name in names if name not in taken)

    def _describe(self, labels: Iterable[str], session: Session) -> None:
        about = read_about(self.folder)
        known = list(dict.fromkeys([*about.get("labels", []), *labels]))
        sessions = [*about.get("sessions", []), asdict(session)]
        content = {"kind": _KIND, "version": 1, "labels": known, "sessions": sessions}
        write_private(
            self.folder / ABOUT,
            json.dumps(content, indent=1, ensure_ascii=False) + "\n",
        )
        write_readme(self.folder, _readme(self.manifest.name, known, sessions))

    def _failed(self, error: OSError) -> EdgeError:
        return EdgeError(
            f"cannot write in {self.folder}: {error.strerror}; what was stored before is whole"
        )


def read_about(folder: Path) -> dict[str, Any]:
    """What is said about a folder of clips: labels and sessions; nothing where it is new.

    Raises EdgeError for what is no such folder.
    """
    file = folder / ABOUT
    try:
        about = parse_json(read_regular(file, _MOST_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EdgeError(f"{file} cannot be read ({error}); name another folder") from None
    labels = about.get("labels") if isinstance(about, dict) else None
    if (
        not isinstance(about, dict)
        or about.get("kind") != _KIND
        or not isinstance(labels, list)
        or not all(isinstance(label, str) for label in labels)
        or not isinstance(about.get("sessions"), list)
    ):
        raise EdgeError(f"{file} is of something else than clips; name another folder")
    return about


def _read(manifest: Path) -> tuple[list[str], list[Row]]:
    """Columns and rows of a manifest, others' columns included; those of a new one, and none."""
    try:
        text = read_regular(manifest, _MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        return list(COLUMNS), []
    except ValueError as error:
        raise EdgeError(f"{manifest} cannot be read: {error}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = list(reader.fieldnames or [])
        if not set(_REQUIRED) <= set(columns):
            raise EdgeError(
                f"{manifest} is no manifest that can be written on: expected a header with "
                f"{','.join(COLUMNS)}, with commas"
            )
        added = [column for column in COLUMNS if column not in columns]
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise csv.Error("another number of cells than the header has")
            rows.append({**dict.fromkeys(added, ""), **row})
    except csv.Error as error:
        raise EdgeError(
            f"{manifest}, line {reader.reader.line_num}: {error}; mend it, or name another folder"
        ) from None
    return [*columns, *added], rows


def _readme(manifest: str, labels: list[str], sessions: list[dict[str, Any]]) -> str:
    lines = [
        "# Clips of speech with labels",
        "",
        "Made by `edge-emotion record` or `edge-emotion review`, to train a classifier of emotion.",
        f"`{manifest}` has a row for each clip (path, label, speaker, session, words, and where "
        "the utterance begins and ends in the file, s); `clips/` has the sound (WAV, 16 kHz).",
        "",
        "It is the voice of people, and what they were asked to express. Deleting this folder "
        "deletes all that was stored of it; deleting a row and its file deletes a clip.",
        "",
        f"Labels: {', '.join(labels)}.",
        "",
        "| began (UTC) | device | source | speaker | consent |",
        "|---|---|---|---|---|",
    ]
    cells = ("began", "device", "source", "speaker", "consent")
    for session in sessions:
        values = [str(session.get(cell, "")).replace("|", "/") for cell in cells]
        lines.append(f"| {' | '.join(values)} |")
    return "\n".join(lines) + "\n"
