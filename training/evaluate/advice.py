"""What a user should be warned of in the figures of a model, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge_runtime.manifest import Calibration
from training.rounding import described, recorded
from training.run import FLOAT_HEAD

_CALIBRATION_ERROR = 0.10  # a confidence of 80 % that means less than 70 %
_CALIBRATE = "python -m training crossval, then fit --crossval"
_SPEAKERS = f"calibrate on more speakers: {_CALIBRATE}"
_MORE = "record more clips, of more speakers"
_LONGER = "train that form longer (--qat-epochs), or on more clips"
_ROUNDED = {
    ("float", "int8"): _LONGER,
    ("float", "fake-quant"): _LONGER,
    (FLOAT_HEAD, "fake-quant"): "hold its weights smaller (--strength), or record more clips",
}
"""What is compared of a form and what becomes of it on the device, and what to do."""
_TRIED = "a gentler rounding was tried and {}: "
_CHANCE = "no more than chance may do; more clips would tell"


def int8_losses(metrics: Mapping[str, Any], training: Mapping[str, Any] | None = None) -> list[str]:
    """A sentence for each corpus and modality whose int8 form lost more than 2 points of UA.

    `training` is the run's record, which says whether a remedy was tried already.
    """
    tried, found = (training or {}).get("remedy"), []
    for where, pair, before, after in _pairs(metrics):
        loss = recorded(before, after)
        if not loss.notable:
            continue
        done = _TRIED.format("is kept" if tried["kept"] else "was no better") if tried else ""
        advice = done + _ROUNDED[pair] if loss.sure else _CHANCE
        found.append(f"{where}: {described(before, after)}; {advice}")
    return found


def broken_by_rounding(metrics: Mapping[str, Any]) -> list[str]:
    """A sentence for each corpus and modality whose int8 form is another model: `Loss.broken`."""
    return [
        f"{where}: {described(before, after)}"
        for where, _, before, after in _pairs(metrics)
        if recorded(before, after).broken
    ]


def _pairs(metrics: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str], Any, Any]]:
    """Where it was measured, the names of both forms, and their figures."""
    for corpus, modalities in metrics.get("corpora", {}).items():
        for modality, forms in modalities.items():
            pair = next((pair for pair in _ROUNDED if set(pair) <= forms.keys()), None)
            if pair is not None:
                yield f"{corpus}, {modality}", pair, forms[pair[0]], forms[pair[1]]


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
            f"{100 * _CALIBRATION_ERROR:.0f} % it means little){never}; "
            + (_MORE if FLOAT_HEAD in metrics.get("forms", {}) else _SPEAKERS)
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
