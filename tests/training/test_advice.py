"""Figures that a user should be warned of."""

from __future__ import annotations

from typing import Any

from edge_runtime.console import counted
from edge_runtime.manifest import Calibration
from training.evaluate.advice import int8_losses, miscalibrated, uncalibrated


def metrics(before: float, after: float) -> dict[str, Any]:
    """Of 40 clips of two classes, one of which lost it all."""

    def form(ua: float) -> dict[str, Any]:
        return {"n": 40, "ua": ua, "per_class_recall": {"angry": 0.9, "sad": 2 * ua - 0.9}}

    return {"corpora": {"mine": {"audio": {"float": form(before), "int8": form(after)}}}}


def test_a_loss_over_two_points_is_a_warning_with_its_remedy() -> None:
    (line,) = int8_losses(metrics(0.825, 0.45))
    assert line.startswith("mine, audio: int8 loses 37.5 points of UA (82.5 to 45.0 % of 40 ")
    assert "sad 75 to 0 %" in line
    assert "--qat-epochs" in line
    for before, after in ((0.8, 0.78), (0.6, 0.7)):
        assert int8_losses(metrics(before, after)) == []
    assert int8_losses({}) == []
    assert int8_losses({"corpora": {"mine": {"audio": {"float": {"ua": 0.9}}}}}) == []


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
