"""GoEmotions, text only: Reddit comments, `train.tsv`, `dev.tsv`, `test.tsv`, `labels.txt`.

A row is text TAB label numbers, comma-separated, TAB comment id; label numbers count the lines of
labels.txt from 0. A comment may have several labels. It is kept where those that the map
of classes names mean one (joy and love; anger and curiosity), and left out where they mean several
(joy and sadness) or none. Authors are not published.

Demszky et al. 2020, arXiv 2005.00547; Apache-2.0. Complete: 43,410 rows to train, 5,426 to develop,
5,427 to test.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from training.corpora import Expected, Found, Utterance, read_text
from training.corpora.class_map import ClassMap
from training.errors import TrainingError

LICENCE = "Apache-2.0"
CITATION = "Demszky et al. 2020, GoEmotions, arXiv 2005.00547"
LANGUAGES = ("en",)
LAYOUT = "labels.txt and train.tsv, dev.tsv, test.tsv"
EXPECTED = Expected(
    "README of google-research/goemotions",
    rows={"train": 43_410, "dev": 5_426, "test": 5_427},
)


def load(folder: Path, classes: ClassMap) -> Found:
    """Comments of the tables in `folder`; any of the three tables may be missing."""
    labels = classes.of("goemotions")
    names_file = folder / "labels.txt"
    if not names_file.is_file():
        raise TrainingError(f"goemotions: {folder} has no labels.txt; expected {LAYOUT}")
    names = read_text(names_file).split()
    utterances, left_out, rows = [], Counter[str](), Counter[str]()
    several_labels = 0
    for split in EXPECTED.rows:
        path = folder / f"{split}.tsv"
        for number, line in enumerate(_lines(path), 1):
            text, own = _fields(line, path, number, names)
            rows[split] += 1
            found = {labels[name] for name in own if name in labels}
            if len(found) == 1:
                several_labels += len(own) > 1
                utterances.append(
                    Utterance(None, found.pop(), None, "goemotions", text=text, split=split)
                )
            elif found:
                left_out["several classes"] += 1
            else:
                left_out[own[0] if len(own) == 1 else "several labels"] += 1
    if not rows:
        raise TrainingError(f"goemotions: {folder} has no train.tsv; expected {LAYOUT}")
    notes = (
        f"{several_labels} comments with several labels are kept, as those that have a class mean "
        f"one; {left_out['several classes']} that mean several classes are left out",
    )
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED, rows, notes)


def _lines(path: Path) -> list[str]:
    """Lines as they were written: comments hold characters that `splitlines` would break at."""
    if not path.is_file():
        return []
    return [line for line in read_text(path).replace("\r\n", "\n").split("\n") if line]


def _fields(line: str, path: Path, number: int, names: list[str]) -> tuple[str, list[str]]:
    try:
        text, own, _ = line.split("\t")
        labels = [names[int(index)] for index in own.split(",")]
    except (ValueError, IndexError):
        raise TrainingError(
            f"goemotions: {path}, line {number}: expected text, label numbers below {len(names)} "
            "and comment id, separated by tabs"
        ) from None
    return text.strip(), labels
