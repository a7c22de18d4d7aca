"""Processes that work for another one, and Ctrl-C, which a terminal sends to all of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def beginning() -> Iterator[None]:
    """Processes that are started meanwhile do not hear of Ctrl-C, nor does this one until its end.

    One that is interrupted while Python itself begins, or while it waits for what it is to do,
    prints a traceback. A mask of signals is inherited: what a process runs first may lift it
    (`end_at_ctrl_c`). Threads have masks of their own, so that it does not keep the signal from
    this process.
    """
    resource_tracker.ensure_running()  # which lifts the mask when it starts
    kept: list[int] = []
    handled = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    if handled:
        signal.signal(signal.SIGINT, lambda number, _: kept.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if handled:
            signal.signal(signal.SIGINT, handler)
            for number in kept[:1]:
                signal.raise_signal(number)


def end_at_ctrl_c() -> None:
    """In a worker process: from now on Ctrl-C ends it, without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
