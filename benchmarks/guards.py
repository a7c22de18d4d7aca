"""Bounds that a change must not break: generous, because a shared machine is not a quiet one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from benchmarks.contest import Comparison


@dataclass(frozen=True)
class Guard:
    """One figure, what it is on a quiet machine at best, and where a fault begins."""

    quantity: str
    measured: float
    goal: float
    """What the project promises of a quiet machine."""
    bound: float
    """Above this something is broken, however busy the machine."""

    @property
    def holds(self) -> bool:
        """Whether the figure is within the bound."""
        return self.measured <= self.bound

    def cells(self) -> tuple[str, ...]:
        """A row of a table: what, measured, goal, bound, verdict."""
        numbers = (f"{value:.4g}" for value in (self.measured, self.goal, self.bound))
        return (self.quantity, *numbers, "ok" if self.holds else "FAILED")

    def to_dict(self) -> dict[str, Any]:
        """The fields, and whether it holds."""
        return {**asdict(self), "holds": self.holds}


class _Limits(NamedTuple):
    quantity: str
    goal: float
    bound: float


# Ratios compare two medians that were taken in turn, so they need less room than times.
_RATIOS = {
    "MFCC + deltas": _Limits("features / python_speech_features", 0.15, 0.30),
    "graphs": _Limits("int8 graphs / float32 in ONNX Runtime", 0.35, 0.70),
    "whole window": _Limits("int8 whole window / float32 in ONNX Runtime", 0.35, 0.70),
    "whole window, audio alone": _Limits(
        "int8 whole window, audio alone / float32 in ONNX Runtime", 0.30, 0.60
    ),
    "pre-trained encoder": _Limits("encoder, int8 weights / float32 in ONNX Runtime", 0.6, 1.0),
}
# Of times the medians: what another process takes away falls on a few blocks.
_REAL_TIME = _Limits("real-time factor of the stages, medians", 0.005, 0.02)
_FINAL = _Limits("final verdict, median ms", 5.0, 20.0)


def guards(latency: Mapping[str, Any], peers: Iterable[Comparison]) -> list[Guard]:
    """Every guarded figure.

    Parameters
    ----------
    latency : what `edge_runtime.bench.measure` returned.
    peers : what `benchmarks.peers.compare` returned.
    """
    figures = [
        (row.ours_ms / row.peer_ms, _RATIOS[row.quantity])
        for row in peers
        if row.quantity in _RATIOS
    ]
    stages = sum(values["p50"] for values in latency["stages_ms_per_block"].values())
    figures.append((stages / latency["block_ms"], _REAL_TIME))
    figures.append((latency["final_verdict_ms"]["p50"], _FINAL))
    return [
        Guard(limits.quantity, measured, limits.goal, limits.bound) for measured, limits in figures
    ]
