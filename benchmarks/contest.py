"""Two ways to do the same, timed in turn: in this process, or in a fresh one of their own.

Imports nothing beyond the standard library: what runs in a process of its own has only what it
brings.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from benchmarks.errors import BenchmarkError
from edge_runtime.system import module_command

RUNS, _WARM_UP = 30, 3
_TIMEOUT = 120  # seconds
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Comparison:
    """Two ways to do the same, timed in turn."""

    quantity: str
    ours: str
    peer: str
    ours_ms: float
    """Median, ms."""
    peer_ms: float
    """Median, ms."""

    def cells(self) -> tuple[str, ...]:
        """A row of a table: what, ours, peer, their milliseconds, the ratio."""
        times = (self.ours_ms, self.peer_ms, self.ours_ms / self.peer_ms)
        return (self.quantity, self.ours, self.peer, *(f"{value:.2f}" for value in times))

    def to_dict(self) -> dict[str, Any]:
        """The fields, and the ratio."""
        return {**asdict(self), "ratio": round(self.ours_ms / self.peer_ms, 4)}


@dataclass(frozen=True)
class Contest:
    """What a peer's file gives: the two functions to time."""

    quantity: str
    ours: str
    peer: str
    run_ours: Callable[[], object]
    run_peer: Callable[[], object]

    def time(self) -> Comparison:
        """Time both here and now."""
        ours, peer = medians([self.run_ours, self.run_peer])
        return Comparison(self.quantity, self.ours, self.peer, ours, peer)


def medians(functions: Sequence[Callable[[], object]], runs: int = RUNS) -> list[float]:
    """Median ms of each, run in turn, A B A B, so that a machine that slows down slows all."""
    times: list[list[float]] = [[] for _ in functions]
    for index in range(_WARM_UP + runs):
        for function, mine in zip(functions, times, strict=True):
            begin = perf_counter()
            function()
            if index >= _WARM_UP:
                mine.append(1000 * (perf_counter() - begin))
    return [statistics.median(mine) for mine in times]


def time_in_fresh_process(module: str, given: bytes) -> Comparison:
    """Time a contest in a Python of its own, with one thread for linear algebra.

    `module` is run as a program: it finds `given` on its standard input and calls `report`.
    Raises BenchmarkError where it fails.
    """
    done = subprocess.run(
        module_command(module),
        input=given,
        capture_output=True,
        env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        *_, last = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise BenchmarkError(f"{module} failed in a process of its own: {last}")
    return Comparison(**json.loads(done.stdout))


def report(contest: Contest) -> None:
    """Time a contest and tell the process that `time_in_fresh_process` started this one from."""
    json.dump(asdict(contest.time()), sys.stdout)
