"""The terminal as rich draws to it: for the live view, and for every table of the project."""

from __future__ import annotations

from rich.console import Console, ConsoleDimensions

NARROWEST = 40
"""Columns below which nothing is drawn narrower: a smaller terminal wraps it."""
_WIDE = 10_000  # columns where nobody looks: more than any table has


class Terminal(Console):
    """Standard output, at least `at_least` columns wide."""

    def __init__(self, at_least: int = NARROWEST, *, highlight: bool = False) -> None:
        self._at_least = at_least
        # What is shown is others' text: a name in brackets or between colons is a name.
        super().__init__(highlight=highlight, markup=False, emoji=False)

    @property  # type: ignore[misc]  # rich lets others set it, and never does itself
    def size(self) -> ConsoleDimensions:
        """Columns and rows."""
        whole = super().size
        return ConsoleDimensions(max(whole.width, self._at_least), whole.height)

    def on_broken_pipe(self) -> None:
        """Let the command end as it does with every other output; rich would exit with 1."""
        raise BrokenPipeError


class Tables(Terminal):
    """Standard output for tables and what is said of them: as wide as their cells in a pipe."""

    def __init__(self, at_least: int = NARROWEST) -> None:
        super().__init__(at_least, highlight=True)
        if not self.is_terminal:
            self._at_least = _WIDE
