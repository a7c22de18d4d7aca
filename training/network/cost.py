"""What a model costs: parameters and multiply-accumulates by part, from its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from training.network.config import DEEP_KERNEL, ModelConfig

PAPER_FRAMES = 750  # 7.5 s, the paper's window


@dataclass(frozen=True)
class Cost:
    """Per part of the model, in the order of the data: embedding, audio, text, attention, head."""

    parameters: dict[str, int]
    """Weights and biases; the embedding table is looked up, not multiplied."""
    macs: dict[str, int]
    """Multiply-accumulates of one utterance: convolutions and matrix products."""
    width: int
    """Numbers that the head reads."""

    @property
    def total_parameters(self) -> int:
        """Of all parts."""
        return sum(self.parameters.values())

    @property
    def total_macs(self) -> int:
        """Of all parts."""
        return sum(self.macs.values())


def cost(config: ModelConfig, frames: int = PAPER_FRAMES, words: int | None = None) -> Cost:
    """The cost of one utterance of `frames` frames and `words` words (by default all tokens).

    Audio windows that overlap on the device, and what the last one is filled up with, are left out.
    """
    words = config.tokens if words is None else words
    parts, width = config.parts, sum(config.branches.values())
    parameters: dict[str, int] = {}
    macs: dict[str, int] = {}
    if parts.text:
        parameters["embedding"] = config.vocabulary * config.embedding
    maps = -(-frames // config.audio_stride)
    for name, kernels, inputs, steps in (
        ("audio", config.audio_kernels, config.features, maps),
        ("text", config.text_kernels, config.embedding, words),
    ):
        if getattr(parts, name):
            weights = sum(kernels) * inputs * config.filters
            parameters[name] = weights + len(kernels) * config.filters
            macs[name] = weights * steps
    if parts.audio:
        joined = len(config.audio_kernels) * config.filters
        deep = len(config.audio_dilations)
        parameters["audio"] += deep * (DEEP_KERNEL * joined * joined + joined)
        macs["audio"] += deep * DEEP_KERNEL * joined * joined * maps
    if parts.att:
        # Scores, and the sum that they weigh.
        macs["attention"] = 2 * len(config.text_kernels) * config.queries * words * config.filters
    layers = list(pairwise((width, *config.hidden, len(config.labels))))
    parameters["head"] = sum(a * b + b for a, b in layers)
    macs["head"] = sum(a * b for a, b in layers)
    return Cost(parameters, macs, width)
