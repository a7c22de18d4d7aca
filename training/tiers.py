"""The tiers of a model: alone, or with the first blocks of a pre-trained encoder hearing along."""

SMALL, MEDIUM, LARGE = "small", "medium", "large"
BLOCKS = {MEDIUM: 1, LARGE: 3}
"""Of the encoder of Whisper-tiny, by tier. With one all int8 graphs stay within 6 MB; behind the
third, emotions are told best (docs/experiments.md)."""
TIERS = (SMALL, *BLOCKS)
