"""Berlin EMO-DB: 10 speakers, `wav/03a01Fa.wav`: speaker, text code, emotion, version.

Burkhardt et al. 2005, "A database of German emotional speech"; free to use, without a formal
licence. (audEERING's package of it, github.com/audeering/datasets, which names the corpus's own
authors, has CC0 1.0.) Complete: 127 angry, 71 happy, 79 neutral and 62 sad clips of 10 speakers.
"""

from __future__ import annotations

import re
from pathlib import Path

from training.corpora import ClipName, Expected, Found, named_clips
from training.corpora.class_map import ClassMap

LICENCE = "no formal licence; free to use"
CITATION = "Burkhardt et al. 2005, A Database of German Emotional Speech, Interspeech"
LANGUAGES = ("de",)
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


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the clips under `folder` (the corpus folder or its wav/)."""
    utterances, left_out = named_clips(folder, "emodb", LAYOUT, classes, _read)
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED)


def _read(path: Path) -> ClipName | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker, sentence, emotion = match.groups()
    return ClipName(speaker, emotion, SENTENCES.get(sentence, ""))
