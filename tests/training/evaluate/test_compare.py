"""Two runs are compared: what differs, and whether it is more than chance, on the same clips."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.manifest import Calibration
from training.__main__ import main
from training.corpora import Utterance
from training.corpora.manifest import write as write_manifest
from training.data.features import FeatureSettings
from training.data.fingerprint import TRAINED, data_record, write_trained
from training.evaluate.verdicts import FILE, errors_by_corpus, read, rows_of, write
from training.network.config import ModelConfig
from training.network.fakequant import Phase, set_phase
from training.network.model import MscnnSpu
from training.run import Run

CONFIG = ModelConfig(labels=("angry", "sad"), filters=4, hidden=(4,))
Clips = Callable[..., list[Utterance]]


def made(
    folder: Path,
    judged: Sequence[Utterance] = (),
    trained: Sequence[Utterance] = (),
    wrong: Sequence[int] = (),
    seed: int = 0,
    config: ModelConfig = CONFIG,
) -> Path:
    """A run of random weights that judged clips, all right but those at the places `wrong`."""
    torch.manual_seed(seed)
    model = MscnnSpu(config)
    set_phase(model, Phase.OBSERVE)
    with torch.no_grad():
        model(torch.randn(4, 50, 96), torch.full((4,), 50))
    run = Run(config, FeatureSettings(), model.state_dict(), {})
    run.training = {"settings": {"seed": seed, "lr": 0.1}, "data": data_record(trained)}
    run.training["data"]["complete"] = write_trained(folder / TRAINED, trained, {})
    if judged:
        labels = list(config.labels)
        truth = np.array([labels.index(u.label) for u in judged])
        truth[list(wrong)] ^= 1
        verdicts = {"audio/int8": 4 * np.eye(len(labels), dtype=np.float32)[truth]}
        verdicts["audio/fake-quant"] = -verdicts["audio/int8"]
        rows = rows_of(judged, verdicts, labels, {"audio": Calibration(2.0, 0.0)})
        write(folder / FILE, rows, labels)
    run.save(folder)
    return folder


def said(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    assert main(["compare", *map(str, arguments)]) == code
    done = capsys.readouterr()
    return " ".join((done.out if code == 0 else done.err).split())


def test_verdicts_are_kept_by_clip(tones: Clips, tmp_path: Path) -> None:
    clips = tones(speakers=2)
    rows = read(made(tmp_path / "run", clips, wrong=[0]))
    assert [row["form"] for row in rows] == ["int8"] * 8  # fake-quant is the same
    assert [row["guess"] == row["label"] for row in rows] == [False] + [True] * 7
    assert [row["speaker"] for row in rows] == [u.speaker for u in clips]
    # Logits 4 apart at temperature 2.
    assert float(rows[1]["score:sad"]) == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-4)
    # 88 % sure, and right in 7 of 8.
    assert errors_by_corpus(rows)["manifest/audio"] == pytest.approx(0.8808 - 7 / 8, abs=1e-3)


def test_what_differs_is_told_and_whether_by_chance(
    tones: Clips, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tones(speakers=8)
    good = made(tmp_path / "good", clips)
    # In another order, one more, and wrong of each speaker.
    poor = made(tmp_path / "poor", clips[:0:-1], wrong=range(0, 31, 2), seed=1)
    told = said(capsys, 0, poor, good, "--json", tmp_path / "out.json")
    assert "settings.seed │ 1 │ 0" in told
    assert "settings.lr" not in told
    assert "p = 0.0078, by 8 speakers" in told  # 2 of 2 ** 8 exchanges
    assert "beyond chance" in told
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["clips"] == 31
    assert found["result"]["second"] == 1.0
    assert found["result"]["beyond_chance"] is True
    assert any("good alone judged 1 clip more" in note for note in found["notes"])
    told = said(capsys, 0, good, good)
    assert "made alike" in told
    assert "chance makes as much" in told
    few = made(tmp_path / "few", clips[:8], wrong=[0, 4])
    assert "2 speakers cannot tell: whatever the verdicts, p is 0.5" in said(capsys, 0, few, good)


def test_both_are_judged_on_clips_that_trained_neither(
    tones: Clips,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    clips = tones(speakers=4)
    first = made(tmp_path / "first", trained=clips[:6])
    second = made(tmp_path / "second", seed=1)
    csv = tmp_path / "clips.csv"
    write_manifest(csv, [*clips, replace(clips[0], label="happy", path=None, text="yes")])
    told = said(capsys, 0, first, second, f"manifest={csv}")
    assert "of 10 clips (audio, fake-quant)" in told
    mapped = tmp_path / "map.toml"
    mapped.write_text('[manifest]\nangry = "sad"\n')
    only = said(capsys, 0, first, second, f"manifest={csv}", "--classes", mapped)
    assert "of 5 clips (audio, fake-quant)" in only
    assert f"6 clips left out that trained {first}" in caplog.text
    assert f"2 clips are by speakers whose other clips trained {first}" in caplog.text
    assert "1 clip of other classes left out" in caplog.text
    assert "not all that trained" not in caplog.text
    (second / TRAINED).unlink()
    said(capsys, 0, first, second, f"manifest={csv}")
    assert f"not all that trained {second} is known" in caplog.text
    write_trained(first / TRAINED, clips, {})
    told = said(capsys, 2, first, second, f"manifest={csv}")
    assert "each of these clips trained one of the runs" in told


def test_what_cannot_be_compared_is_told_in_one_line(
    tones: Clips, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tones(speakers=2)
    run, other = made(tmp_path / "run", clips[:4]), made(tmp_path / "other", clips[4:])
    assert "no clip in common" in said(capsys, 2, run, other)
    assert "no finished run or crossval" in said(capsys, 2, run, tmp_path)
    calm = replace(CONFIG, labels=("angry", "calm"))
    assert "different classes" in said(capsys, 2, run, made(tmp_path / "calm", config=calm))
    assert f"has no {FILE}" in said(capsys, 2, run, made(tmp_path / "none"))
    assert "no clip has the same label" in said(
        capsys, 2, run, made(tmp_path / "turned", [replace(c, label="sad") for c in clips[:4:2]])
    )
    content = (run / FILE).read_text()
    (other / FILE).write_text(content[: len(content) - 20])
    assert "cut off" in said(capsys, 2, run, other)
    crossval = tmp_path / "cv"
    crossval.mkdir()
    (crossval / "crossval.json").write_text(json.dumps({"model": asdict(CONFIG), "settings": {}}))
    csv = tmp_path / "clips.csv"
    write_manifest(csv, clips)
    assert "is a crossval" in said(capsys, 2, run, crossval, f"manifest={csv}")
    write_manifest(csv, [replace(c, label=c.label + "er") for c in clips])
    assert "no clip of these corpora has a class" in said(capsys, 2, run, run, f"manifest={csv}")
