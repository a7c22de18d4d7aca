"""Help is there at once: it loads nothing that takes seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge_runtime.commands.settings import RunSettings
from edge_runtime.settings import options

# Each takes a second or more, or a hundred megabytes.
HEAVY = {"torch", "lightning", "onnx", "onnx2tf", "onnxruntime", "sklearn", "scipy", "matplotlib"}
HEAVY |= {
    "ai_edge_quantizer",
    "ai_edge_litert",
    "librosa",
    "opensmile",
    "pocketsphinx",
    "pandas",
    "mlflow",
}
COMMANDS = {
    "training": (
        "corpora",
        "fit",
        "crossval",
        "compare",
        "familiarity",
        "reference",
        "table",
        "variants",
        "transcribe",
        "keywords",
        "phrases",
    ),
    "conversion": ("build", "parity", "inspect", "deploy", "key", "sign", "publish"),
    "benchmarks": ("accuracy", "latency", "peers", "speakers", "adapting", "text", "report"),
    "edge_runtime.cli": (
        "run",
        "setup",
        "enroll",
        "record",
        "review",
        "bench",
        "doctor",
        "devices",
        "config",
        "service",
        "update",
        "demo",
    ),
}
CASES = [(module, command) for module, names in COMMANDS.items() for command in ("", *names)]


def test_help_says_which_switches_are_on() -> None:
    switches = [option for option in options(RunSettings) if option.kind is bool]
    on = {option.key for option in switches if option.default}
    assert on == {option.key for option in switches if option.notes == "default: on"}
    assert "mqtt.discovery" in on
    assert "mqtt.text" not in on


@pytest.mark.parametrize(("module", "command"), CASES)
def test_help_loads_nothing_heavy(environment: dict[str, str], module: str, command: str) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv[1:] = sys.argv[2:]\n"
        f"try: runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    arguments = [command, "--help"] if command else ["--help"]
    done = subprocess.run(
        [sys.executable, "-c", code, module, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert "usage:" in done.stdout
    *_, loaded = done.stderr.splitlines()
    assert not HEAVY & set(loaded.split())
