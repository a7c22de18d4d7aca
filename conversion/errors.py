"""The one family of errors of the conversion."""

from __future__ import annotations


class ConversionError(Exception):
    """A step of the conversion failed or its numbers left the bounds; the message says which."""


class MissingToolError(ConversionError):
    """A compiler or package that a target needs is not installed."""

    def __init__(self, target: str, tool: str, command: str) -> None:
        super().__init__(f"target {target} needs {tool}, which is not installed: {command}")
