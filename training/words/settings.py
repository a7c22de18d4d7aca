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
