"""Two functions are timed in turn; the features in a process that holds nothing but them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contest import _WARM_UP, RUNS, Contest, medians, time_in_fresh_process
from benchmarks.errors import BenchmarkError
from benchmarks.peers import speech_features

_HEAVY = {"torch", "ai_edge_litert", "onnxruntime", "sklearn", "training", "conversion"}


def test_both_run_in_turn_equally_often() -> None:
    calls: list[str] = []
    ours, peer = medians([lambda: calls.append("a"), lambda: calls.append("b")], runs=4)
    assert calls == ["a", "b"] * (_WARM_UP + 4)
    assert min(ours, peer) > 0
    calls.clear()
    row = Contest("x", "o", "p", lambda: calls.append("a"), lambda: calls.append("b")).time()
    assert calls == ["a", "b"] * (_WARM_UP + RUNS)
    assert row.cells()[:3] == ("x", "o", "p")


def test_the_process_of_the_features_holds_nothing_but_them(environment: dict[str, str]) -> None:
    program = "import sys, benchmarks.peers.speech_features as f; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=True,
    )
    found = {name.split(".")[0] for name in done.stdout.split()}
    assert {"numpy", "edge_runtime", "python_speech_features"} <= found
    assert not _HEAVY & found


def test_the_features_are_timed_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = speech_features.compare(np.zeros(8000, np.int16))
    assert (row.quantity, row.peer) == ("MFCC + deltas", "python_speech_features")
    assert row.ours_ms > 0
    assert row.peer_ms > 0


def test_a_process_that_fails_is_one_line() -> None:
    with pytest.raises(BenchmarkError, match=r"benchmarks\.none failed in a process of its own"):
        time_in_fresh_process("benchmarks.none", b"")
