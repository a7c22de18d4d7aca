"""A bimodal model that begins with encoders trained alone, and keeps them as they are.

Texts and clips differ in number by two orders of magnitude, so each branch is trained on all of
its own data first; what is left to train on pairs is the attention and the head. The head begins
as the sum of the two heads' logits, which is Bayes' rule for evidence that is independent given
the class; the device gets the very encoders that were measured alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from training.errors import TrainingError
from training.fakequant import Phase, set_phase
from training.model import ModelConfig, MscnnSpu
from training.run import Run

# What a branch consists of, as names begin in the model's state.
_AUDIO = ("feature_mean", "feature_std", "audio.", "audio_input.")
_TEXT = ("embedding.", "text.", "text_input.")


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
            (self.audio, "audio", ("features", "audio_kernels")),
            (self.text, "text", ("text_kernels", "vocabulary", "embedding", "tokens")),
        ):
            if run is None:
                continue
            if not getattr(run.config.parts, name) or not getattr(config.parts, name):
                raise TrainingError(
                    f"a {run.config.variant} run cannot be the {name} branch of {config.variant}"
                )
            if run.config.labels != config.labels:
                raise TrainingError(
                    f"the {name} run has classes {', '.join(run.config.labels)}, "
                    f"this data {', '.join(config.labels)}"
                )
            shapes |= {field: getattr(run.config, field) for field in fields}
        runs = self.runs()
        filters = {run.config.filters for run in runs}
        if len(filters) > 1:
            raise TrainingError("the audio and the text run differ in filters per kernel")
        if self.text:
            shapes["punctuation"] = self.text.config.punctuation
        hidden = sum(run.config.hidden[0] for run in runs)
        shapes |= {"filters": filters.pop(), "hidden": (hidden + config.hidden[0],)}
        return replace(config, **shapes)

    def runs(self) -> list[Run]:
        """Those that are given."""
        return [run for run in (self.audio, self.text) if run]

    def modules(self, model: MscnnSpu) -> Iterator[nn.Module]:
        """The parts of `model` that come from the runs."""
        if self.audio:
            yield from (model.audio, model.audio_input)
        if self.text:
            yield from (model.embedding, model.text, model.text_input)

    def freeze(self, model: MscnnSpu) -> None:
        """Leave what comes from the runs out of the gradient."""
        for module in self.modules(model):
            module.requires_grad_(False)

    def put_encoders(self, model: MscnnSpu, phase: Phase) -> None:
        """Give `model` the runs' encoders: their float weights, or the quantization-aware ones."""
        state = model.state_dict()
        for run, names in ((self.audio, _AUDIO), (self.text, _TEXT)):
            if run:
                source = run.float_weights if phase is Phase.FLOAT else run.weights
                state |= {k: v for k, v in source.items() if k.startswith(names)}
        model.load_state_dict(state)
        for module in self.modules(model):
            set_phase(module, phase)

    @torch.no_grad()
    def put_head(self, model: MscnnSpu) -> None:
        """Let the head begin as the sum of the runs' heads."""
        places = _places(model.config)
        first, last = model.head.layers
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        last.bias.zero_()
        mean, variance = model.standardize.running()
        row = 0
        for run in self.runs():
            weights, rows = run.float_weights, slice(row, row + run.config.hidden[0])
            first.weight[rows] = 0
            first.bias[rows] = weights["head.layers.0.bias"]
            last.weight[:, rows] = weights["head.layers.1.weight"]
            last.bias.add_(weights["head.layers.1.bias"])
            for name, place in _places(run.config).items():
                first.weight[rows, places[name]] = weights["head.layers.0.weight"][:, place]
                mean[places[name]] = weights["standardize.running_mean"][place]
                variance[places[name]] = weights["standardize.running_var"][place]
            row = rows.stop


def phase_of_rest(model: MscnnSpu, branches: Branches, phase: Phase) -> None:
    """Put all quantizers but those of the runs' encoders into `phase`."""
    kept = {id(m) for part in branches.modules(model) for m in part.modules()}
    for module in model.modules():
        if id(module) not in kept and not list(module.children()):
            set_phase(module, phase)


def _places(config: ModelConfig) -> dict[str, slice]:
    """Where each branch stands in what the head reads."""
    places, start = {}, 0
    for name, width in config.branches.items():
        places[name] = slice(start, start + width)
        start += width
    return places
