"""The state of everything random, as a checkpoint keeps it.

A training that was killed goes on with the numbers it would have drawn.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

State = dict[str, Any]


def random_state() -> State:
    """The states of Python's, NumPy's and PyTorch's generators, in what a checkpoint can hold.

    With the number of threads, by which the last bits of a sum differ.
    """
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        # As a tensor: torch reads no arrays of others back.
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "threads": torch.get_num_threads(),  # a sum is rounded by how many make its parts
    }


def set_random_state(state: State) -> None:
    """Put the generators where `random_state` found them; those of GPUs where there are as many.

    As many threads compute from now on as did then.
    """
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    torch.set_num_threads(state.get("threads", torch.get_num_threads()))
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
