"""ESD: 20 speakers, `0011/Angry/0011_000351.wav`, words in `0011/0011.txt`.

Speakers 0001 to 0010 speak Mandarin, 0011 to 0020 English; name a folder that holds only the ones
wanted. Between emotion and file there may be a folder train, evaluation or test: the official
split. A line of the text file: `0011_000351<TAB>words<TAB>Angry`. Some lack the last field, and
files come in UTF-8, UTF-16, GB 18030 (Mandarin) and Windows-1252 (English); the class is that of
the folder.

Zhou et al. 2021, doi 10.1109/ICASSP39728.2021.9413391; for research, on a signed form. Complete:
350 sentences by 20 speakers in 5 emotions, 7,000 of each.
"""

from __future__ import annotations

import re
from pathlib import Path

from training.corpora import ClipName, Expected, Found, named_clips, read_text
from training.corpora.class_map import ClassMap

LICENCE = "ESD licence form (research only)"
CITATION = "Zhou et al. 2021, ESD, doi 10.1109/ICASSP39728.2021.9413391"
LANGUAGES = ("en", "zh")
LAYOUT = "folders 0001/ to 0020/ with Angry/, Happy/, ... and files such as 0011_000351.wav"
EXPECTED = Expected(
    "the corpus's description: 350 sentences by 20 speakers in 5 emotions",
    dict.fromkeys(("Angry", "Happy", "Neutral", "Sad", "Surprise"), 7000),
    speakers=20,
)
_NAME = re.compile(r"(00[012]\d)_\d{6}")
_LINE = re.compile(
    rf"^\s*(00[012]\d_\d{{6}})[ \t]+(.+?)(?:\t\s*\S+|\s({'|'.join(EXPECTED.labels)}))?\s*$",
    re.MULTILINE,
)
_SPLITS = ("train", "evaluation", "test")


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the clips under `folder`; the speaker's number is in the file name."""
    words: dict[Path, dict[str, str]] = {}
    utterances, left_out = named_clips(
        folder, "esd", LAYOUT, classes, lambda path: _read(path, words)
    )
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED)


def _read(path: Path, words: dict[Path, dict[str, str]]) -> ClipName | None:
    """What name and folders say of a clip; `words` keeps the transcripts that were read."""
    match = _NAME.fullmatch(path.stem)
    split = path.parent.name if path.parent.name in _SPLITS else ""
    emotion = path.parent.parent if split else path.parent
    if match is None or emotion.name not in EXPECTED.labels:
        return None
    transcript = emotion.parent / f"{match[1]}.txt"
    if transcript not in words:
        words[transcript] = _words(transcript)
    return ClipName(match[1], emotion.name, words[transcript].get(path.stem, ""), split)


def _words(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    # Windows-1252 apostrophes read as GB 18030 make Chinese characters: it depends on the speaker.
    encoding = "gb18030" if path.stem <= "0010" else "cp1252"
    return {match[1]: match[2].strip() for match in _LINE.finditer(read_text(path, encoding))}
