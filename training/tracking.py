"""Runs in MLflow, beside what every run keeps in its own folder; only where `--mlflow` asks for it.

What goes there: settings, versions, the fingerprint of the data, learning curves, figures and
run.json. No sound, no words, no names of speakers, no weights; and nothing to MLflow's makers,
whose telemetry is switched off unless the environment says otherwise.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.errors import TrainingError
from training.output import at_once

MLFLOW = (
    "Keep the run in MLflow as well: the address of a server, or a folder, which gets a database "
    "mlflow.db (pip install -e '.[mlflow]')."
)
"""The help of the option."""
EXPERIMENT = "edge-emotion"
_RUN = Path("log") / "mlflow.json"  # in a run's folder: where it is kept, for --resume
_BATCH = 1000  # values that a server takes at once
_INSTALL = "--mlflow needs {}, which is not installed: pip install -e '.[mlflow]' in the checkout"

log = logging.getLogger(__name__)


class Tracking:
    """A run in MLflow; without a logger, nothing at all."""

    def __init__(self, logger: Any = None) -> None:
        self.logger = logger
        """Lightning's, for the learning curves; None where none was asked for."""

    def begin(self, training: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        """Tell what will be trained, how and on what: a run's training record, and its shape."""
        if self.logger is None:
            return
        settings = flat({**training.get("settings", {}), "model": model})
        self._tell(self.logger.log_hyperparams, settings)
        tags = {
            "revision": training.get("revision"),
            "edge_emotion": training.get("edge_emotion"),
            "python": training.get("python"),
            "data": training.get("data", {}).get("fingerprint"),
            **{f"version.{name}": text for name, text in training.get("versions", {}).items()},
        }
        for name, value in tags.items():
            if value is not None:
                self._tell(self.logger.experiment.set_tag, self.logger.run_id, name, str(value))

    def curves(self, curves: Mapping[str, Mapping[int, float]]) -> None:
        """Tell learning curves that were not followed, by name and epoch; those known stay."""
        if self.logger is None:
            return
        for name, values in curves.items():
            self._tell(self._curve, _name(name), values)

    def _curve(self, name: str, values: Mapping[int, float]) -> None:
        from mlflow.entities import Metric

        client, run = self.logger.experiment, self.logger.run_id
        known = {metric.step for metric in client.get_metric_history(run, name)}
        now = int(1000 * time.time())
        new = [
            Metric(name, value, now, epoch)
            for epoch, value in sorted(values.items())
            if epoch not in known
        ]
        for place in range(0, len(new), _BATCH):
            client.log_batch(run, new[place : place + _BATCH])

    def end(self, metrics: Mapping[str, Any], errors: Mapping[str, float], file: Path) -> None:
        """Tell the figures, `errors` being calibration errors by corpus/modality, and `file`."""
        if self.logger is None:
            return
        found = {f"calibration_error/{name}": error for name, error in errors.items()}
        for name, error in metrics.get("calibration_error", {}).items():
            found[f"calibration_error/all/{name}"] = error
        for corpus, modalities in metrics.get("corpora", {}).items():
            for modality, forms in modalities.items():
                for form, values in forms.items():
                    for measure in ("ua", "wa"):
                        found[f"{measure}/{corpus}/{modality}/{form}"] = values[measure]
        named = {_name(name): value for name, value in found.items()}
        if named:
            self._tell(self.logger.log_metrics, named)
        self._tell(self.logger.experiment.log_artifact, self.logger.run_id, str(file))

    def _tell(self, function: Any, *arguments: Any) -> None:
        """A server that is gone costs what it would have been told, not the training."""
        try:
            function(*arguments)
        except Exception as error:
            log.warning("warning: MLflow: %s", _line(error))


@contextmanager
def tracked(
    where: str, out: Path, resume: bool = False, remember: bool = True
) -> Iterator[Tracking]:
    """A run in MLflow at `where`, a URI or a folder, while the block runs; none for "".

    It bears the name of the folder `out`, and which it is, is written there unless `remember` is
    false; with `resume` it is that one. Raises TrainingError where MLflow is not installed, or is
    not to be reached at all.
    """
    if not where:
        yield Tracking()
        return
    logger = _opened(where, out, resume)
    if remember:
        with at_once(out / _RUN) as new:
            kept = {"where": where, "run": logger.run_id}
            new.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    status = "FAILED"
    try:
        yield Tracking(logger)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        Tracking(logger)._tell(logger.experiment.set_terminated, logger.run_id, status)


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A dictionary of dictionaries as one, with keys such as model.filters."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = list(value) if isinstance(value, tuple) else value
    return found


def _opened(where: str, out: Path, resume: bool) -> Any:
    """Lightning's logger of a run, begun or taken up again."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 7 take minutes
    try:
        import mlflow  # noqa: F401
        import sqlalchemy  # noqa: F401
    except ModuleNotFoundError as error:
        raise TrainingError(_INSTALL.format(error.name)) from None
    from lightning.pytorch.loggers import MLFlowLogger

    class Logger(MLFlowLogger):
        """Lightning's, but that trouble with a server is told and is no end of the training."""

        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            Tracking()._tell(super().log_metrics, metrics, step)

        def finalize(self, status: str = "success") -> None:
            """The run goes on behind the training: it is judged, and `tracked` ends it."""

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
    uri, artifacts = _address(where)
    try:
        known = _known(out, where) if resume else None
        logger = Logger(
            EXPERIMENT, out.resolve().name, uri, run_id=known, artifact_location=artifacts
        )
        logger.experiment.update_run(logger.run_id, status="RUNNING")
    except Exception as error:
        raise TrainingError(f"--mlflow {where}: {_line(error)}") from None
    return logger


def _address(where: str) -> tuple[str, str | None]:
    """MLflow's URI of `where`, and of what it keeps as files; None: it knows itself."""
    if "://" in where or where.startswith("databricks"):
        return where, None
    folder = Path(where.removeprefix("file:")).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()


def _known(out: Path, where: str) -> str | None:
    """The run that `out` was kept in at `where`; None where it was not."""
    try:
        kept = json.loads((out / _RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(kept["run"]) if kept.get("where") == where else None


def _name(text: str) -> str:
    """What MLflow takes for the name of a metric."""
    return re.sub(r"[^\w/. -]", "_", text)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
