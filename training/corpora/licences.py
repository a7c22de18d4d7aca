"""What the licences of corpora ask, one by one and of a model that was made of them all.

A licence of `licences.toml` is a list of the words of `ASKS`. Whether a model is a work derived
from its data is not settled law: here the terms are read as if it were.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ASKS = {
    "attribution": "the corpus, its authors and its licence are named",
    "no commercial use": "nobody earns money by it",
    "research only": "it is used for research",
    "share alike": "what is made of it is passed on under its licence and no other",
    "share alike of databases": "so are databases that are made of it; a model is none",
    "no derivatives": "nothing that is made of it is passed on",
    "a signed form": "what may be done stands in a form that each user signs",
    "the rest not in writing": "there is no formal licence; who must be certain asks its authors",
}
"""What a licence can ask, and what that is in plain words."""


def asks_of(licence: str) -> tuple[str, ...]:
    """What `licence` asks, in the words of `ASKS`; nothing where it is not known here."""
    return tuple(_table()["licences"].get(licence, ()))


def teachers_terms(names: Iterable[str]) -> list[str]:
    """What the teachers of these names are, and under which licence, where that is known here."""
    known = _table()["teachers"]
    return [known[name] for name in names if name in known]


def together(licences: Mapping[str, str]) -> str:
    """What may be done with a model of all these corpora: a few sentences of Markdown.

    Parameters
    ----------
    licences : of each corpus, as `Found.licence` has it; "" where that is its owner's.
    """
    by_word: dict[str, list[str]] = {}
    for corpus, licence in licences.items():
        for word in asks_of(licence):
            by_word.setdefault(word, []).append(corpus)
    unwritten = by_word.pop("the rest not in writing", [])
    unknown = [corpus for corpus, licence in licences.items() if not asks_of(licence)]
    told = []
    if by_word:
        words = [word for word in ASKS if word in by_word]
        alike: dict[str, list[str]] = {}
        for corpus in by_word.get("share alike", ()):
            alike.setdefault(licences[corpus].partition(",")[0], []).append(corpus)
        told.append(f"**{', '.join(words).capitalize()}**. {_may(words, alike)}")
    if unwritten:
        told.append(
            f"**Without a formal licence: {_listed(unwritten)}**. What is permitted there is not "
            "in writing, and who must be certain asks the authors."
        )
    if unknown:
        told.append(f"**Under terms that are not known here: {_listed(unknown)}**. Ask the owner.")
    return " ".join(told) or "**Unknown: the run names no corpus**."


def _may(words: Sequence[str], alike: Mapping[str, Sequence[str]]) -> str:
    """What may be done where all these words are asked, as a sentence.

    `alike` are the licences under which alone a model may be passed on, with whose they are.
    """
    use = "for research" if "research only" in words else "for anything"
    if "no commercial use" in words:
        use += " that is not commercial"
    elif "research only" not in words:
        use += ", commerce as well"
    if len(alike) > 1:
        each = [f"{licence} ({_listed(corpora)})" for licence, corpora in alike.items()]
        passed_on = (
            f"cannot be passed on at all: {_listed(each)} each want to be the one licence under "
            "which that is done"
        )
    elif "no derivatives" in words:
        passed_on = "not be passed on"
    elif "a signed form" in words:
        passed_on = "be passed on only where the forms that were signed allow it"
    elif alike:
        passed_on = f"be passed on under {next(iter(alike))}"
    else:
        passed_on = "be passed on"
    return f"The weights may be used {use}, and {passed_on}; the sources above are named with them."


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("licences.toml").read_text(encoding="utf-8"))
