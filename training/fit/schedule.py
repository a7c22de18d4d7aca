"""How a training is cut into steps, and the learning rate over them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch.utils.data import Sampler

BATCH = 64  # examples a step, where there are enough
_SMALLEST_BATCH = 8  # that is chosen: the statistics of fewer are noise


class EvenBatches(Sampler[list[int]]):
    """Indices of examples in random order, all of them once a pass, in batches of even size.

    With `most` an iteration ends after so many batches: of much data, each is over another part.
    Sizes differ by one at most: no example is left out, and none makes a batch of its own, which
    would count as much as a full one and has no variance.
    """

    def __init__(self, examples: int, batch: int, passes: int = 1, most: int | None = None) -> None:
        self._examples, self._passes, self._most = examples, passes, most
        self.batches = max(1, min(math.ceil(examples / batch), examples // 2))
        """Batches of a pass."""

    def __len__(self) -> int:
        every = self.batches * self._passes
        return every if self._most is None else min(every, self._most)

    def __iter__(self) -> Iterator[list[int]]:
        return islice(self._endless(), len(self))

    def _endless(self) -> Iterator[list[int]]:
        while True:
            order = torch.randperm(self._examples)
            for part in torch.tensor_split(order, self.batches):
                yield part.tolist()


@dataclass(frozen=True)
class Steps:
    """The steps of an epoch."""

    batch: int
    """Examples of a step, at most."""
    passes: int
    """How often an epoch goes over the data."""
    epoch: int
    """Steps of an epoch."""

    @classmethod
    def of(cls, examples: int, batch: int | None, fewest: int, most: int | None = None) -> Steps:
        """Steps of an epoch over `examples`, `fewest` at least and `most` at most.

        Without a `batch`, small data is cut into smaller ones than `BATCH`; where that does not
        give enough steps, an epoch goes over the data more than once.
        """
        if batch is None:
            batch = min(BATCH, max(_SMALLEST_BATCH, examples // fewest))
        once = EvenBatches(examples, batch).batches
        passes = math.ceil(fewest / once)
        steps = once * passes if most is None else min(once * passes, max(most, fewest))
        return cls(math.ceil(examples / once), passes, steps)

    def batches(self, examples: int) -> EvenBatches:
        """The batches of an epoch over `examples`."""
        return EvenBatches(examples, self.batch, self.passes, self.epoch)


def lr_factor(
    step: int,
    taught: float,
    floats: float,
    steps: int,
    levels: tuple[float, float],
    constant: bool = False,
) -> float:
    """Learning rate at `step` of `steps`, relative to the peak of the float steps.

    Parameters
    ----------
    taught, floats : steps that end the part with a teacher alone, and the float part.
    levels : peak of the part with a teacher alone, and start of the quantization-aware part.
    constant : whether the float part keeps its peak throughout.
    """
    if step < taught:
        return levels[0] * _cycle(step / taught)
    if step < floats:
        return 1.0 if constant else _cycle((step - taught) / (floats - taught))
    done = (step - floats) / max(1.0, steps - floats)
    return levels[1] * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _cycle(progress: float) -> float:
    """A rise over the first fifth, then a cosine to zero; `progress` is in [0, 1]."""
    if progress < 0.2:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * progress / 0.2))
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.2) / 0.8))
