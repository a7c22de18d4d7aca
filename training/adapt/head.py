"""The head of an adapted run: a multinomial logistic regression on what the encoder pools.

One linear layer, held to small weights. Statistics are standardized twice: by the base, whose clips
are many, then by the clips at hand, whose microphone and language may be others; few clips move the
second one's scale little. Both are affine, so that the head stays one layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edge_runtime.pcm import Float32
from training.evaluate.pretrained import rows_of_classes
from training.network.fakequant import ActivationQuantizer, Phase, set_phase
from training.network.model import Head, MscnnSpu
from training.run import Run

Indices = npt.NDArray[np.int64]

STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""What the penalty may be: scikit-learn's C, of which less holds weights smaller."""
PRIOR = 1e-2
"""The one that serves from 20 to 600 clips of corpora that did not train the base."""
_PRIOR_CLIPS = 20  # that the base's scale of a statistic counts for


@dataclass(frozen=True, eq=False)
class View:
    """What one encoder makes of clips."""

    values: Float32
    """(n, width)."""
    spread: float = 1.0
    """Standard deviation that is expected of a column, before any clip is seen."""


@dataclass(frozen=True, eq=False)
class Linear:
    """Logits of what an encoder makes of a clip."""

    weights: Float32
    """(width, classes)."""
    bias: Float32
    """(classes,)."""

    def logits(self, values: Float32) -> Float32:
        """(n, width) -> (n, classes)."""
        return np.asarray(values @ self.weights + self.bias, np.float32)


def fit_linear(
    view: View, train: Indices, truth: Indices, classes: int, strength: float = PRIOR
) -> Linear:
    """A layer behind an encoder, of the clips at the places `train`; classes weigh the same.

    Parameters
    ----------
    view : of n clips.
    truth : class of each of them, (n,); those that train have every one of 0 to `classes` - 1.
    """
    from sklearn.linear_model import LogisticRegression

    values = view.values[train].astype(np.float64)
    mean, trust = values.mean(axis=0), _PRIOR_CLIPS / (_PRIOR_CLIPS + len(values))
    scale = np.sqrt(trust * view.spread**2 + (1 - trust) * values.var(axis=0))
    centred = (values - mean) / scale
    # Weights outside of the span of few clips stay zero: there is no need to look for them.
    basis = np.linalg.svd(centred, full_matrices=False)[2] if len(centred) < len(mean) else None
    inputs = centred if basis is None else centred @ basis.T
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000, tol=1e-6)
    rows, bias = rows_of_classes(model.fit(inputs, truth[train]), classes)
    weights = ((rows if basis is None else rows @ basis) / scale).T
    rows_first = np.ascontiguousarray(weights, np.float32)
    return Linear(rows_first, (bias - mean @ weights).astype(np.float32))


def quantized(
    linear: Linear,
    standard: Float32,
    low: float,
    high: float,
    kept: float = 1.0,
    largest: float = 1.0,
) -> Head:
    """The head with int8 ranges, imitating int8.

    What it reads has a range of `low` to `high` at least, the base's own, which saw more clips than
    the `standard` (n, width) that the rest of the ranges are of.

    Parameters
    ----------
    kept : part of that range, 0 to 1: what is beyond is cut, and the rest has finer steps.
    largest : part of each class's largest weight, 0 to 1, that no weight exceeds: likewise.
    """
    width, classes = linear.weights.shape
    head = Head(width, (), classes, 0.0)
    with torch.no_grad():
        layer = cast(nn.Linear, head.layers[0])
        weights = torch.from_numpy(linear.weights.T)
        bound = largest * weights.abs().amax(dim=1, keepdim=True)
        layer.weight.copy_(weights.clamp(-bound, bound))
        layer.bias.copy_(torch.from_numpy(linear.bias))
        head.input.low.fill_(low)
        head.input.high.fill_(high)
        set_phase(head, Phase.OBSERVE)
        head(torch.from_numpy(standard))
        head.input.low.mul_(kept)
        head.input.high.mul_(kept)
        # Logits beyond those of training clips occur, and what is cut there is the confidence.
        output = cast(ActivationQuantizer, head.outputs[0])
        output.low.mul_(_ROOM)
        output.high.mul_(_ROOM)
    set_phase(head, Phase.INT8)
    return head.eval()


_ROOM = 1.5

_KEPT, _LARGEST = (1.0, 0.7, 0.5, 0.35, 0.25, 0.1, 0.05, 0.02), (1.0, 0.7, 0.5)


def finely_quantized(linear: Linear, standard: Float32, low: float, high: float) -> Head:
    """As `quantized`, with the ranges by which int8 says most nearly what float says.

    Of the clips that the ranges are of, by the squared error of their logits: a few values far
    out, of which nothing depends, take the steps from all others.
    """
    exact = linear.logits(standard)

    def error(parts: tuple[float, float]) -> float:
        head = quantized(linear, standard, low, high, *parts)
        return float(((quantized_logits(head, standard) - exact) ** 2).mean())

    # The first of equals: ranges as they are.
    best = min(product(_KEPT, _LARGEST), key=error)
    return quantized(linear, standard, low, high, *best)


@torch.no_grad()
def quantized_logits(head: Head, standard: Float32) -> Float32:
    """Logits (n, classes) of statistics that the base standardized, (n, width), by int8 steps."""
    return np.asarray(head(torch.from_numpy(standard)).numpy(), np.float32)


def with_head(base: Run, head: Head, labels: Sequence[str]) -> Run:
    """`base`, of variant audio, with another head: its encoder and standardization stay.

    What was learned or measured of the base's own classes is left out.
    """
    config = replace(base.config, labels=tuple(labels), hidden=())
    model = MscnnSpu(config)
    kept = {k: v for k, v in base.weights.items() if not k.startswith("head.")}
    weights = model.state_dict() | kept
    weights |= {f"head.{name}": value for name, value in head.state_dict().items()}
    return replace(
        base,
        config=config,
        weights=weights,
        float_weights={},
        calibration={},
        metrics={},
        training={},
        reference=None,
        familiarity=None,
        pretrained={},
        dimensions=None,
    )
