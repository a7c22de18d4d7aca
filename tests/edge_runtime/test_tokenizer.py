"""Words as the model reads them: nothing is dropped in silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.embedding import EmbeddingTable
from edge_runtime.tokenizer import EXPRESSION, MAX_TOKENS, UNKNOWN, Tokenizer, is_mark, words

VOCABULARY = ["i", "so", "soo", "mike", "don't", "happy", "o'clock", "cool"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm SO happy!!!", ["i'm", "so", "happy"]),
        ("Don\u2019t -- you 'quote' me.", ["don't", "you", "quote", "me"]),
        ("rock'n'roll at 7 o'clock", ["rock'n'roll", "at", "7", "o'clock"]),
        ("well-known; Caf\u00e9_\u00fcber", ["well", "known", "caf\u00e9", "\u00fcber"]),
        ("?! ... '", []),
        ("", []),
    ],
)
def test_words_are_lower_cased_and_keep_their_apostrophes(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_punctuation_stays_where_it_is_asked_for() -> None:
    found = words("Well... no, Mike\u2019s?! (Yes) \u2026 $5.", punctuation=True)
    assert found == ["well", "...", "no", ",", "mike's", "?", "!", "yes", "...", "5", "."]
    assert [w for w in found if is_mark(w)] == ["...", ",", "?", "!", "...", "."]


@pytest.mark.parametrize(
    ("word", "known_as"),
    [
        ("mike's", "mike"),
        ("don't", "don't"),
        ("soooo", "soo"),
        ("iiii", "i"),
        ("coool", "cool"),
        ("miiike's", "mike"),
        ("zebra", None),
    ],
)
def test_an_unknown_word_is_read_as_its_plainer_form_or_as_unknown(
    word: str, known_as: str | None
) -> None:
    tokenizer = Tokenizer(VOCABULARY)
    row = 2 + VOCABULARY.index(known_as) if known_as else UNKNOWN
    assert tokenizer.row(word) == row


def test_what_is_unknown_and_what_is_cut_is_counted() -> None:
    tokens = Tokenizer(VOCABULARY, limit=4).encode("Happy zebra, so yak happy happy")
    assert tokens.ids.tolist() == [7, UNKNOWN, 3, UNKNOWN]
    assert (tokens.unknown, tokens.cut) == (2, 2)


@given(st.text(max_size=300))
def test_any_text_at_all_gives_rows_of_the_table(text: str) -> None:
    tokens = Tokenizer(VOCABULARY).encode(text)
    assert len(tokens.ids) + tokens.cut == len(words(text))
    assert len(tokens.ids) <= MAX_TOKENS
    assert ((tokens.ids >= 1) & (tokens.ids < 2 + len(VOCABULARY))).all()
    assert tokens.unknown == int((tokens.ids == UNKNOWN).sum())


def test_rows_of_a_table_are_steps_times_scale() -> None:
    values = np.array([[0, 0], [10, -20], [127, 5]], np.int8)
    table = EmbeddingTable(values, np.array(0.5, np.float32))
    np.testing.assert_array_equal(table.rows(np.array([1, 2])), [[5, -10], [63.5, 2.5]])
    shifted = EmbeddingTable(values, np.array(2, np.float32), zero_point=5)
    np.testing.assert_array_equal(shifted.rows(np.array([2, 1])), [[244, 0], [10, -50]])


def test_how_a_text_is_written_is_read_where_the_vocabulary_has_words_for_it() -> None:
    text = "WHAT?! Nooo way!! I see... Hm.\u2026 a,b"
    said = "what <caps> ?! nooo <long> way !! i see ... hm ... a , b <end>"
    assert words(text, punctuation=True, expression=True) == said.split()
    known = [*VOCABULARY, "!", *EXPRESSION]
    ids = Tokenizer(known, punctuation=True).encode("so HAPPY!!").ids
    assert [known[row - 2] for row in ids] == ["so", "happy", "<caps>", "!!", "<end>"]
    for plain in (Tokenizer(known), Tokenizer([*VOCABULARY, "!"], punctuation=True)):
        assert len(plain.encode("so HAPPY!!").ids) == 2 + 2 * plain.punctuation
    assert words("_ *", punctuation=True, expression=True) == []
    assert [word for word in EXPRESSION if not is_mark(word)] == ["<end>"]
