"""Runs are kept in MLflow where that is asked for: a real store in a folder, without a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main
from training.fit.module import EmotionModule
from training.run import load
from training.tracking import tracked

pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")
SMALL = ["--epochs", "1", "--qat-epochs", "1", "--epoch-steps", "2", "--no-augment", "--watch", "0"]
SMALL += ["--filters", "4", "--hidden", "4"]
METRICS = {
    "corpora": {"manifest@home": {"audio": {"int8": {"ua": 0.6, "wa": 0.7}}}},
    "calibration_error": {"audio": 0.05},
}


def test_a_run_is_kept_with_its_curves_and_taken_up_again(
    tones_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    out, store = tmp_path / "mine", tmp_path / "store"
    command = ["fit", f"manifest={tones_csv}", *SMALL, "--out", str(out), "--mlflow", str(store)]

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EmotionModule, "on_train_batch_end", interrupted)
        assert main(command) == 130
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "edge-emotion"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    assert main([*command, "--resume"]) == 0
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mine")
    kept = load(out).training
    assert run.data.params["lr"] == str(kept["settings"]["lr"])
    assert run.data.params["model.filters"] == "4"
    assert run.data.tags["data"] == kept["data"]["fingerprint"]
    assert run.data.tags["version.torch"] == kept["versions"]["torch"]
    assert run.data.tags.get("revision") == kept["revision"]
    losses = client.get_metric_history(run.info.run_id, "train_loss")
    assert len(losses) == 2
    (artifact,) = client.list_artifacts(run.info.run_id)
    assert artifact.path == "run.json"
    # Figures, and a second run beside the first.
    with tracked(str(store), tmp_path / "other") as tracking:
        tracking.end(METRICS, {"manifest@home/audio": 0.04}, out / "run.json")
    first, _ = client.search_runs([experiment.experiment_id])
    assert first.data.metrics == {
        "ua/manifest_home/audio/int8": 0.6,
        "wa/manifest_home/audio/int8": 0.7,
        "calibration_error/manifest_home/audio": 0.04,
        "calibration_error/all/audio": 0.05,
    }


def test_a_store_that_fails_in_the_middle_costs_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracked(str(tmp_path / "store"), tmp_path / "run") as tracking:
        monkeypatch.setattr(tracking.logger, "_run_id", "gone")
        tracking.logger.log_metrics({"train_loss": 1.0}, 1)
        tracking.begin({"settings": {"lr": 1}}, {})
    assert "MLflow: " in caplog.text
    assert "gone" in caplog.text


def test_what_is_missing_is_told_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    command = ["fit", f"manifest={tmp_path / 'none.csv'}", "--out", str(tmp_path / "run")]

    def line(where: str) -> str:
        assert main([*command, "--mlflow", where]) == 2
        (told,) = [said for said in capsys.readouterr().err.splitlines() if said.strip()]
        return told

    assert line("http://127.0.0.1:1").startswith("training: --mlflow http://127.0.0.1:1: ")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert "needs mlflow, which is not installed: pip install -e '.[mlflow]'" in line("store")
    assert not (tmp_path / "run").exists()
