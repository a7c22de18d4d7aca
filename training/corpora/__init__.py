"""Corpora on disk as lists of utterances. One file a corpus, one line of registration here.

A corpus is a function from a directory to utterances. It knows the official layout and nothing
else; which of its emotions become which class stands in `labels.toml`.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from training.errors import TrainingError

AUDIO_SUFFIXES = (".wav", ".flac")


Clip = tuple[str, float, float | None]
"""What tells the sound of an utterance from all other sound: its file, start and end in seconds."""


@dataclass(frozen=True)
class Utterance:
    """One labelled stretch of speech, or its words alone, as the manifest contract has it."""

    path: Path | None
    """Audio file; None where only the words are there."""
    label: str
    """Class."""
    speaker: str
    """Who speaks; unique across corpora."""
    corpus: str
    """Name of the corpus it comes from."""
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
    """Utterances of the classes in `labels.toml`."""
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


def _loaders() -> dict[str, Callable[[Path], Found]]:
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


def load_corpora(arguments: Iterable[str], ordinary: bool = False) -> dict[str, Found]:
    """Corpora of `NAME=PATH` arguments, by name.

    Raises TrainingError for an argument of another form, an unknown name, a folder that is
    missing, empty or not that corpus, or one of which no clip has a wanted label; unless `ordinary`
    asks for such speech, also for a corpus of nothing else, which trains no class.
    """
    result = {}
    for argument in arguments:
        name, _, folder = argument.partition("=")
        loaders = _loaders()
        if name not in loaders or not folder:
            raise TrainingError(
                f"{argument!r}: expected NAME=PATH with NAME one of {', '.join(loaders)}"
            )
        path = Path(folder)
        if not path.exists():
            raise TrainingError(f"{name}: there is no {path}")
        found = loaders[name](path)
        if found.ordinary and not ordinary:
            raise TrainingError(
                f"{name} is ordinary speech without labels of emotion: it trains and judges no "
                "class; leave it out here"
            )
        if not found.utterances and not found.ordinary:
            raise TrainingError(f"{name}: no clip under {path} has a label of labels.toml")
        result[name] = found
    if not result:
        raise TrainingError("name at least one corpus, such as ravdess=DIR")
    return result


def differences(corpus: str, found: Found) -> list[str]:
    """In what the folder differs from the complete corpus, one phrase each; empty if in nothing."""
    if found.expected is None:
        return []
    expected = found.expected
    per_class = Counter[str]()
    unknown = set()
    for own, label in label_map(corpus).items() if expected.labels else ():
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
        pairs.append(("speakers", len({u.speaker for u in found.utterances}), expected.speakers))
    return [f"{what}: {count}, not {right}" for what, count, right in pairs if count != right]


def incomplete(corpus: str, found: Found) -> str:
    """A sentence that says in what the folder differs from the complete corpus; empty if not."""
    different = differences(corpus, found)
    if not different or not found.expected:
        return ""
    return f"{corpus}: not the complete corpus ({found.expected.source}): {'; '.join(different)}"


@cache
def label_map(corpus: str) -> dict[str, str]:
    """The corpus's own labels and their classes."""
    with (Path(__file__).parent / "labels.toml").open("rb") as file:
        maps: dict[str, dict[str, str]] = tomllib.load(file)
    return maps[corpus]


def audio_files(folder: Path, corpus: str, expected: str) -> list[Path]:
    """Audio files anywhere under `folder`, sorted; TrainingError where there is none."""
    if not folder.is_dir():
        raise TrainingError(f"{corpus}: {folder} is not a folder; expected {expected}")
    files = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in AUDIO_SUFFIXES and not p.name.startswith("._")  # of macOS archives
    )
    if not files:
        raise TrainingError(f"{corpus}: no .wav or .flac under {folder}; expected {expected}")
    return files


def read_text(path: Path, *fallbacks: str) -> str:
    """The text of a file in UTF-8 or UTF-16, else in the first of `fallbacks` that fits it."""
    content = path.read_bytes()
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff") or content[1:2] == b"\0"  # with no mark
    first = "utf-16" if wide else "utf-8-sig"
    for encoding in (first, *fallbacks):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise TrainingError(f"{path} is no text in {', '.join((first, *fallbacks))}")


@dataclass(frozen=True)
class ClipName:
    """What the name of a clip says."""

    speaker: str
    """Unique within the corpus."""
    emotion: str
    """The corpus's own label; one that `labels.toml` does not list is why the clip is left out."""
    text: str = ""
    """Words spoken, where known."""


def named_clips(
    folder: Path, corpus: str, layout: str, read: Callable[[Path], ClipName | None]
) -> tuple[list[Utterance], Counter[str]]:
    """Utterances of a corpus whose file names say it all, and what was left out, by emotion.

    `read` gives None for a file that is none of the corpus. Raises TrainingError where every file
    is, or there is none.
    """
    labels = label_map(corpus)
    utterances, left_out = [], Counter[str]()
    for path in audio_files(folder, corpus, layout):
        name = read(path)
        if name is None:
            continue
        if name.emotion in labels:
            speaker = f"{corpus}-{name.speaker}"
            label = labels[name.emotion]
            utterances.append(Utterance(path, label, speaker, corpus, text=name.text))
        else:
            left_out[name.emotion] += 1
    if not utterances and not left_out:
        raise TrainingError(f"{corpus}: {folder} holds no file of that corpus; expected {layout}")
    return utterances, left_out
