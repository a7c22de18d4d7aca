"""The list of key phrases: a text file that `python -m training keywords` learns or a user writes.

    phrase TAB threshold TAB weights TAB pronunciations

Only the phrase is required. threshold is a likelihood ratio such as 1e+04; weights are what the
phrase tells about each class ("happy=4.1 sad=-0.8"); pronunciations are for words that the
dictionary lacks ("woah=W OW, yay=Y EY"). Lines that begin with # are comments, but for one that
says `LOG_ODDS`: the weights are then natural logarithms of how much likelier a class is for hearing
the phrase, and a bundle that holds the list judges by them (`edge_runtime.model.spotted`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.errors import TextError
from edge_runtime.tokenizer import words as words_of


@dataclass(frozen=True)
class Phrase:
    """One entry of a keyword list."""

    text: str
    """Lower-case words with single spaces."""
    threshold: float | None = None
    """log10 of the likelihood ratio from which it counts as spoken; None: by its length."""
    weights: dict[str, float] = field(default_factory=dict)
    """What it tells about each class: z-score of its log-odds, or those themselves (`LOG_ODDS`)."""
    pronunciations: dict[str, str] = field(default_factory=dict)
    """ARPAbet phones of words that the dictionary lacks."""


_WEIGHT = re.compile(r"\s*([^=]+)=(\S+)(?:\s+|$)")  # the name of a class may hold spaces
LIST = "keywords.txt"
"""What the list is called beside a model of its language."""
LOG_ODDS = "# weights: log-odds"
"""The line of a list by which verdicts may be judged."""


def read_keywords(path: Path) -> list[Phrase]:
    """The phrases of a keyword file. TextError, naming the line, for one that cannot be meant."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TextError(f"keywords {path} cannot be read: {error}") from None
    return parse_keywords(content, path)


def has_log_odds(content: bytes) -> bool:
    """Whether the weights of a list are such that verdicts can be judged by them."""
    return LOG_ODDS.encode() in map(bytes.strip, content.splitlines())


def parse_keywords(content: bytes, path: str | Path) -> list[Phrase]:
    """The phrases of what a keyword file holds; `path` is what errors call it. As above."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise TextError(f"keywords {path} cannot be read: {error}") from None
    phrases: dict[str, Phrase] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            phrase = _parse(line)
        except ValueError as error:
            raise TextError(f"keywords {path}, line {number}: {error}") from None
        if phrase.text in phrases:
            raise TextError(f"keywords {path}, line {number}: {phrase.text!r} is there twice")
        phrases[phrase.text] = phrase
    if not phrases:
        raise TextError(f"keywords {path} lists no phrase; write one to a line")
    return list(phrases.values())


def format_phrase(phrase: Phrase) -> str:
    """The line of a keyword file that `read_keywords` reads back."""
    columns = (
        phrase.text,
        "" if phrase.threshold is None else f"{10.0**phrase.threshold:.2e}",
        " ".join(f"{label}={weight:.2f}" for label, weight in phrase.weights.items()),
        ", ".join(f"{word}={phones}" for word, phones in phrase.pronunciations.items()),
    )
    return "\t".join(columns).rstrip("\t")


def _parse(line: str) -> Phrase:
    """One line; ValueError for one that cannot be meant."""
    text, threshold, weights, pronunciations, *more = (*line.split("\t"), "", "", "")
    if "".join(more).strip():
        raise ValueError("more than four columns separated by tabs")
    words = words_of(text)
    if not words:
        raise ValueError(f"{text!r} holds no word")
    return Phrase(
        " ".join(words),
        _threshold_of(threshold.strip()),
        _weights(weights.strip()),
        {word.lower(): phones for word, phones in named_values(pronunciations.split(","))},
    )


def _threshold_of(text: str) -> float | None:
    if not text:
        return None
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(f"threshold {text} is no likelihood ratio above 0")
    return math.log10(value)


def _weights(column: str) -> dict[str, float]:
    found, place = {}, 0
    while place < len(column):
        match = _WEIGHT.match(column, place)
        if match is None:
            raise ValueError(f"{column[place:]!r}: expected NAME=VALUE")
        found[match[1].strip()] = float(match[2])
        place = match.end()
    return found


def named_values(items: list[str]) -> list[tuple[str, str]]:
    """Names and values of NAME=VALUE; ValueError for an item of another form."""
    pairs = [item.strip().partition("=") for item in items if item.strip()]
    bad = next((item for item, sign, value in pairs if not (item and sign and value)), None)
    if bad is not None:
        raise ValueError(f"{bad!r}: expected NAME=VALUE")
    return [(name.strip(), value.strip()) for name, _, value in pairs]
