"""Tables from integer statistics to the head's int8 input, and from logits to scores.

The numbers of `edge_runtime.model.spu` and `edge_runtime.model.fusion`, without floating point but
for the scores themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log2

import numpy as np
import numpy.typing as npt

from conversion.errors import ConversionError
from edge_runtime.graph import TensorSpec
from edge_runtime.int8 import INTERVALS
from edge_runtime.manifest import AUDIO, HEAD, Manifest
from edge_runtime.model.spu import STD_EPSILON

STATISTIC_BITS = 24  # after the point, of a statistic in steps of its map
STEP_BITS = 20  # of a step of the head's input
EXPONENTIAL_BITS = 24
_HIGHEST_OFFSET = 2.0 ** (31 - STEP_BITS)


@dataclass(frozen=True, eq=False)
class Standard:
    """How statistics become the head's input: steps = statistic * gain + offset."""

    gain: npt.NDArray[np.int32]
    """`gain_bits`, in the order of the head's input: (scales * 3 * filters,)."""
    offset: npt.NDArray[np.int32]
    """`STEP_BITS`, with the zero point, same shape."""
    gain_bits: int
    epsilon: npt.NDArray[np.int64]
    """What is added to a variance, in squared steps of the maps, `STATISTIC_BITS`, (scales,)."""


def standard_of(manifest: Manifest, maps: tuple[TensorSpec, ...]) -> Standard:
    """The standardization of the audio statistics of `maps`, one for each scale.

    Raises ConversionError where it goes beyond the integers.
    """
    statistics = 3 * manifest.filters
    scales = np.repeat([spec.scale for spec in maps], statistics)
    width = len(scales)
    head = manifest.graphs[HEAD].inputs[0]
    gain = 1 / (manifest.pooled_std[:width].astype(float) * head.scale)
    offset = head.zero_point - manifest.pooled_mean[:width] * gain
    if np.abs(offset).max() >= _HIGHEST_OFFSET:
        raise ConversionError(
            "a statistic varies so little over the corpus that its standard is beyond the "
            "integers of the C99 library; train again, or without that branch"
        )
    gain_bits = 30 - floor(log2((gain * scales).max()))
    return Standard(
        gain=np.rint(gain * scales * 2.0**gain_bits).astype(np.int32),
        offset=np.rint(offset * 2.0**STEP_BITS).astype(np.int32),
        gain_bits=gain_bits,
        epsilon=np.array(
            [round(STD_EPSILON / spec.scale**2 * 2**STATISTIC_BITS) for spec in maps], np.int64
        ),
    )


def exponentials(manifest: Manifest) -> npt.NDArray[np.int64]:
    """The exponential of minus 0 to 255 steps of a logit, divided by the temperature, (256,)."""
    calibration = manifest.calibration.get(AUDIO)
    temperature = calibration.temperature if calibration else 1.0
    scale = manifest.graphs[HEAD].outputs[0].scale
    values = np.exp(-np.arange(INTERVALS + 1) * scale / temperature)
    return np.asarray(np.rint(values * 2**EXPONENTIAL_BITS), np.int64)


def threshold(manifest: Manifest) -> float:
    """Confidence below which audio alone is "unsure"; 0 for never."""
    calibration = manifest.calibration.get(AUDIO)
    return calibration.threshold if calibration else 0.0
