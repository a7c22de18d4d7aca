"""Speaker-independent folds: no speaker is ever on both sides, where the data name speakers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_runtime.console import counted
from training.corpora import NO_CLASS, Utterance, speakers_of
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

    Where speakers are not known, clips are dealt out by class (`described` says so); those cut from
    one file stay together, as do texts of the same words.

    A corpus of fewer speakers, or clips, than folds beside one of enough is judged in as many
    folds as it has speakers (`unjudged` says so).

    Raises TrainingError when every corpus has fewer, or a fold's training side lacks a class.
    """
    if count < 2:
        raise TrainingError(f"{count} folds: at least 2 are needed")
    part_of: dict[Hashable, int] = {}
    corpora, few = sorted({u.corpus for u in utterances}), []
    for corpus in corpora:
        here = [u for u in utterances if u.corpus == corpus]
        speakers, clips = _speakers(here), _unknown(here)
        if len(speakers) + len(clips) < count:
            things = "clips" if clips else "speakers"
            few.append(f"{corpus} has {len(speakers) + len(clips)} {things}, too few")
        # Who speaks in an earlier corpus, too, has a part.
        new = [speaker for speaker in speakers if speaker not in part_of]
        for part, members in enumerate(np.array_split(np.array(new, object), count)):
            part_of.update(dict.fromkeys(members, part))
        part_of.update((clip, number % count) for number, clip in enumerate(clips))
    if len(few) == len(corpora):
        raise TrainingError(f"{'; '.join(few)} for {count} folds; use --folds")
    folds = _cut([part_of[_unit(u)] for u in utterances], count)
    what = "speakers" if speakers_of(utterances) is not None else "clips"
    _check_folds(utterances, folds, f"{what}; use fewer --folds or more data")
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
        if utterance.speaker is None:
            continue
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
        if utterance.speaker is None:
            continue  # who it is nobody knows
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

    That is a corpus without a class that others have, a fold that has none of a corpus, and a fold
    whose clips of a corpus lack a class that the corpus has.
    """
    labels = {u.label for u in utterances}
    tested_corpora = [{utterances[i].corpus for i in fold.test} for fold in folds]
    by_speaker = any(len(names) > 1 for names in tested_corpora)  # not by corpus or session
    result = []
    for corpus in sorted({u.corpus for u in utterances}):
        own = {u.label for u in utterances if u.corpus == corpus}
        if labels - own:
            result.append(
                f"{corpus} has no {', '.join(sorted(labels - own))}: its figures are over "
                f"{', '.join(sorted(own))} alone"
            )
        judging = sum(corpus in names for names in tested_corpora)
        if by_speaker and judging < len(folds):
            result.append(f"{corpus} is judged in {judging} of the {len(folds)} folds")
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
    labels = sorted({u.label for u in utterances} - {NO_CLASS})
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

    Where speakers are not known, that share of the clips (see `speaker_folds`).

    Raises TrainingError when a class would be left without training clips.
    """
    watched: set[Hashable] = set()
    for corpus in sorted({u.corpus for u in utterances}):
        here = [u for u in utterances if u.corpus == corpus]
        for units in (_speakers(here), _unknown(here)):
            count = round(share * len(units))
            # Spread over the sorted list: neighbours in it often share sex, session or class.
            chosen = np.linspace(0, len(units) - 1, count).astype(int)
            watched.update(units[index] for index in chosen)
    train = [u for u in utterances if _unit(u) not in watched]
    missing = {u.label for u in utterances} - {u.label for u in train}
    if missing:
        raise TrainingError(
            f"no training clip of {', '.join(sorted(missing))} is left beside the watched "
            "ones; use --watch 0"
        )
    return train, [u for u in utterances if _unit(u) in watched]


def described(utterances: Sequence[Utterance]) -> str:
    """Who speaks, as far as the data say: `12 speakers`, or `20 clips, speakers unknown`."""
    speakers = speakers_of(utterances)
    if speakers is not None:
        return counted(speakers, "speaker")
    unknown = sum(u.speaker is None for u in utterances)
    whose = "speakers unknown" if unknown == len(utterances) else f"speakers of {unknown} unknown"
    return f"{counted(len(utterances), 'clip')}, {whose}"


_EACH: dict[Cut, str] = {
    "session": ", each a recording session,",
    "corpus": ", each a corpus of which nothing trained,",
}


def fold_protocol(utterances: Sequence[Utterance], count: int, cut: Cut) -> str:
    """What `count` folds of the utterances rest on, one phrase; it claims no more than they do."""
    corpora = {u.corpus: [v for v in utterances if v.corpus == u.corpus] for u in utterances}
    over = " and ".join(f"{name} ({described(part)})" for name, part in sorted(corpora.items()))
    if speakers_of(utterances) is not None:
        return f"{count} speaker-independent folds{_EACH.get(cut, '')} over {over}"
    how = cut if isinstance(cut, str) else "clip"
    return f"speakers unknown: {count} folds by {how}, not speaker-independent, over {over}"


def watch_protocol(watched: Sequence[Utterance]) -> str:
    """What figures on clips that `watch_split` kept out rest on, one phrase."""
    if speakers_of(watched) is not None:
        return f"{described(watched)} kept out of training"
    return (
        f"speakers unknown: split by clip, not speaker-independent; {described(watched)}, kept out "
        "of training"
    )


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


def _unit(utterance: Utterance) -> Hashable:
    """What is never on both sides: a speaker, or where none is known, a file, or words."""
    return utterance.speaker or (utterance.path, "" if utterance.path else utterance.text)


def _speakers(utterances: Sequence[Utterance]) -> list[Hashable]:
    """The known speakers, sorted."""
    return [*sorted({u.speaker for u in utterances if u.speaker})]


def _unknown(utterances: Sequence[Utterance]) -> list[Hashable]:
    """Units of the utterances of unknown speakers, those of one class together."""
    label_of: dict[Hashable, str] = {}
    for utterance in utterances:
        if utterance.speaker is None:
            label_of.setdefault(_unit(utterance), utterance.label)
    return sorted(label_of, key=lambda unit: (label_of[unit], str(unit)))


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
