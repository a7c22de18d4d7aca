"""RAVDESS speech: 24 actors, `Actor_NN/03-01-EMOTION-INTENSITY-STATEMENT-REPETITION-ACTOR.wav`.

Livingstone & Russo 2018, doi 10.1371/journal.pone.0196391; CC BY-NC-SA 4.0. Complete: 96 neutral
and 192 each of happy, sad and angry, 672 clips of 24 actors.
"""

from __future__ import annotations

from pathlib import Path

from training.corpora import ClipName, Expected, Found, named_clips
from training.corpora.class_map import ClassMap

LICENCE = "CC BY-NC-SA 4.0"
CITATION = "Livingstone & Russo 2018, doi 10.1371/journal.pone.0196391"
LANGUAGES = ("en",)
LAYOUT = "Actor_NN/ folders with files such as 03-01-06-01-02-01-12.wav"
STATEMENTS = {"01": "kids are talking by the door", "02": "dogs are sitting by the door"}
EXPECTED = Expected(
    "the corpus's description: 4 clips of neutral and 8 of any other emotion for each of 24 actors",
    {"01": 96, **{f"{emotion:02d}": 192 for emotion in range(2, 9)}},
    speakers=24,
)
_AUDIO_ONLY, _SPEECH = "03", "01"


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the speech clips under `folder`; the speaker is the actor."""
    utterances, left_out = named_clips(folder, "ravdess", LAYOUT, classes, _read)
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED)


def _read(path: Path) -> ClipName | None:
    fields = path.stem.split("-")
    if len(fields) != 7 or not all(f.isdigit() and len(f) == 2 for f in fields):
        return None
    modality, channel, emotion, _, statement, _, actor = fields
    if channel != _SPEECH:
        emotion = "song"
    elif modality != _AUDIO_ONLY:
        emotion = "with video"
    return ClipName(actor, emotion, STATEMENTS.get(statement, ""))
