"""nEMO: nine Polish actors, `samples/SPEAKER_emotion_SENTENCE.wav` and `data.tsv`.

The table names every clip with its emotion, words and speaker, whose column is padded with blanks;
of a copy without it the file names say all but the words.

Christop 2024, arXiv 2404.06292; CC BY-NC-SA 4.0. Complete: 749 angry, 749 happy, 809 neutral and
769 sad clips of 9 actors (4,481 with 736 of fear and 669 of surprise).
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from training.corpora import ClipName, Expected, Found, named_clips, read_text
from training.corpora.class_map import ClassMap
from training.errors import TrainingError

LICENCE = "CC BY-NC-SA 4.0"
CITATION = "Christop 2024, nEMO: Dataset of Emotional Speech in Polish, arXiv 2404.06292"
LANGUAGES = ("pl",)
LAYOUT = "data.tsv and a samples/ folder with files such as EB0_anger_1.wav"
EXPECTED = Expected(
    "the corpus's description: 4,481 clips of 9 actors",
    {
        "anger": 749,
        "fear": 736,
        "happiness": 749,
        "neutral": 809,
        "sadness": 769,
        "surprised": 669,
    },
    speakers=9,
)
TABLE = "data.tsv"
_COLUMNS = ("file_id", "emotion", "raw_text")
_NAME = re.compile(r"([A-Z]{2}\d)_([a-z]+)_\d+")


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the clips under `folder`; the speaker is in the file name.

    Raises TrainingError for a table without its columns, or that gives a clip another emotion than
    its name does.
    """
    tables = sorted(folder.rglob(TABLE)) if folder.is_dir() else []
    words = _words(tables[0]) if tables else {}

    def read(path: Path) -> ClipName | None:
        match = _NAME.fullmatch(path.stem)
        return ClipName(match[1], match[2], words.get(path.stem, "")) if match else None

    utterances, left_out = named_clips(folder, "nemo", LAYOUT, classes, read)
    notes = [] if tables else [f"there is no {TABLE}: the words are not known"]
    silent = sum(not u.text for u in utterances)
    if tables and silent:
        notes.append(f"{silent} clips are not in {TABLE}: their words are not known")
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED, notes=tuple(notes))


def _words(table: Path) -> dict[str, str]:
    """What is said in each clip, by the stem of its name."""
    # Texts have quotation marks of their own that close nothing.
    reader = csv.DictReader(
        read_text(table).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE, restval=""
    )
    missing = [c for c in _COLUMNS if c not in (reader.fieldnames or [])]
    if missing:
        raise TrainingError(
            f"nemo: {table} has no column {' or '.join(missing)}; the corpus's own begins with "
            f"{', '.join(_COLUMNS)}"
        )
    words = {}
    for row in reader:
        stem = row["file_id"].strip().rpartition(".")[0]
        match = _NAME.fullmatch(stem)
        if match is None or match[2] != row["emotion"].strip():
            raise TrainingError(
                f"nemo: {table}, line {reader.line_num}: emotion {row['emotion']!r} is not that of "
                f"{row['file_id']!r}; fetch the table again"
            )
        words[stem] = row["raw_text"].strip()
    return words
