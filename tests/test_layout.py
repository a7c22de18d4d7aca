"""The house rules: arrows between the packages point one way, and the device stays light."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("edge_runtime", "training", "conversion", "benchmarks")
ALLOWED = {
    "edge_runtime": set(),
    "training": {"edge_runtime"},
    "conversion": {"edge_runtime", "training"},
    "benchmarks": {"edge_runtime", "training", "conversion"},
}
# What the device may import at all, beside the standard library; all but the first two lazily.
DEVICE = {
    "numpy",
    "_webrtcvad",
    "ai_edge_litert",
    "tflite_runtime",
    "onnxruntime",
    "soundfile",
    "soxr",
    "sounddevice",
    "pyaudio",
    "rich",
    "pocketsphinx",
    "vosk",
    "sherpa_onnx",
    "pywhispercpp",
    "paho",
}


def imports_of(path: Path) -> set[str]:
    """Top-level names of everything a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_between_packages_point_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        others = imports_of(path) & (set(PACKAGES) - {package})
        assert others <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {others}"


def test_the_device_imports_nothing_heavy() -> None:
    import sys

    for path in sorted((ROOT / "edge_runtime").rglob("*.py")):
        foreign = imports_of(path) - set(sys.stdlib_module_names) - {"edge_runtime"}
        assert foreign <= DEVICE, f"{path.relative_to(ROOT)} imports {foreign - DEVICE}"
