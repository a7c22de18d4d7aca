"""Texts are read by the map of classes that a run was trained with, unless another is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.peers.tfidf import compare_texts
from training.data.features import FeatureSettings
from training.network.config import ModelConfig
from training.run import Run


def listed(path: Path) -> str:
    rows = [f",{label},so {label} it is,{s}" for label in ("joy", "rage") for s in SPLITS]
    path.write_text("\n".join(["path,label,text,split", *rows]), encoding="utf-8")
    return f"manifest={path}"


SPLITS = ("train", "train", "dev")


def mapped(path: Path, classes: tuple[str, str]) -> str:
    pairs = zip(("joy", "rage"), classes, strict=True)
    lines = [f'{own} = "{label}"' for own, label in pairs]
    path.write_text("\n".join(["[manifest]", *lines]), encoding="utf-8")
    return str(path)


def test_texts_are_judged_by_the_classes_of_the_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = mapped(tmp_path / "map.toml", ("bright", "dark"))
    assert main(["text", listed(tmp_path / "t.csv"), "--classes", chosen]) == 0
    assert "bright 100  dark 100" in capsys.readouterr().out


def test_a_run_without_a_class_of_the_texts_is_refused_in_one_line(tmp_path: Path) -> None:
    config = ModelConfig(labels=("bright", "dark"), variant="text")
    labels = {"manifest": {"joy": "bright", "rage": "loud"}}
    record = {"classes": {"map": "gone.toml", "labels": labels}}
    run = Run(config, FeatureSettings(), {}, {}, training=record, vocabulary=["so"])
    with pytest.raises(BenchmarkError, match="the run has no class 'loud'; it has bright, dark"):
        compare_texts([listed(tmp_path / "t.csv")], run)
