"""CREMA-D: 91 actors, `AudioWAV/1001_DFA_ANG_XX.wav`: actor, sentence, emotion, level.

Cao et al. 2014, doi 10.1109/TAFFC.2014.2336244; Open Database License. Complete: 1,271 clips each
of angry, happy and sad and 1,087 neutral (7,442 with disgust and fear). A checkout without git-lfs
has pointers in place of audio: every clip then counts as unreadable.
"""

from __future__ import annotations

import re
from pathlib import Path

from training.corpora import ClipName, Expected, Found, named_clips
from training.corpora.class_map import ClassMap

LICENCE = "Open Database License 1.0"
CITATION = "Cao et al. 2014, CREMA-D, doi 10.1109/TAFFC.2014.2336244"
LANGUAGES = ("en",)
LAYOUT = "an AudioWAV/ folder with files such as 1001_DFA_ANG_XX.wav"
EXPECTED = Expected(
    "the corpus's description: 7,442 clips of 91 actors",
    {"ANG": 1271, "DIS": 1271, "FEA": 1271, "HAP": 1271, "NEU": 1087, "SAD": 1271},
    speakers=91,
)
# The twelve sentences, by code (from the corpus's documentation).
SENTENCES = {
    "IEO": "it's eleven o'clock",
    "TIE": "that is exactly what happened",
    "IOM": "i'm on my way to the meeting",
    "IWW": "i wonder what this is about",
    "TAI": "the airplane is almost full",
    "MTI": "maybe tomorrow it will be cold",
    "IWL": "i would like a new alarm clock",
    "ITH": "i think i have a doctor's appointment",
    "DFA": "don't forget a jacket",
    "ITS": "i think i've seen this before",
    "TSI": "the surface is slick",
    "WSI": "we'll stop in a couple of minutes",
}
_NAME = re.compile(r"(1\d{3})_([A-Z]{3})_([A-Z]{3})_[A-Z]{1,2}")


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the clips under `folder` (the corpus folder or its AudioWAV/)."""
    utterances, left_out = named_clips(folder, "cremad", LAYOUT, classes, _read)
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED)


def _read(path: Path) -> ClipName | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    actor, sentence, emotion = match.groups()
    return ClipName(actor, emotion, SENTENCES.get(sentence, ""))
