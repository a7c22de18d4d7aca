"""What a user should be warned of in the figures of a model, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_runtime.console import counted
from edge_runtime.manifest import Calibration

_LOSS = 0.02  # of UA, from float to int8: more is not rounding, something is wrong
_CALIBRATION_ERROR = 0.10  # a confidence of 80 % that means less than 70 %
_CALIBRATE = "python -m training crossval, then fit --crossval"


def int8_losses(metrics: Mapping[str, Any]) -> list[str]:
    """A sentence for each corpus and modality whose int8 form lost more than 2 points of UA."""
    found = []
    for corpus, modalities in metrics.get("corpora", {}).items():
        for modality, forms in modalities.items():
            if not {"float", "int8"} <= forms.keys():
                continue
            before, after = forms["float"], forms["int8"]
            if round(before["ua"] - after["ua"], 4) <= _LOSS:
                continue
            recalls = before["per_class_recall"], after["per_class_recall"]
            worst = max(recalls[1], key=lambda label: recalls[0][label] - recalls[1][label])
            fall = " to ".join(f"{100 * recall[worst]:.0f}" for recall in recalls)
            found.append(
                f"{corpus}, {modality}: int8 loses {100 * (before['ua'] - after['ua']):.1f} "
                f"points of UA ({100 * before['ua']:.1f} to {100 * after['ua']:.1f} % of "
                f"{counted(after['n'], 'utterance')}; {worst} {fall} %); train that form longer "
                "(--qat-epochs), or on more clips"
            )
    return found


def miscalibrated(calibration: Mapping[str, Calibration], metrics: Mapping[str, Any]) -> list[str]:
    """A sentence for each modality whose confidence is not to be believed."""
    found = []
    for modality, error in metrics.get("calibration_error", {}).items():
        if modality not in calibration or error <= _CALIBRATION_ERROR:
            continue
        threshold = calibration[modality].threshold
        never = "" if threshold > 0 else ', and its threshold of 0.00 never says "unsure"'
        found.append(
            f"{modality}: the confidence is off by {100 * error:.1f} % (calibration error; over "
            f"{100 * _CALIBRATION_ERROR:.0f} % it means little){never}; calibrate on more "
            f"speakers: {_CALIBRATE}"
        )
    return found


def uncalibrated(calibration: Mapping[str, Calibration], modalities: Sequence[str]) -> list[str]:
    """One sentence if any of `modalities`, what a bundle can judge by, was never calibrated."""
    lacking = [modality for modality in modalities if modality not in calibration]
    if not lacking:
        return []
    return [
        f"the run has no calibration of {', '.join(lacking)}: there the bundle never says "
        f'"unsure"; to calibrate: {_CALIBRATE}'
    ]
