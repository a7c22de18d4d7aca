"""Options of the commands that judge; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.settings import Settings, setting

PAPER_FOLDS = 10


@dataclass(frozen=True)
class TableSettings(Settings):
    """What the table shows."""

    variants: str = setting(
        "",
        "Variants, with commas between; by default all that the data allows.",
    )
    seeds: int = setting(
        1,
        "Trainings of each variant and fold, with seeds from --seed on; 3 or more give a "
        "deviation.",
        minimum=1,
        maximum=1000,
    )
    forms: str = setting(
        "float+int8",
        "Forms that are judged; float alone is faster: nothing is converted.",
        choices=("float+int8", "float"),
    )
    peers: Path | None = setting(
        None,
        "Figures of openSMILE and others, made by python -m benchmarks peers --corpora ... --json.",
        metavar="JSON",
    )
