"""Words: what hears them. One file an engine, in `engines`; words of somebody else in `given`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from edge_runtime.events import Word
from edge_runtime.pcm import Int16

OFF = "off"
GIVEN_FORMS = ("jsonl:FILE", "jsonl:-", "mqtt://HOST/TOPIC")
"""Words that somebody else hears."""
GIVEN_SCHEMES = ("jsonl:", "mqtt:")
"""How their names begin."""


@dataclass(frozen=True)
class Transcript:
    """What an engine hears in one utterance, from its beginning up to now."""

    words: tuple[Word, ...]
    """In order of time; empty where nothing was understood."""
    final: bool
    """True once an utterance, when the engine will not change it any more."""
    start: float
    """Second of the stream at which the utterance began: which one this is, however late."""
    source: str
    """The engine: "keywords", "asr", "vosk"..."""

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(word.text for word in self.words)


class TextSource(Protocol):
    """An engine that hears words, loaded. Utterance by utterance: begin, feed..., end."""

    notes: tuple[str, ...]
    """What loading left out or changed, a sentence each, for the user."""

    @property
    def name(self) -> str:
        """What its transcripts are marked with."""
        ...

    def restart(self) -> None:
        """A new stream begins, of another microphone perhaps; an open utterance is dropped."""
        ...

    def begin(self, t: float) -> None:
        """An utterance begins at second `t` of the stream; one that is still open is dropped."""
        ...

    def feed(self, samples: Int16) -> Transcript | None:
        """Take samples of the utterance, int16, mono, 16 kHz, shape (n,).

        Returns what is heard so far where that has changed, else None.
        """
        ...

    def end(self) -> Transcript:
        """Close the utterance; what was heard in it. Raises TextError without a `begin`."""
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...


def without_password(name: str) -> str:
    """The name of a source of words as it may be shown: no user, no password of an address."""
    scheme, separator, rest = name.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else name


def has_password(name: str) -> bool:
    """Whether the name of a source of words holds a password."""
    user = name.partition("://")[2].rpartition("@")[0]
    return ":" in user


def with_password(name: str, password: str) -> str:
    """The address of a broker that names a user, with that user's password; others as they are."""
    scheme, separator, rest = name.partition("://")
    user, at, place = rest.rpartition("@")
    if not (separator and at) or "/" in user or has_password(name):
        return name
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}"


def spell(word: str) -> str:
    """A word as the dictionary of an engine writes it, as text: "read(2)" is "read"."""
    return word.partition("(")[0].lower()
