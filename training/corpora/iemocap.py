"""IEMOCAP: 5 sessions of two actors each, dialogues cut into turns.

The official tree, `Session1` to `Session5`, each with

    dialog/EmoEvaluation/Ses01F_impro01.txt
        [6.2901 - 8.2357]<TAB>Ses01F_impro01_F000<TAB>neu<TAB>[2.5000, 2.5000, 2.5000]
    dialog/transcriptions/Ses01F_impro01.txt
        Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
    sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav

The three numbers are the means of the raters' valence, activation (arousal) and dominance, 1 to 5.
Only these summary lines are read, not the single raters' lines below them nor the folders
Attribute, Categorical and Self-evaluation. Who speaks stands in the last field of the turn's name:
the F in `Ses01F` is whose markers were tracked.

Busso et al. 2008, doi 10.1007/s10579-008-9076-6; under the licence of USC, for research. Complete:
1,103 angry, 1,636 happy (595 happy and 1,041 excited), 1,708 neutral and 1,084 sad turns, 5,531 of
10,039, of 10 speakers.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from training.corpora import AUDIO_SUFFIXES, Expected, Found, Utterance, read_text
from training.corpora.class_map import ClassMap
from training.errors import TrainingError

LICENCE = "IEMOCAP release form (research only, not to be passed on)"
CITATION = "Busso et al. 2008, IEMOCAP, doi 10.1007/s10579-008-9076-6"
LANGUAGES = ("en",)
LAYOUT = "Session1 to Session5, each with dialog/EmoEvaluation and sentences/wav"
EXPECTED = Expected(
    "the corpus's 10,039 summary lines, counted the same by every study of its 5,531 turns",
    {
        "ang": 1103,
        "hap": 595,
        "exc": 1041,
        "neu": 1708,
        "sad": 1084,
        "fru": 1849,
        "sur": 107,
        "fea": 40,
        "dis": 2,
        "oth": 3,
        "xxx": 2507,
    },
    speakers=10,
)
_SUMMARY = re.compile(
    r"\[[\d.]+ - [\d.]+\]\s+(Ses\d\d[FM]_\S+_([FM])\d+)\s+([a-z]+)\s+"
    r"\[([\d.]+),\s*([\d.]+),[\d., ]+\]"
)
_MIDDLE, _HALF = 3.0, 2.0  # of the scales of valence, activation and dominance, 1 to 5
_TURN = re.compile(r"(Ses\d\d[FM]_\S+_[FM]\d+)\s+\[[^\]]*\]:\s*(.*)")
_SOUND = re.compile(r"\[[^\]]*\]")  # [LAUGHTER], [BREATHING]: heard, not said


def load(folder: Path, classes: ClassMap) -> Found:
    """Turns of the sessions in `folder`, or in its IEMOCAP_full_release."""
    labels = classes.of("iemocap")
    utterances, left_out, wordless = [], Counter[str](), []
    for session in _sessions(folder):
        number = session.name.removeprefix("Session")
        evaluations = _files(session, "dialog/EmoEvaluation")
        if not (session / "sentences/wav").is_dir():
            raise TrainingError(f"iemocap: {session} has no sentences/wav; expected {LAYOUT}")
        words = _words(session)
        if not words:
            wordless.append(session.name)
        for evaluation in evaluations:
            for turn, sex, emotion, *dimensions in _SUMMARY.findall(
                read_text(evaluation, "cp1252")
            ):
                path = _clip(session / "sentences/wav" / evaluation.stem, turn)
                if emotion not in labels:
                    left_out[emotion] += 1
                elif path is None:
                    left_out["without audio"] += 1
                else:
                    utterances.append(
                        Utterance(
                            path,
                            labels[emotion],
                            f"iemocap-Ses{int(number):02d}{sex}",
                            "iemocap",
                            session=f"Ses{int(number):02d}",
                            text=words.get(turn, ""),
                            valence=_scaled(dimensions[0]),
                            arousal=_scaled(dimensions[1]),
                        )
                    )
    if not utterances and not left_out:
        raise TrainingError(
            f"iemocap: no file in dialog/EmoEvaluation under {folder} has a summary line"
        )
    notes = (f"no dialog/transcriptions in {', '.join(wordless)}: no words",) if wordless else ()
    return Found(utterances, left_out, LICENCE, CITATION, EXPECTED, notes=notes)


def _scaled(mean: str) -> float:
    """A mean of raters, 1 to 5, on the scale from -1 to 1."""
    return (float(mean) - _MIDDLE) / _HALF


def _sessions(folder: Path) -> list[Path]:
    for root in (folder, folder / "IEMOCAP_full_release"):
        found = sorted(p for p in root.glob("Session[1-5]") if p.is_dir())
        if found:
            return found
    raise TrainingError(f"iemocap: {folder} has no Session1 to Session5; expected {LAYOUT}")


def _files(session: Path, name: str) -> list[Path]:
    """The texts of a sub-folder, without the shadows that macOS left in the release."""
    files = sorted(p for p in (session / name).glob("Ses*.txt"))
    if not files:
        raise TrainingError(f"iemocap: {session} has no {name}/Ses*.txt; expected {LAYOUT}")
    return files


def _words(session: Path) -> dict[str, str]:
    return {
        turn: " ".join(_SOUND.sub(" ", words).split())
        for path in sorted((session / "dialog/transcriptions").glob("Ses*.txt"))
        for turn, words in _TURN.findall(read_text(path, "cp1252"))
    }


def _clip(folder: Path, turn: str) -> Path | None:
    paths = (folder / f"{turn}{suffix}" for suffix in AUDIO_SUFFIXES)
    return next((p for p in paths if p.exists()), None)
