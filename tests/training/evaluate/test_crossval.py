"""The whole of the workstation's work on a handful of real clips, through its commands."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion.card import model_card
from edge_runtime import load_bundle
from edge_runtime.model.fusion import softmax
from training.__main__ import main
from training.corpora import Utterance, load_corpora
from training.corpora.manifest import write as write_manifest
from training.data.folds import Fold
from training.evaluate import crossval
from training.evaluate.crossval import _fold_pool, _FoldTask, _run_fold
from training.evaluate.judge import calibrations, summarize
from training.evaluate.verdicts import read
from training.run import load

ROOT = Path(__file__).parents[3]
SMALL = ["--epochs", "2", "--qat-epochs", "1", "--no-augment", "--filters", "16", "--hidden", "16"]


@pytest.fixture(scope="module")
def few_clips(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four speakers of RAVDESS, two clips of each class."""
    found = load_corpora([f"ravdess={corpora / 'ravdess'}"])["ravdess"].utterances
    chosen = []
    for speaker in ("ravdess-01", "ravdess-02", "ravdess-03", "ravdess-04"):
        for label in ("angry", "happy", "neutral", "sad"):
            chosen += [u for u in found if (u.speaker, u.label) == (speaker, label)][:2]
    path = tmp_path_factory.mktemp("manifest") / "few.csv"
    write_manifest(path, chosen)
    return path


@pytest.fixture(scope="module")
def crossval_out(few_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("crossval") / "cv"
    command = [sys.executable, "-m", "training", "crossval", f"manifest={few_clips}"]
    command += ["--folds", "2", "--jobs", "1", "--out", str(out), *SMALL]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in ("manifest", "float", "int8", "UA %", "WA %", "speaker-independent"):
        assert words in done.stdout
    return out


def test_crossval_judges_every_clip_in_every_form_and_draws(crossval_out: Path) -> None:
    summary = json.loads((crossval_out / "crossval.json").read_text())
    forms = summary["metrics"]["corpora"]["manifest"]["audio"]
    assert set(forms) == {"float", "fake-quant", "int8"}
    assert all(form["n"] == 32 for form in forms.values())
    for name in ("confusion_manifest.png", "curves.png"):
        assert (crossval_out / name).read_bytes().startswith(b"\x89PNG")
    for fold in ("fold1", "fold2"):
        load_bundle(crossval_out / fold / "bundle")
        assert load(crossval_out / fold).training["data"]["clips"] == 16
    rows = read(crossval_out)
    assert {row["form"] for row in rows} == {"float", "int8"}
    assert len({row["clip"] for row in rows}) == summary["data"]["clips"] == 32
    right = [row["guess"] == row["label"] for row in rows if row["form"] == "int8"]
    assert np.mean(right) == pytest.approx(forms["int8"]["wa"], abs=1e-4)


def test_finished_folds_are_kept_and_other_settings_refused(
    crossval_out: Path,
    few_clips: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crossval, "_run_fold", None)  # no process begins
    weights = crossval_out / "fold1" / "weights.pt"
    before = weights.stat().st_mtime_ns
    arguments = ["crossval", f"manifest={few_clips}", "--folds", "2", "--jobs", "1"]
    arguments += ["--out", str(crossval_out), *SMALL]
    assert main(arguments) == 0
    assert weights.stat().st_mtime_ns == before
    assert main([*arguments, "--lr", "0.1"]) == 2
    assert "other data or settings (lr 0.002, not 0.1)" in capsys.readouterr().err
    begun = (crossval_out / "plan.json").read_text()
    (crossval_out / "plan.json").write_text("[]")
    assert main(arguments) == 2
    assert "other data or settings (of an earlier version)" in capsys.readouterr().err
    (crossval_out / "plan.json").write_text(begun)


def test_mlflow_has_the_curves_of_the_folds_once(
    crossval_out: Path, few_clips: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    arguments = ["crossval", f"manifest={few_clips}", "--folds", "2", "--jobs", "1", *SMALL]
    for _ in range(2):
        assert main([*arguments, "--out", str(crossval_out), "--mlflow", str(tmp_path)]) == 0
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "edge-emotion"]
    (run,) = client.search_runs([experiment.experiment_id])
    for fold in ("fold1", "fold2"):
        losses = client.get_metric_history(run.info.run_id, f"{fold}/train_loss")
        assert [metric.step for metric in losses] == [0, 1, 2]
        assert [metric.value for metric in losses] == [
            float(row["train_loss"])
            for row in csv.DictReader((crossval_out / fold / "log/version_0/metrics.csv").open())
            if row["train_loss"]
        ]


def test_an_interrupted_crossval_begins_no_fold() -> None:
    nothing: Any = None
    task = _FoldTask(1, [], Fold([], []), nothing, Path(), nothing)
    asked = []
    with suppress(KeyboardInterrupt), _fold_pool(1) as pool:
        asked += [pool.submit(_run_fold, task) for _ in range(5)]
        raise KeyboardInterrupt
    # The pool has handed on two of them before anybody could give them up.
    assert sum(future.cancelled() for future in asked) >= 3
    for future in asked:
        assert future.cancelled() or isinstance(future.exception(), KeyboardInterrupt)


# Begins a fold that never ends, says which process that is, and is killed.
KILLED = """
import os, signal
from training.evaluate.crossval import _fold_pool
if __name__ == "__main__":
    import time
    with _fold_pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        while not pool._processes:
            time.sleep(0.01)
        time.sleep(0.5)
        print(*pool._processes, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_fold_ends_with_the_command_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment, timeout=600
    )
    assert done.returncode == -signal.SIGKILL
    processes = [int(number) for number in done.stdout.split()]
    assert processes
    until = time.monotonic() + 20
    while time.monotonic() < until and any(map(alive, processes)):
        time.sleep(0.05)
    assert not [number for number in processes if alive(number)]


def alive(process: int) -> bool:
    """Whether it runs; one that has ended and whose parent has not asked is gone as well."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_fit_takes_calibration_and_figures_from_a_crossval(
    crossval_out: Path, few_clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ["fit", f"manifest={few_clips}", "--out", str(out), *SMALL]
    assert main([*arguments, "--crossval", str(crossval_out)]) == 0
    summary, run = json.loads((crossval_out / "crossval.json").read_text()), load(out)
    assert asdict(run.calibration["audio"]) == summary["calibration"]["audio"]
    assert run.metrics == summary["metrics"]
    assert run.training["corpora"]["manifest"]["clips"] == 32
    assert run.training["corpora"]["manifest"]["speakers"] == 4


def test_fit_claims_no_speakers_where_none_are_given(
    few_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nameless = tmp_path / "nameless.csv"
    found = load_corpora([f"manifest={few_clips}"])["manifest"].utterances
    write_manifest(nameless, [replace(u, speaker="") for u in found])
    out = tmp_path / "run"
    assert main(["fit", f"manifest={nameless}", "--out", str(out), *SMALL]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "speakers kept out" not in printed
    assert "speakers unknown: split by clip, not speaker-independent" in printed
    run = load(out)
    assert run.training["corpora"]["manifest"]["speakers"] is None
    figures = run.metrics["corpora"]["manifest"]["audio"]["int8"]
    assert figures["speakers"] is None
    lower, upper = figures["ua_interval"]
    assert 0 <= lower <= figures["ua"] <= upper <= 1
    assert lower < upper
    manifest = replace(load_bundle("default").manifest, training=run.training, metrics=run.metrics)
    card = model_card(manifest)
    assert "| manifest | 26 | unknown |" in card
    assert "Measured on: speakers unknown: split by clip" in card
    assert f"[{100 * lower:.1f}, {100 * upper:.1f}]" in card


def test_fit_keeps_speakers_out_and_says_which(few_clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main(["fit", f"manifest={few_clips}", "--out", str(out), "--watch", "0.5", *SMALL]) == 0
    run = load(out)
    assert run.metrics["protocol"] == "2 speakers kept out of training"
    assert run.training["corpora"]["manifest"]["speakers"] == 2
    watched = load_corpora([f"manifest={out / 'watched.csv'}"])["manifest"].utterances
    assert len({u.speaker for u in watched}) == 2
    assert len(watched) == 16


def test_a_model_of_the_other_corpora_judges_each_corpus(corpora: Path, tmp_path: Path) -> None:
    """Parts of three corpora, one of them without sad."""
    parts = {
        "ravdess": [f"Actor_{n:02d}/*-01-01-{n:02d}.flac" for n in (1, 2, 3)],
        "emovo": ["f1/*-f1-b?.flac", "m1/*-m1-b?.flac"],
        "emospeech": ["webservice/help-*.flac"],
    }
    for name, patterns in parts.items():
        for path in (p for pattern in patterns for p in (corpora / name).glob(pattern)):
            copy = tmp_path / path.relative_to(corpora)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    sizes = {name: len(list((tmp_path / name).rglob("*.flac"))) for name in parts}
    out = tmp_path / "cv"
    command = [sys.executable, "-m", "training", "crossval"]
    command += [f"{name}={tmp_path / name}" for name in parts]
    command += ["--by", "corpus", "--jobs", "1", "--out", str(out), *SMALL]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()
    assert "emospeech has no sad: its figures are over angry, happy, neutral alone" in told
    # A folder of half the speakers of its corpus is said to be one.
    assert any(line.startswith("emovo: not the complete") for line in told)
    assert any("speakers: 3, not 24" in line for line in told)
    summary = json.loads((out / "crossval.json").read_text())["metrics"]
    assert summary["protocol"].startswith("3 speaker-independent folds, each a corpus of which")
    found = {name: forms["audio"]["int8"] for name, forms in summary["corpora"].items()}
    assert {name: figures["n"] for name, figures in found.items()} == sizes
    assert all(len(figures["ua_folds"]) == 1 for figures in found.values())
    assert set(found["emospeech"]["per_class_recall"]) == {"angry", "happy", "neutral"}
    assert all(name in done.stdout for name in parts)


def test_scores_are_calibrated_on_clips_as_they_are_and_degraded() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    clips = [Utterance(Path(f"{n}.wav"), "ab"[label], "s", "c") for n, label in enumerate(truth)]
    sure = np.where(truth[:, None] == np.arange(2), 3.0, -3.0).astype(np.float32)
    guesses = np.where(rng.integers(0, 2, 400)[:, None] == np.arange(2), 3.0, -3.0)
    studio = summarize({"audio/int8": sure}, clips, ["a", "b"])
    verdicts = {"audio/int8": sure, "audio/degraded": guesses.astype(np.float32)}
    room = summarize(verdicts, clips, ["a", "b"])
    assert room.metrics["c"]["audio"]["degraded"]["ua"] == pytest.approx(0.5, abs=0.08)
    # Right three times of four: the odds of the scores, 6 / temperature, are log 3.
    assert room.calibration["audio"].temperature == pytest.approx(6 / np.log(3), rel=0.15)
    assert studio.calibration["audio"].temperature == pytest.approx(0.2, abs=0.01)


def test_confidence_is_fitted_on_all_verdicts_and_unsure_on_the_first() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    classes = np.arange(2)
    margin = rng.uniform(1.0, 6.0, (400, 1))
    known = np.where(truth[:, None] == classes, margin, 0.0).astype(np.float32)
    wrong = np.tile(known[:, ::-1], (2, 1))  # of another world, where all it says is wrong
    twice = np.tile(truth, 2)
    alone, _ = calibrations([({"audio/int8": known}, truth)])
    joint, _ = calibrations([({"audio/int8": known}, truth), ({"audio/int8": wrong}, twice)])
    stacked = np.concatenate([known, wrong]), np.concatenate([truth, twice])
    both, _ = calibrations([({"audio/int8": stacked[0]}, stacked[1])])
    assert joint["audio"].temperature == both["audio"].temperature > 2 * alone["audio"].temperature
    confidence = softmax(known, joint["audio"].temperature).max(axis=1)
    assert np.mean(confidence < joint["audio"].threshold) == pytest.approx(0.05, abs=0.02)
    assert joint["audio"].threshold < both["audio"].threshold


def test_a_model_for_rooms_is_judged_in_rooms_as_well(
    few_clips: Path, corpora: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ["fit", f"manifest={few_clips}", "--watch", "0.5", "--out", str(out), *SMALL]
    assert (
        main([*command, "--rooms", str(corpora / "rooms" / "small_room"), "--versions", "1"]) == 0
    )
    run = load(out)
    forms = run.metrics["corpora"]["manifest"]["audio"]
    assert set(forms) == set(run.metrics["forms"]) == {"float", "fake-quant", "degraded", "int8"}
    assert forms["degraded"]["n"] == forms["int8"]["n"] == 16
    assert forms["degraded"] != forms["fake-quant"]
