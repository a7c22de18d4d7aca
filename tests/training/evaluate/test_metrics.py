"""UA, WA against scikit-learn, calibration against torchmetrics, intervals against simulation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix
from torchmetrics.functional.classification import multiclass_calibration_error

from edge_runtime.model.fusion import softmax
from training.evaluate.metrics import (
    Metrics,
    calibration_error,
    fit_temperature,
    measure,
    unsure_threshold,
)

LABELS = ["angry", "happy", "neutral", "sad"]


def test_ua_wa_and_confusion_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(4, 200, p=[0.5, 0.3, 0.15, 0.05])
    predicted = np.where(rng.random(200) < 0.6, truth, rng.choice(4, 200))
    metrics = measure(truth, predicted, LABELS)
    assert metrics.ua == pytest.approx(balanced_accuracy_score(truth, predicted), abs=1e-12)
    assert metrics.wa == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
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
    theirs = multiclass_calibration_error(
        torch.as_tensor(probabilities), torch.as_tensor(truth), 4, n_bins=15
    )
    # float32 there
    assert calibration_error(probabilities, truth) == pytest.approx(float(theirs), abs=1e-5)


def test_metrics_need_no_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from training.evaluate.metrics import measure\n"
        "measure(np.array([0, 1]), np.array([0, 1]), ['a', 'b'])\n"
        "heavy = {'torch', 'torchmetrics', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    root = Path(__file__).parents[3]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_few_right_verdicts_are_not_certainty() -> None:
    truth = np.repeat(np.arange(4), 5)
    values = measure(truth, truth, LABELS).to_dict()
    assert values["ua"] == 1.0
    lower, upper = values["ua_interval"]
    assert upper == 1.0
    # Wilson's interval of 5 of 5 begins at 0.57; of the mean of four such it begins higher.
    assert 0.57 < lower < 0.85
    assert values["speakers"] is None


def test_the_interval_of_one_class_is_that_of_wilson() -> None:
    truth, predicted = np.zeros(30, int), np.array([0] * 21 + [1] * 9)
    theirs = binomtest(21, 30).proportion_ci(method="wilson")
    assert measure(truth, predicted, LABELS).ua_interval == pytest.approx(
        (theirs.low, theirs.high), abs=1e-6
    )


@pytest.mark.parametrize("speakers", [3, 8, 20])
def test_95_of_100_intervals_hold_what_other_speakers_would_give(speakers: int) -> None:
    """Speakers differ: some are understood, others not, whatever they express."""
    rng = np.random.default_rng(speakers)
    ease = np.array([0.0, 0.4, 0.9, 1.4])
    everyone = 1 / (1 + np.exp(-(rng.normal(0, 1, (100_000, 1)) + ease)))
    true = everyone.mean()
    truth = np.tile(np.repeat(np.arange(4), 8), speakers)
    names = [f"s{number}" for number in range(speakers) for _ in range(32)]
    by_speaker = by_clip = 0
    for _ in range(300):
        chance = 1 / (1 + np.exp(-(rng.normal(0, 1, (speakers, 1)) + ease)))
        right = rng.random((speakers, 4, 8)) < chance[:, :, np.newaxis]
        predicted = np.where(right.ravel(), truth, (truth + 1) % 4)
        lower, upper = measure(truth, predicted, LABELS, names).ua_interval
        by_speaker += lower <= true <= upper
        lower, upper = measure(truth, predicted, LABELS).ua_interval
        by_clip += lower <= true <= upper
    # 300 draws of 95 %: a standard deviation of 3.8 around 285
    assert by_speaker >= 270
    assert by_clip < 250, "clips of one speaker taken for independent would promise too much"


def test_one_unknown_speaker_makes_the_number_unknown() -> None:
    truth = np.array([0, 1, 0, 1])
    known = measure(truth, truth, LABELS, ["a", "a", "b", "b"])
    assert (known.speakers, known.to_dict()["speakers"]) == (2, 2)
    unknown = measure(truth, truth, LABELS, ["a", "a", "b", None])
    assert unknown.speakers is None
    assert unknown.ua_interval == measure(truth, truth, LABELS).ua_interval
    with pytest.raises(ValueError, match="3 speakers of 4"):
        measure(truth, truth, LABELS, ["a", "a", "b"])


def test_figures_of_before_there_were_intervals_are_read() -> None:
    truth = np.array([0, 1, 2, 3, 3, 2])
    predicted = np.array([0, 1, 2, 3, 0, 1])
    metrics = measure(truth, predicted, LABELS)
    assert Metrics.of(metrics.to_dict()).to_dict() == metrics.to_dict()
    old = {k: v for k, v in metrics.to_dict().items() if k not in ("ua_interval", "speakers")}
    assert Metrics.of(old).to_dict() == metrics.to_dict()
    # Wilson: 1 of 1 from 0.207, 1 of 2 from 0.095 to 0.905.
    # Below: sqrt(2 * 0.793² + 2 * 0.405²) / 4.
    assert metrics.ua_text() == "75.0 [43.5, 89.3]"


def test_unsure_begins_where_verdicts_are_more_often_wrong_than_right() -> None:
    confidence = np.linspace(0.25, 1.0, 400)
    correct = confidence > 0.45
    assert unsure_threshold(confidence, correct) == pytest.approx(0.45, abs=0.02)
    assert unsure_threshold(confidence, np.ones(400, bool)) == 0.0
    assert unsure_threshold(confidence, np.zeros(400, bool)) == 0.6
