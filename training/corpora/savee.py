"""SAVEE: four men, `AudioData/DC/a01.wav` or `DC_a01.wav`: speaker, emotion, number.

Emotions: a anger, d disgust, f fear, h happiness, n neutral, sa sadness, su surprise. The corpus
does not say in its file names which sentence is spoken.

Haq & Jackson 2010, "Multimodal Emotion Recognition"; free for research, on registration. Complete:
60 clips each of angry, happy and sad and 120 neutral (480 with the other three), of 4 speakers.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from training.corpora import Expected, Found, Utterance, audio_files, label_map
from training.errors import TrainingError

LICENCE = "free for research, on registration with the University of Surrey"
CITATION = "Haq & Jackson 2010, Multimodal Emotion Recognition, in Machine Audition, IGI Global"
SPEAKERS = ("DC", "JE", "JK", "KL")
LAYOUT = f"folders {', '.join(SPEAKERS)} with files such as a01.wav, or files such as DC_a01.wav"
EXPECTED = Expected(
    "the corpus's description: 15 clips of each of 6 emotions and 30 neutral by each of 4 men",
    {"a": 60, "d": 60, "f": 60, "h": 60, "n": 120, "sa": 60, "su": 60},
    speakers=4,
)
_NAME = re.compile(rf"(?:({'|'.join(SPEAKERS)})_)?(sa|su|[adfhn])\d\d")


def load(folder: Path) -> Found:
    """Utterances of the clips under `folder`."""
    labels = label_map("savee")
    utterances, left_out, named = [], Counter[str](), 0
    for path in audio_files(folder, "savee", LAYOUT):
        match = _NAME.fullmatch(path.stem)
        speaker = (match and match[1]) or path.parent.name
        if match is None or speaker not in SPEAKERS:
            continue
        named += 1
        if match[2] not in labels:
            left_out[match[2]] += 1
            continue
        utterances.append(Utterance(path, labels[match[2]], f"savee-{speaker}", "savee"))
    if not named:
        raise TrainingError(f"savee: {folder} holds no SAVEE file; expected {LAYOUT}")
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED)
