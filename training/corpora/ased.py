"""ASED: 65 Amharic speakers, `05Angry/a5-SS-RR-GG-NN.wav`.

The name: emotion, sentence, repetition, sex (01 female, 02 male), speaker.

Some numbers of speakers occur with both sexes. Whether that is two people or a slip is not known,
so a number is one speaker: whoever it is is never on both sides of a fold. The sentences are not
published beside the clips.

Retta et al. 2022, doi 10.1145/3529759; no licence is stated, to be cited. Complete: 522 neutral,
486 happy, 470 sad and 486 angry clips (2,474 with 510 of fear).
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from training.corpora import ClipName, Expected, Found, named_clips
from training.corpora.class_map import ClassMap

LICENCE = "none stated; to be cited"
CITATION = (
    "Retta et al. 2022, A New Amharic Speech Emotion Dataset and Classification Benchmark, "
    "doi 10.1145/3529759"
)
LANGUAGES = ("am",)
LAYOUT = "folders 01Neutral/ to 05Angry/ with files such as a5-03-01-02-50.wav"
EXPECTED = Expected(
    "the corpus's description: 2,474 clips of 65 speakers",
    {"n": 522, "f": 510, "h": 486, "s": 470, "a": 486},
    speakers=65,
)
_NAME = re.compile(r"(n1|f2|h3|s4|a5)-\d\d-\d\d-(0[12])-(\d\d)")


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the clips under `folder`; the speaker is the last number of the file name."""
    utterances, left_out = named_clips(folder, "ased", LAYOUT, classes, _read)
    sexes: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        match = _NAME.fullmatch(utterance.audio.stem)
        if match:
            sexes[match[3]].add(match[2])
    both = sorted(number for number, found in sexes.items() if len(found) > 1)
    notes: tuple[str, ...] = ()
    if both:
        notes = (
            f"{len(both)} speaker numbers stand for a woman and a man both ({', '.join(both)}); "
            "each counts as one speaker",
        )
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED, notes=notes)


def _read(path: Path) -> ClipName | None:
    match = _NAME.fullmatch(path.stem)
    return ClipName(match[3], match[1][0]) if match else None
