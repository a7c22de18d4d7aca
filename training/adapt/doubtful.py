"""Clips to listen to again: labels that a head which never learned them does not believe.

Confident learning (Northcutt, Jiang & Chuang 2021, doi 10.1613/jair.1.12125): a clip is doubtful
where another class is as likely as it is for clips of that class. Folds are by clip: who knows the
speaker knows better what is unlike him. Beside those stand clips whose samples are at fault.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_runtime.model.fusion import softmax
from training.adapt.cross import cut_groups, out_of_fold
from training.adapt.head import Indices, View
from training.corpora import Utterance
from training.evaluate.metrics import fit_temperature

COLUMNS = ("path", "label", "speaker", "start", "end", "likely", "probability", "reason")
_FOLDS = 10
_TWO = "two people seem to speak"
_SHARE = 0.1  # of the clips are listed, the least likely, however sure the head is


@dataclass(frozen=True)
class Doubt:
    """A clip that somebody should listen to."""

    utterance: Utterance
    likely: str
    """The class that it sounds like; empty where it cannot be heard."""
    probability: float
    """Of that class, 0 to 1."""
    reason: str


def doubtful_labels(
    utterances: Sequence[Utterance],
    views: Sequence[View],
    truth: Indices,
    labels: Sequence[str],
    strength: float,
) -> list[Doubt]:
    """The clips whose labels are doubtful, the worst first; a tenth of all at least."""
    folds = cut_groups([repr(u.clip) for u in utterances], truth, _FOLDS)
    logits = out_of_fold(views, truth, folds, strength)
    chances = softmax(logits, fit_temperature(logits, truth))
    every = np.arange(len(truth))
    usual = np.array([chances[truth == label, label].mean() for label in range(len(labels))])
    own = chances[every, truth]
    others = chances.copy()
    others[every, truth] = -1
    margin = own - others.max(axis=1)
    flagged = ((others >= usual) & (others > own[:, None])).any(axis=1)
    order = np.argsort(margin, kind="stable")
    least = round(_SHARE * len(order))
    found = []
    for rank, place in enumerate(order):
        if rank < least or flagged[place]:
            likely = int(chances[place].argmax())
            given = labels[truth[place]]
            reason = (
                f"sounds more like {labels[likely]} than {given}"
                if likely != truth[place]
                else f"hardly {given}"
            )
            chance = float(chances[place, likely])
            found.append(Doubt(utterances[place], labels[likely], chance, reason))
    return found


def with_two_voices(doubts: Sequence[Doubt], voices: Sequence[Utterance]) -> list[Doubt]:
    """Doubtful labels with the clips in which two people seem to speak, the surest first.

    Those stand behind the half of the labels that is doubted most, whose place is theirs.
    """
    more = {id(utterance) for utterance in voices}
    named = {id(doubt.utterance) for doubt in doubts}
    told = [
        replace(doubt, reason=f"{doubt.reason}; {_TWO}") if id(doubt.utterance) in more else doubt
        for doubt in doubts
    ]
    beside = [Doubt(u, "", 0.0, _TWO) for u in voices if id(u) not in named]
    half = -(-len(told) // 2)
    return [*told[:half], *beside, *told[half:]]


def with_troubles(doubts: Sequence[Doubt], troubles: Sequence[Doubt]) -> list[Doubt]:
    """Clips whose samples are at fault, then the other doubts; each clip once, with all reasons."""
    more = {id(doubt.utterance): doubt for doubt in doubts}
    told = []
    for trouble in troubles:
        doubt = more.pop(id(trouble.utterance), None)
        reason = f"{trouble.reason}; {doubt.reason}" if doubt else ""
        told.append(replace(doubt, reason=reason) if doubt else trouble)
    return [*told, *(doubt for doubt in doubts if id(doubt.utterance) in more)]


def write_doubts(path: Path, doubts: Sequence[Doubt]) -> None:
    """A CSV of `COLUMNS`, which can be read as a manifest once its labels are corrected."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for doubt in doubts:
            of = doubt.utterance
            end = "" if of.end is None else of.end
            clip = of.audio.resolve(), of.label, of.speaker or "", of.start, end
            writer.writerow([*clip, doubt.likely, f"{doubt.probability:.2f}", doubt.reason])
