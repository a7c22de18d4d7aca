"""emotiontts_open_db, emotional part: 15 Korean speakers, `ema/wav/ema00001.wav`, words beside it.

The emotion is in the number: 1 to 100 neutral, 101 to 200 happy, 201 to 300 angry, 301 to 400 sad.
em. speakers read a plain script with emotion, ne. speakers one written for it. What is public is
the first 5 of each hundred; who signs for it gets them all. Words are those of
`ema/transcript/ema00001.txt`, else of `script/`, in UTF-8.

Selvas AI and KAIST 2020, funded by MOTIE (No. 10080667); for research, not for commerce. Complete:
1,500 clips of each of the four classes, or 75 of what is public, by 15 speakers.
"""

from __future__ import annotations

import re
from pathlib import Path

from training.corpora import ClipName, Expected, Found, named_clips, read_text
from training.corpora.class_map import ClassMap

LICENCE = "CC BY-NC-SA 4.0, for research only"
CITATION = (
    "emotiontts_open_db, Ministry of Trade, Industry & Energy (MOTIE, Korea), Industrial "
    "Technology Innovation Program No. 10080667"
)
LANGUAGES = ("ko",)
LAYOUT = "a folder a speaker, such as ema/, with files such as wav/ema00001.wav"
HUNDREDS = ("1-100", "101-200", "201-300", "301-400")
WHOLE = Expected(
    "the corpus's description: 100 sentences of each class by 15 speakers",
    dict.fromkeys(HUNDREDS, 1500),
    speakers=15,
)
PUBLIC = Expected(
    "the public 5 %: 5 sentences of each class by 15 speakers",
    dict.fromkeys(HUNDREDS, 75),
    speakers=15,
)
_PUBLIC_OF_HUNDRED = 5
_NAME = re.compile(r"((?:em|ne)[a-z])(\d{5})")


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the clips under `folder`; the speaker is the first letters of the file name."""
    utterances, left_out = named_clips(folder, "koemo", LAYOUT, classes, _read)
    beyond = any((int(u.audio.stem[3:]) - 1) % 100 >= _PUBLIC_OF_HUNDRED for u in utterances)
    return Found(utterances, left_out, LICENCE, CITATION, WHOLE if beyond else PUBLIC)


def _read(path: Path) -> ClipName | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    number = int(match[2])
    hundred = (number - 1) // 100
    known = number > 0 and hundred < len(HUNDREDS)
    emotion = HUNDREDS[hundred] if known else "number beyond 400"
    return ClipName(match[1], emotion, _words(path))


def _words(path: Path) -> str:
    for folder in ("transcript", "script"):
        text = path.parent.parent / folder / f"{path.stem}.txt"
        if text.is_file():
            return " ".join(read_text(text, "cp949").split())
    return ""
