"""What a crossval leaves in its folder, for what goes on from there without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.manifest import Calibration
from training.corpora import Utterance
from training.errors import TrainingError
from training.evaluate.judge import Verdicts, calibrations
from training.output import at_once
from training.tiers import SMALL

SUMMARY = "crossval.json"  # figures and calibration; the last to be written
PREDICTIONS = "predictions.npz"  # in the folder of a fold: logits of what it tested
BUNDLE = "bundle"  # of a fold, its model alone; with a pre-trained encoder: called as the tier
VERDICTS = "verdicts.npz"  # logits of every clip, of the fold that did not train on it

_TRUTH = "truth"


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


def write_verdicts(path: Path, verdicts: Verdicts, truth: npt.NDArray[Any]) -> None:
    """Write what `joint_calibration` reads: logits and the index of each one's class."""
    with at_once(path) as new:
        np.savez(new, **{**verdicts, _TRUTH: truth})  # type: ignore[arg-type]


def joint_calibration(
    folders: Sequence[Path], file: str = VERDICTS
) -> tuple[dict[str, Calibration], dict[str, float]]:
    """Calibration by modality over the verdicts of several finished crossvals, and its error.

    `file` is where a crossval holds them. Raises TrainingError for a folder without verdicts.
    """
    judged = []
    for folder in folders:
        path = folder / file
        if not path.exists():
            raise TrainingError(f"{folder} is not a finished crossval: there is no {file}")
        verdicts = dict(np.load(path))
        judged.append((verdicts, verdicts.pop(_TRUTH)))
    return calibrations(judged)
