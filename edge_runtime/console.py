"""How every command of the project begins and ends: help with examples, one line for a mistake."""

from __future__ import annotations

import argparse
import codecs
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, NoReturn, TypeVar

from edge_runtime.errors import EdgeError

PROGRAM = "edge-emotion"
"""What the device's command is called."""
OK, OURS, THEIRS = 0, 1, 2
"""Exit codes: fine, our fault, the user's mistake."""
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
"""Priorities of what is said, as syslog(3) has them."""
Item = TypeVar("Item")
DEBUG_VARIABLE = "EDGE_EMOTION_DEBUG"

_ENDS = (signal.SIGTERM, signal.SIGHUP)  # what a service manager sends, or a terminal that closes
_LOOKALIKES = str.maketrans("█▉▊▋▌▍▎▏…—\N{EN DASH}\N{MULTIPLICATION SIGN}", "#######|.--x")


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

    Ctrl-C returns 130, SIGTERM and SIGHUP 143 and 129, as a shell expects; all of them unwind, so
    that what was opened is closed. With EDGE_EMOTION_DEBUG set, the traceback is printed as well.
    `extras` are what has to be installed, where a package may be missing.
    """
    _fit_standard_streams()
    try:
        with _signals_unwind():
            code = command()
        # What print() still holds meets a full disk or a closed pipe here, not at Python's exit.
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as interrupt:
        note(f"{name}: stopped", NOTICE)
        return 128 + (interrupt.number if isinstance(interrupt, _Ended) else signal.SIGINT)
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        _abandon_output()
        return OK
    except mistakes as error:
        _trace()
        note(f"{name}: {error}", ERROR)
        return THEIRS
    except OSError as error:
        _trace()
        # Of two names, the second is the one that was to be written.
        file = error.filename2 or error.filename
        note(f"{name}: {error.strerror or error}{f': {file}' if file else ''}", ERROR)
        _abandon_output()
        return OURS
    except Exception as error:
        _trace()
        if extras and isinstance(error, ModuleNotFoundError):
            note(
                f"{name}: this needs {error.name}, which is not installed: "
                f"pip install -e '.[{extras}]' in a checkout, on a workstation",
                ERROR,
            )
            return THEIRS
        what = " ".join(str(error).split())
        note(
            f"{name}: internal error: {type(error).__name__}: {what} "
            f"({DEBUG_VARIABLE}=1 shows where)",
            ERROR,
        )
        return OURS


def note(line: str, level: int = WARNING) -> None:
    """Say something beside the output: on standard error, where anybody listens there.

    `level` is a priority as syslog has them; the journal shows and filters by it.
    """
    if sys.stderr is not None:  # where print would take standard output
        with suppress(OSError, ValueError):
            print(_prefixed(line, level) if _in_journal() else line, file=sys.stderr, flush=True)


def _in_journal() -> bool:
    """Whether standard error goes to systemd's journal: $JOURNAL_STREAM is its device and inode.

    systemd.exec(5): the variable alone does not say it, for it is inherited by programs whose
    output is redirected.
    """
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # no file at all
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"


def _prefixed(text: str, level: int) -> str:
    """Each line with its priority, as sd-daemon(3) has it, and nothing that steers a terminal."""
    return "\n".join(
        f"<{level}>" + "".join(c if c.isprintable() else "?" for c in line)
        for line in text.splitlines() or [""]
    )


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 speaker`, `2 speakers`, `1,234 clips`; `plural` where that is not `noun` and an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


@contextmanager
def writing(path: object) -> Iterator[None]:
    """What fails to be written in here is `path`: a full disk alone does not say which."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


class UntilInterrupted(Generic[Item]):
    """Items until they end, or Ctrl-C, SIGTERM or SIGHUP.

    Waiting for an item ends at once, work on one is finished first; a second signal interrupts the
    work as well. Generators are closed on the way out.

    `with UntilInterrupted(source) as items: for item in items: ...`
    """

    def __init__(self, items: Iterable[Item], hangup: Callable[[], None] | None = None) -> None:
        """`hangup` is called on SIGHUP, which then ends nothing."""
        self.interrupted = False
        self._hangup = hangup
        self._items = iter(items)
        self._waiting = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> UntilInterrupted[Item]:
        for number in (signal.SIGINT, *_ENDS):
            before = signal.getsignal(number)
            # What was started in the background, or by nohup, ignores it, and goes on doing so;
            # but reading settings again ends nothing.
            asked = number == signal.SIGHUP and self._hangup is not None
            if before is not None and (asked or before != signal.SIG_IGN):
                self._before[number] = before
                signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # Gives back a device or file now, not when somebody collects it.
            if isinstance(self._items, Generator):
                self._items.close()
        finally:
            for number, before in self._before.items():
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

    def _receive(self, number: int, _: object) -> None:
        if number == signal.SIGHUP and self._hangup is not None:
            self._hangup()
            return
        now = self._waiting or self.interrupted
        self.interrupted = True
        if now:
            raise KeyboardInterrupt if number == signal.SIGINT else _Ended(number)


class Stopped(Exception):  # noqa: N818  # it is none
    """Ctrl-C, SIGTERM or SIGHUP ended what was heard; all of that is said."""

    def __init__(self, code: int) -> None:
        self.code = code


class _Ended(KeyboardInterrupt):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise, as Ctrl-C does: a terminal gets its cursor back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def end(number: int, _: object) -> None:
        if os.getpid() == owner:
            raise _Ended(number)
        # A process forked from this one has nothing to give back.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    ours = [number for number in _ENDS if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _fit_standard_streams() -> None:
    """Make standard output and error take whatever is printed, and keep their numbers theirs.

    Where one of them is closed, the next file that is opened would get its number. What a terminal
    of another encoding cannot show becomes something it can.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            os.set_inheritable(descriptor, True)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in _FAIL:
        sys.stdout.reconfigure(errors=_SHOWABLE)


def _showable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    piece = error.object[error.start : error.end].translate(_LOOKALIKES)
    return "".join(c if c.isascii() else "?" for c in piece), error.end


_FAIL = ("strict", "surrogateescape")
_SHOWABLE = "edge-emotion-showable"
codecs.register_error(_SHOWABLE, _showable)


def _abandon_output() -> None:
    """Drop what standard output holds, if it cannot be written: Python would fail at exit again."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _trace() -> None:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
