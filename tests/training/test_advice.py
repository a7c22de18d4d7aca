"""Figures that a user should be warned of."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_runtime.console import counted
from edge_runtime.manifest import Calibration
from training.evaluate.advice import broken_by_rounding, int8_losses, miscalibrated, uncalibrated
from training.evaluate.metrics import measure


def metrics(before: int, after: int, n: int = 20) -> dict[str, Any]:
    """Of twice `n` clips of two classes; how many of "sad" are right in float and in int8."""
    truth = np.repeat([0, 1], n)

    def form(right: int) -> dict[str, Any]:
        said = truth.copy()
        said[0] = 1
        said[n + right :] = 0
        return measure(truth, said, ["angry", "sad"]).to_dict()

    return {"corpora": {"mine": {"audio": {"float": form(before), "int8": form(after)}}}}


def test_a_loss_over_two_points_is_a_warning_with_its_remedy() -> None:
    (line,) = int8_losses(metrics(15, 0))
    assert line.startswith("mine, audio: int8 loses 37.5 points of UA (85.0 to 47.5 % of 40 ")
    assert "sad 75 to 0 %" in line
    assert line.endswith("train that form longer (--qat-epochs), or on more clips")
    for before, after in ((15, 15), (10, 15)):
        assert int8_losses(metrics(before, after)) == []
    assert int8_losses(metrics(80, 76, 100)) == []  # two points are not more than two
    assert int8_losses({}) == []
    assert int8_losses({"corpora": {"mine": {"audio": {"float": {"ua": 0.9}}}}}) == []


def test_a_loss_says_what_was_tried_and_what_may_be_chance() -> None:
    for kept, told in ((True, "is kept"), (False, "was no better")):
        (line,) = int8_losses(metrics(15, 0), {"remedy": {"kept": kept}})
        assert f"; a gentler rounding was tried and {told}: train " in line
    (line,) = int8_losses(metrics(15, 14), {"remedy": {"kept": True}})
    assert line.endswith("; no more than chance may do; more clips would tell")


def test_what_rounding_broke_is_told_from_what_it_cost() -> None:
    (line,) = broken_by_rounding(metrics(15, 0))
    assert line.startswith("mine, audio: int8 loses 37.5 points of UA")
    assert broken_by_rounding(metrics(15, 12)) == []
    assert broken_by_rounding({}) == []
    folds = metrics(15, 0)
    forms = folds["corpora"]["mine"]["audio"]
    forms["fake-quant"] = forms.pop("int8")  # as a crossval has them that converts nothing
    assert broken_by_rounding(folds)
    assert int8_losses(folds)


def test_a_head_that_rounding_harms_has_a_remedy_of_its_own() -> None:
    found = metrics(15, 0)
    forms = found["corpora"]["mine"]["audio"]
    found["corpora"]["mine"]["audio"] = {
        "float head": forms["float"],
        "fake-quant": forms["int8"],
    }
    (line,) = int8_losses(found)
    assert "--strength" in line
    error = {"calibration_error": {"audio": 0.2}, "forms": {"float head": ""}}
    (line,) = miscalibrated({"audio": Calibration(1.2, 0.0)}, error)
    assert line.endswith("record more clips, of more speakers")


def test_a_confidence_that_means_little_is_a_warning() -> None:
    calibration = {"audio": Calibration(1.2, 0.0), "text": Calibration(1.0, 0.4)}
    found = miscalibrated(calibration, {"calibration_error": {"audio": 0.197, "text": 0.1}})
    (line,) = found
    assert line.startswith("audio: the confidence is off by 19.7 %")
    assert 'threshold of 0.00 never says "unsure"' in line
    assert "crossval" in line
    assert miscalibrated(calibration, {}) == []


def test_what_was_never_calibrated_is_one_warning_with_its_remedy() -> None:
    (line,) = uncalibrated({"audio": Calibration(1.2, 0.3)}, ("audio", "text", "audio+text"))
    assert "no calibration of text, audio+text: " in line
    assert 'never says "unsure"' in line
    assert "crossval" in line
    assert "\n" not in line
    assert uncalibrated({"audio": Calibration(1.0, 0.0)}, ("audio",)) == []


def test_one_is_not_many() -> None:
    assert counted(1, "speaker") == "1 speaker"
    assert counted(0, "clip") == "0 clips"
    assert counted(5531, "utterance") == "5,531 utterances"
    assert counted(2, "class", "classes") == "2 classes"
