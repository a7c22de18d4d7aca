"""The tiers of a model: alone, or with the first blocks of a pre-trained encoder hearing along."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extent:
    """How much of the encoder of Whisper-tiny hears along."""

    blocks: int
    """Its first ones, 1 to 4."""
    units: int = 1536
    """Of the dense layers of each, of which 1,536 are published: those that weigh most."""


SMALL, MEDIUM, LARGE = "small", "medium", "large"
EXTENTS = {MEDIUM: Extent(2, 1152), LARGE: Extent(3)}
"""By tier: medium leaves int8 graphs of 6 MB in all; behind the third block emotions are told
best (docs/experiments.md)."""
TIERS = (SMALL, *EXTENTS)
