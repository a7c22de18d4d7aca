"""Speaker-independent folds: no speaker is ever on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.corpora import Utterance
from training.errors import TrainingError

Cut = int | Literal["session", "corpus"]
"""How folds are cut: into so many by speaker, or one a session or corpus."""


@dataclass(frozen=True)
class Fold:
    """Indices into the utterances."""

    train: list[int]
    test: list[int]


def cut_folds(utterances: Sequence[Utterance], cut: Cut) -> list[Fold]:
    """Folds as `cut` says. Raises like the function that makes them."""
    if cut == "session":
        return session_folds(utterances)
    if cut == "corpus":
        return corpus_folds(utterances)
    return speaker_folds(utterances, cut)


def speaker_folds(utterances: Sequence[Utterance], count: int) -> list[Fold]:
    """`count` folds; each corpus's speakers, sorted, are cut into `count` parts (array_split).

    Raises TrainingError when a corpus has fewer speakers than folds, or a fold's training side
    lacks a class.
    """
    if count < 2:
        raise TrainingError(f"{count} folds: at least 2 are needed")
    part_of: dict[str, int] = {}
    for corpus in sorted({u.corpus for u in utterances}):
        speakers = sorted({u.speaker for u in utterances if u.corpus == corpus})
        if len(speakers) < count:
            raise TrainingError(
                f"{corpus} has {len(speakers)} speakers, too few for {count} folds; use --folds"
            )
        for part, members in enumerate(np.array_split(np.array(speakers), count)):
            part_of.update((str(speaker), part) for speaker in members)
    folds = _cut([part_of[u.speaker] for u in utterances], count)
    _check_folds(utterances, folds, "speakers; use fewer --folds or more data")
    return folds


def session_folds(utterances: Sequence[Utterance]) -> list[Fold]:
    """One fold a recording session, in sorted order, tested on that session alone.

    Raises TrainingError when there are not two sessions, an utterance has none, a speaker is in
    several, or a fold's side lacks a class.
    """
    without = sorted({u.corpus for u in utterances if not u.session})
    if without:
        raise TrainingError(f"{', '.join(without)} has no sessions; use --by speaker")
    names = [f"{u.corpus} {u.session}" for u in utterances]
    session_of: dict[str, str] = {}
    for utterance, name in zip(utterances, names, strict=True):
        other = session_of.setdefault(utterance.speaker, name)
        if other != name:
            raise TrainingError(
                f"{utterance.speaker} speaks in {other} and in {name}; use --by speaker"
            )
    sessions = sorted(set(names))
    if len(sessions) < 2:
        raise TrainingError(f"{' '.join(sessions) or 'none'}: at least 2 sessions are needed")
    folds = _cut([sessions.index(name) for name in names], len(sessions))
    _check_folds(utterances, folds, "sessions; use --by speaker or more data")
    return folds


def corpus_folds(utterances: Sequence[Utterance]) -> list[Fold]:
    """One fold a corpus, in sorted order, tested on that corpus alone: none of it has trained.

    A corpus need not have every class to be judged (`unjudged`).
    Raises TrainingError when there are not two corpora, a speaker is in several, or those that are
    left to train lack a class.
    """
    names = sorted({u.corpus for u in utterances})
    if len(names) < 2:
        raise TrainingError(
            f"{' '.join(names) or 'none'}: at least 2 corpora are needed; use --by speaker"
        )
    corpus_of: dict[str, str] = {}
    for utterance in utterances:
        other = corpus_of.setdefault(utterance.speaker, utterance.corpus)
        if other != utterance.corpus:
            raise TrainingError(
                f"{utterance.speaker} speaks in {other} and in {utterance.corpus}; use --by speaker"
            )
    folds = _cut([names.index(u.corpus) for u in utterances], len(names))
    advice = "corpora; use --by speaker or more corpora"
    _check_folds(utterances, folds, advice, sides=("training",))
    return folds


def unjudged(utterances: Sequence[Utterance], folds: Sequence[Fold]) -> list[str]:
    """Where a figure cannot be over every class, one sentence each.

    That is a corpus without a class that others have, and a fold whose clips of a corpus lack one
    that the corpus has.
    """
    labels = {u.label for u in utterances}
    result = []
    for corpus in sorted({u.corpus for u in utterances}):
        own = {u.label for u in utterances if u.corpus == corpus}
        if labels - own:
            result.append(
                f"{corpus} has no {', '.join(sorted(labels - own))}: its figures are over "
                f"{', '.join(sorted(own))} alone"
            )
        for number, fold in enumerate(folds, 1):
            tested = [utterances[i].label for i in fold.test if utterances[i].corpus == corpus]
            if tested and own - set(tested):
                result.append(
                    f"fold {number}: its {len(tested)} clips of {corpus} have no "
                    f"{', '.join(sorted(own - set(tested)))}: the fold's UA is over the other "
                    "classes"
                )
    return result


def check_classes(utterances: Sequence[Utterance]) -> list[str]:
    """The classes, sorted; TrainingError if there are not at least two."""
    labels = sorted({u.label for u in utterances})
    if len(labels) < 2:
        raise TrainingError(
            f"the data has one class only ({labels[0] if labels else 'none'}); "
            "a classifier needs two or more"
        )
    return labels


def watch_split(
    utterances: Sequence[Utterance], share: float
) -> tuple[list[Utterance], list[Utterance]]:
    """Training and watched utterances; about `share` of each corpus's speakers are watched.

    Raises TrainingError when a class would be left without training clips.
    """
    watched: set[str] = set()
    for corpus in sorted({u.corpus for u in utterances}):
        speakers = sorted({u.speaker for u in utterances if u.corpus == corpus})
        count = round(share * len(speakers))
        # Spread over the sorted list: neighbours in it often share sex or session.
        watched.update(
            str(s) for s in np.array(speakers)[np.linspace(0, len(speakers) - 1, count).astype(int)]
        )
    train = [u for u in utterances if u.speaker not in watched]
    missing = {u.label for u in utterances} - {u.label for u in train}
    if missing:
        raise TrainingError(
            f"no training clip of {', '.join(sorted(missing))} is left beside the watched "
            "speakers; use --watch 0"
        )
    return train, [u for u in utterances if u.speaker in watched]


def official_split(
    utterances: Sequence[Utterance],
) -> tuple[list[Utterance], list[Utterance]] | None:
    """Training and development utterances of corpora that come split; None if any does not.

    Their test utterances are in neither.
    """
    if not all(u.split for u in utterances):
        return None
    train = [u for u in utterances if u.split == "train"]
    return train, [u for u in utterances if u.split in ("dev", "validation")]


def _cut(parts: Sequence[int], count: int) -> list[Fold]:
    indices = range(len(parts))
    return [
        Fold(
            train=[i for i in indices if parts[i] != part],
            test=[i for i in indices if parts[i] == part],
        )
        for part in range(count)
    ]


def _check_folds(
    utterances: Sequence[Utterance],
    folds: list[Fold],
    advice: str,
    sides: Sequence[str] = ("training", "test"),
) -> None:
    check_classes(utterances)
    for number, fold in enumerate(folds, 1):
        for side, indices in (("training", fold.train), ("test", fold.test)):
            if side not in sides:
                continue
            missing = {u.label for u in utterances} - {utterances[i].label for i in indices}
            if missing:
                raise TrainingError(
                    f"fold {number} has no {', '.join(sorted(missing))} in its {side} {advice}"
                )
