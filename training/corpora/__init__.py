"""Corpora on disk as lists of utterances. One file a corpus, one line of registration here.

A corpus is a function from a directory to utterances. It knows the official layout and nothing
else; all of its labels stand in `labels.toml`, and which of them become which class in a map
(`class_map`).
"""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from training.corpora.class_map import ClassMap, Labels, open_classes
from training.corpora.copies import contents, files_under
from training.corpora.tables import read_text, spelling
from training.errors import TrainingError

__all__ = [
    "AUDIO_SUFFIXES",
    "NO_CLASS",
    "SECOND_COPY",
    "ClipName",
    "Expected",
    "Found",
    "Utterance",
    "audio_files",
    "class_indices",
    "corpus_names",
    "differences",
    "files_under",
    "incomplete",
    "kind_of",
    "languages_of",
    "licence_of",
    "load_corpora",
    "named_clips",
    "read_text",
    "speakers_of",
]

log = logging.getLogger(__name__)

SECOND_COPY = "second copy"
"""Why a clip is left out whose file holds the same as another's."""
_NAME = re.compile(r"(\w+?)(?:@([\w.-]+))?")
AUDIO_SUFFIXES = (".wav", ".flac")
NO_CLASS = ""
"""Label of what has no class: all are alike for it, and a model shall be unsure."""
NO_INDEX = -1  # its place among the classes
NEUTRAL = "neutral"  # the class of ordinary speech, where there is one


Clip = tuple[str, float, float | None]
"""What tells the sound of an utterance from all other sound: its file, start and end in seconds."""


@dataclass(frozen=True)
class Utterance:
    """One labelled stretch of speech, or its words alone, as the manifest contract has it."""

    path: Path | None
    """Audio file; None where only the words are there."""
    label: str
    """Class."""
    speaker: str | None
    """Who speaks; the same name in two corpora is the same person. None: not known."""
    corpus: str
    """Name of the corpus it comes from, as on the command line: NAME or NAME@LABEL."""
    session: str = ""
    """Recording session, where the corpus has sessions."""
    text: str = ""
    """Words spoken, where known."""
    split: str = ""
    """Official split, where the corpus has one."""
    start: float = 0.0
    """Second at which the utterance begins in the file."""
    end: float | None = None
    """Second at which it ends; None: the end of the file."""
    valence: float | None = None
    """How pleasant people found it, from -1 to 1; None where nobody was asked."""
    arousal: float | None = None
    """How stirred they found it, from -1 to 1; None where nobody was asked."""

    @property
    def audio(self) -> Path:
        """The audio file; TrainingError for an utterance that is text only."""
        if self.path is None:
            raise TrainingError(f"{self.corpus}: {self.text[:40]!r} has no audio: it is text only")
        return self.path

    @property
    def clip(self) -> Clip:
        """The key of all that belongs to the sound, whatever words and class are put to it.

        TrainingError for an utterance that is text only.
        """
        return str(self.audio.resolve()), self.start, self.end


def class_indices(utterances: Iterable[Utterance], labels: Sequence[str]) -> list[int]:
    """The place of each one's class in `labels`; `NO_INDEX` for `NO_CLASS`.

    ValueError for other labels.
    """
    return [NO_INDEX if u.label == NO_CLASS else labels.index(u.label) for u in utterances]


@dataclass(frozen=True)
class Expected:
    """What the complete corpus holds, to tell a user when a download is not complete."""

    source: str
    """Where these figures are published."""
    labels: Mapping[str, int] = field(default_factory=dict)
    """Clips, by the corpus's own label."""
    speakers: int | None = None
    """Speakers of the utterances that have a class."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Rows of each official split, those left out included."""


@dataclass(frozen=True)
class Found:
    """What a corpus loader found in a directory."""

    utterances: list[Utterance]
    """Utterances of the classes asked for."""
    left_out: Counter[str]
    """Clips left out, by the corpus's own label or the reason."""
    licence: str = ""
    """Terms of the data; weights trained on it follow them."""
    citation: str = ""
    """What to cite."""
    expected: Expected | None = None
    """What the complete corpus holds, where that is published."""
    rows: Counter[str] = field(default_factory=Counter)
    """Rows read of each official split, those left out included, where the corpus has splits."""
    notes: tuple[str, ...] = ()
    """What a user should know about what was read, one sentence each."""
    ordinary: list[Utterance] = field(default_factory=list)
    """Ordinary speech, whose label is empty: nothing that trains or judges classes takes it."""
    labels: Labels = field(default_factory=dict)
    """The corpus's own labels and their classes, as the map has them."""
    class_map: str = ""
    """Name of that map, or its file."""


def _loaders() -> dict[str, Callable[[Path, ClassMap], Found]]:
    from training.corpora import (
        ased,
        cremad,
        emodb,
        emospeech,
        emovo,
        esd,
        goemotions,
        iemocap,
        koemo,
        librispeech,
        manifest,
        meld,
        msppodcast,
        nemo,
        ravdess,
        savee,
        tess,
    )

    return {
        "ravdess": ravdess.load,
        "emodb": emodb.load,
        "iemocap": iemocap.load,
        "meld": meld.load,
        "cremad": cremad.load,
        "tess": tess.load,
        "savee": savee.load,
        "esd": esd.load,
        "msppodcast": msppodcast.load,
        "nemo": nemo.load,
        "ased": ased.load,
        "emovo": emovo.load,
        "koemo": koemo.load,
        "emospeech": emospeech.load,
        "librispeech": librispeech.load,
        "goemotions": goemotions.load,
        "manifest": manifest.load,
    }


def corpus_names() -> list[str]:
    """Corpora that can be named on the command line."""
    return list(_loaders())


def kind_of(name: str) -> str:
    """The corpus of NAME or NAME@LABEL, without the label."""
    return name.partition("@")[0]


def languages_of(name: str) -> tuple[str, ...]:
    """What is spoken or written in the corpus NAME or NAME@LABEL, as ISO 639-1 codes.

    Empty for a manifest, and for a name of no corpus here.
    """
    return tuple(_constant(name, "LANGUAGES", ()))


def licence_of(name: str) -> str:
    """The terms of the corpus NAME or NAME@LABEL; empty where its owner knows them, as above."""
    return str(_constant(name, "LICENCE", ""))


def _constant(name: str, constant: str, default: Any) -> Any:
    """What the file of a corpus has as `constant`; `default` without it, or without a file."""
    loader = _loaders().get(kind_of(name))
    return getattr(sys.modules[loader.__module__], constant, default) if loader else default


def load_corpora(
    arguments: Iterable[str], ordinary: str | None = None, classes: ClassMap | None = None
) -> dict[str, Found]:
    """Corpora of `NAME[@LABEL]=PATH` arguments, by NAME or NAME@LABEL.

    A second corpus of a kind that has no label is called NAME@2, a third NAME@3. Clips that hold
    the same as an earlier one are left out, whichever corpus that is of.
    `classes` is the map of their labels, by default that of four classes.

    Raises TrainingError for an argument of another form, an unknown name, a name given twice, a
    folder that is missing, empty or not that corpus, or one of which no clip has a wanted label;
    or ordinary speech where `ordinary` is None. Its value is the class that such speech has, or ""
    for none: then it stays apart, in `Found.ordinary`.
    """
    classes = classes or open_classes()
    result: dict[str, Found] = {}
    for argument in arguments:
        kind, name, path = _named(argument, result)
        if not path.exists():
            raise TrainingError(f"{name}: there is no {path}")
        found = _loaders()[kind](path, classes)
        found = replace(found, labels=classes.of(kind), class_map=classes.name)
        if found.ordinary and ordinary is None:
            raise TrainingError(
                f"{name} is ordinary speech without labels of emotion: it trains and judges no "
                "class; leave it out here, or where there is --ordinary, name one: neutral"
            )
        if not found.utterances and not found.ordinary:
            raise TrainingError(
                f"{name}: no clip under {path} has a label of the classes {classes.name!r}"
                + (f": there are {_most(found.left_out)}" if found.left_out else "")
            )
        if name != kind:
            named = [replace(utterance, corpus=name) for utterance in found.utterances]
            found = replace(found, utterances=named)
        if ordinary:
            labelled = [replace(u, corpus=name, label=ordinary) for u in found.ordinary]
            found = replace(found, utterances=[*found.utterances, *labelled], ordinary=[])
        result[name] = found
    if not result:
        raise TrainingError("name at least one corpus, such as ravdess=DIR")
    _check_spelling(result)
    return _without_copies(result)


def speakers_of(utterances: Iterable[Utterance]) -> int | None:
    """How many speak; None where the speaker of any utterance is not known."""
    names = {utterance.speaker for utterance in utterances}
    return None if None in names else len(names)


def _named(argument: str, taken: Mapping[str, Found]) -> tuple[str, str, Path]:
    """Kind, name and path of a corpus on the command line."""
    name, _, folder = argument.partition("=")
    match = _NAME.fullmatch(name)
    kinds = corpus_names()
    if match is None or match[1] not in kinds or not folder:
        raise TrainingError(
            f"{argument!r}: expected NAME=PATH with NAME one of {', '.join(kinds)}, or "
            "NAME@LABEL=PATH to tell two of a kind apart"
        )
    if match[2] is None:
        number = 2
        while name in taken:
            name = f"{match[1]}@{number}"
            number += 1
    elif name in taken:
        raise TrainingError(f"{argument!r}: {name} is named already; choose another LABEL")
    return match[1], name, Path(folder).expanduser()


def _most(left_out: Counter[str]) -> str:
    """The most frequent of what was left out."""
    return ", ".join(f"{own} {count}" for own, count in left_out.most_common(5))


def _check_spelling(corpora: Mapping[str, Found]) -> None:
    """Refuse classes and speakers that differ only in case or spaces.

    One of them is a slip: it would be a class of its own, or a person on both sides of a fold.
    """
    known: dict[tuple[str, str], tuple[str, str]] = {}
    for name, found in corpora.items():
        spelled = {("label", u.label) for u in found.utterances}
        spelled |= {("speaker", u.speaker) for u in found.utterances if u.speaker}
        for what, word in sorted(spelled):
            key = what, spelling(word)
            other, where = known.setdefault(key, (word, name))
            if other != word:
                raise TrainingError(
                    f"{name}: {what} {word!r} and {other!r} of {where} differ only in case or "
                    "spaces; write them alike"
                )


def _without_copies(corpora: Mapping[str, Found]) -> dict[str, Found]:
    """The corpora without the clips that hold the same as an earlier one.

    Clips that sound the same under another label, speaker or words stay, and are told: which of
    the two is right cannot be known here.
    """
    sounds = contents(
        u.path for found in corpora.values() for u in found.utterances if u.path is not None
    )
    first: dict[Hashable, Utterance] = {}
    at_odds: list[tuple[Utterance, Utterance]] = []
    result = {}
    for name, found in corpora.items():
        kept = []
        for utterance in found.utterances:
            other = None
            if utterance.path is not None:
                key = (sounds[utterance.path], utterance.start, utterance.end)
                other = first.setdefault(key, utterance)
            if other is None or other is utterance or _both_official(other, utterance):
                kept.append(utterance)
            elif not _agree(other, utterance):
                kept.append(utterance)
                at_odds.append((other, utterance))
        copies = len(found.utterances) - len(kept)
        if copies:
            log.warning(
                "%s: %d of %d clips hold the same as an earlier one and are left out",
                name,
                copies,
                len(found.utterances),
            )
        left_out = found.left_out + Counter({SECOND_COPY: copies}) if copies else found.left_out
        result[name] = replace(found, utterances=kept, left_out=left_out)
    if at_odds:
        one, other = at_odds[0]
        log.warning(
            "%d clips hold the same sound as another of another label, speaker or text, such as %s "
            "(%s) and %s (%s): at least one is wrong, and no figure over them is sure",
            len(at_odds),
            one.path,
            _described(one),
            other.path,
            _described(other),
        )
    return result


def _both_official(one: Utterance, other: Utterance) -> bool:
    """Whether a corpus has the clip twice under names of its own: RAVDESS, ASED."""
    kind = kind_of(one.corpus)
    return one.corpus == other.corpus and kind != "manifest" and one.audio.stem != other.audio.stem


def _agree(one: Utterance, other: Utterance) -> bool:
    """Whether the same is said of both, as far as anything is."""
    pairs = ((one.speaker, other.speaker), (one.text, other.text))
    return one.label == other.label and all(a == b or not a or not b for a, b in pairs)


def _described(utterance: Utterance) -> str:
    return f"{utterance.label}, {utterance.speaker or 'speaker unknown'}"


def differences(found: Found) -> list[str]:
    """In what the folder differs from the complete corpus, one phrase each; empty if in nothing."""
    if found.expected is None:
        return []
    expected = found.expected
    per_class = Counter[str]()
    unknown = set()
    for own, label in found.labels.items() if expected.labels else ():
        per_class[label] += expected.labels.get(own, 0)
        if own not in expected.labels:
            unknown.add(label)
    here = Counter(u.label for u in found.utterances)
    pairs = [
        (label, here[label], count)
        for label, count in sorted(per_class.items())
        if label not in unknown
    ]
    pairs += [(f"rows of {s}", found.rows[s], count) for s, count in expected.rows.items()]
    if expected.speakers is not None:
        speakers = len({u.speaker for u in found.utterances})
        pairs.append(("speakers", speakers, expected.speakers))
    return [f"{what}: {count}, not {right}" for what, count, right in pairs if count != right]


def incomplete(corpus: str, found: Found) -> str:
    """A sentence that says in what the folder differs from the complete corpus; empty if not."""
    different = differences(found)
    if not different or not found.expected:
        return ""
    return f"{corpus}: not the complete corpus ({found.expected.source}): {'; '.join(different)}"


def audio_files(folder: Path, corpus: str, expected: str) -> list[Path]:
    """Audio files anywhere under `folder`, sorted; TrainingError where there is none.

    Links are followed, no folder is read twice, and of a clip that is there in two formats, side
    by side, the first is taken.
    """
    if not folder.is_dir():
        raise TrainingError(f"{corpus}: {folder} is not a folder; expected {expected}")
    found: dict[Path, Path] = {}
    for path in files_under(folder):
        # macOS archives have a shadow of every file.
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("._"):
            stem = path.with_suffix("")
            found[stem] = min(found.get(stem, path), path)
    if not found:
        raise TrainingError(f"{corpus}: no .wav or .flac under {folder}; expected {expected}")
    return sorted(found.values())


@dataclass(frozen=True)
class ClipName:
    """What the name of a clip says."""

    speaker: str
    """Unique within the corpus."""
    emotion: str
    """The corpus's own label; one that the map does not name is why the clip is left out."""
    text: str = ""
    """Words spoken, where known."""
    split: str = ""
    """Official split, where the corpus has one."""


def named_clips(
    folder: Path,
    corpus: str,
    layout: str,
    classes: ClassMap,
    read: Callable[[Path], ClipName | None],
) -> tuple[list[Utterance], Counter[str]]:
    """Utterances of a corpus whose file names say it all, and what was left out, by emotion.

    `read` gives None for a file that is none of the corpus. A file that holds the same as another
    of the same name, in another folder, is left out as a second copy, whatever it expresses. Raises
    TrainingError where every file is none of the corpus, or there is none.
    """
    labels = classes.of(corpus)
    named = [
        (path, name)
        for path in audio_files(folder, corpus, layout)
        if (name := read(path)) is not None
    ]
    if not named:
        raise TrainingError(f"{corpus}: {folder} holds no file of that corpus; expected {layout}")
    sounds = contents(path for path, _ in named)
    utterances, left_out = [], Counter[str]()
    seen: set[tuple[Hashable, str, ClipName]] = set()
    for path, name in named:
        clip = (sounds[path], path.stem, name)
        if clip in seen:
            left_out[SECOND_COPY] += 1
            continue
        seen.add(clip)
        if name.emotion in labels:
            speaker = f"{corpus}-{name.speaker}"
            label = labels[name.emotion]
            utterances.append(
                Utterance(path, label, speaker, corpus, text=name.text, split=name.split)
            )
        else:
            left_out[name.emotion] += 1
    return utterances, left_out
