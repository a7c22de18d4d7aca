"""Any corpus as a CSV with header: path,label,speaker,session,text,split,start,end.

Only path and label are required, and path may be empty in a row with text; start and end in seconds
cut a segment; relative paths are relative to the CSV, ~ is the home folder, and \\ separates
folders where there is no file of that very name. Where no speaker is given, none is known.

What `training.corpora.tables` says of encodings, delimiters, case and comments holds here. A label
that is a class of `labels.toml` but for its case is that class; others must be spelled alike.
"""

from __future__ import annotations

import csv
import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from training.corpora import SECOND_COPY, Found, Utterance, classes
from training.corpora.tables import Row, read_table
from training.errors import TrainingError

COLUMNS = ("path", "label", "speaker", "session", "text", "split", "start", "end")
_REQUIRED = 2  # of the columns; a row may have text in place of a path
_UNKNOWN = ("nan", "none", "null", "n/a", "unknown", "?")  # for a speaker, and in place of a label

log = logging.getLogger(__name__)

Clip = tuple[Path | None, float, float | None]


def load(path: Path) -> Found:
    """Utterances of the CSV at `path`; rows that repeat another are left out and counted.

    A row whose file is not there is logged and kept: whoever reads clips skips and counts those
    that cannot be read.

    Raises TrainingError, naming the line, what was found and what was expected, for a missing
    column or value, a time that is no number or runs backwards, one clip with two labels or two
    speakers, and labels or speakers that differ in case only.
    """
    if not path.exists():
        raise TrainingError(f"there is no manifest {path}")
    if path.is_dir():
        raise TrainingError(f"manifest: {path} is a folder; expected a CSV file")
    table = read_table(path, "manifest", COLUMNS[:_REQUIRED], COLUMNS[_REQUIRED:])
    reading = _Reading(path, comma=table.delimiter != ",")
    for row in table.rows:
        reading.add(row)
    reading.warn_of_missing()
    if not reading.utterances:
        raise TrainingError(f"manifest {path} lists no clip")
    notes = []
    if ignored := [column for column in table.columns if column and column not in COLUMNS]:
        notes.append(f"columns that are not read: {', '.join(ignored)}")
    if reading.repeated:
        lines = ", ".join(map(str, reading.repeated[:5])) + ", ..." * (len(reading.repeated) > 5)
        notes.append(f"rows that repeat another are left out: {lines}")
    left_out = Counter({SECOND_COPY: len(reading.repeated)}) if reading.repeated else Counter[str]()
    return Found(reading.utterances, left_out, notes=tuple(notes))


def write(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest that `load` reads back, with absolute audio paths.

    A row of text only has an empty path, a speaker that is not known an empty cell.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for utterance in utterances:
            row = dataclasses.asdict(utterance)
            row["path"] = "" if utterance.path is None else utterance.path.resolve()
            writer.writerow({c: "" if row[c] is None else row[c] for c in COLUMNS})


@dataclass
class _Reading:
    """A manifest on its way to utterances."""

    path: Path
    comma: bool
    """Whether times may have a comma for a point."""
    utterances: list[Utterance] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    """Lines that say what another says."""
    missing: list[tuple[int, str, Path]] = field(default_factory=list)
    """Line, path as written, and where it was looked for."""
    _spelled: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    _clips: dict[Clip, tuple[Utterance, int]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Take a row in."""
        values = {column: row.values.get(column, "") for column in COLUMNS}
        if not values["label"] or values["label"].casefold() in _UNKNOWN:
            found = f"is {values['label']!r}" if values["label"] else "is empty"
            self._refuse(row.line, f"label {found}; expected a class, such as happy")
        if not values["path"] and not values["text"]:
            self._refuse(row.line, "path is empty, and so is text; expected one of them")
        start = self._seconds("start", values["start"], row.line) or 0.0
        end = self._seconds("end", values["end"], row.line)
        if end is not None and end <= start:
            self._refuse(row.line, f"end {end} is not after start {start}")
        speaker = values["speaker"] if values["speaker"].casefold() not in _UNKNOWN else ""
        utterance = Utterance(
            path=self._file(values["path"], row.line) if values["path"] else None,
            label=self._spell("label", values["label"], row.line),
            speaker=self._spell("speaker", speaker, row.line) if speaker else None,
            corpus="manifest",
            session=values["session"],
            text=values["text"],
            split=values["split"],
            start=start,
            end=end,
        )
        if utterance.path is not None and self._repeats(utterance, row.line):
            self.repeated.append(row.line)
        else:
            self.utterances.append(utterance)

    def warn_of_missing(self) -> None:
        """Say which rows name a file that is not there; whoever reads clips will skip them."""
        if not self.missing:
            return
        line, written, place = self.missing[0]
        log.warning(
            "manifest %s, line %d: %s is %s%s%s; expected an absolute path, or one relative to %s",
            self.path,
            line,
            written,
            "a folder" if place.is_dir() else "no file",
            "" if str(place) == written else f" (looked for {place})",
            f", nor are those of {len(self.missing) - 1} more rows" * (len(self.missing) > 1),
            self.path.parent,
        )

    def _file(self, written: str, line: int) -> Path:
        """The file that a cell names."""
        place = self.path.parent / _home(written)
        if not place.is_file():
            other = self.path.parent / _home(written.replace("\\", "/"))
            if "\\" in written and other.is_file():
                return other
            self.missing.append((line, written, place))
        return place

    def _spell(self, column: str, value: str, line: int) -> str:
        """A class for a label that is one but for its case; else as written, in one case only."""
        if column == "label":
            known = {label.casefold(): label for label in classes()}
            value = known.get(value.casefold(), value)
        other, where = self._spelled.setdefault((column, value.casefold()), (value, line))
        if other != value:
            self._refuse(
                line,
                f"{column} {value!r} and {other!r} of line {where} differ only in case; "
                "write them alike",
            )
        return value

    def _repeats(self, utterance: Utterance, line: int) -> bool:
        """Whether an earlier row says the same of the same clip; TrainingError for another."""
        clip = (utterance.path, utterance.start, utterance.end)
        other, where = self._clips.setdefault(clip, (utterance, line))
        for column in ("label", "speaker"):
            mine, theirs = getattr(utterance, column), getattr(other, column)
            if mine != theirs:
                self._refuse(
                    line,
                    f"{utterance.path} has the {column} {mine or 'unknown'} here and "
                    f"{theirs or 'unknown'} in line {where}; expected one",
                )
        return other is not utterance

    def _seconds(self, column: str, text: str, line: int) -> float | None:
        if not text:
            return None
        try:
            value = float(text.replace(",", ".") if self.comma else text)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            self._refuse(
                line, f"{column} {text!r} is not a time in seconds; expected a number such as 1.5"
            )
        return value

    def _refuse(self, line: int, why: str) -> NoReturn:
        raise TrainingError(f"manifest {self.path}, line {line}: {why}")


def _home(written: str) -> Path:
    """The path of a cell, ~ read as the home folder where that can be known."""
    try:
        return Path(written).expanduser()
    except RuntimeError:  # ~somebody
        return Path(written)
