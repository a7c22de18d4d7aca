"""Folds that train for minutes, side by side: one bar over all their steps, and an end at once.

`training.data.cache.parallel` is for many short tasks: its bar moves when one is done, and what is
under way when it is interrupted is finished first.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress

from benchmarks.errors import BenchmarkError
from training.workers import beginning

Task = TypeVar("Task")

Outcome = TypeVar("Outcome")

Tick = Callable[[], None]
"""Called after each step of a task; raises KeyboardInterrupt where all shall end."""

_BEAT = 0.25  # seconds between looks at how far processes are

# What a process was given by the one that started it: steps done by all, and whether to end.
_shared: list[Any] = []


def side_by_side(
    function: Callable[[Task, Tick], Outcome],
    tasks: Sequence[Task],
    steps: int,
    jobs: int | None,
    title: str,
) -> list[Outcome]:
    """`function` of each of `tasks`, in their order.

    Parameters
    ----------
    function : what to do, importable by name; it calls the second argument after each step.
    tasks : what to do it with.
    steps : of all of them.
    jobs : processes at a time, by default one a core; 1 stays in this process.
    title : of the bar.

    Raises what `function` raises, and BenchmarkError where a process dies.
    """
    workers = min(jobs or os.cpu_count() or 1, len(tasks))
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(title, total=steps)
        if workers <= 1:
            return [function(task, lambda: progress.advance(bar)) for task in tasks]
        context = multiprocessing.get_context("spawn")
        done, stop = context.Value("q", 0), context.Event()
        pool = ProcessPoolExecutor(workers, context, _begin, (done, stop))
        try:
            with beginning():
                futures = [pool.submit(_call, function, task) for task in tasks]
            waiting = set(futures)
            while waiting:
                ended, waiting = wait(waiting, _BEAT, FIRST_COMPLETED)
                progress.update(bar, completed=done.value)
                for future in ended:
                    future.result()  # the first failure ends all
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise BenchmarkError(
                f"{title}: a process died, as it does where memory is short; use --jobs 1"
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _begin(done: Any, stop: Any) -> None:
    """Prepare a process: Ctrl-C reaches the one that started it, which tells the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _shared[:] = done, stop


def _call(function: Callable[[Task, Tick], Outcome], task: Task) -> Outcome:
    return function(task, _tick)


def _tick() -> None:
    done, stop = _shared
    with done.get_lock():
        done.value += 1
    if stop.is_set():
        raise KeyboardInterrupt
