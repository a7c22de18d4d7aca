"""Small bundles that adapt to a speaker, of random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from random_models import random_case

from conversion.bundle import build
from conversion.targets import bundle_target
from edge_runtime.manifest import Calibration
from edge_runtime.reference_arrays import ReferenceArrays
from training.corpora import Utterance
from training.evaluate.adapted import settings_of
from training.network.config import ModelConfig
from training.run import Run, SpeakerReference


def random_reference(width: int, classes: int = 4, **settings: Any) -> SpeakerReference:
    """Weights that move verdicts visibly, and a space of voices."""
    rng = np.random.default_rng(5)
    arrays = ReferenceArrays(
        weights=rng.normal(0, 0.3, (2 * width, classes)).astype(np.float32),
        bias=np.zeros(classes, np.float32),
        voice_mean=rng.normal(0, 0.1, width).astype(np.float32),
        voice=rng.normal(0, 0.05, (width, 6)).astype(np.float32),
        voice_spread=np.linspace(2, 0.1, 6).astype(np.float32),
    )
    return SpeakerReference(
        arrays, {**settings_of({"audio": 1.5, "audio+text": 1.2}, -1e6), **settings}
    )


def adapting_run(folder: Path, variant: str = "audio") -> tuple[Run, Path]:
    """A run with a reference, and its bundle without one, in `folder`."""
    case = random_case(ModelConfig(variant=variant), folder / "plain")
    case.run.reference = random_reference(case.run.config.audio_statistics)
    return case.run, case.path


def build_adapting(folder: Path, run: Run, **settings: Any) -> Path:
    """The bundle of such a run, with other numbers where some are given."""
    assert run.reference is not None
    chosen = {**run.reference.settings, **settings}
    before, run.reference = run.reference, SpeakerReference(run.reference.arrays, chosen)
    out = folder / f"bundle{len(list(folder.iterdir()))}"
    build(run, out, bundle_target("raspberry-pi"), "adapting", whole=False, allow_loss=True)
    run.reference = before
    return out


def write_crossval(
    folder: Path, folds: Sequence[list[Utterance]], run: Run, bundle: Path, calibration: Calibration
) -> Path:
    """A finished crossval of random verdicts on sound, all folds of the same run and bundle."""
    plan = []
    for number, judged in enumerate(folds, 1):
        plan.append([f"{u.corpus}/{u.audio.name}/{u.start}/{u.end}/{u.text}" for u in judged])
        fold = folder / f"fold{number}"
        run.save(fold)
        shutil.copytree(bundle, fold / "bundle")
        logits = np.random.default_rng(number).normal(0, 1, (len(judged), 4))
        np.savez(fold / "predictions.npz", **{"audio/int8": logits})  # type: ignore[arg-type]
    (folder / "plan.json").write_text(json.dumps({"test": plan}))
    summary = {
        "labels": list(run.config.labels),
        "calibration": {"audio": asdict(calibration)},
        "metrics": {},
    }
    (folder / "crossval.json").write_text(json.dumps(summary))
    return folder
