"""Rounding that is learned once more, gentler, where int8 says otherwise than float does.

Which of both is kept is decided on the training clips as they are, by what the float model says of
them: nothing is chosen on clips that judge a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from training.data.batch import Batch
from training.fit.examples import FitData
from training.fit.fit import run_trainer, trainer_of, training_loader, watch_loader
from training.fit.module import EmotionModule
from training.fit.settings import FitSettings
from training.network.fakequant import ActivationQuantizer, Phase, SoftmaxQuantizer
from training.network.model import MscnnSpu
from training.rounding import Loss, loss_of

FOLDER = "remedy"
_GENTLER = 3  # times as many epochs, at the part of the learning rate


@dataclass(frozen=True)
class RoundingSettings(FitSettings):
    """A schedule of quantization-aware epochs alone."""

    @property
    def float_epochs(self) -> int:
        """None: the float model is finished."""
        return 0


@dataclass(frozen=True)
class Remedy:
    """What was tried, as a run keeps it."""

    because: str
    """Whose verdicts changed: training clips, or corpora of watched ones."""
    qat_epochs: int
    qat_lr: float
    changed: tuple[float, float]
    """Share of the training clips of which int8 says otherwise than float, the mean over the
    classes that float says: of the first training, and of this."""
    kept: bool

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class RoundingModule(EmotionModule):
    """A finished float model that learns rounding, with its ranges measured anew."""

    def __init__(self, first: EmotionModule, settings: RoundingSettings) -> None:
        model = MscnnSpu(first.model.config)
        assert first.float_state is not None
        # Batch normalization is folded, and no part of what is finished.
        state = {name: first.float_state[name] for name in model.state_dict()}
        model.load_state_dict(state)
        if model.config.parts.text:
            model.embedding.weight.requires_grad_(settings.embedding_lr > 0)
        first.branches.freeze(model)
        super().__init__(model, settings, first.loss_weights, first.clean_clips, first.branches)
        self.float_state = state

    def finish_float(self) -> None:
        """It is finished; what a run that it began with knew of ranges is forgotten."""
        with torch.no_grad():
            for part in self.model.modules():
                if isinstance(part, ActivationQuantizer) and not isinstance(part, SoftmaxQuantizer):
                    part.low.zero_()
                    part.high.zero_()


def remedied(
    module: EmotionModule,
    data: FitData,
    settings: FitSettings,
    folder: Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    by_watched: bool = True,
) -> tuple[EmotionModule, Remedy | None]:
    """What `training.fit.fit.fit` returned, or what learned rounding better; and what was tried.

    It is tried where int8 changes more verdicts on training clips, or loses more UA on a watched
    corpus, than `training.rounding.NOTABLE`, by more than chance; None: it was not. Three times the
    epochs, at a third of the learning rate, from the same float weights; of equal agreement with
    float, the lower cross-entropy to it decides.

    Parameters
    ----------
    folder, resume, progress : as of `fit`; checkpoints and log are in a folder of their own.
    by_watched : False where the watched clips judge the model: then they do not even say whether.
    """
    before = _agreement(module, settings)
    because = _because(module, data, before.loss, by_watched)
    if not because:
        return module, None
    gentler = gentler_settings(settings)
    if progress is None:
        print(
            f"int8 says otherwise than float of {because}: rounding is learned once more, in "
            f"{gentler.qat_epochs} epochs at a third of the learning rate"
        )
    lightning.seed_everything(settings.seed, verbose=False)
    again = RoundingModule(module, gentler)
    own = folder / FOLDER
    last = own / "checkpoints" / "last.ckpt"
    done = settings.all_epochs
    report = (lambda *_: progress(done, done)) if progress else None
    trainer = trainer_of(gentler, own, last, report)
    loader = training_loader(data, gentler)
    run_trainer(trainer, again, loader, watch_loader(data), last if resume else None)
    again.cpu()
    after = _agreement(again, settings)
    kept = after.better_than(before)
    if progress is None:
        print(
            f"it changes {100 * after.loss.ua:.1f} % of the training clips' verdicts in place of "
            f"{100 * before.loss.ua:.1f} %, and is {'kept' if kept else 'not kept'}"
        )
    tried = Remedy(
        because,
        gentler.qat_epochs,
        gentler.qat_lr,
        (round(before.loss.ua, 4), round(after.loss.ua, 4)),
        kept,
    )
    return again if kept else module, tried


def gentler_settings(settings: FitSettings) -> RoundingSettings:
    """Three times the quantization-aware epochs at a third of the rate, or of the default's."""
    kept = {item.name: getattr(settings, item.name) for item in fields(settings)}
    gentle = RoundingSettings(**kept)
    return replace(
        gentle,
        teacher="",
        qat_epochs=_GENTLER * settings.qat_epochs,
        qat_lr=min(settings.qat_lr, FitSettings.qat_lr) / _GENTLER,
    )


@dataclass(frozen=True)
class _Agreement:
    """How int8 follows float on the training clips as they are."""

    loss: Loss
    """Of what float says."""
    cross_entropy: float
    """To what float says, less that of float itself; nats."""

    def better_than(self, other: _Agreement) -> bool:
        mine, its = ((found.loss.ua, found.cross_entropy) for found in (self, other))
        return mine < its


def _agreement(module: EmotionModule, settings: FitSettings) -> _Agreement:
    # Texts may be varied, and the order of clips is drawn: the same each time.
    lightning.seed_everything(settings.seed, verbose=False)
    logits, _, _ = _judged(module, module.clean_clips)
    exact, rounded = (torch.from_numpy(said).double().log_softmax(dim=1) for said in logits)
    apart = float((exact.exp() * (exact - rounded)).sum(dim=1).mean())
    said = logits[0].argmax(axis=1)
    labels = module.model.config.labels
    return _Agreement(loss_of(said, said, logits[1].argmax(axis=1), labels), apart)


def _because(module: EmotionModule, data: FitData, trained: Loss, by_watched: bool) -> str:
    """Of what int8 says otherwise by more than chance; empty where of nothing."""
    if trained.notable and trained.sure:
        return f"{100 * trained.ua:.1f} % of the training clips"
    watch = watch_loader(data) if by_watched else None
    if watch is None:
        return ""
    logits, truth, corpora = _judged(module, watch)
    verdicts = [said.argmax(axis=1) for said in logits]
    for place, corpus in enumerate(data.corpora):
        mine = corpora == place
        before, after = (said[mine] for said in verdicts)
        loss = loss_of(truth[mine], before, after, module.model.config.labels)
        if loss.notable and loss.sure:
            return f"watched clips of {corpus}, {100 * loss.ua:.1f} points of UA lost"
    return ""


@torch.no_grad()
def _judged(
    module: EmotionModule, batches: Iterable[Batch]
) -> tuple[list[np.ndarray[Any, Any]], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Of examples that have a class: logits in float and in int8, classes, corpora."""
    models = [module.final(phase) for phase in (Phase.FLOAT, Phase.INT8)]
    rows: list[list[torch.Tensor]] = []
    for batch in batches:
        known = batch.labels >= 0
        said = [model(**batch.inputs())[known] for model in models]
        rows.append([*said, batch.labels[known], batch.corpora[known]])
    exact, rounded, truth, corpora = (torch.cat(part).numpy() for part in zip(*rows, strict=True))
    return [exact, rounded], truth, corpora
