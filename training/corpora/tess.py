"""TESS: two actresses, aged 64 and 26, `OAF_angry/OAF_back_angry.wav`: actress, word, emotion.

Folders `OAF_...` and `YAF_...`, whose spelling differs from copy to copy, so that the file name
alone is read; `ps` is pleasant surprise. One file of the corpus is called OA_bite_neutral.wav.

Pichora-Fuller & Dupuis 2020, doi 10.5683/SP2/E8H2MF; CC BY-NC-ND 4.0. Complete: 400 clips of each
of seven emotions, 2,800. A copy in wide use holds every clip twice; the second is left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from training.corpora import ClipName, Expected, Found, named_clips
from training.corpora.class_map import ClassMap

LICENCE = "CC BY-NC-ND 4.0"
CITATION = (
    "Pichora-Fuller & Dupuis 2020, Toronto emotional speech set (TESS), doi 10.5683/SP2/E8H2MF"
)
LANGUAGES = ("en",)
LAYOUT = "folders such as OAF_angry/ and YAF_sad/ with files such as OAF_back_angry.wav"
EXPECTED = Expected(
    "the corpus's description: 200 words by 2 actresses in 7 emotions",
    dict.fromkeys(("angry", "disgust", "fear", "happy", "neutral", "ps", "sad"), 400),
    speakers=2,
)
_NAME = re.compile(r"(OAF?|YAF)_(.+)_([A-Za-z]+)")


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the clips under `folder`."""
    utterances, left_out = named_clips(folder, "tess", LAYOUT, classes, _read)
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED)


def _read(path: Path) -> ClipName | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    actress, word, emotion = match.groups()
    speaker = "YAF" if actress == "YAF" else "OAF"
    return ClipName(speaker, emotion.lower(), f"say the word {word.lower()}")
