"""Phrases of the user's own, with the classes they speak for: a CSV, read and refused line by line.

    phrase,class,pronunciation
    reboot the zorblax,stressed,zorblax=Z AO R B L AE K S
    take it easy,calm|tired

A header, then a phrase a line, separated by commas, semicolons or tabs. Several classes are a|b, or
lines of their own; pronunciations are for words whose reading the user knows better. Blank lines,
and lines that begin with #, are passed over.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.text.phrases import named_values
from edge_runtime.tokenizer import words
from training.errors import TrainingError

_COLUMNS = ("phrase", "class", "pronunciation")
_DELIMITERS = ",;\t"
_MARKS = " '-.,;!?:\u2019\u2018"  # that a phrase may hold beside its letters; they are not spoken
_LONGEST_WORDS = 12


@dataclass
class OwnPhrase:
    """A phrase and what it speaks for."""

    text: str
    """Lower-case words with single spaces."""
    place: str
    """FILE:LINE, for errors."""
    written: str
    """As it stands there."""
    classes: list[str]
    """What it speaks for, each once."""
    pronunciations: dict[str, str] = field(default_factory=dict)
    """ARPAbet phones that the user gave, by word."""


def read_phrases(path: Path, labels: Collection[str] = ()) -> list[OwnPhrase]:
    """The phrases of a file, in its order.

    Parameters
    ----------
    labels : classes that there are; empty where any will do.

    Raises TrainingError, naming file and line, for what cannot be meant.
    """
    try:
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"phrases {path} cannot be read: {error}") from None
    rows = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip(_DELIMITERS + " ") and not line.lstrip().startswith("#")
    ]
    if len(rows) < 2:
        raise TrainingError(
            f"phrases {path} lists none; expected the header phrase,class and a phrase a line"
        )
    delimiter, columns = _header(path, *rows[0])
    found: dict[str, OwnPhrase] = {}
    for number, line in rows[1:]:
        try:
            cells = next(
                csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True)
            )
            _add(found, f"{path}:{number}", _cells(cells, columns), labels)
        except (ValueError, csv.Error) as error:
            raise TrainingError(f"{path}:{number}: {error}") from None
    return list(found.values())


def _header(path: Path, number: int, line: str) -> tuple[str, list[str]]:
    """The separator, and the names of the columns."""
    delimiter = next((d for d in _DELIMITERS if d in line), ",")
    names = [name.strip().strip('"').lower() for name in line.split(delimiter)]
    if "phrase" not in names or "class" not in names or set(names) - set(_COLUMNS):
        raise TrainingError(
            f"{path}:{number}: {line.strip()!r} is no header; expected phrase,class or "
            f"{','.join(_COLUMNS)}"
        )
    return delimiter, names


def _cells(cells: list[str], columns: list[str]) -> dict[str, str]:
    """What stands in each column."""
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise ValueError(
            f"{len(cells)} columns where the header has {len(columns)}; a phrase with a comma "
            "stands in quotes"
        )
    return dict(zip(columns, (cell.strip() for cell in cells), strict=False))


def _add(
    found: dict[str, OwnPhrase], place: str, row: dict[str, str], labels: Collection[str]
) -> None:
    """One row more; ValueError for one that cannot be meant."""
    written = " ".join(row.get("phrase", "").split())
    text = " ".join(_spoken(written))
    classes = [name.strip() for name in row.get("class", "").split("|") if name.strip()]
    if not classes:
        raise ValueError(f"{written!r} has no class")
    unknown = [name for name in classes if labels and name not in labels]
    if unknown:
        raise ValueError(f"there is no class {unknown[0]!r}; there is {', '.join(labels)}")
    given = _pronunciations(row.get("pronunciation", ""), text)
    before = found.setdefault(text, OwnPhrase(text, place, written, []))
    if before.written != written:
        raise ValueError(
            f"{written!r} is the phrase {before.written!r} of {before.place}, written otherwise"
        )
    for name in classes:
        if name in before.classes:
            raise ValueError(f"{written!r} is there twice for the class {name!r}")
        before.classes.append(name)
    before.pronunciations |= given


def _spoken(written: str) -> list[str]:
    """The words of a phrase; ValueError for one that cannot be spoken as it is written."""
    said = words(written)
    if not said:
        raise ValueError(f"the phrase {written!r} has no word" if written else "there is no phrase")
    foreign = [c for c in written if not (c.isalpha() or c in _MARKS)]
    if foreign:
        why = "write numbers in words" if foreign[0].isnumeric() else "write it in letters"
        raise ValueError(f"{written!r} has {foreign[0]!r}, which is not spoken: {why}")
    if len(said) > _LONGEST_WORDS:
        raise ValueError(f"{written!r} has more than {_LONGEST_WORDS} words")
    return said


def _pronunciations(cell: str, text: str) -> dict[str, str]:
    given = {word.lower(): phones for word, phones in named_values(cell.split("/"))}
    for word, phones in given.items():
        if word not in text.split():
            raise ValueError(f"a pronunciation of {word!r}, which is not in {text!r}")
        if not re.fullmatch(r"\S+( \S+)*", phones):
            raise ValueError(f"{phones!r} is no pronunciation: phones with single spaces")
    return given
