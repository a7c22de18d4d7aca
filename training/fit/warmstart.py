"""Models that begin with what another run learned.

A run of the very variant that is trained is where training goes on from: all of it may change.
Else its encoder becomes a branch of a bimodal model, which keeps it as it is.

Texts and clips differ in number by two orders of magnitude, so each branch is trained on all of
its own data first. The joint head holds the two heads that came with them, side by side, and adds
up their logits: Bayes' rule for evidence that is independent given the class. They stay as they
are. A head trained further on the clips that its audio encoder knows by heart trusts its ears too
much: it lost 2 to 5 points on others. What is trained on pairs is what reads attention: further
hidden units, which begin with nothing to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import TrainingError
from training.network.config import AUDIO, ModelConfig
from training.network.fakequant import Phase, set_phase
from training.network.model import MscnnSpu
from training.run import Run

# What a branch consists of, as names begin in the model's state.
_AUDIO = ("feature_mean", "feature_std", "audio.", "audio_input.")
_TEXT = ("embedding.", "text.", "text_input.")
_AUDIO_SHAPE = ("features", "audio_kernels", "audio_stride", "audio_dilations")


@dataclass(frozen=True)
class Branches:
    """Runs whose encoders a model starts from; None: trained with the rest."""

    audio: Run | None = None
    text: Run | None = None

    def __bool__(self) -> bool:
        return bool(self.audio or self.text)

    def fit_to(self, config: ModelConfig) -> ModelConfig:
        """`config` with the shapes of the runs, and a head that holds both of theirs.

        Raises TrainingError when the runs do not fit the variant or each other.
        """
        shapes: dict[str, Any] = {}
        for run, name, fields in (
            (self.audio, "audio", _AUDIO_SHAPE),
            (self.text, "text", ("text_kernels", "vocabulary", "embedding", "tokens")),
        ):
            if run is None:
                continue
            # Its head reads all that it takes: the new one must have that as well, and more.
            here = getattr(run.config.parts, name) and getattr(config.parts, name)
            if not here or not run.config.branches.keys() < config.branches.keys():
                raise TrainingError(
                    f"a run of {run.config.variant} cannot be the {name} branch of {config.variant}"
                )
            _check_classes(run, name, config)
            if len(run.config.hidden) != 1:
                raise TrainingError(
                    f"the {name} run's head has no hidden layer, as adapt writes it; name the run "
                    "that it was adapted from"
                )
            shapes |= {field: getattr(run.config, field) for field in fields}
        runs = self.runs()
        filters = {run.config.filters for run in runs}
        if len(filters) > 1:
            raise TrainingError("the audio and the text run differ in filters per kernel")
        if self.text:
            shapes["punctuation"] = self.text.config.punctuation
        shapes |= {"filters": filters.pop(), "hidden": (self._rows() + config.hidden[0],)}
        return replace(config, **shapes)

    def whole(self, config: ModelConfig) -> Run | None:
        """The run that has all of a model of `config`: training goes on from it, nothing is kept.

        A model of sound alone also goes on from the audio part of a run that reads as well. Where
        the classes are others, the last layer begins anew. None where there is no such run. Raises
        TrainingError where another run stands beside it.
        """
        for name, run in (("audio", self.audio), ("text", self.text)):
            if run and config.variant == name == AUDIO and run.config.parts.audio:
                run = audio_alone(run)
            if run and run.config.variant == config.variant:
                if len(self.runs()) > 1:
                    raise TrainingError(
                        f"the {name} run is a whole {config.variant} model: name no other run"
                    )
                return run if run.config.labels == config.labels else with_classes(run, config)
        return None

    def runs(self) -> list[Run]:
        """Those that are given."""
        return [run for run in (self.audio, self.text) if run]

    def _rows(self) -> int:
        """Hidden units that come from the runs."""
        return sum(run.config.hidden[0] for run in self.runs())

    def modules(self, model: MscnnSpu) -> Iterator[nn.Module]:
        """The parts of `model` that come from the runs."""
        if self.audio:
            yield from (model.audio, model.audio_input)
        if self.text:
            yield from (model.embedding, model.text, model.text_input)

    def freeze(self, model: MscnnSpu) -> None:
        """Leave what comes from the runs, encoders and heads, out of the gradient."""
        for module in self.modules(model):
            module.requires_grad_(False)
        if len(model.head.layers) == 1:
            return  # as adapt writes it: no part of it is a run's
        first, last = _dense(model)
        last.bias.requires_grad_(False)
        row = self._rows()
        for weight, kept in (
            (first.weight, (slice(row),)),
            (first.bias, (slice(row),)),
            (last.weight, (slice(None), slice(row))),
        ):
            weight.register_hook(partial(_without, kept=kept))  # type: ignore[no-untyped-call]

    def restore(self, model: MscnnSpu, phase: Phase) -> None:
        """Give `model` what comes from the runs, in its float or quantization-aware form, exactly.

        An average of equal weights is not equal to the last bit.
        """
        if self:
            self._put_encoders(model, phase)
            self._put_head(model, phase)

    def _put_encoders(self, model: MscnnSpu, phase: Phase) -> None:
        state = model.state_dict()
        for run, names in ((self.audio, _AUDIO), (self.text, _TEXT)):
            if run:
                source = run.start() if phase is Phase.FLOAT else run.weights
                state |= {k: v for k, v in source.items() if k.startswith(names)}
        model.load_state_dict(state)
        for module in self.modules(model):
            set_phase(module, phase)

    @torch.no_grad()
    def _put_head(self, model: MscnnSpu, phase: Phase) -> None:
        """The runs' heads, side by side."""
        places = _places(model.config)
        first, last = _dense(model)
        last.bias.zero_()
        row = 0
        for run in self.runs():
            weights = run.start() if phase is Phase.FLOAT else run.weights
            rows = slice(row, row + run.config.hidden[0])
            first.weight[rows] = 0
            first.bias[rows] = weights["head.layers.0.bias"]
            last.weight[:, rows] = weights["head.layers.1.weight"]
            last.bias.add_(weights["head.layers.1.bias"].to(last.bias.device))
            for name, place in _places(run.config).items():
                first.weight[rows, places[name]] = weights["head.layers.0.weight"][:, place]
            row = rows.stop
        self.put_statistics(model)

    @torch.no_grad()
    def silence_rest(self, model: MscnnSpu) -> None:
        """Let the hidden units that come from no run begin without a say."""
        _dense(model)[1].weight[:, self._rows() :] = 0

    @torch.no_grad()
    def put_statistics(self, model: MscnnSpu) -> None:
        """Standardize what the encoders give as in the runs, which saw all of their own data."""
        places = _places(model.config)
        mean, variance = model.standardize.running()
        for run in self.runs():
            for name, place in _places(run.config).items():
                mean[places[name]] = run.start()["standardize.running_mean"][place]
                variance[places[name]] = run.start()["standardize.running_var"][place]


def audio_alone(run: Run) -> Run:
    """The part of `run` that judges sound by itself, as a run of variant audio.

    What is missing of an utterance is zero before the head, so that its verdicts on sound alone are
    the same to the last bit. TrainingError for a run that does not hear.
    """
    if not run.config.parts.audio:
        raise TrainingError(f"a run of {run.config.variant} does not hear: it has no audio branch")
    if run.config.variant == AUDIO:
        return run
    place = _places(run.config)[AUDIO]

    def cut(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = {k: v for k, v in weights.items() if k.startswith((*_AUDIO, "head.", "standardize"))}
        for name in ("standardize.running_mean", "standardize.running_var"):
            kept[name] = kept[name][place].clone()
        kept["head.layers.0.weight"] = kept["head.layers.0.weight"][:, place].clone()
        return kept

    shape = ModelConfig()
    return replace(
        run,
        config=replace(
            run.config,
            variant=AUDIO,
            vocabulary=shape.vocabulary,
            embedding=shape.embedding,
            punctuation=shape.punctuation,
        ),
        weights=cut(run.weights),
        float_weights=cut(run.float_weights) if run.float_weights else {},
        calibration={m: chosen for m, chosen in run.calibration.items() if m == AUDIO},
        metrics={},
        vocabulary=[],
        reference=None,
        familiarity=None,
        pretrained={},
    )


def with_classes(run: Run, config: ModelConfig) -> Run:
    """`run` with the classes of `config`, of which its last layer says nothing yet.

    What was learned of its own classes goes with that layer: confidence, figures, speakers.
    """
    last = len(run.config.hidden)
    fresh = dict(run.start())
    classes = len(config.labels)
    for name, value in run.start().items():
        if name.startswith(f"head.layers.{last}."):
            fresh[name] = value.new_zeros(classes, *value.shape[1:])
        elif name.startswith(f"head.outputs.{last}."):
            fresh[name] = torch.zeros_like(value)
    return replace(
        run,
        config=replace(run.config, labels=config.labels),
        weights=fresh,
        float_weights={},
        calibration={},
        metrics={},
        reference=None,
        familiarity=None,
        pretrained={},
    )


def phase_of_rest(model: MscnnSpu, branches: Branches, phase: Phase) -> None:
    """Put all quantizers but those of the runs' encoders into `phase`."""
    kept = {id(m) for part in branches.modules(model) for m in part.modules()}
    for module in model.modules():
        if id(module) not in kept and not list(module.children()):
            set_phase(module, phase)


def _check_classes(run: Run, name: str, config: ModelConfig) -> None:
    """TrainingError where the run has other classes than `config`."""
    if run.config.labels != config.labels:
        raise TrainingError(
            f"the {name} run has classes {', '.join(run.config.labels)}, "
            f"this data {', '.join(config.labels)}"
        )


def _dense(model: MscnnSpu) -> tuple[nn.Linear, nn.Linear]:
    first, last = model.head.layers
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    return first, last


def _without(gradient: Tensor, kept: tuple[slice, ...]) -> Tensor:
    """`gradient` with nothing for what is kept as it is."""
    changed = gradient.clone()
    changed[kept] = 0
    return changed


def _places(config: ModelConfig) -> dict[str, slice]:
    """Where each branch stands in what the head reads."""
    places, start = {}, 0
    for name, width in config.branches.items():
        places[name] = slice(start, start + width)
        start += width
    return places
