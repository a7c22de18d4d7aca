"""The one family of errors of training."""

from __future__ import annotations


class TrainingError(Exception):
    """A mistake in the data or the settings; the message names it and the next step."""
