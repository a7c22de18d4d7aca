"""What is written takes the place of what was there at once, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.features import FeatureSettings
from training.network.config import ModelConfig
from training.network.model import MscnnSpu
from training.output import at_once, into_at_once
from training.run import Run, load

# Saves the run in the first argument once more, on a disk that takes no file over 20 kB.
_FULL_DISK = """
import resource, sys
from pathlib import Path
from training.run import load
run = load(Path(sys.argv[1]))
run.weights = {name: value + 1 for name, value in run.weights.items()}
run.metrics = {"new": True}
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
run.save(Path(sys.argv[1]))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def half_write(
    place: AbstractContextManager[Path], name: str, trouble: type[BaseException]
) -> None:
    with place as new:
        (new / name if name else new).write_text("half")
        raise trouble


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, OSError])
def test_what_is_cut_short_leaves_the_old_and_nothing_beside_it(
    tmp_path: Path, trouble: type[BaseException]
) -> None:
    file, folder, shared = tmp_path / "a.json", tmp_path / "bundle", tmp_path / "run"
    for path in (file, folder / "old.txt", shared / "run.json", shared / "log.txt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
    before = contents(tmp_path)
    for place, name in (
        (at_once(file), ""),
        (at_once(folder, folder=True), "new.txt"),
        (into_at_once(shared, last="run.json"), "run.json"),
    ):
        with pytest.raises(trouble):
            half_write(place, name, trouble)
    assert contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == 3


def test_what_is_whole_takes_the_place_of_the_old(tmp_path: Path) -> None:
    file, folder, shared = tmp_path / "new/a.json", tmp_path / "bundle", tmp_path / "run"
    link = tmp_path / "link.json"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    shared.mkdir()
    (shared / "log.txt").write_text("log")
    link.symlink_to(file)
    for _ in range(2):
        with at_once(link) as new:
            new.write_text("new")
        with at_once(folder, folder=True) as new:
            assert not list(new.iterdir())
            (new / "new.txt").write_text("new")
        with into_at_once(shared, last="run.json") as new:
            (new / "run.json").write_text("new")
    assert link.is_symlink()
    assert contents(folder) == {"new.txt": b"new"}
    assert contents(shared) == {"log.txt": b"log", "run.json": b"new"}
    assert file.read_text() == "new"
    # As the user's umask has it, not as temporary folders do.
    assert folder.stat().st_mode == shared.stat().st_mode


def test_a_folder_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "precious.txt").write_text("mine")
    with pytest.raises(IsADirectoryError, match="runs"), at_once(tmp_path / "runs") as new:
        new.write_text("{}")
    file = tmp_path / "runs" / "precious.txt"
    with pytest.raises(NotADirectoryError, match=r"precious\.txt"), at_once(file, folder=True):
        pass
    assert file.read_text() == "mine"


def test_a_device_and_a_pipe_stay_what_they_are(tmp_path: Path) -> None:
    for path in (Path("/dev/null"), Path("/dev/stdout")):
        with at_once(path) as new:
            assert new == path
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with at_once(pipe) as new:
        assert new == pipe
    assert pipe.is_fifo()


def test_a_full_disk_leaves_the_run_that_was_there(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    config = ModelConfig(filters=8, hidden=(8,))
    state = MscnnSpu(config).state_dict()
    folder = tmp_path / "run"
    Run(config, FeatureSettings(), state, state).save(folder)
    assert (folder / "weights.pt").stat().st_size > 20_000
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    again = load(folder)
    assert again.metrics == {}
    for name, value in state.items():
        assert torch.equal(again.weights[name], value), name
    names = {path.name for path in folder.iterdir()}
    assert names == {"weights.pt", "float.pt", "run.json"}
    assert np.isfinite(again.weights["head.layers.0.weight"].numpy()).all()
