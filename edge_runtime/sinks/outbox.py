"""A bounded queue to a thread of its own: whoever puts something in never waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from edge_runtime.sinks.lines import tell

Item = TypeVar("Item")


class Outbox(Generic[Item]):
    """Items in order to `work`, one at a time; of too many the oldest are dropped and counted.

    Parameters
    ----------
    name : what the thread is called, and who is named when `work` fails.
    work : takes an item, in the thread.
    most : items that may wait.
    idle : called in the thread when nothing came for `every` seconds.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Item], None],
        most: int,
        idle: Callable[[], None] | None = None,
        every: float | None = None,
    ) -> None:
        self._name, self._work, self._most = name, work, most
        self._idle, self._every = idle, every
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._busy = self._closing = self._failed = False
        self.dropped = 0
        """Items that were not worked on, and will not be."""
        # As a daemon: a disk or a server that never answers must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Items that wait, or are worked on."""
        return len(self._items) + self._busy

    def put(self, item: Item) -> None:
        """Let `item` wait; returns at once. Nothing after `close`."""
        with self._changed:
            if self._closing:
                return
            self._items.append(item)
            if len(self._items) > self._most:
                self._items.popleft()
                self.dropped += 1
            self._changed.notify_all()

    def close(self, seconds: float) -> bool:
        """Work on what waits for up to `seconds`, drop the rest; whether the thread has ended."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(seconds)
        with self._changed:
            self.dropped += len(self._items)
            self._items.clear()
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                waited = True
                while waited and not self._items and not self._closing:
                    waited = self._changed.wait(self._every)
                if not self._items and self._closing:
                    return
                item = self._items.popleft() if self._items else None
                self._busy = item is not None
            try:
                if item is not None:
                    self._work(item)
                elif self._idle is not None:
                    self._idle()
            except Exception as error:
                # A fault of ours costs this item, and not every one that follows.
                self.dropped += item is not None
                if not self._failed:
                    tell(f"{self._name}: internal error: {type(error).__name__}: {error}")
                self._failed = True
            self._busy = False
