"""What a crossval leaves in its folder, for what goes on from there without training anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.manifest import Calibration
from training.corpora import Utterance
from training.errors import TrainingError
from training.evaluate.familiarity import FarVerdicts
from training.evaluate.judge import Verdicts, calibrations
from training.output import at_once
from training.tiers import SMALL

SUMMARY = "crossval.json"  # figures and calibration; the last to be written
PREDICTIONS = "predictions.npz"  # in the folder of a fold: logits of what it tested
BUNDLE = "bundle"  # of a fold, its model alone; with a pre-trained encoder: called as the tier
VERDICTS = "verdicts.npz"  # logits of every clip, of the fold that did not train on it

_TRUTH = "truth"
_AWAY = "away/"  # before the form of which the distances are


def clip_name(utterance: Utterance) -> str:
    """What a plan calls a clip; its words, which may hold anything, come behind that."""
    return f"{utterance.corpus}/{utterance.audio.name}/{utterance.start}/{utterance.end}"


def bundle_of(fold: Path, tier: str) -> Path:
    """The bundle that a fold has of a tier. Raises TrainingError where it has none."""
    bundle = fold / (BUNDLE if tier == SMALL else tier)
    if not bundle.is_dir():
        command = "crossval" if tier == SMALL else f"pretrained --tier {tier}"
        raise TrainingError(f"{fold} has no {bundle.name}: python -m training {command} first")
    return bundle


def write_verdicts(
    path: Path,
    verdicts: Verdicts,
    truth: npt.NDArray[Any],
    away: Mapping[str, npt.NDArray[Any]] | None = None,
) -> None:
    """Write what `read_verdicts` reads: logits, index of each one's class, distances by form."""
    named = {f"{_AWAY}{form}": values for form, values in (away or {}).items()}
    with at_once(path) as new:
        np.savez(new, **{**verdicts, _TRUTH: truth, **named})  # type: ignore[arg-type]


def read_verdicts(folder: Path, file: str = VERDICTS) -> FarVerdicts:
    """What a finished crossval holds in `file`, corpora apart. TrainingError where it does not."""
    path = folder / file
    if not path.exists():
        raise TrainingError(f"{folder} is not a finished crossval: there is no {file}")
    found = dict(np.load(path))
    truth = found.pop(_TRUTH)
    away = {key.removeprefix(_AWAY): found.pop(key) for key in [*found] if key.startswith(_AWAY)}
    return FarVerdicts(found, truth, np.full(len(truth), ""), away)


def joint_calibration(
    folders: Sequence[Path], file: str = VERDICTS
) -> tuple[dict[str, Calibration], dict[str, float]]:
    """Calibration by modality over the verdicts of several finished crossvals, and its error.

    `file` is where a crossval holds them. Raises TrainingError for a folder without verdicts.
    """
    judged = [read_verdicts(folder, file) for folder in folders]
    return calibrations([(one.verdicts, one.truth) for one in judged])
