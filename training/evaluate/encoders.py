"""Which pre-trained encoder hears along with each model: as published, or trained further for it.

Of a fold nothing that it is judged by may train what judges it: encoders that are trained further
are as many as there are folds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.manifest import Calibration
from edge_runtime.pretrained_arrays import PretrainedArrays
from edge_runtime.segment import SegmentParams
from training.corpora import Utterance
from training.data.augment import CLEAN, Augmentation
from training.data.log_mels import hear_log_mels
from training.evaluate.pretrained import Ear, States, ear_of, fit_layer, hear_states, part_settings
from training.fit.encoder import Examples, tuned_encoders
from training.fit.settings import EncoderSettings
from training.run import Pretrained, PretrainedReference


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

    ear: Ear
    layer: PretrainedArrays
    """What follows it."""
    tested: States | None
    """Of the clips that judge it, clean and as some device hears them; None where none do."""
    trained: Callable[[], States]
    """Of the clips that trained the model, the clean ones first among their variants."""

    def joined(
        self,
        calibration: Mapping[str, Calibration],
        metrics: dict[str, Any],
        reference: PretrainedReference | None = None,
    ) -> Pretrained:
        """What joins it to its run, once both are calibrated together."""
        settings = part_settings(calibration, self.ear.frames, self.ear.strength)
        thresholds = {name: chosen.threshold for name, chosen in calibration.items()}
        weights = self.ear.weights
        return Pretrained(self.layer, settings, thresholds, metrics, reference, weights)


def hear_along(
    clips: Clips, tested: Mapping[str, Sequence[Utterance]], settings: EncoderSettings
) -> list[HearsAlong]:
    """An encoder for each of several models, trained on all of `clips` but those that judge it.

    Parameters
    ----------
    tested : by the name of the model, what judges it; nothing of a model that is to ship.
    settings : without epochs encoders are as they are published, and a layer behind them is fitted.

    Raises TrainingError where nothing can be heard, as `ear_of`, or as `fit_layer` and `tune`.
    """
    if not settings.encoder_epochs:
        return _published(clips, list(tested.values()))
    with tempfile.TemporaryDirectory() as work:
        every = [*clips.known, *clips.sounds]
        file = Path(work) / "frames"
        mels = hear_log_mels(every, clips.segment, clips.variants, file, clips.jobs)
        examples, folds = Examples(mels, clips.labels), {}
        for name, judging in tested.items():
            out = {id(utterance) for utterance in judging}
            folds[name] = examples.places([u for u in every if id(u) not in out])
        heard = [repr(clips.segment), [variant.identity() for variant in clips.variants]]
        tuned = tuned_encoders(examples, folds, settings, heard, clips.jobs)
    result = []
    for one, judging in zip(tuned, tested.values(), strict=True):
        ear = ear_of(one.encoder)
        states = _states(clips, ear, judging, clips.variants[:2]) if judging else None
        out = {id(utterance) for utterance in judging}
        rest = [u for u in clips.known if id(u) not in out]
        result.append(HearsAlong(ear, one.arrays, states, _Later(clips, ear, rest)))
    return result


def _published(clips: Clips, tested: Sequence[Sequence[Utterance]]) -> list[HearsAlong]:
    ear = ear_of()
    heard = _states(clips, ear, clips.known, clips.variants)
    nothing = _states(clips, ear, clips.sounds, clips.variants) if clips.sounds else None
    place_of = {id(u): place for place, u in enumerate(heard.utterances)}
    result = []
    for judging in tested:
        mine = [place_of[id(u)] for u in judging if id(u) in place_of]
        rest = heard.take(np.setdiff1d(np.arange(len(heard.utterances)), mine).tolist())
        layer = fit_layer(rest.with_more(nothing), clips.labels)
        of_test = heard.take(mine) if mine else None
        result.append(HearsAlong(ear, layer, of_test, partial(_known, rest)))
    return result


def _known(states: States) -> States:
    return states


def _states(
    clips: Clips, ear: Ear, utterances: Sequence[Utterance], variants: Sequence[Augmentation]
) -> States:
    found, _ = hear_states(utterances, clips.segment, variants, clips.jobs, graph=ear.graph)
    return found


@dataclass(frozen=True)
class _Later:
    """Hears the clips that trained when somebody asks: not every model is to adapt."""

    clips: Clips
    ear: Ear
    utterances: list[Utterance]

    def __call__(self) -> States:
        return _states(self.clips, self.ear, self.utterances, (CLEAN,))
