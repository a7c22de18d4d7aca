"""A build refuses what int8 has broken, unless told; then its card says so. Parity fails of it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conversion import faults
from conversion.__main__ import main
from conversion.faults import LIMIT, ROUNDING_LIMIT, distance
from conversion.parity import FAKE_QUANT, FLOAT, INT8, ONNX, TORCH, Parity
from edge_runtime.bundle import Bundle
from training.evaluate.metrics import measure
from training.rounding import changes
from training.run import DEFAULT_RUN, Run, load

SCENE = Path(faults.__file__).parents[1] / "edge_runtime" / "demo" / "scene.flac"


@pytest.fixture(scope="module")
def sound() -> Run:
    """The part of the shipped run that hears."""
    from training.fit.warmstart import audio_alone

    return audio_alone(load(DEFAULT_RUN))


def damaged(run: Run, name: str, factor: float) -> Run:
    """The run with the learned range of one activation scaled."""
    weights = dict(run.weights)
    for end in ("low", "high"):
        weights[f"{name}.{end}"] = weights[f"{name}.{end}"] * factor
    return replace(run, weights=weights)


def figures(lost: int) -> dict[str, object]:
    """Of 40 clips of two classes, of which int8 has lost so many of "sad"."""
    truth = np.repeat([0, 1], 20)
    after = np.where(np.arange(40) >= 40 - lost, 0, truth)
    labels = ["angry", "sad"]
    exact, rounded = (measure(truth, said, labels).to_dict() for said in (truth, after))
    rounded |= changes(truth, truth, after, labels)
    return {
        "protocol": "toy",
        "corpora": {"mine": {"audio": {"float": exact, "int8": rounded}}},
    }


def test_the_shipped_run_is_whole() -> None:
    assert faults.of_run(load(DEFAULT_RUN), "int8") == []


@pytest.mark.parametrize("name", ["audio_input", "audio.hidden.0", "head.outputs.1"])
def test_a_range_at_a_tenth_is_told_without_any_clip(sound: Run, name: str) -> None:
    (line,) = faults.of_run(damaged(sound, name, 0.1), "int8")
    assert line.startswith("audio: rounding to int8 moves ")
    assert line.endswith(f"(at most {100 * ROUNDING_LIMIT:.0f} %)")
    assert faults.of_run(damaged(sound, name, 0.1), "float16") == []  # which rounds to no such step


def test_recorded_figures_that_fell_are_told(sound: Run) -> None:
    (line,) = faults.of_run(replace(sound, metrics=figures(15)), "int8")
    assert "int8 loses 37.5 points of UA (100.0 to 62.5 % of 40 utterances; sad 100 to 25" in line
    assert faults.of_run(replace(sound, metrics=figures(3)), "int8") == []


def test_graphs_that_compute_something_else_are_told(sound: Run, small: Bundle) -> None:
    """The bundle of the shipped run, held against a model of which one layer is another."""
    run = load(DEFAULT_RUN)
    assert faults.of_bundle(run, small, "int8") == []
    name = "head.layers.1.weight"
    other = replace(run, weights={**run.weights, name: run.weights[name].roll(1, 0)})
    found = faults.of_bundle(other, small, "int8")
    assert [line.partition(": ")[0] for line in found] == [
        *("audio", "text", "audio+text", "audio+text, whole window")
    ]
    assert all("away from the fake-quantized model" in line for line in found)


def test_a_broken_run_is_refused_and_built_where_told(
    sound: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = damaged(sound, "audio_input", 0.1)
    broken.save(tmp_path / "run")
    command = ["build", str(tmp_path / "run"), "--no-whole", "--out", str(tmp_path / "b")]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("conversion: the int8 form is not the model that was trained: audio: ")
    assert "--allow-loss builds it all the same" in line
    assert not (tmp_path / "b").exists()
    with caplog.at_level(logging.WARNING):
        assert main([*command, "--allow-loss"]) == 0
    assert "broken, and built all the same: audio: rounding to int8 moves" in caplog.text
    (told,) = json.loads((tmp_path / "b" / "manifest.json").read_text())["metrics"]["broken"]
    card = (tmp_path / "b" / "MODEL_CARD.md").read_text()
    assert "## Broken by int8" in card
    assert f"- {told}" in card

    csv = tmp_path / "clips.csv"
    rows = [f"{SCENE},angry,{start},{start + 3}" for start in range(0, 18, 3)]
    csv.write_text("\n".join(["path,label,start,end", *rows]) + "\n")
    arguments = ["parity", str(tmp_path / "b"), "--manifest", str(csv), "--run"]
    # Held against the run it was built of, and against the run as it was before the damage.
    capsys.readouterr()
    sound.save(tmp_path / "whole")
    assert main([*arguments, str(tmp_path / "whole")]) == 1
    assert "conversion: broken: fake-quant and int8 device are " in capsys.readouterr().err


def scores(wrong: int, n: int = 20) -> np.ndarray:
    """Sure verdicts for the first of two classes, of which the last are the other."""
    rows = np.tile(np.float32([0.9, 0.1]), (n, 1))
    rows[n - wrong :] = [0.1, 0.9]
    return rows


def test_parity_is_broken_by_what_float_had_right_and_by_other_arithmetic() -> None:
    def told(form: str = "int8", **other: int) -> list[str]:
        names = {"float": FLOAT, "torch": TORCH, "onnx": ONNX, "fake": FAKE_QUANT, "int8": INT8}
        every = {full: scores(other.get(name, 0)) for name, full in names.items()}
        return Parity(every, np.zeros(20, np.int64), ["a", "b"]).broken(form)

    assert told() == []
    assert told(int8=1, fake=1) == []
    (line,) = told(int8=9, fake=9)
    assert line.startswith("against float, int8 loses 45.0 points of UA (100.0 to 55.0 %")
    (line,) = told(onnx=3)
    assert line.startswith("unrounded torch and unrounded ONNX Runtime are 12 % of")
    assert line.endswith(f"(at most {100 * LIMIT:.0f} %)")
    assert told(fake=9)  # int8 is not what the fake-quantized model says
    assert told("float16", fake=9) == []  # nor need it be, in another form
    unjudged = scores(0)
    unjudged[:5] = np.nan
    assert distance(unjudged, scores(0)) == 0.0
    assert distance(unjudged, scores(3)) == pytest.approx(0.8 * 3 / 15)


def test_examples_are_the_same_each_time_and_of_the_runs_own_words() -> None:
    run = load(DEFAULT_RUN)
    one, other = faults.examples_of(run), faults.examples_of(run)
    assert one.texts == other.texts
    assert len(one.sounds) == len(one.texts) == 14
    assert {word for text in one.texts for word in text.split()} <= set(run.vocabulary[:2000])
    deaf = replace(run, config=replace(run.config, variant="audio"))
    assert faults.examples_of(deaf).texts == [""] * 14
    few = replace(run, vocabulary=["yes", "no"])
    assert set(faults.examples_of(few).texts[0].split()) <= {"yes", "no"}
