"""A queue to a thread: whoever puts something in never waits, whatever the thread does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from edge_runtime.sinks.outbox import Outbox

Wait = Callable[[Callable[[], object]], None]


def test_of_too_many_the_oldest_are_dropped_and_counted(eventually: Wait) -> None:
    released, done = threading.Event(), []

    def work(item: int) -> None:
        released.wait(60)
        done.append(item)

    outbox: Outbox[int] = Outbox("slow", work, most=10)
    outbox.put(0)
    eventually(lambda: outbox.queued == 1 and not outbox._items)
    for item in range(1, 1001):
        outbox.put(item)
    assert (outbox.queued, outbox.dropped) == (11, 990)
    released.set()
    assert outbox.close(60)
    assert done == [0, *range(991, 1001)]
    assert (outbox.queued, outbox.dropped) == (0, 990)


def test_it_closes_in_time_though_the_work_never_ends() -> None:
    released = threading.Event()
    outbox: Outbox[int] = Outbox("stuck", lambda item: bool(released.wait(120)), most=10)
    for item in range(5):
        outbox.put(item)
    began = time.monotonic()
    assert not outbox.close(0.2)
    assert time.monotonic() - began < 30
    assert outbox.dropped >= 4
    outbox.put(9)
    assert not outbox._items
    released.set()


def test_a_fault_of_ours_costs_one_item_and_is_told_once(
    eventually: Wait, capsys: pytest.CaptureFixture[str]
) -> None:
    done = []

    def work(item: int) -> None:
        done.append(10 // item)

    outbox: Outbox[int] = Outbox("broken", work, most=10)
    for item in (0, 0, 5):
        outbox.put(item)
    eventually(lambda: done == [2])
    assert outbox.close(60)
    assert outbox.dropped == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "broken: internal error: ZeroDivisionError" in said[0]


def test_it_is_called_while_nothing_comes(eventually: Wait) -> None:
    calls: list[int] = []
    outbox: Outbox[int] = Outbox("idle", lambda item: None, 10, lambda: calls.append(1), 0.01)
    eventually(lambda: len(calls) >= 3)
    assert outbox.close(60)
