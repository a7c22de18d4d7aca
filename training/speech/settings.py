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


@dataclass(frozen=True)
class PhraseSettings(Settings):
    """How phrases of the user's own become a list."""

    labels: str = setting(
        "",
        "Classes that there are: of this run or bundle (a folder, or default), or named, "
        "calm,stressed,tired; by default those of the file.",
        metavar="RUN",
    )
    alarms: float = setting(12.0, "False alarms an hour of speech, of the whole list.", above=0)
    trust: float = setting(
        0.8,
        "Of the times that a phrase is said, the share in which it is right about the class.",
        above=0,
        below=1,
    )
    said: float = setting(
        6.0, "How often a phrase is said in an hour of speech, about.", above=0, maximum=1000
    )
    model: Path | None = setting(
        None,
        "Folder of an acoustic model of CMU Sphinx, for another language than US English (mdef, "
        "means, ...), with a dictionary in it.",
        metavar="DIR",
    )
    dictionary: Path | None = setting(
        None, "A dictionary in place of the one in that folder: a word and its phones a line."
    )
    voice: str = setting(
        "",
        "A voice of eSpeak NG that speaks the phrases, such as de (default: flite, whose voices "
        "are made of recorded speech and are US English).",
    )
    takes: int = setting(12, "Times that a phrase is spoken.", minimum=2, maximum=1000)
    fillers: int = setting(
        240, "Sentences without a phrase that are spoken.", minimum=0, maximum=100_000
    )
    negatives: float = setting(60.0, "Minutes of real speech to tune on, at most.", above=0)
    min_hits: float = setting(
        0.34, "Share of its takes in which a phrase must be found.", minimum=0, maximum=1
    )
    jobs: int = setting(0, "Processes; 0 for one per core.", minimum=0, maximum=1024)
    seed: int = setting(0, "Of the choice of sentences, voices and clips.", SEEDS)


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
