"""Questions on the terminal, a line each: Enter takes the default, what is wrong is asked again."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable

from edge_runtime.errors import EdgeError

Check = Callable[[str], object]
"""Looks at an answer; raises EdgeError for one that cannot be."""
_YES_OR_NO = {"y": True, "yes": True, "n": False, "no": False}


def on_a_terminal() -> bool:
    """Whether somebody sits there who can answer, and sees what is asked."""
    return all(hasattr(stream, "isatty") and stream.isatty() for stream in (sys.stdin, sys.stdout))


class Questions:
    """Asks whoever sits at the terminal.

    Parameters
    ----------
    defaults : take every default, and ask nothing.
    instead : what helps where nobody can be asked: the end of a sentence.

    Raises EdgeError where nobody can be asked. So does every question, when the input ends; Ctrl-C
    is a KeyboardInterrupt as everywhere.
    """

    def __init__(self, defaults: bool, instead: str) -> None:
        self.defaults = defaults
        """Whether nobody is asked."""
        self._instead = instead
        if not defaults and not on_a_terminal():
            raise EdgeError(f"questions need a terminal; {instead}")

    def text(self, question: str, default: str = "", check: Check | None = None) -> str:
        """A line of text; `default`, which is not checked where nobody is asked, with Enter."""
        if self.defaults:
            return default
        while True:
            answer = self._line(f"{question}{f' [{default}]' if default else ''}: ").strip()
            answer = answer or default
            try:
                if not answer.isprintable():
                    raise EdgeError("expected letters, digits and other characters that are seen")
                if check is not None:
                    check(answer)
                return answer
            except EdgeError as error:
                say(str(error))

    def yes(self, question: str, default: bool) -> bool:
        """Whether it is so."""
        if self.defaults:
            return default
        while True:
            answer = self._line(f"{question} [{'Y/n' if default else 'y/N'}]: ").strip().lower()
            if not answer:
                return default
            if answer in _YES_OR_NO:
                return _YES_OR_NO[answer]
            say(f"expected y or n, not {answer!r}")

    def secret(self, question: str) -> str:
        """A line that nobody sees; empty with Enter."""
        return "" if self.defaults else self._line(f"{question}: ", getpass.getpass)

    def _line(self, prompt: str, read: Callable[[str], str] = input) -> str:
        while True:
            try:
                return read(f"  {prompt}")
            except EOFError:
                print()  # the shell's prompt is not to follow the question
                raise EdgeError(f"the answers ended: nothing is written; {self._instead}") from None
            except UnicodeDecodeError:
                say("expected text")
            except KeyboardInterrupt:
                print()
                raise


def say(line: str) -> None:
    """Something between two questions."""
    print(f"  {line}", flush=True)
