"""Fit how what a pre-trained encoder hears adapts to a speaker, beside the reference of the model.

As `training.evaluate.reference`, with the statistics of the encoder's states: one linear layer sees
an utterance and what is known of its speaker. Whose voice it is, how much that counts and when it
is forgotten, the model's reference says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.graph import Graph
from edge_runtime.manifest import (
    PRETRAINED,
    PRETRAINED_REFERENCE,
    FileSpec,
    GraphSpec,
    PretrainedPart,
    PretrainedReferencePart,
)
from edge_runtime.pretrained_arrays import PretrainedReferenceArrays
from training.evaluate.adapted import HeardFold, shared_temperatures
from training.evaluate.pretrained import States
from training.evaluate.reference import LIMIT, fit_beside, of_speakers
from training.run import PRETRAINED_REFERENCE_FILE

INVERSE_PENALTY, STRENGTH = 1e-2, 1.0  # of the published encoder; found: docs/speakers.md
TUNED_INVERSE_PENALTY, TUNED_STRENGTH = 1e-3, 2.5  # of one trained further: the model's own


def fit_pretrained_reference(
    states: States, labels: Sequence[str], trained_further: bool = False, seed: int = 0
) -> PretrainedReferenceArrays:
    """Class scores of the encoder's statistics beside a reference, of clips that trained, clean.

    Those trained the encoder as well where that was `trained_further`.

    Whoever says but one utterance, as in ordinary speech, has no history and is left out. Raises
    TrainingError where no speaker is known, or a class is missing.
    """
    said = Counter(u.speaker for u in states.utterances)
    again = states.take([p for p, u in enumerate(states.utterances) if said[u.speaker] > 1])
    chosen = again.take(of_speakers(again.utterances, labels))
    values, utterances = chosen.values[:, 0], chosen.utterances
    mean, std = values.mean(axis=0), values.std(axis=0) + np.float32(1e-6)
    clipped = np.clip((values - mean) / std, -LIMIT, LIMIT)
    inverse_penalty = TUNED_INVERSE_PENALTY if trained_further else INVERSE_PENALTY
    weights, bias = fit_beside(clipped, utterances, labels, inverse_penalty, seed)
    return PretrainedReferenceArrays(mean, std, weights, bias)


def settings_of(trained_further: bool = False) -> dict[str, Any]:
    """The numbers of the part, before anything is calibrated."""
    return {"strength": TUNED_STRENGTH if trained_further else STRENGTH, "temperature": {}}


def with_pretrained_reference(
    bundle: Bundle,
    encoder: PretrainedPart,
    graph: Path,
    arrays: PretrainedReferenceArrays,
    settings: dict[str, Any],
) -> Bundle:
    """A bundle with a reference and, not to be run, an encoder and the part that adapts it.

    `graph` is that of the encoder.
    """
    part = PretrainedReferencePart(FileSpec(PRETRAINED_REFERENCE_FILE, ""), **settings)
    opened = Graph(graph)
    spec = GraphSpec(f"{PRETRAINED}.tflite", "", opened.inputs, opened.outputs)
    manifest = replace(
        bundle.manifest,
        graphs={**bundle.manifest.graphs, PRETRAINED: spec},
        pretrained=encoder,
        pretrained_reference=part,
    )
    contents = {**bundle.contents, PRETRAINED_REFERENCE: arrays.content()}
    return replace(bundle, manifest=manifest, contents=contents)


def calibrate_pretrained_reference(
    parts: Sequence[HeardFold], labels: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """The numbers of the part, fitted on clips that did not train, after all kinds of histories."""
    beside = parts[0][0].manifest.pretrained_reference
    assert beside is not None
    return {
        "strength": beside.strength,
        "temperature": shared_temperatures(parts, labels, seed),
    }
