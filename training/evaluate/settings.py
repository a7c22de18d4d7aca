"""Options of the commands that judge; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

PAPER_FOLDS = 10


@dataclass(frozen=True)
class TableSettings:
    """What the table shows."""

    variants: str = ""
    """Variants, with commas between; by default all that the data allows."""
    seeds: int = 1
    """Trainings of each variant and fold, with seeds from --seed on; 3 or more give a deviation."""
    forms: str = field(default="float+int8", metadata={"choices": ("float+int8", "float")})
    """Forms that are judged; float alone is faster: nothing is converted."""
    peers: Path | None = field(default=None, metadata={"metavar": "JSON"})
    """Figures of openSMILE and others, made by python -m benchmarks peers --corpora ... --json."""
