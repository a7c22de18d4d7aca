"""What `benchmarks.adapting` measures, as its command asks for it; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.fit.settings import FitSettings
from training.tiers import SMALL

ADAPT, WITH_ENCODER, FIT, COMPARE = "adapt", "large", "fit", "compare"
WAYS = (ADAPT, WITH_ENCODER, FIT, COMPARE)
"""`adapt` with the head alone; with the pre-trained encoder beside it; a network of the default
shape and schedule from nothing; ComParE_2016 and an SVM."""


@dataclass(frozen=True)
class Trial:
    """What is measured."""

    clips: tuple[int, ...] = (20, 60, 200, 600)
    """Clips that train, of each class alike."""
    draws: int = 5
    """Draws of speakers and clips, with seeds from 0 on."""
    ways: tuple[str, ...] = (ADAPT, FIT, COMPARE)
    """What learns, of `WAYS`."""
    base: str = SMALL
    """What `adapt` starts from: small, or the folder of a run."""
    seen: bool = False
    """Whether the base may have trained on a corpus that judges it."""
    schedule: FitSettings = field(default_factory=FitSettings)
    """Of `fit`; the seed is that of the draw."""
    jobs: int | None = None
    """Processes that read clips; by default one a core."""
