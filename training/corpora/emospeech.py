"""Indian EmoSpeech Command: single words into people's own phones, Hindi and English.

`PLACE/bacho-safe-angry-1562907046662-HASH.wav`: keyword, surroundings, emotion, time, user. A
user is the installation of an app on a phone, so two users can be one person, and the label is
what the user said of himself. `calm` is taken for neutral: there is no neutral, and calm is the
state in which a command is spoken otherwise. There is no sad. Fear, and recordings without a
speaker (`None`), are left out, and so are those of the one hash that the corpus gives to everybody
whom it does not know: they may be anybody, and on both sides of a fold.

Banga et al. 2019, arXiv 1910.13801; CC BY-NC-SA 4.0. The corpus grew, so no size is compared.
"""

from __future__ import annotations

import re
from pathlib import Path

from training.corpora import ClipName, Found, named_clips
from training.corpora.class_map import ClassMap

LICENCE = "CC BY-NC-SA 4.0"
CITATION = "Banga et al. 2019, Indian EmoSpeech Command Dataset, arXiv 1910.13801"
LANGUAGES = ("en", "hi")
LAYOUT = "a folder a place with files such as bacho-safe-angry-1562907046662-HASH.wav"
ANYBODY = "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f"
"""The user of recordings whose user is not known."""
KEYWORDS = ("help", "bacho", "stop", "no", "go", "yes")
EMOTIONS = ("happy", "angry", "fearful", "calm", "none")
_NAME = re.compile(r"([a-z]+)-([^-]+)-([a-z]+)-([^-]+)-([0-9a-f]{8,64})", re.IGNORECASE)


def load(folder: Path, classes: ClassMap) -> Found:
    """Utterances of the clips under `folder`; the words are the keyword, where it is one."""
    utterances, left_out = named_clips(folder, "emospeech", LAYOUT, classes, _read)
    notes = ("there is no sad in this corpus, and its neutral is the users' own calm",)
    return Found(utterances, left_out, LICENCE, CITATION, notes=notes)


def _read(path: Path) -> ClipName | None:
    match = _NAME.fullmatch(path.stem)
    if match is None or match[3].lower() not in EMOTIONS:
        return None
    keyword, _, emotion, _, user = (part.lower() for part in match.groups())
    if user == ANYBODY and emotion != "none":
        emotion = "user not known"
    return ClipName(user, emotion, keyword if keyword in KEYWORDS else "")
