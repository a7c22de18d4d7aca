"""Int8 arithmetic imitated in float, so that training sees the rounding the device will do.

Weights: symmetric, one scale per output channel, range [-127, 127], taken from the weights at every
step (what ai-edge-quantizer does with them). Activations: asymmetric, one scale per tensor, range
[-128, 127], with low and high learned by gradient (LSQ, Esser et al. 2020, arXiv 1902.08153; the
clipping gradient of PACT, Choi et al. 2018, arXiv 1805.06085).
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from edge_runtime.int8 import INT8_MAX, INT8_MIN, INTERVALS


class Phase(Enum):
    """What the quantizers of a model do."""

    FLOAT = "float"
    """Pass everything through."""
    OBSERVE = "observe"
    """Pass through and follow the range of what passes."""
    INT8 = "int8"
    """Round to the int8 grid; gradients pass straight through the rounding."""


_NORM_MOMENTUM = 0.03  # of the statistics: a batch has crops of one length alone


def _round(x: Tensor) -> Tensor:
    """Round half to even with the identity as gradient (straight-through estimator)."""
    rounded: Tensor = x + (x.round() - x).detach()
    return rounded


def fake_quantize_weight(weight: Tensor) -> Tensor:
    """Weight of shape (out, ...) on the int8 grid of its output channels."""
    scale = weight.detach().abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True) / INT8_MAX
    scale = scale.clamp_min(1e-12)
    return _round(weight / scale).clamp(-INT8_MAX, INT8_MAX) * scale


class ActivationQuantizer(nn.Module):
    """One activation tensor's learned int8 range.

    `nonnegative` fixes the lower end at zero (after a ReLU). With `centred`, zero is step 0, as the
    second factor of a matrix product must have it: XNNPACK takes its zero point for 0, whatever it
    is. Values that are never negative have 127 steps then.
    """

    def __init__(self, nonnegative: bool = False, centred: bool = False) -> None:
        super().__init__()
        self.nonnegative, self.centred = nonnegative, centred
        self.phase = Phase.FLOAT
        self.low = nn.Parameter(torch.zeros(()))
        self.high = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`, any shape."""
        if self.phase is Phase.FLOAT:
            return x
        if self.phase is Phase.OBSERVE:
            self._observe(x)
            return x
        # Few elements share two scalars: LSQ's gradient scale keeps their step in proportion.
        gain = 1.0 / (x.numel() * INT8_MAX) ** 0.5
        low = self._scaled_gradient(self.low, gain)
        high = self._scaled_gradient(self.high, gain)
        if self.centred:
            low = high.clamp_min(1e-6) * (INT8_MIN / INT8_MAX)
        elif self.nonnegative:
            low = torch.zeros_like(low)
        low = torch.clamp_max(low, 0.0)
        scale = (torch.maximum(high, torch.zeros_like(high)) - low).clamp_min(1e-6) / INTERVALS
        zero_point = INT8_MIN - (low / scale).detach().round()
        q = torch.clamp(x / scale + zero_point, INT8_MIN, INT8_MAX)
        quantized: Tensor = (_round(q) - zero_point) * scale
        return quantized

    def range(self) -> tuple[float, float]:
        """The learned (low, high), with zero inside, as the converter needs it."""
        if self.centred:
            high = max(self.high.item(), 1e-6)
            return high * INT8_MIN / INT8_MAX, high
        low = 0.0 if self.nonnegative else min(self.low.item(), 0.0)
        return low, max(self.high.item(), low + 1e-6, 0.0)

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        """Widen the range to 99.99 % of the values seen: single outliers cost every other value."""
        flat = x.detach().flatten()
        if flat.numel() > 200_000:
            flat = flat[:: flat.numel() // 200_000 + 1]
        low, high = torch.quantile(flat, torch.tensor([0.0001, 0.9999], device=flat.device))
        self.low.copy_(torch.minimum(self.low, low))
        self.high.copy_(torch.maximum(self.high, high))

    @staticmethod
    def _scaled_gradient(value: Tensor, gain: float) -> Tensor:
        return (value - value * gain).detach() + value * gain


class SoftmaxQuantizer(ActivationQuantizer):
    """The range of an int8 softmax's output, which every runtime fixes at steps of 1/256."""

    def __init__(self) -> None:
        super().__init__(nonnegative=True)
        self.high.data.fill_(255 / 256)
        self.high.requires_grad_(False)
        self.low.requires_grad_(False)

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        """Nothing to learn."""


def set_phase(model: nn.Module, phase: Phase) -> None:
    """Put every quantizer of `model` into `phase`."""
    for module in model.modules():
        if isinstance(module, (ActivationQuantizer, QuantizedConv1d, QuantizedLinear)):
            module.phase = phase


class QuantizedConv1d(nn.Conv1d):
    """Conv1d whose weight is rounded in phase INT8."""

    phase = Phase.FLOAT

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.norm: nn.BatchNorm1d | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T) -> (B, out, T')."""
        weight = fake_quantize_weight(self.weight) if self.phase is Phase.INT8 else self.weight
        output: Tensor = self._conv_forward(x, weight, self.bias)
        if self.norm is not None and self.phase is Phase.FLOAT:
            output = self.norm(output)
        return output

    def normalize(self) -> None:
        """Put a fresh batch normalization behind the convolution, for phase FLOAT.

        Ioffe & Szegedy 2015, arXiv 1502.03167.
        """
        self.norm = nn.BatchNorm1d(self.out_channels, momentum=_NORM_MOMENTUM)

    @torch.no_grad()
    def fold(self) -> None:
        """Take what its batch normalization does in evaluation into weight and bias.

        It stays, and does nothing from then on: what is trained further is the same parameters
        (Jacob et al. 2018, arXiv 1712.05877, section 3.2).
        """
        norm = self.norm
        assert norm is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert self.bias is not None
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.weight.mul_(factor[:, None, None])
        self.bias.sub_(norm.running_mean).mul_(factor).add_(norm.bias)
        norm.reset_parameters()
        norm.running_var.sub_(norm.eps)


class QuantizedLinear(nn.Linear):
    """Linear whose weight is rounded in phase INT8."""

    phase = Phase.FLOAT

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        weight = fake_quantize_weight(self.weight) if self.phase is Phase.INT8 else self.weight
        return nn.functional.linear(x, weight, self.bias)
