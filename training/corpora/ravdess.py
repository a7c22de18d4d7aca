"""RAVDESS speech: 24 actors, `Actor_NN/03-01-EMOTION-INTENSITY-STATEMENT-REPETITION-ACTOR.wav`.

Livingstone & Russo 2018, doi 10.1371/journal.pone.0196391; CC BY-NC-SA 4.0. Complete: 96 neutral
and 192 each of happy, sad and angry, 672 clips of 24 actors.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from training.corpora import Expected, Found, Utterance, audio_files, label_map
from training.errors import TrainingError

LICENCE = "CC BY-NC-SA 4.0"
CITATION = "Livingstone & Russo 2018, doi 10.1371/journal.pone.0196391"
LAYOUT = "Actor_NN/ folders with files such as 03-01-06-01-02-01-12.wav"
STATEMENTS = {"01": "kids are talking by the door", "02": "dogs are sitting by the door"}
EXPECTED = Expected(
    "the corpus's description: 4 clips of neutral and 8 of any other emotion for each of 24 actors",
    {"01": 96, **{f"{emotion:02d}": 192 for emotion in range(2, 9)}},
    speakers=24,
)
_AUDIO_ONLY, _SPEECH = "03", "01"


def load(folder: Path) -> Found:
    """Utterances of the speech clips under `folder`; the speaker is the actor."""
    labels = label_map("ravdess")
    utterances, left_out, named = [], Counter[str](), 0
    for path in audio_files(folder, "ravdess", LAYOUT):
        fields = path.stem.split("-")
        if len(fields) != 7 or not all(f.isdigit() and len(f) == 2 for f in fields):
            continue
        named += 1
        modality, channel, emotion, _, statement, _, actor = fields
        if (modality, channel) != (_AUDIO_ONLY, _SPEECH) or emotion not in labels:
            left_out[emotion if channel == _SPEECH else "song"] += 1
            continue
        utterances.append(
            Utterance(
                path,
                labels[emotion],
                f"ravdess-{actor}",
                "ravdess",
                text=STATEMENTS.get(statement, ""),
            )
        )
    if not named:
        raise TrainingError(f"ravdess: {folder} holds no RAVDESS file; expected {LAYOUT}")
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED)
