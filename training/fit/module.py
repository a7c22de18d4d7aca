"""The Lightning module: losses, optimizer, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torchmetrics.classification import MulticlassAccuracy

from edge_runtime.tokenizer import UNKNOWN
from training.corpora import NO_INDEX
from training.data.batch import Batch
from training.data.teacher import StateProbe
from training.fit.randomness import State, random_state, set_random_state
from training.fit.schedule import lr_factor
from training.fit.settings import FitSettings
from training.fit.warmstart import Branches, phase_of_rest
from training.network.config import MODALITIES
from training.network.fakequant import Phase, set_phase
from training.network.model import MscnnSpu

EMBEDDING = "embedding.weight"

FEATURE_DB = 10 / math.log(10)  # dB per unit of the log energy


class EmotionModule(lightning.LightningModule):
    """MSCNN-SPU with its losses, augmentation, schedule and weight average."""

    loss_weights: Tensor

    def __init__(
        self,
        model: MscnnSpu,
        settings: FitSettings,
        loss_weights: Tensor,
        clean_clips: Iterable[Batch],
        branches: Branches | None = None,
        probe: StateProbe | None = None,
    ) -> None:
        super().__init__()
        self.probe = probe
        self.model = model
        self.branches = branches or Branches()
        self.clean_clips = clean_clips
        self.settings = settings
        self.average = _averaged(model, settings.ema)
        self.register_buffer("loss_weights", loss_weights)  # (corpora, classes)
        classes = len(model.config.labels)
        self.train_ua = MulticlassAccuracy(classes, average="macro", ignore_index=NO_INDEX)
        self.watch_ua = MulticlassAccuracy(classes, average="macro")
        self.watch_wa = MulticlassAccuracy(classes, average="micro")
        self.float_state: dict[str, Tensor] | None = None
        # In a tuple it is no part of this module, whose checkpoints would hold it twice.
        self._float_model: tuple[MscnnSpu, ...] = ()
        self._resumed_at: State | None = None

    def on_fit_start(self) -> None:
        """A resumed run takes up the phase it was in."""
        if self.float_state is not None:
            self._quantize()

    def on_train_epoch_start(self) -> None:
        """Switch to the classes, and to quantization-aware training, at their epochs."""
        epoch = self.trainer.current_epoch
        resumed, self._resumed_at = self._resumed_at, None
        if resumed:
            set_random_state(resumed)
        if epoch == self.settings.float_epochs:
            self._begin_quantization()
        elif epoch and epoch == self.settings.taught_epochs:
            self.model.load_state_dict(self.average.module.state_dict())
        if resumed:
            # The seed for worker processes, which a loader draws here in a run that goes through,
            # and in one that is resumed before this.
            torch.empty((), dtype=torch.int64).random_()

    def on_train_batch_start(self, *_: Any) -> None:
        """Once rounding is learned, it is learned as the device computes: without dropout."""
        if self._quantizing:
            self.model.eval()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Cross-entropy with label smoothing, class weights and mixup of pooled statistics.

        A batch with targets has those in place of its labels.

        With a teacher, its loss is added, or stands alone in the first epochs. In the
        quantization-aware epochs the finished float model is the only teacher.
        """
        inputs = self._vary(batch)
        if self._quantizing:
            return self._follow(batch, inputs)
        taught: Tensor = torch.zeros(())
        if "features" in inputs:
            maps, mask = self._hear(inputs)
            inputs["statistics"] = self.model.pool(maps, mask)
        if self.probe is not None and batch.states is not None:
            stride = self.model.config.audio_stride
            with self._fast():
                errors = self.probe(maps, inputs["statistics"], mask, batch.states[:, ::stride])
            taught = torch.stack(list(errors.values())).sum()
            logged = {f"teacher_{name}": error for name, error in errors.items()}
            logged["teacher_loss"] = taught
            self.log_dict(logged, on_step=False, on_epoch=True, batch_size=len(batch.labels))
            if self.trainer.current_epoch < self.settings.taught_epochs:
                return taught
        pooled, present = self.model.pooled(**inputs)
        mix, partner = 1.0, torch.arange(len(batch.labels))
        if self.settings.mixup > 0:
            concentration = torch.tensor(self.settings.mixup)
            mix = float(torch.distributions.Beta(concentration, concentration).sample())
            mix = max(mix, 1 - mix)
            partner = torch.randperm(len(batch.labels))
        standard = self.model.standardize.standardize(pooled, present)
        logits = self.model.head(mix * standard + (1 - mix) * standard[partner])
        loss = partial(weighted_cross_entropy, logits, smoothing=self.settings.label_smoothing)
        target = self._target(batch)
        weights = self.loss_weights[batch.corpora]
        total = mix * loss(target, weights)
        total = total + (1 - mix) * loss(target[partner], weights[partner])
        total = total + self.settings.teacher_weight * taught
        self._tell(total, logits, batch)
        return total

    @property
    def _quantizing(self) -> bool:
        return self.trainer.current_epoch >= self.settings.float_epochs

    def _follow(self, batch: Batch, inputs: dict[str, Tensor]) -> Tensor:
        """Cross-entropy to what the float model says of the same, for rounding alone is to learn.

        Mishra & Marr 2018, arXiv 1711.05852, scheme C. Learning the labels on, on short crops with
        the statistics of whole clips, moved the verdicts of whole corpora to other classes.
        """
        (float_model,) = self._float_model
        with torch.no_grad():
            said = float_model(**inputs).softmax(dim=1)
        logits = self.model(**inputs)
        loss = torch.nn.functional.cross_entropy(logits, said)
        self._tell(loss, logits, batch)
        return loss

    def _tell(self, loss: Tensor, logits: Tensor, batch: Batch) -> None:
        """The learning curves of a training batch."""
        self.train_ua(logits.detach(), batch.labels)
        size = len(batch.labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size, prog_bar=True)
        self.log("train_ua", self.train_ua, on_step=False, on_epoch=True, batch_size=size)

    def _target(self, batch: Batch) -> Tensor:
        """Labels (B,), or probabilities (B, classes) where an example has none but all alike."""
        if batch.targets is not None:
            return batch.targets
        known = batch.labels != NO_INDEX
        if bool(known.all()):
            return batch.labels
        classes = len(self.model.config.labels)
        exact = torch.nn.functional.one_hot(batch.labels.clamp_min(0), classes).float()
        return torch.where(known[:, None], exact, 1 / classes)

    def on_train_batch_end(self, *_: Any) -> None:
        """Follow the weights with their moving average."""
        self.average.update_parameters(self.model)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Learning curves of the averaged model on the watched speakers."""
        model = self.average.module
        model.eval()
        logits = model(**batch.inputs())
        size = len(batch.labels)
        loss = torch.nn.functional.cross_entropy(logits, batch.labels)
        self.watch_ua(logits, batch.labels)
        self.watch_wa(logits, batch.labels)
        for name, value in (
            ("watch_loss", loss),
            ("watch_ua", self.watch_ua),
            ("watch_wa", self.watch_wa),
        ):
            self.log(name, value, on_epoch=True, batch_size=size, prog_bar=name == "watch_ua")

    def configure_optimizers(self) -> Any:
        """AdamW; one cycle over the float epochs, then a cosine from `qat_lr` to zero.

        The epochs that learn from the teacher alone have a cycle of their own.
        """
        settings = self.settings
        decay = 0.0 if self.branches else settings.weight_decay  # what is kept must not shrink
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        named += self.probe.named_parameters() if self.probe else []
        rest = [p for n, p in named if n != EMBEDDING]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in rest if p.dim() > 1], "weight_decay": decay},
            {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
        ]
        if len(rest) < len(named):
            groups.append(
                {
                    "params": [p for n, p in named if n == EMBEDDING],
                    "weight_decay": 0.0,
                    "lr": settings.lr * settings.embedding_lr,
                }
            )
        optimizer = torch.optim.AdamW(groups, lr=settings.lr)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        taught_steps = steps * settings.taught_epochs / settings.all_epochs
        schedule = partial(
            lr_factor,
            taught=taught_steps,
            floats=steps * settings.float_epochs / settings.all_epochs,
            steps=steps,
            levels=(settings.teacher_lr / settings.lr, settings.qat_lr / settings.lr),
            constant=settings.lr_schedule == "constant",
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, schedule),
                "interval": "step",
            },
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the float weights beside the quantization-aware ones, and what is random."""
        checkpoint["float_state"] = self.float_state
        checkpoint["random_state"] = random_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the float weights back, and what is random when the next epoch begins."""
        self.float_state = checkpoint["float_state"]
        self._resumed_at = checkpoint.get("random_state")

    def final(self, phase: Phase) -> MscnnSpu:
        """The finished model: FLOAT, as it was before quantization-aware training, or INT8."""
        model = MscnnSpu(self.model.config)
        state = self.float_state if phase is Phase.FLOAT else self.average.module.state_dict()
        assert state is not None
        # Batch normalization is folded, and no part of what is finished.
        model.load_state_dict({name: state[name] for name in model.state_dict()})
        self.branches.restore(model, phase)
        set_phase(model, phase)
        return model.eval()

    def _begin_quantization(self) -> None:
        """Start from the averaged float weights, with ranges observed on training clips."""
        self.finish_float()
        if self.branches:
            # Their int8 forms are finished: the head learns to read what the device will compute.
            self.branches.restore(self.model, Phase.INT8)
            self._measure_statistics()
        phase_of_rest(self.model, self.branches, Phase.OBSERVE)
        self.model.eval()
        self._pass_clean_clips()
        self.model.train()
        self.average = _averaged(self.model, self.settings.ema)
        self._quantize()

    def finish_float(self) -> None:
        """Take the averaged weights, with statistics measured on clean clips, as the float model.

        The running statistics of training follow augmented clips; the device hears none of those.
        """
        self.model.load_state_dict(self.average.module.state_dict())
        self.branches.restore(self.model, Phase.FLOAT)
        self._fold_norms()
        self._measure_statistics()
        self.float_state = {k: v.clone() for k, v in self.model.state_dict().items()}

    def _fold_norms(self) -> None:
        """Fold batch normalization; what the optimizer knew of those weights is of other ones."""
        if not self.model.config.parts.audio:
            return
        optimizers = self.optimizers()
        assert isinstance(optimizers, LightningOptimizer)
        for convolution in self.model.audio.convolutions():
            if convolution.norm is not None:
                convolution.fold()
                for parameter in convolution.parameters():
                    optimizers.state.pop(parameter, None)

    def _measure_statistics(self) -> None:
        """Standardize by clean clips."""
        self.model.eval()
        norm = self.model.standardize
        norm.reset_running_stats()
        norm.momentum, momentum = None, norm.momentum  # None: a plain mean over all batches
        norm.train()
        self._pass_clean_clips()
        norm.momentum = momentum
        self.branches.put_statistics(self.model)

    def _pass_clean_clips(self) -> None:
        with torch.no_grad():
            for batch in self.clean_clips:
                self.model(**{name: x.to(self.device) for name, x in batch.inputs().items()})

    def _quantize(self) -> None:
        self._float_model = (self.final(Phase.FLOAT).to(self.device),)
        set_phase(self.model, Phase.INT8)
        set_phase(self.average, Phase.INT8)

    def _hear(self, inputs: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """The audio maps of a training batch, and the mask of their valid steps."""
        with self._fast():
            maps, mask = self.model.audio_maps(inputs["features"], inputs["lengths"])
        return [scale.float() for scale in maps], mask

    def _fast(self) -> torch.autocast:
        """Bfloat16 where the settings ask for it, until rounding to int8 is to be learned."""
        fast = self.settings.bf16 and not self._quantizing
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast)

    def _vary(self, batch: Batch) -> dict[str, Tensor]:
        """The model's inputs of a training batch, augmented."""
        inputs = batch.inputs()
        settings = self.settings
        if "features" in inputs:
            inputs["features"] = self._augment(inputs["features"], inputs["lengths"])
        if "tokens" in inputs:
            tokens = inputs["tokens"]
            lost = torch.rand(tokens.shape, device=tokens.device) < settings.word_dropout
            inputs["tokens"] = inputs["tokens"].masked_fill(lost, UNKNOWN)
        if "features" in inputs and "tokens" in inputs:
            rows = len(batch.labels)
            every = torch.ones(rows, len(MODALITIES), device=self.device)
            modalities = inputs.get("modalities", every).bool()
            draw = torch.rand(rows, device=self.device)
            modalities[:, 0] = draw >= settings.modality_dropout / 2
            modalities[:, 1] = draw < 1 - settings.modality_dropout / 2
            inputs["modalities"] = modalities
        return inputs

    def _augment(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Gain, SpecAugment and noise on a batch of raw features (B, T, F)."""
        settings, mean, std = self.settings, self.model.feature_mean, self.model.feature_std
        features = features.clone()
        # A gain moves the log energy of every frame and nothing else: the deltas cancel it.
        level = torch.randn(len(features), 1, device=features.device)
        gain = level * (settings.gain_db / FEATURE_DB)
        features[:, :, 0] += gain
        x = (features - mean) / std
        x += settings.noise * torch.randn_like(x)
        cepstra = x.shape[2] // 3
        for index, length in enumerate(lengths.tolist()):
            for _ in range(settings.time_masks):
                width = int(torch.randint(settings.time_mask_frames + 1, ()))
                begin = int(torch.randint(max(1, length - width), ()))
                x[index, begin : begin + width] = 0
            for _ in range(settings.feature_masks):
                width = int(torch.randint(settings.feature_mask_width + 1, ()))
                begin = int(torch.randint(cepstra - width + 1, ()))
                for order in range(3):
                    x[index, :, order * cepstra + begin : order * cepstra + begin + width] = 0
        return x * std + mean


def weighted_cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor, smoothing: float
) -> Tensor:
    """PyTorch's cross-entropy with class weights, but that each example has its own: a scalar.

    Logits and weights (B, classes); `target` are labels (B,), over whose weights the mean is
    taken, or probabilities (B, classes), over which it is plain. `smoothing` is spread over all
    classes (Szegedy et al. 2016).
    """
    classes = logits.shape[1]
    if target.dim() == 1:
        probabilities = torch.nn.functional.one_hot(target, classes).to(logits.dtype)
        total = (weights * probabilities).sum()
    else:
        probabilities, total = target, torch.tensor(float(len(target)))
    probabilities = (1 - smoothing) * probabilities + smoothing / classes
    loss: Tensor = -(weights * probabilities * logits.log_softmax(dim=1)).sum() / total
    return loss


def _averaged(model: MscnnSpu, decay: float) -> AveragedModel:
    """An exponential moving average that does not remember the random weights it began with."""

    def average_of(average: Tensor, current: Tensor, seen: Tensor | int) -> Tensor:
        warm = min(decay, (1.0 + float(seen)) / (10.0 + float(seen)))
        return warm * average + (1.0 - warm) * current

    return AveragedModel(model, avg_fn=average_of, use_buffers=True).requires_grad_(False)
