"""Options of the commands that listen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KeywordSettings:
    """How the list is learned."""

    count: int = 400
    """Phrases in the list, at most."""
    longest: int = 3
    """Words of a phrase, at most."""
    min_count: int = 10
    """Texts that a phrase must be in."""
    min_phones: int = 3
    """Phones of a phrase: shorter ones are set off by everything."""
    min_score: float = 2.5
    """z-score of the log-odds in the class it tells most for."""
    prior: float = 1000.0
    """Weight of the prior, in words for the ranking and in texts for the shares of a class."""
    alarms: float = 100.0
    """False alarms an hour of speech, of the whole list."""
    examples: int = 6
    """Sentences spoken with each phrase."""
    negatives: float = 60.0
    """Minutes of real speech to tune on, at most."""
    min_hits: float = 0.1
    """Share of its sentences in which a phrase must be found."""
    jobs: int = 0
    """Processes; 0 for one per core."""
    seed: int = 0
    """Of the choice of sentences, voices and clips."""


TRANSCRIPTS = Path("runs/transcripts.csv")  # where transcripts go and are looked for


@dataclass(frozen=True)
class TranscribeSettings:
    """What hears the clips."""

    engine: str = "asr"
    """The engine, as for edge-emotion run --text."""
    jobs: int = 0
    """Clips heard at a time, each in a process of its own; 0 for one per core."""
