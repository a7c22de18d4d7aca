"""What it is worth to know the speaker, measured over a small crossval of random models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from voices import adapting_run, build_adapting

from benchmarks.errors import BenchmarkError
from benchmarks.speakers import COLD, worth
from training.corpora import Utterance
from training.evaluate.histories import CHANGES, TRAINED

LABELS = {"1": "neutral", "3": "happy", "4": "sad", "5": "angry"}


@pytest.fixture(scope="module")
def spoken(clips: list[Path]) -> list[Utterance]:
    ravdess = [clip for clip in clips if clip.stem.count("-") == 6]
    return [
        Utterance(clip, LABELS[str(int(clip.stem.split("-")[2]))], clip.parent.name, "ravdess")
        for clip in ravdess
    ]


@pytest.fixture(scope="module")
def crossval(tmp_path_factory: pytest.TempPathFactory, spoken: list[Utterance]) -> Path:
    """A fold that judged both speakers."""
    folder = tmp_path_factory.mktemp("crossval")
    work = tmp_path_factory.mktemp("work")
    run, plain = adapting_run(work)
    fold = folder / "fold1"
    fold.mkdir()
    shutil.copytree(build_adapting(work, run), fold / "bundle")
    shutil.copytree(plain, fold / "plain")
    names = [f"{u.corpus}/{u.audio.name}/{u.start}/{u.end}/{u.text}" for u in spoken]
    (folder / "plan.json").write_text(json.dumps({"test": [names]}))
    logits = np.random.default_rng(0).normal(0, 1, (len(names), 4)).astype(np.float32)
    np.savez(fold / "predictions.npz", **{"audio/int8": logits})  # type: ignore[arg-type]
    return folder


def test_every_history_is_judged(
    crossval: Path,
    spoken: list[Utterance],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = worth(crossval, spoken, spoken[:2], jobs=1)
    assert list(result.cells) == [COLD, *TRAINED, *CHANGES]
    assert result.gain(COLD) == 0
    cold = np.load(crossval / "fold1" / "predictions.npz")["audio/int8"].argmax(axis=1)
    labels = ["angry", "happy", "neutral", "sad"]
    right = [labels[guess] == u.label for guess, u in zip(cold, spoken, strict=True)]
    assert result.cells[COLD]["ravdess"].wa == pytest.approx(np.mean(right))
    assert result.cells["3 of any"]["ravdess"].n == 2 * len(spoken)
    assert 0 < result.cost < 1
    assert set(result.calm) == {COLD, "adapting"}
    assert set(json.loads(json.dumps(result.to_dict()))) == {
        "histories",
        "enrolments_refused",
        "ordinary_neutral_or_unsure",
        "cost",
    }


def test_a_crossval_that_adapts_to_nobody_is_refused(
    crossval: Path, spoken: list[Utterance], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(crossval, tmp_path / "copy"))
    shutil.rmtree(copy / "fold1" / "bundle")
    shutil.copytree(copy / "fold1" / "plain", copy / "fold1" / "bundle")
    with pytest.raises(BenchmarkError, match="adapts to nobody"):
        worth(copy, spoken, [])
