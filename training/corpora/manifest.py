"""Any corpus as a CSV with header: path,label,speaker,session,text,split,start,end.

Only path and label are required, and path may be empty in a row with text; start and end in seconds
cut a segment; relative paths are relative to the CSV.
"""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from training.corpora import Found, Utterance
from training.errors import TrainingError

COLUMNS = ("path", "label", "speaker", "session", "text", "split", "start", "end")
_REQUIRED = ("path", "label")  # in the header; a row may have text in place of a path


def load(path: Path) -> Found:
    """Utterances of the CSV at `path`. A row without a speaker counts as a speaker of its own.

    Raises TrainingError, naming the line, for a missing column or value and a time that is no
    number or runs backwards.
    """
    if not path.exists():
        raise TrainingError(f"there is no manifest {path}")
    if path.is_dir():
        raise TrainingError(f"manifest: {path} is a folder; expected a CSV file")
    utterances = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [c for c in _REQUIRED if c not in (reader.fieldnames or [])]
            if missing:
                raise TrainingError(
                    f"manifest {path}: no column {' or '.join(missing)}; "
                    f"the header must name {','.join(COLUMNS)} (the first two are required)"
                )
            for row in reader:
                utterances.append(_utterance(row, path, reader.line_num))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"manifest {path} is not a UTF-8 CSV file: {error}") from None
    if not utterances:
        raise TrainingError(f"manifest {path} lists no clip")
    return Found(utterances, Counter())


def write(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest that `load` reads back, with absolute audio paths.

    A row of text only has an empty path.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for utterance in utterances:
            row = dataclasses.asdict(utterance)
            row["path"] = "" if utterance.path is None else utterance.path.resolve()
            row["end"] = "" if utterance.end is None else utterance.end
            writer.writerow({column: row[column] for column in COLUMNS})


def _utterance(row: dict[str, str], path: Path, line: int) -> Utterance:
    values = {key: (row.get(key) or "").strip() for key in COLUMNS}
    if not values["label"]:
        raise TrainingError(f"manifest {path}, line {line}: label is empty")
    if not values["path"] and not values["text"]:
        raise TrainingError(f"manifest {path}, line {line}: path is empty, and so is text")
    start = _seconds(values["start"], path, line) or 0.0
    end = _seconds(values["end"], path, line)
    if end is not None and end <= start:
        raise TrainingError(f"manifest {path}, line {line}: end {end} is not after start {start}")
    return Utterance(
        path=path.parent / values["path"] if values["path"] else None,
        label=values["label"],
        speaker=values["speaker"] or f"{path.stem}-line-{line}",
        corpus="manifest",
        session=values["session"],
        text=values["text"],
        split=values["split"],
        start=start,
        end=end,
    )


def _seconds(text: str, path: Path, line: int) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise TrainingError(f"manifest {path}, line {line}: {text!r} is not a time in seconds")
    return value
