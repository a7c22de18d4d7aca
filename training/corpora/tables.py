"""Tables of text with a header, as people and spreadsheets write them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.errors import TrainingError

DELIMITERS = (",", ";", "\t", "|")
_LINE_END = re.compile(r"\r\n|\n|\r")  # as csv counts lines: splitlines knows more
_SPREADSHEET = re.compile(r"sep=.\s*")  # what Excel reads a delimiter from


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    line: int
    """Line of the file in which it begins, from 1."""
    values: dict[str, str]
    """Its cells by column, without spaces around; a cell that is not there is empty."""


@dataclass(frozen=True)
class TextTable:
    """What `read_table` read."""

    columns: list[str]
    """Of the header, in its order; those asked for as they were asked for."""
    rows: list[Row]
    delimiter: str
    """Between cells; where it is no comma, numbers may have a comma for a point."""


def spelling(word: str) -> str:
    """A word without case and spaces: words that are alike in this are meant to be one."""
    return "".join(word.casefold().split())


def read_table(
    path: Path, what: str, required: Sequence[str], more: Sequence[str] = ()
) -> TextTable:
    """The rows of a table that has the columns `required`, and perhaps `more` and others.

    Text is UTF-8, UTF-16 or, failing both, Windows-1252 or Latin-1; cells are separated by commas,
    semicolons, tabs or bars. Names of columns may be in any case. Empty rows, and those that begin
    with #, are left out.

    Raises TrainingError, which begins with `what` and the path and names the line, for a file that
    is no text, has no such header, a column twice, a row with more cells than the header, or a
    quote that does not end.
    """
    try:
        text = read_text(path, "cp1252", "latin-1")
    except OSError as error:
        raise TrainingError(f"{what} {path} cannot be read: {error.strerror}") from None
    return parse_table(text, f"{what} {path}", required, more)


def parse_table(
    text: str, name: str, required: Sequence[str], more: Sequence[str] = ()
) -> TextTable:
    """`read_table` of what is read already; errors begin with `name`."""
    if "\0" in text:
        raise TrainingError(f"{name} is not a text file; save a spreadsheet as CSV, UTF-8")
    spellings = {column.casefold(): column for column in (*required, *more)}
    delimiter, header, line = _header(text, spellings, required)
    missing = [column for column in required if column not in header]
    if missing:
        raise TrainingError(
            f"{name}: no column {' or '.join(missing)}; the header must name "
            f"{','.join((*required, *more))}"
            + (f" (the first {len(required)} are required)" if more else "")
            + f", found {','.join(header)[:200] or 'nothing'}"
        )
    twice = [column for column in spellings.values() if header.count(column) > 1]
    if twice:
        raise TrainingError(f"{name}: the header names {' and '.join(twice)} more than once")
    rows = []
    for number, cells in _rows(text, delimiter, name):
        if number <= line:
            continue
        if any(cells[len(header) :]):
            raise TrainingError(
                f"{name}, line {number}: {len(cells)} cells, but the header names {len(header)}; "
                f"put a cell that holds {_named(delimiter)} in double quotes"
            )
        cells += [""] * (len(header) - len(cells))
        rows.append(Row(number, dict(zip(header, cells, strict=False))))
    return TextTable(header, rows, delimiter)


def read_text(path: Path, *fallbacks: str) -> str:
    """The text of a file in UTF-8 or UTF-16, else in the first of `fallbacks` that fits it."""
    content = path.read_bytes()
    encodings = ["utf-8-sig", *fallbacks]
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings[0] = "utf-16"
    elif content[1:2] == b"\0":
        encodings[0] = "utf-16-le"  # with no mark
    elif content[:1] == b"\0":
        encodings[0] = "utf-16-be"
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise TrainingError(f"{path} is no text in {', '.join(encodings)}")


def _header(
    text: str, spellings: dict[str, str], required: Sequence[str]
) -> tuple[str, list[str], int]:
    """The delimiter with which the header names the most of what is required, the header, its line.

    Where that is a draw, the delimiter that makes the most columns.
    """
    number, line = next(
        (
            (number, line)
            for number, line in enumerate(_LINE_END.split(text), 1)
            if line.strip(" \t,;|") and not line.lstrip().startswith("#")
            if not _SPREADSHEET.fullmatch(line)
        ),
        (0, ""),
    )
    best: tuple[int, int] = (-1, -1)
    chosen, header = ",", list[str]()
    for delimiter in DELIMITERS:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        cells = [spellings.get(cell.strip().casefold(), cell.strip()) for cell in cells]
        found = sum(column in cells for column in required), len(cells)
        if found > best:
            best, chosen, header = found, delimiter, cells
    while header and not header[-1]:
        header.pop()
    return chosen, header, number


def _rows(text: str, delimiter: str, name: str) -> list[tuple[int, list[str]]]:
    """Rows that are neither empty nor comments, with the lines in which they begin."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    result, line = [], 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped) and not stripped[0].startswith("#"):
                result.append((line, stripped))
            line = reader.line_num + 1
    except csv.Error as error:
        raise TrainingError(
            f"{name}, line {line}: {error}; a quote that opens a cell must close it, and one "
            'inside is written ""'
        ) from None
    return result


def _named(delimiter: str) -> str:
    return {"\t": "a tab", ",": "a comma", ";": "a semicolon"}.get(delimiter, delimiter)
