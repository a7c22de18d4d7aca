"""The one family of errors of the conversion."""

from __future__ import annotations


class ConversionError(Exception):
    """A step of the conversion failed or its numbers left the bounds; the message says which."""
