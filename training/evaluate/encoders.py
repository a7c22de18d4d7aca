"""Which pre-trained encoder hears along with each model: as published, or trained further for it.

Of a fold nothing that it is judged by may train what judges it: encoders that are trained further
are as many as there are folds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.manifest import Calibration
from edge_runtime.pretrained_arrays import PretrainedArrays
from edge_runtime.segment import SegmentParams
from training.corpora import Utterance
from training.data.augment import Augmentation
from training.data.log_mels import hear_log_mels
from training.evaluate.pretrained import Ear, States, ear_of, fit_layer, hear_states, part_settings
from training.fit.encoder import Examples, tuned_encoders
from training.fit.settings import EncoderSettings
from training.run import Pretrained, PretrainedReference
from training.tiers import EXTENTS


@dataclass(frozen=True)
class Clips:
    """What encoders hear, and how."""

    known: list[Utterance]
    """Clips of the classes."""
    sounds: list[Utterance]
    """Sounds that say nothing."""
    labels: list[str]
    """The classes."""
    segment: SegmentParams
    """How an utterance is cut out of a clip."""
    variants: tuple[Augmentation, ...]
    """Of each clip that trains; the first is clean, the second judges as well."""
    jobs: int | None = None
    """Processes; by default one a core."""


@dataclass(frozen=True, eq=False)
class HearsAlong:
    """The encoder of one model, and what it makes of clips."""

    tier: str
    ear: Ear
    layer: PretrainedArrays
    """What follows it."""
    tested: States | None
    """Of the clips that judge it, clean and as some device hears them; None where none do."""
    trained: States
    """Of those that trained the model."""

    def joined(
        self,
        calibration: Mapping[str, Calibration],
        metrics: dict[str, Any],
        reference: PretrainedReference | None = None,
    ) -> Pretrained:
        """What joins it to its run, once both are calibrated together."""
        settings = part_settings(calibration, self.ear.frames, self.ear.strength)
        thresholds = {name: chosen.threshold for name, chosen in calibration.items()}
        ear = self.ear.weights, self.tier
        return Pretrained(self.layer, settings, thresholds, metrics, reference, *ear)


def hear_along(
    clips: Clips, tested: Mapping[str, Sequence[Utterance]], tier: str, settings: EncoderSettings
) -> list[HearsAlong]:
    """An encoder for each of several models, trained on all of `clips` but those that judge it.

    Parameters
    ----------
    tested : by the name of the model, what judges it; nothing of a model that is to ship.
    tier : says how much of the encoder.
    settings : without epochs encoders are as they are published. A layer is fitted behind each.

    Raises TrainingError where nothing can be heard, as `ear_of`, or as `fit_layer` and `tune`.
    """
    if not settings.encoder_epochs:
        ear, judging = ear_of(EXTENTS[tier]), list(tested.values())
        return _with_layers(clips, tier, ear, judging, clips.variants)
    with tempfile.TemporaryDirectory() as work:
        every = [*clips.known, *clips.sounds]
        file = Path(work) / "frames"
        mels = hear_log_mels(every, clips.segment, clips.variants, file, clips.jobs)
        examples, folds = Examples(mels, clips.labels), {}
        for name, left_out in tested.items():
            out = {id(utterance) for utterance in left_out}
            folds[name] = examples.places([u for u in every if id(u) not in out])
        heard = [repr(clips.segment), [variant.identity() for variant in clips.variants]]
        tuned = tuned_encoders(examples, folds, settings, EXTENTS[tier], heard, clips.jobs)
    result = []
    for encoder, left_out in zip(tuned, tested.values(), strict=True):
        # Each hears all clips anew: clean, and once as some device does.
        ear = ear_of(EXTENTS[tier], encoder)
        result += _with_layers(clips, tier, ear, [left_out], clips.variants[:2])
    return result


def _with_layers(
    clips: Clips,
    tier: str,
    ear: Ear,
    tested: Sequence[Sequence[Utterance]],
    variants: Sequence[Augmentation],
) -> list[HearsAlong]:
    """A layer behind `ear` for each of several models, by clips in `variants`."""

    def hear(utterances: Sequence[Utterance]) -> States:
        found, _ = hear_states(utterances, clips.segment, variants, clips.jobs, graph=ear.graph)
        return found

    heard = hear(clips.known)
    nothing = hear(clips.sounds) if clips.sounds else None
    place_of = {id(u): place for place, u in enumerate(heard.utterances)}
    result = []
    for judging in tested:
        mine = [place_of[id(u)] for u in judging if id(u) in place_of]
        rest = heard.take(np.setdiff1d(np.arange(len(heard.utterances)), mine).tolist())
        layer = fit_layer(rest.with_more(nothing), clips.labels)
        result.append(HearsAlong(tier, ear, layer, heard.take(mine) if mine else None, rest))
    return result
