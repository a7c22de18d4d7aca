"""Options of the commands that listen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.settings import Settings, setting
from training.limits import SEEDS


@dataclass(frozen=True)
class KeywordSettings(Settings):
    """How the list is learned."""

    count: int = setting(400, "Phrases in the list, at most.", minimum=1)
    longest: int = setting(3, "Words of a phrase, at most.", minimum=1, maximum=10)
    min_count: int = setting(10, "Texts that a phrase must be in.", minimum=1)
    min_phones: int = setting(
        3,
        "Phones of a phrase: shorter ones are set off by everything.",
        minimum=1,
    )
    min_score: float = setting(
        2.5,
        "z-score of the log-odds in the class it tells most for.",
        minimum=0,
    )
    prior: float = setting(
        1000.0,
        "Weight of the prior, in words for the ranking and in texts for the shares of a class.",
        above=0,
    )
    alarms: float = setting(100.0, "False alarms an hour of speech, of the whole list.", above=0)
    examples: int = setting(6, "Sentences spoken with each phrase.", minimum=1)
    negatives: float = setting(60.0, "Minutes of real speech to tune on, at most.", above=0)
    min_hits: float = setting(
        0.1,
        "Share of its sentences in which a phrase must be found.",
        minimum=0,
        maximum=1,
    )
    jobs: int = setting(0, "Processes; 0 for one per core.", minimum=0, maximum=1024)
    seed: int = setting(
        0,
        "Of the choice of sentences, voices and clips.",
        SEEDS,
    )


TRANSCRIPTS = Path("runs/transcripts.csv")  # where transcripts go and are looked for


@dataclass(frozen=True)
class TranscribeSettings(Settings):
    """What hears the clips."""

    engine: str = setting("asr", "The engine, as for edge-emotion run --text.")
    jobs: int = setting(
        0,
        "Clips heard at a time, each in a process of its own; 0 for one per core.",
        minimum=0,
        maximum=1024,
    )
