"""A model's logits for a set of utterances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edge_runtime.pcm import Float32
from training.data.batch import collate
from training.data.speaker import attach
from training.data.tokens import Ids, collate_text
from training.network.model import MscnnSpu


@torch.no_grad()
def predict(
    model: MscnnSpu,
    features: Sequence[Float32] | None = None,
    tokens: Sequence[Ids] | None = None,
    speakers: Float32 | None = None,
) -> Float32:
    """Logits (n, classes) of n utterances, in batches of similar length.

    Parameters
    ----------
    features : raw features (frames, F) of each; None for words alone.
    tokens : rows of the embedding table of each; None for audio alone.
    speakers : speaker embeddings (n, width), for a model that takes them; NaN where there is none.
    """
    given = features if features is not None else tokens
    assert given is not None
    order = sorted(range(len(given)), key=lambda i: len(given[i]))
    logits = np.empty((len(given), len(model.config.labels)), np.float32)
    for start in range(0, len(order), 32):
        rows = order[start : start + 32]
        inputs: dict[str, Tensor] = {}
        for sequences, collate_fn in ((features, collate), (tokens, collate_text)):
            if sequences is not None:
                batch = collate_fn([(torch.from_numpy(sequences[i]), 0, 0) for i in rows])
                if speakers is not None:
                    attach(batch, torch.from_numpy(speakers[rows]))
                inputs |= batch.inputs()
        logits[rows] = model(**inputs).numpy()
    return logits
