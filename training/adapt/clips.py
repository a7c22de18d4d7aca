"""Whether clips can teach a model at all, and what of each clip speaks against it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from edge_runtime.audio.file import FileSource
from edge_runtime.console import counted
from edge_runtime.enroll import CLIPPED, CLIPPED_SHARE
from edge_runtime.errors import AudioError
from edge_runtime.events import UNSURE
from edge_runtime.segment import is_silent
from training.corpora import Utterance
from training.data.cache import parallel
from training.data.folds import check_classes
from training.errors import TrainingError


class LongClipsError(TrainingError):
    """Clips are longer than `LONGEST`: they can be cut (`training.adapt.long_clips`)."""


LONGEST = 30.0
"""Seconds of a clip: whoever speaks longer speaks of more than one thing, in more than one way."""
FEWEST = 3  # clips of a class: one to judge, and two that train
MOST_CLASSES = 20
_FEW = 10  # clips of a class, below which every figure is a guess


def check_clips(utterances: Sequence[Utterance]) -> list[str]:
    """The classes, sorted, of clips that a head can be fitted to. TrainingError, in one line."""
    labels = check_classes(utterances)
    if len(labels) > MOST_CLASSES:
        raise TrainingError(
            f"the data has {len(labels)} classes; expected 2 to {MOST_CLASSES}: is the column "
            "label the one of the classes?"
        )
    if UNSURE in map(str.casefold, labels):
        raise TrainingError(
            f"a class is called {UNSURE!r}, which is what a device says where it does not know; "
            "call it otherwise"
        )
    counts = Counter(u.label for u in utterances)
    rare = min(labels, key=lambda label: counts[label])
    if counts[rare] < FEWEST:
        raise TrainingError(
            f"class {rare!r} has {counted(counts[rare], 'clip')}; at least {FEWEST} are needed, "
            f"and {_FEW} before a figure means anything: record more, or leave the class out"
        )
    return labels


def warnings_of(utterances: Sequence[Utterance]) -> list[str]:
    """What makes figures over these clips doubtful, a sentence each."""
    found = []
    counts = Counter(u.label for u in utterances)
    few = sorted(label for label, count in counts.items() if count < _FEW)
    if few:
        told = ", ".join(f"{label} {counts[label]}" for label in few)
        found.append(f"few clips of {told}: below {_FEW} of a class every figure is a guess")
    classes_of: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        if utterance.speaker is not None:
            classes_of[utterance.speaker].add(utterance.label)
    alone = sorted(name for name, labels in classes_of.items() if len(labels) == 1)
    if alone:
        first = alone[0]
        rest = f", and so have {len(alone) - 1} more of {len(classes_of)}" * (len(alone) > 1)
        found.append(
            f"speaker {first} has clips of {next(iter(classes_of[first]))!r} alone{rest}: what is "
            "learned there may be the voice, not the class; record each speaker in every class"
        )
    return found


@dataclass(frozen=True)
class Sound:
    """What the samples of a clip tell without a model."""

    seconds: float
    trouble: str = ""
    """Why it may be no use, such as "silent" or "clipped"; empty for nothing."""
    usable: bool = True
    """Whether it can train."""


def inspect(
    utterances: Sequence[Utterance], jobs: int | None = None, progress: bool = True
) -> list[Sound]:
    """What there is to say of each clip. `jobs` are processes, by default one a core.

    Raises LongClipsError where clips are longer than `LONGEST`.
    """
    title = "looking at clips"
    with closing(parallel(_inspect, utterances, jobs, title, progress, chunk=32)) as found:
        sounds = list(found)
    long = [u for u, sound in zip(utterances, sounds, strict=True) if sound.seconds > LONGEST]
    if long:
        more = f", and so are {len(long) - 1} more" * (len(long) > 1)
        raise LongClipsError(f"{long[0].path} is longer than {LONGEST:.0f} s{more}")
    return sounds


def _inspect(utterance: Utterance) -> Sound:
    try:
        source = FileSource(utterance.audio, utterance.start, utterance.end)
        seconds = source.seconds
        if seconds > LONGEST:
            source.close()
            return Sound(seconds)
        samples = source.read()
    except (AudioError, OSError) as error:
        return Sound(0.0, f"cannot be read: {error}", usable=False)
    if is_silent(samples):
        return Sound(seconds, "silent", usable=False)
    share = float((np.abs(samples.astype(np.int32)) >= CLIPPED).mean())
    if share > CLIPPED_SHARE:
        return Sound(seconds, f"clipped ({100 * share:.1f} % of its samples)")
    return Sound(seconds)
