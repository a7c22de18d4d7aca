"""Any corpus as a CSV with header: path,label,speaker,session,text,split,start,end,valence,arousal.

Only path and label are required, and path may be empty in a row with text; start and end in seconds
cut a segment; relative paths are relative to the CSV, ~ is the home folder, and \\ separates
folders where there is no file of that very name. Where no speaker is given, none is known. Valence
and arousal are from -1 to 1, 0 in the middle.

What `training.corpora.tables` says of encodings, delimiters, case and comments holds here. A label
that is a class of the map of classes but for its case is that class; others must be spelled alike.
Where the map has a section `[manifest]`, labels are what it says, and others are left out.
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

from edge_runtime.collect.labels import COLUMNS, UNKNOWN
from training.corpora import SECOND_COPY, Found, Utterance
from training.corpora.class_map import MANIFEST, ClassMap, open_classes
from training.corpora.tables import Row, read_table, spelling
from training.errors import TrainingError

DIMENSIONS = ("valence", "arousal")
"""Columns that are written only where a clip has them."""
_REQUIRED = 2  # of the columns; a row may have text in place of a path

log = logging.getLogger(__name__)

Clip = tuple[Path | None, float, float | None]


def load(path: Path, classes: ClassMap | None = None) -> Found:
    """Utterances of the CSV at `path`; rows that repeat another are left out and counted.

    A row whose file is not there is logged and kept: whoever reads clips skips and counts those
    that cannot be read.

    Raises TrainingError, naming the line, what was found and what was expected, for a missing
    column or value, a time that is no number or runs backwards, one clip with two labels or two
    speakers, and labels or speakers that differ in case or spaces only.
    """
    if not path.exists():
        raise TrainingError(f"there is no manifest {path}")
    if path.is_dir():
        raise TrainingError(f"manifest: {path} is a folder; expected a CSV file")
    table = read_table(path, "manifest", COLUMNS[:_REQUIRED], (*COLUMNS[_REQUIRED:], *DIMENSIONS))
    reading = _Reading(path, table.delimiter != ",", classes or open_classes())
    for row in table.rows:
        reading.add(row)
    reading.warn_of_missing()
    if not reading.utterances and not reading.left_out:
        raise TrainingError(f"manifest {path} lists no clip")
    notes, known = [], (*COLUMNS, *DIMENSIONS)
    if ignored := [column for column in table.columns if column and column not in known]:
        notes.append(f"columns that are not read: {', '.join(ignored)}")
    if reading.repeated:
        lines = ", ".join(map(str, reading.repeated[:5])) + ", ..." * (len(reading.repeated) > 5)
        notes.append(f"rows that repeat another are left out: {lines}")
    if reading.repeated:
        reading.left_out[SECOND_COPY] = len(reading.repeated)
    return Found(reading.utterances, reading.left_out, notes=tuple(notes))


def write(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest that `load` reads back, with absolute audio paths.

    A row of text only has an empty path, a speaker that is not known an empty cell.
    """
    utterances = list(utterances)
    rated = any(u.valence is not None or u.arousal is not None for u in utterances)
    columns = (*COLUMNS, *DIMENSIONS) if rated else COLUMNS
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for utterance in utterances:
            row = dataclasses.asdict(utterance)
            row["path"] = "" if utterance.path is None else utterance.path.resolve()
            writer.writerow({c: "" if row[c] is None else row[c] for c in columns})


@dataclass
class _Reading:
    """A manifest on its way to utterances."""

    path: Path
    comma: bool
    """Whether numbers may have a comma for a point."""
    classes: ClassMap
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows whose label the map does not name, by label."""
    utterances: list[Utterance] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    """Lines that say what another says."""
    missing: list[tuple[int, str, Path]] = field(default_factory=list)
    """Line, path as written, and where it was looked for."""
    _spelled: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    _clips: dict[Clip, tuple[Utterance, int]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Take a row in."""
        values = {column: row.values.get(column, "") for column in (*COLUMNS, *DIMENSIONS)}
        if not values["label"] or values["label"].casefold() in UNKNOWN:
            found = f"is {values['label']!r}" if values["label"] else "is empty"
            self._refuse(row.line, f"label {found}; expected a class, such as happy")
        if not values["path"] and not values["text"]:
            self._refuse(row.line, "path is empty, and so is text; expected one of them")
        start = self._seconds("start", values["start"], row.line) or 0.0
        end = self._seconds("end", values["end"], row.line)
        if end is not None and end <= start:
            self._refuse(row.line, f"end {end} is not after start {start}")
        label = self._spell("label", values["label"], row.line)
        if MANIFEST in self.classes.sections:
            own = self.classes.of(MANIFEST)
            if label not in own:
                self.left_out[label] += 1
                return
            label = own[label]
        speaker = values["speaker"] if values["speaker"].casefold() not in UNKNOWN else ""
        utterance = Utterance(
            path=self._file(values["path"], row.line) if values["path"] else None,
            label=label,
            speaker=self._spell("speaker", speaker, row.line) if speaker else None,
            corpus="manifest",
            session=values["session"],
            text=values["text"],
            split=values["split"],
            start=start,
            end=end,
            valence=self._dimension("valence", values["valence"], row.line),
            arousal=self._dimension("arousal", values["arousal"], row.line),
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
        if column == "label" and MANIFEST not in self.classes.sections:
            known = {label.casefold(): label for label in self.classes.classes()}
            value = known.get(value.casefold(), value)
        key = column, spelling(value)
        other, where = self._spelled.setdefault(key, (value, line))
        if other != value:
            self._refuse(
                line,
                f"{column} {value!r} and {other!r} of line {where} differ only in case or spaces; "
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
        value = self._number(text)
        if value is not None and not 0 <= value < float("inf"):
            self._refuse(
                line, f"{column} {text!r} is not a time in seconds; expected a number such as 1.5"
            )
        return value

    def _dimension(self, column: str, text: str, line: int) -> float | None:
        value = self._number(text)
        if value is not None and not -1 <= value <= 1:
            self._refuse(line, f"{column} {text!r} is not a number from -1 to 1")
        return value

    def _number(self, text: str) -> float | None:
        """None for an empty cell, NaN for one that holds no number."""
        try:
            return float(text.replace(",", ".") if self.comma else text) if text else None
        except ValueError:
            return float("nan")

    def _refuse(self, line: int, why: str) -> NoReturn:
        raise TrainingError(f"manifest {self.path}, line {line}: {why}")


def _home(written: str) -> Path:
    """The path of a cell, ~ read as the home folder where that can be known."""
    try:
        return Path(written).expanduser()
    except RuntimeError:  # ~somebody
        return Path(written)
