"""One progress bar a fold, for models that train in processes of their own."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class FoldProgress:
    """Bars fed through `queue` with (fold number from 1, state, epochs done)."""

    def __init__(self, folds: int, epochs: int) -> None:
        self._manager = multiprocessing.get_context("spawn").Manager()
        self.queue: Any = self._manager.Queue()
        self._progress = Progress(
            TextColumn("fold {task.fields[number]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs  {task.fields[state]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._epochs = epochs
        self._bars = [
            self._progress.add_task("", total=epochs, number=n, state="waiting", start=False)
            for n in range(1, folds + 1)
        ]

    def __enter__(self) -> FoldProgress:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        self._manager.shutdown()

    def follow(self, futures: Sequence[Future[Any]]) -> None:
        """Draw until every future is done; the first that fails ends it."""
        while not all(f.done() for f in futures) and not any(
            f.done() and f.exception() for f in futures
        ):
            self._take(timeout=0.5)
        while self._take(timeout=0.0):
            pass
        for future in futures:
            if future.done() and future.exception():
                for other in futures:
                    other.cancel()
                future.result()

    def _take(self, timeout: float) -> bool:
        try:
            number, state, epochs = self.queue.get(timeout=timeout)
        except queue.Empty:
            return False
        bar = self._bars[number - 1]
        if not self._progress.tasks[number - 1].started:
            self._progress.start_task(bar)
        done = self._epochs if state in ("converting", "done") else epochs
        self._progress.update(bar, completed=done, state=state)
        return True
