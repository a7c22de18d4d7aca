"""How every command of the project begins and ends: help with examples, one line for a mistake."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, NoReturn, TypeVar

from edge_runtime.errors import EdgeError

OK, OURS, THEIRS = 0, 1, 2
"""Exit codes: fine, our fault, the user's mistake."""
INTERRUPTED = 130
"""And the shell's for Ctrl-C."""
Item = TypeVar("Item")
DEBUG_VARIABLE = "EDGE_EMOTION_DEBUG"


class CommandParser(argparse.ArgumentParser):
    """A parser that says a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """End with the mistake alone; argparse would tell all the options before it."""
        self.exit(THEIRS, f"{self.prog}: {message} (see {self.prog} --help)\n")


def command_parser(
    program: str, description: str, epilog: str
) -> tuple[CommandParser, argparse._SubParsersAction[CommandParser]]:
    """A parser whose help ends with examples, and the place where its commands are added."""
    parser = CommandParser(
        program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser, parser.add_subparsers(required=True, metavar="COMMAND")


def run_command(
    name: str,
    command: Callable[[], int],
    mistakes: tuple[type[Exception], ...] = (EdgeError,),
    extras: str = "",
) -> int:
    """Run `command` and return its exit code; report what it raises in one line.

    Ctrl-C and SIGTERM return 130, as a shell expects; both are an end that loses nothing. With
    EDGE_EMOTION_DEBUG set, the traceback is printed as well.
    `extras` are what has to be installed, where a package may be missing.
    """
    _prepare_output()
    with contextlib.suppress(ValueError):  # not the main thread
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = command()
        # What print() still holds meets a full disk or a closed pipe here, not at Python's exit.
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        _abandon_output()
        return OK
    except mistakes as error:
        _trace()
        print(f"{name}: {error}", file=sys.stderr)
        return THEIRS
    except OSError as error:
        _trace()
        where = f": {error.filename}" if error.filename else ""
        print(f"{name}: {error.strerror or error}{where}", file=sys.stderr)
        if error.errno == errno.ENOSPC:
            _abandon_output()
        return OURS
    except Exception as error:
        _trace()
        if extras and isinstance(error, ModuleNotFoundError):
            print(
                f"{name}: this needs {error.name}, which is not installed: "
                f"pip install -e '.[{extras}]' in a checkout, on a workstation",
                file=sys.stderr,
            )
            return THEIRS
        print(
            f"{name}: internal error: {type(error).__name__}: {error} "
            f"({DEBUG_VARIABLE}=1 shows where)",
            file=sys.stderr,
        )
        return OURS


def _prepare_output() -> None:
    """Standard streams that take whatever is written to them.

    A closed one becomes /dev/null before a file or socket gets its number, and what its encoding
    lacks is written as "?": a terminal of another alphabet is no reason to end.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            break
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class UntilInterrupted(Generic[Item]):
    """Items until they end, Ctrl-C or SIGTERM.

    Waiting for an item ends at once, work on one is finished first.

    `with UntilInterrupted(source) as items: for item in items: ...`; a second Ctrl-C interrupts
    the work as well.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self.interrupted = False
        self._items = iter(items)
        self._waiting = False
        self._before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> UntilInterrupted[Item]:
        # What was started in the background ignores Ctrl-C, and goes on doing so.
        for number, before in self._before.items():
            if callable(before):
                signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # A generator gives back its device or file now, not when somebody collects it.
            if isinstance(self._items, Generator):
                self._items.close()
        finally:
            for number, before in self._before.items():
                if callable(before):
                    signal.signal(number, before)

    def __iter__(self) -> Iterator[Item]:
        try:
            while True:
                self._waiting = True
                if self.interrupted:
                    return
                for item in self._items:
                    self._waiting = False
                    yield item
                    break
                else:
                    return
        except KeyboardInterrupt:
            return

    def _receive(self, *_: object) -> None:
        now = self._waiting or self.interrupted
        self.interrupted = True
        if now:
            raise KeyboardInterrupt


def _abandon_output() -> None:
    """Drop what standard output still holds: Python would fail on it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _trace() -> None:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
