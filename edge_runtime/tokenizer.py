"""Text to rows of the embedding table, the same in training and on the device."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PADDING, UNKNOWN = 0, 1
"""Rows of the table that stand for no word: beyond the end, and a word that is not in it."""
FIRST_WORD = 2
"""Row of the vocabulary's first word."""
MAX_TOKENS = 128  # the paper's window

# A word is letters and digits of any script, with apostrophes inside: "don't", "o'clock".
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_WORD_OR_MARK = re.compile(_WORD.pattern + r"|\.{2,}|[.,!?]")
_WORD_OR_RUN = re.compile(r"\.{2,}|[.,!?]+|" + _WORD.pattern)
_APOSTROPHES = str.maketrans("\u2018\u2019\u02bc\u0060\u00b4\u2032", "''''''")
_ELLIPSIS = str.maketrans({"\u2026": "..."})
_ELONGATED = re.compile(r"(.)\1{2,}")
SHOUTED, DRAWN_OUT, END = "<caps>", "<long>", "<end>"
EXPRESSION = ("!!", "??", "?!", SHOUTED, DRAWN_OUT, END)
"""Words for how a text is written: runs of marks; behind a word in capitals, or with a letter three
times in a row; behind the last word. A vocabulary holds all of them or none."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """A text as the model reads it."""

    ids: npt.NDArray[np.int64]
    """Rows of the embedding table, (n,)."""
    unknown: int
    """How many of them are the unknown word."""
    cut: int
    """Words beyond the last that is read."""


class Tokenizer:
    """Clean lower-cased words to rows of the table, by a vocabulary.

    A word that is not in the vocabulary is tried without its apostrophe suffix ("mike's" as
    "mike"), then without its elongation ("soooo" as "soo" and "so"), each also for the other;
    what is still not found becomes the unknown word and is counted. With `punctuation`, marks are
    words too; with those of `EXPRESSION` where the vocabulary has them.
    """

    def __init__(
        self, vocabulary: Sequence[str], limit: int = MAX_TOKENS, punctuation: bool = False
    ) -> None:
        self.limit, self.punctuation = limit, punctuation
        self._rows = {word: row for row, word in enumerate(vocabulary, FIRST_WORD)}
        self.expression = punctuation and END in self._rows

    def encode(self, text: str) -> Tokens:
        """The first `limit` words of `text`."""
        found = words(text, self.punctuation, self.expression)
        rows = [self.row(word) for word in found[: self.limit]]
        return Tokens(
            np.array(rows, np.int64), rows.count(UNKNOWN), max(0, len(found) - self.limit)
        )

    def row(self, word: str) -> int:
        """The row of one clean word; `UNKNOWN` where neither it nor a plainer form has one."""
        return next((self._rows[f] for f in plainer_forms(word) if f in self._rows), UNKNOWN)


def words(text: str, punctuation: bool = False, expression: bool = False) -> list[str]:
    """The words of `text`, lower-cased, apostrophes inside words kept, other marks removed.

    With `punctuation` . , ! ? and ... stay, as words of their own: written text says much by them,
    what a speech recognizer returns has none. With `expression`, which takes in `punctuation`, the
    words of `EXPRESSION` join them.
    """
    if expression:
        return _expressed(text)
    clean = text.lower().translate(_APOSTROPHES)
    if not punctuation:
        return _WORD.findall(clean)
    marked = _WORD_OR_MARK.findall(clean.translate(_ELLIPSIS))
    return ["..." if word.startswith("..") else word for word in marked]


def is_mark(word: str) -> bool:
    """Whether a word that `words` gives is one that only written text has."""
    return _WORD.fullmatch(word) is None and word != END


def plainer_forms(word: str) -> Iterator[str]:
    """`word`, and what it is looked up as when it is not known, best first."""
    stem = word.partition("'")[0]
    for form in dict.fromkeys((word, stem)):
        yield form
        for repeat in (r"\1\1", r"\1"):
            shorter = _ELONGATED.sub(repeat, form)
            if shorter != form:
                yield shorter


def _expressed(text: str) -> list[str]:
    """`words` with those of `EXPRESSION`."""
    result: list[str] = []
    for found in _WORD_OR_RUN.findall(text.translate(_APOSTROPHES).translate(_ELLIPSIS)):
        if found[0] in ".,!?":
            result += _run(found)
            continue
        word = found.lower()
        result.append(word)
        if len(found) > 1 and found.isupper():
            result.append(SHOUTED)
        if _ELONGATED.search(word):
            result.append(DRAWN_OUT)
    return [*result, END] if result else result


def _run(marks: str) -> list[str]:
    """The words for neighbouring marks."""
    if marks.startswith(".."):
        return ["..."]
    if "!" in marks and "?" in marks:
        return ["?!"]
    for run in ("!!", "??"):
        if run in marks:
            return [run]
    return list(marks)
