"""Bounds that several settings share."""

from __future__ import annotations

from edge_runtime.settings import Limits

SEEDS = Limits(minimum=0, maximum=2**32 - 1)
"""Seeds that NumPy, torch and the rest all take."""
FOLDS = Limits(minimum=2)
"""Folds: with one there is nothing to train on."""
