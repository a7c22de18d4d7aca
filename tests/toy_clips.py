"""Clips of two classes that a small model learns in seconds, as features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.corpora import Utterance
from training.data.features import FeatureSet


def clips(count: int, seed: int) -> FeatureSet:
    """Two classes that differ in the level of a few coefficients."""
    rng = np.random.default_rng(seed)
    utterances, variants = [], []
    for index in range(count):
        label = ("high", "low")[index % 2]
        frames = rng.normal(0, 1, (int(rng.integers(40, 90)), 96)).astype(np.float32)
        frames[:, 3:9] += 1.0 if label == "high" else -1.0
        utterances.append(Utterance(Path(f"{index}.wav"), label, f"s{index % 5}", "toy"))
        variants.append([frames])
    return FeatureSet(utterances, variants, [])
