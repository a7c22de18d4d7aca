"""A ratio that leaves its bound fails the command; one that stays does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import guards as module
from benchmarks.__main__ import main
from benchmarks.contest import Comparison
from benchmarks.guards import guards
from edge_runtime.bundle import Bundle

STAGES = {"features": {"p50": 0.1, "p95": 9.0}, "graph": {"p50": 0.2, "p95": 9.0}}
QUIET = {
    "block_ms": 100,
    "stages_ms_per_block": STAGES,
    "final_verdict_ms": {"p50": 0.7, "p95": 900.0},
}


def rows(features: float, graphs: float) -> list[Comparison]:
    return [
        Comparison("MFCC + deltas", "ours", "peer", features, 10.0),
        Comparison("graphs", "ours", "peer", graphs, 10.0),
        Comparison("whole window, audio alone", "ours", "peer", 2.5, 10.0),
        Comparison("something else", "ours", "peer", 100.0, 1.0),
    ]


def test_every_guard_holds_on_a_quiet_machine() -> None:
    found = guards(QUIET, rows(1.0, 3.0))
    assert [guard.measured for guard in found] == pytest.approx([0.1, 0.3, 0.25, 0.003, 0.7])
    assert all(guard.holds for guard in found)
    assert all(guard.goal < guard.bound for guard in found)


@pytest.mark.parametrize(
    ("latency", "features", "graphs_ms", "broken"),
    [
        (QUIET, 3.1, 3.0, "python_speech_features"),
        (QUIET, 1.0, 7.1, "ONNX Runtime"),
        ({**QUIET, "block_ms": 10}, 1.0, 3.0, "real-time factor"),
        ({**QUIET, "final_verdict_ms": {"p50": 51.0}}, 1.0, 3.0, "final verdict"),
    ],
)
def test_each_guard_can_fail(
    latency: dict[str, object], features: float, graphs_ms: float, broken: str
) -> None:
    (failed,) = (g for g in guards(latency, rows(features, graphs_ms)) if not g.holds)
    assert broken in failed.quantity
    assert failed.cells()[-1] == "FAILED"


def test_a_broken_guard_is_a_line_and_exit_code_1(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # No verdict comes in no time: this one fails however fast the machine is.
    monkeypatch.setattr(module, "_FINAL", module._FINAL._replace(bound=0.0))
    out = tmp_path / "latency.json"
    assert main(["latency", "--check", "--json", str(out)]) == 1
    printed = capsys.readouterr()
    assert "final verdict, median ms is" in printed.err
    assert "above its bound 0" in printed.err
    assert "GMAC/s" in printed.out
    result = json.loads(out.read_text())
    assert len(result["guards"]) == 7
    assert result["guards"][-1]["holds"] is False
    # Small products do not beat the large one by more than the noise of a busy machine.
    assert 0 < result["int8_rate"]["share"] < 2
