"""What a run said of each clip that did not train it, as a table: RUN/verdicts.csv.

A row for each clip, modality (audio, text, audio+text) and form: `clip` is its key
(`training.data.fingerprint`), the same wherever its file lies; then corpus, label, speaker, guess,
and a calibrated probability for each class, `score:CLASS`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.manifest import Calibration
from edge_runtime.model.fusion import softmax
from training.corpora import Utterance
from training.data.fingerprint import clip_keys
from training.errors import TrainingError
from training.evaluate.judge import Verdicts
from training.evaluate.metrics import calibration_error
from training.output import at_once
from training.run import FLOAT_HEAD

FILE = "verdicts.csv"
JOINED = "joined"
"""Of a run that was adapted from a larger tier: with the pre-trained encoder."""
FORMS = (JOINED, "int8", "fake-quant", "float", FLOAT_HEAD)
"""Forms that are kept, the one that a device computes first."""
_SCORE = "score:"
_FIXED = ("clip", "corpus", "label", "speaker", "modality", "form", "guess")

Row = dict[str, Any]


def rows_of(
    utterances: Sequence[Utterance],
    verdicts: Verdicts,
    labels: Sequence[str],
    calibration: Mapping[str, Calibration],
) -> list[Row]:
    """A row for each utterance, modality and form of `verdicts`, logits (n, classes).

    Fake-quant is left out where int8 is there, which is the same but for a clip in a thousand.
    """
    keys = clip_keys(utterances)
    rows: list[Row] = []
    for name, logits in verdicts.items():
        modality, form = name.split("/")
        if form not in FORMS or (form == "fake-quant" and f"{modality}/int8" in verdicts):
            continue
        temperature = calibration[modality].temperature if modality in calibration else 1.0
        guesses = logits.argmax(axis=1)
        scores = softmax(np.asarray(logits, np.float64), temperature)
        for key, utterance, guess, probabilities in zip(
            keys, utterances, guesses, scores, strict=True
        ):
            fixed = (
                key,
                utterance.corpus,
                utterance.label,
                utterance.speaker or "",
                modality,
                form,
                labels[int(guess)],
            )
            said = {f"{_SCORE}{n}": f"{p:.4f}" for n, p in zip(labels, probabilities, strict=True)}
            rows.append(dict(zip(_FIXED, fixed, strict=True)) | said)
    return rows


def write(path: Path, rows: Sequence[Row], labels: Sequence[str]) -> None:
    """Write what `rows_of` gave, whole or not at all."""
    with at_once(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*_FIXED, *(f"{_SCORE}{label}" for label in labels)])
        writer.writeheader()
        writer.writerows(rows)


def read(folder: Path) -> list[Row]:
    """The rows of a run's folder. Raises TrainingError where there are none that can be read."""
    path = folder / FILE
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[Row] = list(csv.DictReader(file))
    except FileNotFoundError:
        raise TrainingError(
            f"{folder} has no {FILE}: it kept no clips out, or was made before they were written; "
            "name corpora to judge both runs on, such as ravdess=DIR"
        ) from None
    except (ValueError, csv.Error) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from None
    if not rows or not set(_FIXED) <= rows[0].keys() or None in rows[-1].values():
        raise TrainingError(f"{path} is no table of verdicts, or it is cut off")
    return rows


def errors_by_corpus(rows: Sequence[Row]) -> dict[str, float]:
    """Expected calibration error, 0 to 1, by "corpus/modality", of the form that a device has.

    At the temperature that was fitted over all corpora together.
    """
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        place = f"{row['corpus']}/{row['modality']}"
        found.setdefault(place, {}).setdefault(row["form"], []).append(row)
    errors = {}
    for place, forms in found.items():
        chosen = forms[min(forms, key=FORMS.index)]
        names = [name for name in chosen[0] if name.startswith(_SCORE)]
        truth = [names.index(f"{_SCORE}{row['label']}") for row in chosen]
        scores = np.array([[float(row[name]) for name in names] for row in chosen])
        errors[place] = round(calibration_error(scores, np.array(truth)), 4)
    return errors
