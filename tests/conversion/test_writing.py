"""A bundle is written whole, or the one before it stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from edge_runtime.bundle import load_bundle
from training.data.features import FeatureSettings
from training.network.config import ModelConfig
from training.network.fakequant import Phase, set_phase
from training.network.model import MscnnSpu
from training.run import Run

BYTES = 256 * 1024  # a small bundle of one small model fits once, and not twice


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of random weights."""
    config = ModelConfig(filters=8, hidden=(8,))
    model = MscnnSpu(config).eval()
    set_phase(model, Phase.OBSERVE)
    with torch.no_grad():
        model(torch.randn(2, 60, config.features), torch.tensor([60, 40]))
    state = model.state_dict()
    folder = tmp_path_factory.mktemp("run")
    Run(config, FeatureSettings(), state, state).save(folder)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of `BYTES` bytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={BYTES}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system: run as root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def build(run_folder: Path, out: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and standard error of `python -m conversion build`."""
    command = [sys.executable, "-m", "conversion", "build", str(run_folder), "--allow-loss"]
    command += ["--out", str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    return done.returncode, done.stderr


def test_a_full_disk_is_named(
    run_folder: Path, small_disk: Path, environment: dict[str, str]
) -> None:
    (small_disk / "filler").write_bytes(bytes(BYTES - 8192))
    code, errors = build(run_folder, small_disk / "bundle", environment)
    assert code == 1
    told = f"conversion: No space left on device: {small_disk / 'bundle'}"
    assert errors.splitlines()[-1] == told


def test_a_disk_that_fills_up_is_named_and_keeps_the_bundle_it_has(
    run_folder: Path, small_disk: Path, environment: dict[str, str]
) -> None:
    out = small_disk / "bundle"
    code, errors = build(run_folder, out, environment)
    assert code == 0, errors
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        filler.write(bytes(BYTES - 8192 - sum(map(len, before.values()))))

    code, errors = build(run_folder, out, environment)
    assert code == 1
    assert errors.splitlines()[-1] == f"conversion: No space left on device: {out}"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    load_bundle(out)
