"""How every command of the project begins and ends: help with examples, one line for a mistake."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from edge_runtime.errors import EdgeError

OK, OURS, THEIRS = 0, 1, 2
"""Exit codes: fine, our fault, the user's mistake."""
Item = TypeVar("Item")
DEBUG_VARIABLE = "EDGE_EMOTION_DEBUG"


def command_parser(
    program: str, description: str, epilog: str
) -> tuple[argparse.ArgumentParser, argparse._SubParsersAction[argparse.ArgumentParser]]:
    """A parser whose help ends with examples, and the place where its commands are added."""
    parser = argparse.ArgumentParser(
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

    Ctrl-C returns 130, as a shell expects. With EDGE_EMOTION_DEBUG set, the traceback is printed
    as well. `extras` are what has to be installed, where a package may be missing.
    """
    try:
        code = command()
        # What print() still holds meets a full disk or a closed pipe here, not at Python's exit.
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
        return 130
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


class UntilInterrupted(Generic[Item]):
    """Items until they end or Ctrl-C: waiting for one ends at once, work on one is finished first.

    `with UntilInterrupted(source) as items: for item in items: ...`; a second Ctrl-C interrupts
    the work as well.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self.interrupted = False
        self._items = iter(items)
        self._waiting = False
        self._before = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> UntilInterrupted[Item]:
        # What was started in the background ignores Ctrl-C, and goes on doing so.
        if callable(self._before):
            signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        if callable(self._before):
            signal.signal(signal.SIGINT, self._before)

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
