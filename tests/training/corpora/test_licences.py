"""What the licences of corpora ask, alone and together."""

from __future__ import annotations

import pytest

from training.corpora import corpus_names, licence_of
from training.corpora.licences import ASKS, asks_of, teachers_terms, together
from training.data.teachers import TEACHERS


def test_every_corpus_says_what_its_licence_asks() -> None:
    for name in corpus_names():
        asked = asks_of(licence_of(name))
        assert bool(asked) == (name != "manifest"), name
        assert {*asked} <= {*ASKS}, name
    assert licence_of("cremad@mine") == "Open Database License 1.0"
    assert licence_of("elsewhere") == ""
    assert asks_of("a licence of one's own") == ()


def test_every_teacher_has_terms() -> None:
    assert len(teachers_terms(TEACHERS)) == len(TEACHERS)
    assert teachers_terms(["nobody"]) == []


def of(*corpora: str) -> str:
    return together({name: licence_of(name) for name in corpora})


def test_what_asks_for_names_alone_may_be_sold() -> None:
    told = of("goemotions", "librispeech")
    assert told == (
        "**Attribution**. The weights may be used for anything, commerce as well, and be passed "
        "on; the sources above are named with them."
    )
    # Who leaves out a formal licence is named, whatever the others permit.
    assert of("goemotions", "emodb").startswith(told)
    assert "**Without a formal licence: emodb**" in of("goemotions", "emodb")
    assert "share alike of databases" in of("cremad")
    assert "for anything, commerce as well, and be passed on" in of("cremad", "goemotions")


@pytest.mark.parametrize(
    ("corpora", "expected"),
    [
        (("ravdess", "goemotions"), "for anything that is not commercial, and be passed on under"),
        (("ravdess", "emovo"), "for research that is not commercial, and be passed on under CC BY"),
        (("emovo",), "used for research, and be passed on;"),
        (("koemo", "nemo"), "be passed on under CC BY-NC-SA 4.0;"),
        (("meld", "goemotions"), "for anything, commerce as well, and be passed on under GPL-3.0"),
        (("tess", "ravdess"), "and not be passed on"),
        (("esd",), "only where the forms that were signed allow it"),
    ],
)
def test_the_strictest_of_each_kind_binds(corpora: tuple[str, ...], expected: str) -> None:
    assert expected in of(*corpora)


def test_licences_that_nobody_can_keep_together_are_told() -> None:
    assert (
        "cannot be passed on at all: GPL-3.0 (meld) and CC BY-NC-SA 4.0 (ravdess and nemo) each "
        "want to be the one licence"
    ) in of("meld", "ravdess", "nemo")


def test_terms_that_are_not_known_are_told() -> None:
    told = together({"manifest": "", "goemotions": "Apache-2.0", "other": "their own"})
    assert "**Under terms that are not known here: manifest and other**. Ask the owner." in told
    assert together({}) == "**Unknown: the run names no corpus**."
