"""UA and WA against scikit-learn; calibration that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix

from edge_runtime.model.fusion import softmax
from training.evaluate.metrics import calibration_error, fit_temperature, measure, unsure_threshold

LABELS = ["angry", "happy", "neutral", "sad"]


def test_ua_wa_and_confusion_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(4, 200, p=[0.5, 0.3, 0.15, 0.05])
    predicted = np.where(rng.random(200) < 0.6, truth, rng.choice(4, 200))
    metrics = measure(truth, predicted, LABELS)
    # float32 inside torchmetrics
    assert metrics.ua == pytest.approx(balanced_accuracy_score(truth, predicted), abs=1e-6)
    assert metrics.wa == pytest.approx(accuracy_score(truth, predicted), abs=1e-6)
    assert metrics.confusion == confusion_matrix(truth, predicted, labels=range(4)).tolist()
    assert metrics.n == 200


def test_a_class_that_does_not_occur_does_not_count_as_zero() -> None:
    metrics = measure(np.array([0, 0, 1]), np.array([0, 2, 1]), LABELS)
    assert metrics.ua == pytest.approx(0.75)
    assert metrics.per_class_recall == {"angry": 0.5, "happy": 1.0}


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="no predictions"):
        measure(np.array([], int), np.array([], int), LABELS)


def test_the_temperature_undoes_a_known_scaling() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, (4000, 4))
    probabilities = softmax(logits)
    truth = np.array([rng.choice(4, p=p / p.sum()) for p in probabilities.astype(float)])
    # 4000 draws fix the temperature to within a few per cent
    assert fit_temperature(3.0 * logits, truth) == pytest.approx(3.0, rel=0.1)
    assert calibration_error(probabilities, truth) < 0.03
    assert calibration_error(softmax(3.0 * logits), truth) > 0.1


def test_unsure_begins_where_verdicts_are_more_often_wrong_than_right() -> None:
    confidence = np.linspace(0.25, 1.0, 400)
    correct = confidence > 0.45
    assert unsure_threshold(confidence, correct) == pytest.approx(0.45, abs=0.02)
    assert unsure_threshold(confidence, np.ones(400, bool)) == 0.0
    assert unsure_threshold(confidence, np.zeros(400, bool)) == 0.6
