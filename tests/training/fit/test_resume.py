"""A training that was stopped, however, ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_clips import clips

from training.__main__ import main
from training.data.features import FeatureSet
from training.evaluate import judge
from training.fit.examples import FitData
from training.fit.fit import fit
from training.fit.module import EmotionModule
from training.fit.randomness import random_state, set_random_state
from training.fit.settings import FitSettings
from training.network.config import ModelConfig
from training.network.fakequant import Phase

CONFIG = ModelConfig(labels=("high", "low"), filters=4, hidden=(4,))
SETTINGS = FitSettings(
    epochs=2, qat_epochs=2, epoch_steps=3, lr=5e-3, augment=False, batch_norm=True, bf16=True
)
SMALL = ["--epochs", "2", "--qat-epochs", "2", "--epoch-steps", "3", "--no-augment"]
SMALL += ["--filters", "4", "--hidden", "4"]
# Trains as a user does, and is ended by the signal of the first argument: behind so many batches,
# or while so many bytes of the checkpoint of the third are there.
ENDED = """
import os, signal, sys
import torch
from training.__main__ import main
from training.fit.module import EmotionModule
number, batches, checkpoint = map(int, sys.argv[1:4])
seen, saved, real, save = [], [], EmotionModule.on_train_batch_end, torch.save
def counted(self, *arguments):
    real(self, *arguments)
    seen.append(1)
    if len(seen) == batches:
        os.kill(os.getpid(), number)
def cut_off(what, path):
    saved.append(1)
    save(what, path)
    if len(saved) == checkpoint:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), number)
EmotionModule.on_train_batch_end, torch.save = counted, cut_off
signal.signal(signal.SIGINT, signal.default_int_handler)  # which tests side by side ignore
sys.exit(main(sys.argv[4:]))
"""


def varied() -> FeatureSet:
    """Clips of which training draws one of two versions."""
    made = clips(24, 0)
    both = [[frames, frames + 0.1] for (frames,) in made.variants]
    return replace(made, variants=both, shares=[0.5, 0.5])


def states(module: EmotionModule) -> list[dict[str, torch.Tensor]]:
    return [module.final(phase).state_dict() for phase in (Phase.FLOAT, Phase.INT8)]


def assert_same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    for first, second in zip(one, other, strict=True):
        assert first.keys() == second.keys()
        for name, value in first.items():
            torch.testing.assert_close(value, second[name], rtol=0, atol=0, equal_nan=True)


def test_whatever_the_checkpoint_the_rest_is_the_same(tmp_path: Path) -> None:
    """In the float epochs, at their end, and in the quantization-aware ones."""
    settings = SETTINGS
    data = FitData(varied(), None, list(CONFIG.labels))
    whole = states(fit(data, CONFIG, settings, tmp_path / "whole", progress=lambda *_: None))
    for stop in range(2, settings.all_epochs + 1):

        def interrupt(epoch: int, _: int, stop: int = stop) -> None:
            if epoch == stop:
                raise KeyboardInterrupt

        folder = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            fit(data, CONFIG, settings, folder, progress=interrupt)
        torch.manual_seed(stop)  # as another process, which drew other numbers
        seen: list[int] = []
        module = fit(
            data, CONFIG, settings, folder, resume=True, progress=lambda e, _, s=seen: s.append(e)
        )
        assert seen == list(range(stop, settings.all_epochs + 1))
        assert_same(whole, states(module))


def weights(run: Path) -> list[dict[str, Any]]:
    return [torch.load(run / name, weights_only=True) for name in ("weights.pt", "float.pt")]


def ended(number: int, batches: int, checkpoint: int, arguments: list[str]) -> int:
    command = [sys.executable, "-c", ENDED, str(number), str(batches), str(checkpoint)]
    # As many threads as here, where another test may have set their number.
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([*command, *arguments], capture_output=True, env=environment, timeout=900)
    return done.returncode


def test_killed_and_resumed_it_is_the_same_run(
    tones_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the middle of an epoch, SIGKILL while a checkpoint is written, and in int8."""

    def command(out: str, *more: str) -> list[str]:
        where = ["--watch", "0", "--out", str(tmp_path / out)]
        return ["fit", f"manifest={tones_csv}", *SMALL, *where, *more]

    assert main(command("whole")) == 0
    assert main(command("twice")) == 0
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "twice"))
    run = tmp_path / "run"
    assert ended(2, 6, 0, command("run")) == 130
    # What it was begun with is part of what it is.
    fewer = tones_csv.with_name("fewer.csv")
    fewer.write_text("".join(tones_csv.read_text().splitlines(keepends=True)[:-1]))
    other = [argument.replace(str(tones_csv), str(fewer)) for argument in command("run")]
    faster = [*command("run"), "--lr", "0.01"]
    for given, what in ((faster, "lr 0.002, not 0.01"), (other, "clips 16, not 15")):
        assert main([*given, "--resume"]) == 2
        assert f"begun with other data or settings ({what})" in capsys.readouterr().err
    assert ended(9, 0, 1, command("run", "--resume")) == -9
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    assert ended(9, 10, 0, command("run", "--resume")) == -9
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 2
    assert not (run / "run.json").exists()
    assert main(command("run")) == 2
    assert "go on with --resume" in capsys.readouterr().err
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - threads if threads < 3 else 1)  # a checkpoint has those that began it
    assert main(command("run", "--resume")) == 0
    assert torch.get_num_threads() == threads
    assert_same(weights(tmp_path / "whole"), weights(run))
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]


def test_a_run_is_finished_when_it_is_judged(
    tones_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while its model was converted, a run could neither be used nor be gone on with."""
    out = tmp_path / "run"
    command = ["fit", f"manifest={tones_csv}", *SMALL, "--watch", "0.25", "--out", str(out)]

    def stopped(*_: Any) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(judge, "convert", stopped)
        assert main(command) == 130
    assert not (out / "run.json").exists()
    assert main([*command, "--resume"]) == 0
    assert (out / "run.json").exists()


def test_what_is_random_is_put_back(tmp_path: Path) -> None:
    import random

    def draws() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    torch.save(random_state(), tmp_path / "state")
    first: Callable[[], list[float]] = draws
    expected = first()
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert draws() == expected
