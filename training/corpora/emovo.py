"""EMOVO: six Italian actors, `f1/rab-f1-b1.wav`: emotion, actor, sentence; 48 kHz, stereo.

The two channels are one recording and are averaged as it is read. Emotions: neu neutral, gio joy,
rab anger, tri sadness, pau fear, dis disgust, sor surprise. Sentences n are nonsense.

Costantini et al. 2014, LREC; free for research. Complete: 14 sentences by 6 actors in 7 states, 84
clips each of angry, happy, neutral and sad (588 with the other three).
"""

from __future__ import annotations

import re
from pathlib import Path

from training.corpora import ClipName, Expected, Found, named_clips
from training.corpora.class_map import ClassMap

LICENCE = "free for research"
CITATION = "Costantini et al. 2014, EMOVO Corpus: an Italian Emotional Speech Database, LREC"
LANGUAGES = ("it",)
LAYOUT = "folders f1/ to f3/ and m1/ to m3/ with files such as rab-f1-b1.wav"
EXPECTED = Expected(
    "the corpus's description: 14 sentences by 6 actors in 7 states",
    dict.fromkeys(("dis", "gio", "neu", "pau", "rab", "sor", "tri"), 84),
    speakers=6,
)
# The fourteen sentences, by code (from the corpus's documentation).
SENTENCES = {
    "b1": "gli operai si alzano presto",
    "b2": "i vigili sono muniti di pistola",
    "b3": "la cascata fa molto rumore",
    "l1": "l'autunno prossimo tony partirà per la spagna nella prima metà di ottobre",
    "l2": "ora prendo la felpa di là ed esco per fare una passeggiata",
    "l3": "un attimo dopo s'è incamminato ed è inciampato",
    "l4": "vorrei il numero telefonico del signor piatti",
    "n1": "la casa forte vuole col pane",
    "n2": "la forza trova il passo e l'aglio rosso",
    "n3": "il gatto sta scorrendo nella pera",
    "n4": "insalata pastasciutta coscia d'agnello limoncello",
    "n5": "uno quarantatré dieci mille cinquantasette venti",
    "d1": "sabato sera cosa farà",
    "d2": "porti con te quella cosa",
}
_NAME = re.compile(rf"({'|'.join(EXPECTED.labels)})-([fm][123])-({'|'.join(SENTENCES)})")


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the clips under `folder`; the actor is in the file name."""
    utterances, left_out = named_clips(folder, "emovo", LAYOUT, classes, _read)
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED)


def _read(path: Path) -> ClipName | None:
    match = _NAME.fullmatch(path.stem)
    return ClipName(match[2], match[1], SENTENCES[match[3]]) if match else None
