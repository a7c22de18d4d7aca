"""How every command of the project begins and ends: help with examples, one line for a mistake."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable

from edge_runtime.errors import EdgeError

OK, OURS, THEIRS = 0, 1, 2
"""Exit codes: fine, our fault, the user's mistake."""
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
    name: str, command: Callable[[], int], mistakes: tuple[type[Exception], ...] = (EdgeError,)
) -> int:
    """Run `command` and return its exit code; report what it raises in one line.

    Ctrl-C returns 130, as a shell expects. With EDGE_EMOTION_DEBUG set, the traceback is printed
    as well.
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
        print(
            f"{name}: internal error: {type(error).__name__}: {error} "
            f"({DEBUG_VARIABLE}=1 shows where)",
            file=sys.stderr,
        )
        return OURS


def _abandon_output() -> None:
    """Drop what standard output still holds: Python would fail on it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _trace() -> None:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
