"""Weighted and unweighted accuracy, as the field reports them, and calibration."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)


@dataclass(frozen=True)
class Metrics:
    """Accuracy of predictions over one set of utterances."""

    n: int
    """Utterances."""
    ua: float
    """Unweighted accuracy: mean of the per-class recalls of the classes that occur, 0 to 1."""
    wa: float
    """Weighted accuracy: share of utterances that are right, 0 to 1."""
    labels: list[str]
    """Classes, in the order of the confusion matrix."""
    confusion: list[list[int]]
    """Rows: true class; columns: predicted class."""
    per_class_recall: dict[str, float]
    """Recall of each class that occurs, 0 to 1."""

    @classmethod
    def of(cls, values: dict[str, Any]) -> Metrics:
        """What `to_dict` wrote, other keys aside."""
        return cls(**{item.name: values[item.name] for item in fields(cls)})

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract of `accuracy`."""
        return {
            "n": self.n,
            "ua": round(self.ua, 4),
            "wa": round(self.wa, 4),
            "labels": self.labels,
            "confusion": self.confusion,
            "per_class_recall": {k: round(v, 4) for k, v in self.per_class_recall.items()},
        }


def measure(
    truth: npt.NDArray[np.integer[Any]],
    predicted: npt.NDArray[np.integer[Any]],
    labels: list[str],
) -> Metrics:
    """Metrics of class indices, each of shape (n,); ValueError for n = 0."""
    if len(truth) == 0:
        raise ValueError("no predictions to measure")
    target = torch.as_tensor(np.asarray(truth))
    guess = torch.as_tensor(np.asarray(predicted))
    classes = len(labels)
    confusion = multiclass_confusion_matrix(guess, target, classes)
    counts = confusion.sum(dim=1)
    present = counts > 0
    recalls = confusion.diagonal()[present] / counts[present]
    wa = multiclass_accuracy(guess, target, classes, average="micro")
    return Metrics(
        n=len(truth),
        ua=float(recalls.mean()),
        wa=float(wa),
        labels=list(labels),
        confusion=confusion.tolist(),
        per_class_recall={
            label: float(recall)
            for label, recall in zip(np.array(labels)[present.numpy()], recalls, strict=True)
        },
    )


def calibration_error(
    probabilities: npt.NDArray[np.floating[Any]], truth: npt.NDArray[Any]
) -> float:
    """Expected calibration error over 15 bins (Guo et al. 2017), of (n, classes) probabilities."""
    scores = torch.as_tensor(np.asarray(probabilities))
    target = torch.as_tensor(np.asarray(truth))
    return float(multiclass_calibration_error(scores, target, scores.shape[1], n_bins=15))


def fit_temperature(logits: npt.NDArray[np.floating[Any]], truth: npt.NDArray[Any]) -> float:
    """The temperature, 0.2 to 10, whose softmax has the least cross-entropy (Guo et al. 2017).

    `logits` (n, classes) must come from clips the model was not trained on.
    """
    scores = torch.as_tensor(np.asarray(logits), dtype=torch.float64)
    target = torch.as_tensor(np.asarray(truth), dtype=torch.int64)
    candidates = np.geomspace(0.2, 10.0, 400)
    losses = [float(torch.nn.functional.cross_entropy(scores / t, target)) for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def unsure_threshold(
    confidence: npt.NDArray[np.floating[Any]], correct: npt.NDArray[np.bool_]
) -> float:
    """The confidence, 0 to 0.6, below which verdicts are more often wrong than right.

    Both arrays have shape (n,). Going up in confidence, it is where the share of right verdicts
    among neighbouring clips (a tenth of them, at least 20) first reaches one half.
    """
    order = np.argsort(confidence)
    width = max(20, len(order) // 10)
    for start in range(len(order) - width + 1):
        if correct[order[start : start + width]].mean() >= 0.5:
            return (
                round(min(float(confidence[order[start + width // 2]]), 0.6), 3) if start else 0.0
            )
    return 0.6
