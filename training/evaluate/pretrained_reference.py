"""Fit how what a pre-trained encoder hears adapts to a speaker, beside the reference of the model.

As `training.evaluate.reference`, with the statistics of the encoder's states: one linear layer sees
an utterance and what is known of its speaker. Whose voice it is, how much that counts and when it
is forgotten, the model's reference says.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.manifest import PRETRAINED_REFERENCE, FileSpec, PretrainedReferencePart
from edge_runtime.pcm import Float32
from edge_runtime.pretrained_arrays import PretrainedReferenceArrays
from training.corpora import class_indices
from training.evaluate.adapted import Adapted, Along, adapt, fit_shared, in_turn
from training.evaluate.histories import Speakers
from training.evaluate.pretrained import States
from training.evaluate.reference import LIMIT, Heard, fit_beside, of_speakers
from training.run import PRETRAINED_REFERENCE_FILE

INVERSE_PENALTY, STRENGTH = 1e-2, 1.0  # how they were found: docs/speakers.md


def fit_pretrained_reference(
    states: States, labels: Sequence[str], seed: int = 0
) -> PretrainedReferenceArrays:
    """Class scores of the encoder's statistics beside a reference, of clips that trained, clean.

    Whoever says but one utterance, as in ordinary speech, has no history and is left out. Raises
    TrainingError where no speaker is known, or a class is missing.
    """
    said = Counter(u.speaker for u in states.utterances)
    again = states.take([p for p, u in enumerate(states.utterances) if said[u.speaker] > 1])
    chosen = again.take(of_speakers(again.utterances, labels))
    values, utterances = chosen.values[:, 0], chosen.utterances
    mean, std = values.mean(axis=0), values.std(axis=0) + np.float32(1e-6)
    clipped = np.clip((values - mean) / std, -LIMIT, LIMIT)
    weights, bias = fit_beside(clipped, utterances, labels, INVERSE_PENALTY, seed)
    return PretrainedReferenceArrays(mean, std, weights, bias)


def settings_of(temperature: dict[str, float] | None = None) -> dict[str, Any]:
    """The numbers of the part; without the argument as before anything is calibrated."""
    return {"strength": STRENGTH, "temperature": temperature or {}}


def with_pretrained_reference(
    bundle: Bundle, arrays: PretrainedReferenceArrays, settings: dict[str, Any]
) -> Bundle:
    """A bundle with an encoder and a reference, and with the part that adapts what that hears."""
    part = PretrainedReferencePart(FileSpec(PRETRAINED_REFERENCE_FILE, ""), **settings)
    return replace(
        bundle,
        manifest=replace(bundle.manifest, pretrained_reference=part),
        contents={**bundle.contents, PRETRAINED_REFERENCE: arrays.content()},
    )


Part = tuple[Bundle, Heard, dict[str, Float32], Along]
"""A bundle with the part, what it is judged by, of that the calibrated probabilities of the model
by modality, and what the encoder hears of it."""


def calibrate_pretrained_reference(
    parts: Sequence[Part], labels: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """The numbers of the part, fitted on clips that did not train, after all kinds of histories."""
    found = defaultdict(list)
    for bundle, heard, cold, along in parts:
        truth = np.array(class_indices(heard.utterances, labels))
        for modality, scores in cold.items():
            speakers = Speakers(heard.utterances, labels, seed)
            adapted: Adapted = adapt(
                bundle, heard, scores, in_turn, speakers, modality=modality, along=along
            )
            found[modality].append((adapted, truth))
    return settings_of({name: fit_shared(pairs) for name, pairs in found.items()})
