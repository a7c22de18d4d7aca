"""TESS: two actresses, aged 64 and 26, `OAF_angry/OAF_back_angry.wav`: actress, word, emotion.

Folders `OAF_...` and `YAF_...`, whose spelling differs from copy to copy, so that the file name
alone is read; `ps` is pleasant surprise. One file of the corpus is called OA_bite_neutral.wav.

Pichora-Fuller & Dupuis 2020, doi 10.5683/SP2/E8H2MF; CC BY-NC-ND 4.0. Complete: 400 clips of each
of seven emotions, 2,800. A copy in wide use holds every clip twice; the second is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from training.corpora import Expected, Found, Utterance, audio_files, label_map
from training.errors import TrainingError

LICENCE = "CC BY-NC-ND 4.0"
CITATION = (
    "Pichora-Fuller & Dupuis 2020, Toronto emotional speech set (TESS), doi 10.5683/SP2/E8H2MF"
)
LAYOUT = "folders such as OAF_angry/ and YAF_sad/ with files such as OAF_back_angry.wav"
EXPECTED = Expected(
    "the corpus's description: 200 words by 2 actresses in 7 emotions",
    dict.fromkeys(("angry", "disgust", "fear", "happy", "neutral", "ps", "sad"), 400),
    speakers=2,
)
_NAME = re.compile(r"(OAF?|YAF)_(.+)_([A-Za-z]+)")


def load(folder: Path) -> Found:
    """Utterances of the clips under `folder`."""
    labels = label_map("tess")
    utterances, left_out, named = [], Counter[str](), set[str]()
    for path in audio_files(folder, "tess", LAYOUT):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            continue
        if path.stem in named:
            left_out["second copy"] += 1
            continue
        named.add(path.stem)
        actress, word, emotion = match.groups()
        emotion = emotion.lower()
        if emotion not in labels:
            left_out[emotion] += 1
            continue
        utterances.append(
            Utterance(
                path,
                labels[emotion],
                "tess-YAF" if actress == "YAF" else "tess-OAF",
                "tess",
                text=f"say the word {word.lower()}",
            )
        )
    if not named:
        raise TrainingError(f"tess: {folder} holds no TESS file; expected {LAYOUT}")
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED)
