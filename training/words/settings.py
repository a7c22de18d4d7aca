"""Options of models that read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.settings import Settings, setting
from training.speech.settings import TRANSCRIPTS


@dataclass(frozen=True)
class WordSettings(Settings):
    """The words that a model reads."""

    vectors: Path | None = setting(
        None,
        "Word vectors, a GloVe or word2vec text file, plain or .gz; by default glove.6B.50d.",
    )
    vocabulary: int = setting(
        10_000,
        "Most frequent words that are known beside those of the training texts.",
        minimum=0,
    )
    punctuation: bool = setting(
        False,
        "Take . , ! ? and ... for words: for written text, not for what an ASR returns.",
    )
    text: str = setting(
        "transcript",
        "The corpus's own words, or those that an engine heard (see transcribe).",
        choices=("transcript", "asr"),
    )
    transcripts: Path = setting(TRANSCRIPTS, "What an engine heard, for --text asr.")
    expression: bool = setting(
        False,
        "With --punctuation: words for runs of marks, capitals, drawn out words and the end too.",
    )


@dataclass(frozen=True)
class DistilSettings(Settings):
    """What a model of words learns from a bag-of-words teacher."""

    distil: float = setting(
        0.0,
        "Share of a text's target that TF-IDF + logistic regression, out of fold, give; 0 to 1.",
        minimum=0,
        maximum=1,
    )
    distil_texts: str = setting(
        "",
        "NAME=PATH of a corpus that comes split: a model of its training texts informs the "
        "teacher.",
    )
    distil_folds: int = setting(
        5,
        "Folds of the training texts; what a text is taught comes from a teacher of the others.",
        minimum=2,
    )
    distil_pool: int = setting(
        0,
        "How many of those texts, the best known first, are learned as the teacher labels them.",
        minimum=0,
    )
    distil_columns: bool = setting(
        False,
        "Add columns to the word vectors: what the teacher's weights say of each word, by class.",
    )
