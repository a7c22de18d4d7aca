"""Tables are as wide as their cells where nobody looks, and no terminal is too narrow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.terminal import NARROWEST, Tables, Terminal

ROOT = Path(__file__).parents[2]


def piped(*command: object, columns: str | None = None, environment: dict[str, str]) -> str:
    variables = {k: v for k, v in environment.items() if k != "COLUMNS"}
    if columns is not None:
        variables["COLUMNS"] = columns
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        env=variables,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("columns", [None, "20"])
def test_a_piped_table_is_as_wide_as_its_cells(
    environment: dict[str, str], bundle_path: Path, columns: str | None
) -> None:
    command = ("-m", "conversion", "inspect", bundle_path)
    out = piped(*command, columns=columns, environment=environment)
    rows = [line for line in out.splitlines() if line.startswith("│")]
    assert "…" not in out
    assert len(rows) > 20
    # An operation a line: none that wraps has an empty first cell below it.
    assert all(line.split("│")[1].strip() for line in rows)


def test_no_other_console_prints_tables() -> None:
    """Every table goes through the one that knows how wide it may be."""
    for package in ("training", "conversion", "benchmarks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for line in path.read_text().splitlines():
                made = "Console(" in line and "stderr=True" not in line
                assert not made, f"{path.relative_to(ROOT)}: {line.strip()}"


def test_a_terminal_is_never_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in ("0", "1", "39"):
        monkeypatch.setenv("COLUMNS", columns)
        assert Terminal().width >= NARROWEST
        assert Terminal(150).width == 150
    monkeypatch.setenv("COLUMNS", "200")
    assert Terminal(150).width == 200


def test_a_table_ends_quietly_when_its_reader_has_seen_enough(
    environment: dict[str, str],
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "training", "variants"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment,
        timeout=300,
    )
    os.close(writer)
    assert done.returncode == 0
    assert done.stderr == b""


def test_tables_on_a_terminal_fit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    monkeypatch.setenv("COLUMNS", "90")
    assert Tables().width == 90
    assert Tables(110).width == 110
