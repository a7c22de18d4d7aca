"""Berlin EMO-DB: 10 speakers, `wav/03a01Fa.wav`: speaker, text code, emotion, version.

Burkhardt et al. 2005, "A database of German emotional speech"; free to use. Complete: 127
angry, 71 happy, 79 neutral and 62 sad clips of 10 speakers.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from training.corpora import Expected, Found, Utterance, audio_files, label_map
from training.errors import TrainingError

LICENCE = "free to use"
CITATION = "Burkhardt et al. 2005, A Database of German Emotional Speech, Interspeech"
LAYOUT = "a wav/ folder with files such as 03a01Fa.wav"
EXPECTED = Expected(
    "the published database of 535 clips",
    {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "T": 62, "N": 79},
    speakers=10,
)
_NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])[a-z]?")
# The ten sentences, by text code (from the corpus's documentation).
SENTENCES = {
    "a01": "der lappen liegt auf dem eisschrank",
    "a02": "das will sie am mittwoch abgeben",
    "a04": "heute abend könnte ich es ihm sagen",
    "a05": "das schwarze stück papier befindet sich da oben neben dem holzstück",
    "a07": "in sieben stunden wird es soweit sein",
    "b01": "was sind denn das für tüten die da unter dem tisch stehen",
    "b02": "sie haben es gerade hochgetragen und jetzt gehen sie wieder runter",
    "b03": "an den wochenenden bin ich jetzt immer nach hause gefahren und habe agnes besucht",
    "b09": "ich will das eben wegbringen und dann mit karl was trinken gehen",
    "b10": "die wird auf dem platz sein wo wir sie immer hinlegen",
}


def load(folder: Path) -> Found:
    """Utterances of the clips under `folder` (the corpus folder or its wav/)."""
    labels = label_map("emodb")
    utterances, left_out, named = [], Counter[str](), 0
    for path in audio_files(folder, "emodb", LAYOUT):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            continue
        named += 1
        speaker, text, emotion = match.groups()
        if emotion not in labels:
            left_out[emotion] += 1
            continue
        utterances.append(
            Utterance(
                path,
                labels[emotion],
                f"emodb-{speaker}",
                "emodb",
                text=SENTENCES.get(text, ""),
            )
        )
    if not named:
        raise TrainingError(f"emodb: {folder} holds no EMO-DB file; expected {LAYOUT}")
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED)
