"""The int8 grid: which real value a step stands for, and which step a real value becomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

INT8_MIN, INT8_MAX = -128, 127
INTERVALS = INT8_MAX - INT8_MIN  # steps from the lowest value to the highest


def grid(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of the range `low` to `high`, zero in it, as ai-edge-quantizer has them.

    The scale is a float32: files hold it as such.
    """
    scale = float(np.float32(np.float32(high) - np.float32(low)) / np.float32(INTERVALS))
    return scale, round(INT8_MIN - low / scale)


def grid_to(high: float) -> tuple[float, int]:
    """Scale and zero point of the range 0 to `high`; saturation does the work of a ReLU in it."""
    return high / INTERVALS, INT8_MIN


def quantize(
    values: npt.NDArray[np.floating[Any]], scale: float, zero_point: int, dtype: str = "int8"
) -> npt.NDArray[Any]:
    """Real values as steps of an integer type, same shape: round half to even, saturate."""
    info = np.iinfo(dtype)
    steps = np.rint(values * np.float32(1.0 / scale)) + zero_point
    return np.asarray(np.clip(steps, info.min, info.max), dtype)


def dequantize(steps: npt.NDArray[Any], scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    """The real values that steps stand for, float32, same shape."""
    reals = (steps.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return np.asarray(reals, np.float32)
