"""SAVEE: four men, `AudioData/DC/a01.wav` or `DC_a01.wav`: speaker, emotion, number.

Emotions: a anger, d disgust, f fear, h happiness, n neutral, sa sadness, su surprise. The corpus
does not say in its file names which sentence is spoken.

Haq & Jackson 2010, "Multimodal Emotion Recognition"; free for research, on registration. Complete:
60 clips each of angry, happy and sad and 120 neutral (480 with the other three), of 4 speakers.
"""

from __future__ import annotations

import re
from pathlib import Path

from training.corpora import ClipName, Expected, Found, named_clips
from training.corpora.class_map import ClassMap

LICENCE = "free for research, on registration with the University of Surrey"
CITATION = "Haq & Jackson 2010, Multimodal Emotion Recognition, in Machine Audition, IGI Global"
SPEAKERS = ("DC", "JE", "JK", "KL")
LANGUAGES = ("en",)
LAYOUT = f"folders {', '.join(SPEAKERS)} with files such as a01.wav, or files such as DC_a01.wav"
EXPECTED = Expected(
    "the corpus's description: 15 clips of each of 6 emotions and 30 neutral by each of 4 men",
    {"a": 60, "d": 60, "f": 60, "h": 60, "n": 120, "sa": 60, "su": 60},
    speakers=4,
)
_NAME = re.compile(rf"(?:({'|'.join(SPEAKERS)})_)?(sa|su|[adfhn])\d\d")


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the clips under `folder`."""
    utterances, left_out = named_clips(folder, "savee", LAYOUT, classes, _read)
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED)


def _read(path: Path) -> ClipName | None:
    match = _NAME.fullmatch(path.stem)
    speaker = (match and match[1]) or path.parent.name
    return ClipName(speaker, match[2]) if match and speaker in SPEAKERS else None
