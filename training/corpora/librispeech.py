"""LibriSpeech: read English without emotion labels, `train-clean-100/19/198/19-198-0000.flac`.

Its utterances have no class: they are `Found.ordinary`, which nothing that trains classes takes. A
line of `19-198.trans.txt` beside the clips: `19-198-0000 WORDS`. Any part of the corpus will do;
the folders of speakers may stand alone, without the part's and the chapter's.

Panayotov et al. 2015, doi 10.1109/ICASSP.2015.7178964; CC BY 4.0.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from training.corpora import Expected, Found, Utterance, audio_files, read_text
from training.corpora.class_map import ClassMap
from training.errors import TrainingError

LICENCE = "CC BY 4.0"
CITATION = "Panayotov et al. 2015, LibriSpeech, doi 10.1109/ICASSP.2015.7178964"
LANGUAGES = ("en",)
LAYOUT = "folders SPEAKER/CHAPTER/ with files such as 19-198-0000.flac"
# Utterances of each part, as published.
PARTS = {
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
    "train-clean-100": 28_539,
    "train-clean-360": 104_014,
    "train-other-500": 148_688,
}
_NAME = re.compile(r"(\d+)-(\d+)-\d{4}")


def load(folder: Path, classes: ClassMap) -> Found:
    """Ordinary utterances under `folder`; the split is the part, where the path names it."""
    ordinary, rows = [], Counter[str]()
    words: dict[Path, dict[str, str]] = {}
    for path in audio_files(folder, "librispeech", LAYOUT):
        match = _NAME.fullmatch(path.stem)
        if match is None or match[1] not in path.parts:
            continue
        split = next((part for part in path.parts if part in PARTS), "")
        transcript = path.parent / f"{match[1]}-{match[2]}.trans.txt"
        if transcript not in words:
            words[transcript] = _words(transcript)
        ordinary.append(
            Utterance(
                path,
                "",
                f"librispeech-{match[1]}",
                "librispeech",
                text=words[transcript].get(path.stem, ""),
                split=split,
            )
        )
        rows[split] += 1
    if not ordinary:
        raise TrainingError(f"librispeech: {folder} holds no file of it; expected {LAYOUT}")
    rows.pop("", None)
    expected = Expected("the corpus's description", rows={part: PARTS[part] for part in rows})
    return Found(
        [], Counter(), LICENCE, CITATION, expected if rows else None, rows, ordinary=ordinary
    )


def _words(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = (line.partition(" ") for line in read_text(path).splitlines())
    return {name: text.strip().lower() for name, _, text in lines if name}
