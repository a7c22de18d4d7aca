"""MELD: dialogue of *Friends*, tables `train_sent_emo.csv`, `dev_...`, `test_...`, and clips.

Columns Sr No., Utterance, Speaker, Emotion, Sentiment, Dialogue_ID, Utterance_ID, Season, Episode,
StartTime, EndTime. The clips are `train_splits/dia0_utt0.mp4`, `dev_splits_complete/...` and
`output_repeated_splits_test/...` (files there named final_videos_test... are in no table).
libsndfile cannot decode MP4: extract audio beside it (`ffmpeg -i dia0_utt0.mp4 dia0_utt0.wav`). An
utterance whose .wav or .flac is not there is text only. Any of the three tables may be missing.

The tables have been published in UTF-8, in Windows-1252, and in UTF-8 with Windows-1252 control
codes for dashes and apostrophes: all are read alike.

Poria et al. 2019, arXiv 1810.02508; GPL-3.0. Complete: 9,989 rows to train, 1,109 to develop,
2,610 to test; 1,607 angry, 2,308 happy (joy), 6,436 neutral, 1,002 sad. Some published clips are
damaged or cut at the wrong place (issues 20, 22 and 39 of declare-lab/MELD).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from training.corpora import AUDIO_SUFFIXES, Expected, Found, Utterance
from training.corpora.class_map import ClassMap
from training.corpora.copies import files_under
from training.corpora.tables import parse_table, read_text
from training.errors import TrainingError

LICENCE = "GPL-3.0"
CITATION = "Poria et al. 2019, MELD, arXiv 1810.02508"
LANGUAGES = ("en",)
LAYOUT = "train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv, and clips in train_splits/, ..."
EXPECTED = Expected(
    "statistics and distribution tables of declare-lab/MELD, its three splits together",
    {
        "anger": 1109 + 153 + 345,
        "disgust": 271 + 22 + 68,
        "fear": 268 + 40 + 50,
        "joy": 1743 + 163 + 402,
        "neutral": 4710 + 470 + 1256,
        "sadness": 683 + 111 + 208,
        "surprise": 1205 + 150 + 281,
    },
    rows={"train": 9989, "dev": 1109, "test": 2610},
)
CLIP_FOLDERS = {
    "train": ("train_splits", "train"),
    "dev": ("dev_splits_complete", "dev_splits", "dev"),
    "test": ("output_repeated_splits_test", "test_splits", "test"),
}
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
_CLIP = re.compile(r"dia.*_utt.*\.(?:mp4|wav|flac)", re.IGNORECASE)
_CONTROL_CODES = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the tables anywhere under `folder`, with their clips where present."""
    labels = classes.of("meld")
    tables = {split: _table(folder, split) for split in CLIP_FOLDERS}
    if not any(tables.values()):
        raise TrainingError(f"meld: {folder} has no train_sent_emo.csv; expected {LAYOUT}")
    clips = _clips(folder)
    utterances, left_out, rows = [], Counter[str](), Counter[str]()
    undecodable = 0
    for split, table in tables.items():
        for row in _rows(table) if table else []:
            rows[split] += 1
            if row["Emotion"] not in labels:
                left_out[row["Emotion"]] += 1
                continue
            clip = clips.get((split, f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"))
            if clip is not None and clip.suffix.lower() not in AUDIO_SUFFIXES:
                undecodable += 1
                clip = None
            utterances.append(
                Utterance(
                    clip,
                    labels[row["Emotion"]],
                    f"meld-{row['Speaker']}",
                    "meld",
                    text=row["Utterance"],
                    split=split,
                )
            )
    note = f"{undecodable} clips are there as .mp4 only and count as text; extract .wav beside them"
    notes = (note,) if undecodable else ()
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED, rows, notes)


def _table(folder: Path, split: str) -> Path | None:
    """The outermost table of a split: releases nest it."""
    found = (p for p in files_under(folder) if p.name == f"{split}_sent_emo.csv")
    return min(found, key=lambda p: (len(p.parts), p), default=None)


def _rows(path: Path) -> list[dict[str, str]]:
    text = read_text(path, "cp1252").translate(_CONTROL_CODES)
    table = parse_table(text, f"meld: {path}", _COLUMNS)
    return [
        {column: " ".join(row.values[column].split()) for column in _COLUMNS} for row in table.rows
    ]


def _clips(folder: Path) -> dict[tuple[str, str], Path]:
    """Split and name to the clip, in a form that can be decoded where there is one."""
    result: dict[tuple[str, str], Path] = {}
    for path in sorted(p for p in files_under(folder) if _CLIP.fullmatch(p.name)):
        suffix = path.suffix.lower()
        folders = path.relative_to(folder).parts[:-1]
        for split, names in CLIP_FOLDERS.items():
            if set(names) & set(folders) and (suffix != ".mp4" or (split, path.stem) not in result):
                result[split, path.stem] = path
    return result
