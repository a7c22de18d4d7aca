"""Options of models that read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from training.speech.settings import TRANSCRIPTS


@dataclass(frozen=True)
class WordSettings:
    """The words that a model reads."""

    vectors: Path | None = None
    """Word vectors, a GloVe or word2vec text file, plain or .gz; by default glove.6B.50d."""
    vocabulary: int = 10_000
    """Most frequent words that are known beside those of the training texts."""
    punctuation: bool = False
    """Take . , ! ? and ... for words: for written text, not for what an ASR returns."""
    text: str = field(default="transcript", metadata={"choices": ("transcript", "asr")})
    """The corpus's own words, or those that an engine heard (see transcribe)."""
    transcripts: Path = TRANSCRIPTS
    """What an engine heard, for --text asr."""
    expression: bool = False
    """With --punctuation: words for runs of marks, capitals, drawn out words and the end too."""


@dataclass(frozen=True)
class DistilSettings:
    """What a model of words learns from a bag-of-words teacher."""

    distil: float = 0.0
    """Share of a text's target that TF-IDF + logistic regression, out of fold, give; 0 to 1."""
    distil_texts: str = ""
    """NAME=PATH of a corpus that comes split: a model of its training texts informs the teacher."""
    distil_folds: int = 5
    """Folds of the training texts; what a text is taught comes from a teacher of the others."""
    distil_pool: int = 0
    """How many of those texts, the best known first, are learned as the teacher labels them."""
    distil_columns: bool = False
    """Add columns to the word vectors: what the teacher's weights say of each word, by class."""
