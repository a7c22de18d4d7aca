"""What people use today, timed beside ours: same audio, same thread count, one run.

One file a peer, one line of registration here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from edge_runtime.bench import speechlike_noise
from edge_runtime.bundle import Bundle
from training.run import Run

SECONDS = 7.5  # the paper's window
_RUNS, _WARM_UP = 30, 3


@dataclass(frozen=True)
class Comparison:
    """Two ways to do the same, timed in turn."""

    what: str
    ours: str
    peer: str
    ours_ms: float
    """Median, ms."""
    peer_ms: float
    """Median, ms."""

    def cells(self) -> tuple[str, ...]:
        """A row of a table: what, ours, peer, their milliseconds, the ratio."""
        times = (self.ours_ms, self.peer_ms, self.ours_ms / self.peer_ms)
        return (self.what, self.ours, self.peer, *(f"{value:.2f}" for value in times))

    def to_dict(self) -> dict[str, Any]:
        """The fields, and the ratio."""
        return {**asdict(self), "ratio": round(self.ours_ms / self.peer_ms, 4)}


@dataclass(frozen=True)
class Contest:
    """What a peer's file gives: the two functions to time."""

    what: str
    ours: str
    peer: str
    run_ours: Callable[[], object]
    run_peer: Callable[[], object]


def compare(bundle: Bundle, run: Run) -> list[Comparison]:
    """Time every peer against ours on 7.5 s of noise shaped like speech.

    `run` is the training run that `bundle` was built from.
    """
    from benchmarks.peers import onnx_float, speech_features

    signal = speechlike_noise(SECONDS)
    contests = [speech_features.contest(signal), onnx_float.contest(bundle, run)]
    return [_time(contest) for contest in contests]


def _time(contest: Contest) -> Comparison:
    """In turn, A B A B, so that a machine that slows down slows both."""
    ours: list[float] = []
    peer: list[float] = []
    for index in range(_WARM_UP + _RUNS):
        for function, times in ((contest.run_ours, ours), (contest.run_peer, peer)):
            begin = perf_counter()
            function()
            if index >= _WARM_UP:
                times.append(1000 * (perf_counter() - begin))
    return Comparison(
        contest.what,
        contest.ours,
        contest.peer,
        statistics.median(ours),
        statistics.median(peer),
    )
