"""MSP-Podcast: `Labels/labels_consensus.csv` (or .json), `Audios/MSP-PODCAST_0001_0008.wav`.

Older releases call the file labels_concensus. Columns FileName, EmoClass (A anger, S sadness, H
happiness, U surprise, F fear, D disgust, C contempt, N neutral, O other, X no agreement), EmoAct,
EmoVal, EmoDom (arousal, valence and dominance, 1 to 7), SpkrID, Gender, Split_Set; the JSON has the
same by file name. Words, where the release brings them, in `Transcripts/MSP-PODCAST_0001_0008.txt`.
All turns whose speaker is not known count as one speaker: two of them might be the same person.

Lotfian & Busso 2019, doi 10.1109/TAFFC.2017.2736999; under the licence of UT Dallas. Its counts
grow with every release, so none is checked.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from training.corpora import Found, Utterance
from training.corpora.class_map import ClassMap
from training.corpora.tables import parse_table, read_text
from training.errors import TrainingError

LICENCE = "MSP-Podcast licence of the University of Texas at Dallas"
CITATION = "Lotfian & Busso 2019, MSP-Podcast, doi 10.1109/TAFFC.2017.2736999"
LANGUAGES = ("en",)
LAYOUT = "Labels/labels_consensus.csv (or .json) and Audios/ with MSP-PODCAST_*.wav"
_LABELS = tuple(f"labels_con{c}ensus.{form}" for form in ("csv", "json") for c in "sc")
_COLUMNS = ("FileName", "EmoClass", "SpkrID", "Split_Set")
_DIMENSIONS = ("EmoVal", "EmoAct")
_MIDDLE, _HALF = 4.0, 3.0  # of their scales, 1 to 7


def load(folder: Path, classes: ClassMap) -> Found:
    """Turns listed in the consensus labels of `folder`."""
    labels = classes.of("msppodcast")
    rows = _rows(_labels_file(folder))
    audio = next((a for a in (folder / "Audios", folder / "Audio") if a.is_dir()), None)
    if audio is None:
        raise TrainingError(f"msppodcast: {folder} has no Audios/; expected {LAYOUT}")
    present = {p.name for p in audio.iterdir()}
    if not present:
        raise TrainingError(f"msppodcast: {audio} is empty; expected {LAYOUT}")
    utterances, left_out, splits = [], Counter[str](), Counter[str]()
    for row in rows:
        name, emotion = row["FileName"], row["EmoClass"]
        splits[row["Split_Set"]] += 1
        if emotion not in labels:
            left_out[emotion] += 1
        elif name not in present:
            left_out["without audio"] += 1
        else:
            words = folder / "Transcripts" / f"{Path(name).stem}.txt"
            utterances.append(
                Utterance(
                    audio / name,
                    labels[emotion],
                    f"msppodcast-{row['SpkrID']}",
                    "msppodcast",
                    text=" ".join(read_text(words, "cp1252").split()) if words.exists() else "",
                    split=row["Split_Set"],
                    valence=_scaled(row, "EmoVal"),
                    arousal=_scaled(row, "EmoAct"),
                )
            )
    return Found(utterances, left_out, LICENCE, CITATION, rows=splits)


def _scaled(row: dict[str, str], column: str) -> float | None:
    """A mean of raters, 1 to 7, on the scale from -1 to 1; None where there is none."""
    try:
        mean = float(row[column]) if row[column] else None
    except ValueError:
        mean = float("nan")
    if mean is not None and not abs(mean - _MIDDLE) <= _HALF:
        raise TrainingError(
            f"msppodcast: {column} of {row['FileName']} is {row[column]!r}; expected 1 to 7"
        )
    return None if mean is None else (mean - _MIDDLE) / _HALF


def _labels_file(folder: Path) -> Path:
    for place in (folder / "Labels", folder):
        for name in _LABELS:
            if (place / name).exists():
                return place / name
    raise TrainingError(
        f"msppodcast: {folder} has no Labels/labels_consensus.csv; expected {LAYOUT}"
    )


def _rows(path: Path) -> list[dict[str, str]]:
    text = read_text(path, "cp1252")
    if path.suffix != ".json":
        table = parse_table(text, f"msppodcast: {path}", _COLUMNS, _DIMENSIONS)
        return [dict.fromkeys(_DIMENSIONS, "") | row.values for row in table.rows]
    try:
        rows = [{"FileName": name, **values} for name, values in json.loads(text).items()]
        return [
            {column: str(row[column]).strip() for column in _COLUMNS}
            | {column: str(row.get(column, "")).strip() for column in _DIMENSIONS}
            for row in rows
        ]
    except KeyError as error:
        raise TrainingError(f"msppodcast: {path} has no column {error}") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise TrainingError(f"msppodcast: {path} cannot be read: {error}") from None
