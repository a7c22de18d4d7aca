"""One model: float training, then quantization-aware training, both with averaged weights."""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy

from edge_runtime.mfcc import Float32
from edge_runtime.text.tokenizer import UNKNOWN
from training.asrnoise import AsrNoise
from training.augment import CLEAN, TRAINING, Augmentation
from training.corpora import Utterance
from training.data import (
    Batch,
    ClipDataset,
    FeatureSet,
    FeatureSettings,
    collate,
    feature_statistics,
)
from training.embeddings import Vocabulary
from training.errors import TrainingError
from training.fakequant import Phase, set_phase
from training.folds import check_classes
from training.model import MODALITIES, ModelConfig, MscnnSpu
from training.pairs import PairDataset, PairSet, collate_pairs
from training.run import LOG_FOLDER, Run
from training.speaker import SpeakerVectors, attach, with_speakers
from training.teacher import StateProbe, TaughtDataset, collate_taught
from training.text import (
    Ids,
    SoftTextDataset,
    TextDataset,
    TextSet,
    collate_soft,
    collate_text,
    mark_rows,
)
from training.warmstart import Branches, phase_of_rest

EMBEDDING = "embedding.weight"
FEATURE_DB = 10 / math.log(10)  # dB per unit of the log energy


@dataclass(frozen=True)
class FitSettings:
    """How a model is trained."""

    teacher: bool = False
    """Let a speaker encoder (pip install --no-deps Resemblyzer) teach the audio maps."""
    teacher_epochs: int = 50
    """With a teacher: epochs that learn from it alone, before the others."""
    teacher_lr: float = 2e-3
    """With a teacher: peak learning rate of those epochs."""
    teacher_weight: float = 0.5
    """With a teacher: weight of its loss in the epochs after those."""
    epochs: int = 50
    """Float epochs."""
    qat_epochs: int = 8
    """Quantization-aware epochs after them."""
    batch: int = 64
    """Clips per step."""
    lr: float = 2e-3
    """Peak learning rate of the one-cycle schedule."""
    qat_lr: float = 2e-4
    """Learning rate at which quantization-aware training starts."""
    weight_decay: float = 0.05
    """Decoupled weight decay of AdamW."""
    min_frames: int = 100
    """Shortest training crop, frames of 10 ms; each batch draws its own length."""
    max_frames: int = 220
    """Longest training crop, frames of 10 ms."""
    label_smoothing: float = 0.1
    """Probability mass spread over the other classes."""
    mixup: float = 0.3
    """Parameter of mixup's Beta distribution on pooled statistics; 0 for none."""
    gain_db: float = 4.0
    """Standard deviation of the random level of a clip, dB."""
    time_masks: int = 2
    """Stretches of a clip that are blanked (SpecAugment)."""
    time_mask_frames: int = 20
    """Longest of them, frames."""
    feature_masks: int = 1
    """Bands of neighbouring coefficients that are blanked."""
    feature_mask_width: int = 5
    """Widest of them, coefficients."""
    noise: float = 0.05
    """Standard deviation of the noise added to normalized features."""
    word_dropout: float = 0.1
    """Share of words that are read as the unknown word."""
    punctuation_dropout: float = 0.0
    """Share of the texts that lose all their marks, as an ASR returns them; for --punctuation."""
    asr_noise: str = ""
    """Corrupt the words as a recognizer does: what transcribe wrote of speech with known words, or
    a word error rate such as 0.24."""
    embedding_lr: float = 0.5
    """Learning rate of the word embeddings, relative to the rest; 0 keeps them as they are."""
    modality_dropout: float = 0.3
    """Share of the examples with audio and words that lose one of the two, by turns."""
    ema: float = 0.99
    """Decay a step of the averaged weights."""
    clip_norm: float = 1.0
    """Largest gradient norm."""
    augment: bool = True
    """Vary speed, colour, room and noise of the training clips' waveforms."""
    seed: int = 0
    """Seed of everything random."""

    @property
    def taught_epochs(self) -> int:
        """Epochs that learn from the teacher alone."""
        return self.teacher_epochs if self.teacher else 0

    @property
    def float_epochs(self) -> int:
        """Epochs before quantization-aware training."""
        return self.taught_epochs + self.epochs

    @property
    def all_epochs(self) -> int:
        """Epochs in all."""
        return self.float_epochs + self.qat_epochs


Examples = FeatureSet | TextSet | PairSet


@dataclass
class FitData:
    """What one model is trained and watched on."""

    train: Examples
    watch: Examples | None
    """Other speakers' clips for the learning curves; never used to choose anything."""
    labels: list[str]
    vocabulary: Vocabulary | None = None
    """What the tokens mean, for a model that reads."""
    branches: Branches = field(default_factory=Branches)
    """Runs whose encoders a bimodal model starts from, and keeps."""
    speakers: SpeakerVectors | None = None
    """Speaker embeddings, for a model that takes them."""
    noise: AsrNoise | None = None
    """Corrupts the words of training, also those that statistics and ranges are measured on."""
    corpora: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_classes(self.train.utterances)
        sets = [self.train, *([self.watch] if self.watch else [])]
        self.corpora = sorted({u.corpus for s in sets for u in s.utterances})


class EmotionModule(lightning.LightningModule):
    """MSCNN-SPU with its losses, augmentation, schedule and weight average."""

    class_weights: Tensor

    def __init__(
        self,
        model: MscnnSpu,
        settings: FitSettings,
        class_weights: Tensor,
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
        self.register_buffer("class_weights", class_weights)
        classes = len(model.config.labels)
        self.train_ua = MulticlassAccuracy(classes, average="macro")
        self.watch_ua = MulticlassAccuracy(classes, average="macro")
        self.watch_wa = MulticlassAccuracy(classes, average="micro")
        self.float_state: dict[str, Tensor] | None = None

    def on_fit_start(self) -> None:
        """A resumed run takes up the phase it was in."""
        if self.trainer.current_epoch > self.settings.float_epochs:
            self._quantize()

    def on_train_epoch_start(self) -> None:
        """Switch to the classes, and to quantization-aware training, at their epochs."""
        epoch = self.trainer.current_epoch
        if epoch == self.settings.float_epochs:
            self._begin_quantization()
        elif epoch and epoch == self.settings.taught_epochs:
            self.model.load_state_dict(self.average.module.state_dict())

    def on_train_batch_start(self, *_: Any) -> None:
        """Once ranges are learned, what they were learned on must not move."""
        if self.trainer.current_epoch >= self.settings.float_epochs:
            self.model.standardize.eval()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Cross-entropy with label smoothing, class weights and mixup of pooled statistics.

        A batch with targets has those in place of its labels.

        With a teacher, its loss is added, or stands alone in the first epochs.
        """
        inputs = self._vary(batch)
        taught: Tensor = torch.zeros(())
        if self.probe is not None and batch.states is not None:
            maps, mask = self.model.audio_maps(inputs["features"], inputs["lengths"])
            stride = self.model.config.audio_stride
            taught = self.probe(maps, mask, batch.states[:, ::stride])
            size = len(batch.labels)
            self.log("teacher_loss", taught, on_step=False, on_epoch=True, batch_size=size)
            if self.trainer.current_epoch < self.settings.taught_epochs:
                return taught
            inputs["statistics"] = self.model.pool(maps, mask)
        pooled, present = self.model.pooled(**inputs)
        mix, partner = 1.0, torch.arange(len(batch.labels))
        if self.settings.mixup > 0:
            concentration = torch.tensor(self.settings.mixup)
            mix = float(torch.distributions.Beta(concentration, concentration).sample())
            mix = max(mix, 1 - mix)
            partner = torch.randperm(len(batch.labels))
        standard = self.model.standardize.standardize(pooled, present)
        logits = self.model.head(mix * standard + (1 - mix) * standard[partner])
        loss = partial(
            torch.nn.functional.cross_entropy,
            logits,
            weight=self.class_weights,
            label_smoothing=self.settings.label_smoothing,
        )
        target = batch.labels if batch.targets is None else batch.targets
        total = mix * loss(target) + (1 - mix) * loss(target[partner])
        total = total + self.settings.teacher_weight * taught
        self.train_ua(logits.detach(), batch.labels)
        size = len(batch.labels)
        self.log("train_loss", total, on_step=False, on_epoch=True, batch_size=size, prog_bar=True)
        self.log("train_ua", self.train_ua, on_step=False, on_epoch=True, batch_size=size)
        return total

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
            _lr_factor,
            settings=settings,
            taught_steps=taught_steps,
            float_steps=steps * settings.float_epochs / settings.all_epochs,
            steps=steps,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, schedule),
                "interval": "step",
            },
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the float weights beside the quantization-aware ones."""
        checkpoint["float_state"] = self.float_state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the float weights back."""
        self.float_state = checkpoint["float_state"]

    def final(self, phase: Phase) -> MscnnSpu:
        """The finished model: FLOAT, as it was before quantization-aware training, or INT8."""
        model = MscnnSpu(self.model.config)
        state = self.float_state if phase is Phase.FLOAT else self.average.module.state_dict()
        assert state is not None
        model.load_state_dict(state)
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
        self._measure_statistics()
        self.float_state = {k: v.clone() for k, v in self.model.state_dict().items()}

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
                self.model(**batch.inputs())

    def _quantize(self) -> None:
        set_phase(self.model, Phase.INT8)
        set_phase(self.average, Phase.INT8)

    def _vary(self, batch: Batch) -> dict[str, Tensor]:
        """The model's inputs of a training batch, augmented."""
        inputs = batch.inputs()
        settings = self.settings
        if "features" in inputs:
            inputs["features"] = self._augment(inputs["features"], inputs["lengths"])
        if "tokens" in inputs:
            lost = torch.rand(inputs["tokens"].shape) < settings.word_dropout
            inputs["tokens"] = inputs["tokens"].masked_fill(lost, UNKNOWN)
        if "features" in inputs and "tokens" in inputs:
            rows = len(batch.labels)
            modalities = inputs.get("modalities", torch.ones(rows, len(MODALITIES))).bool()
            draw = torch.rand(rows)
            modalities[:, 0] = draw >= settings.modality_dropout / 2
            modalities[:, 1] = draw < 1 - settings.modality_dropout / 2
            inputs["modalities"] = modalities
        return inputs

    def _augment(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Gain, SpecAugment and noise on a batch of raw features (B, T, F)."""
        settings, mean, std = self.settings, self.model.feature_mean, self.model.feature_std
        features = features.clone()
        # A gain moves the log energy of every frame and nothing else: the deltas cancel it.
        gain = torch.randn(len(features), 1) * (settings.gain_db / FEATURE_DB)
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


def fit(
    data: FitData,
    config: ModelConfig,
    settings: FitSettings,
    folder: Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> EmotionModule:
    """Train one model, with checkpoints, CSV log and resume in `folder`.

    Parameters
    ----------
    data : training clips, and clips to watch.
    config, settings : the model's shape and the schedule.
    folder : receives `checkpoints/last.ckpt` and, per start, `log/version_N/metrics.csv`.
    resume : go on from `checkpoints/last.ckpt` where there is one.
    progress : called with (epochs done, epochs in all) in place of the progress bar.
    """
    lightning.seed_everything(settings.seed, verbose=False)
    model = MscnnSpu(config)
    _begin_with(model, data, settings)
    data.branches.freeze(model)
    examples = len(data.train.utterances)
    clean, clean_collate = _dataset(data, data.train, None)
    # Texts without marks are no distortion: the device's statistics and ranges are for both.
    if isinstance(data.train, TextSet):
        clean_collate = _text_collate(data, settings)
    elif isinstance(data.train, PairSet) and data.speakers is None:
        clean_collate = partial(collate_pairs, read=_text_collate(data, settings))
    module = EmotionModule(
        model,
        settings,
        class_weights(_labelled(data.train), data.labels),
        DataLoader(clean, 64, shuffle=True, collate_fn=clean_collate, drop_last=examples > 64),
        data.branches,
        _probe(data, config) if settings.teacher else None,
    )
    dataset, training_collate = _dataset(data, data.train, settings)
    loader = DataLoader(
        dataset,
        settings.batch,
        shuffle=True,
        collate_fn=training_collate,
        drop_last=examples > settings.batch,
    )
    watch = None
    if data.watch and data.watch.utterances:
        watched, watch_collate = _dataset(data, data.watch, None)
        watch = DataLoader(watched, 64, collate_fn=watch_collate)
    last = folder / "checkpoints" / "last.ckpt"
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=settings.all_epochs,
        gradient_clip_val=settings.clip_norm,
        logger=CSVLogger(folder, name=LOG_FOLDER),
        callbacks=[
            ModelCheckpoint(
                last.parent,
                last.stem,
                save_top_k=1,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            ),
            _Report(progress) if progress else RichProgressBar(),
        ],
        enable_progress_bar=progress is None,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    with warnings.catch_warnings():
        # Worker processes for the data would cost more than the tensors they hand over.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*no `val_dataloader`.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, loader, watch, ckpt_path=last if resume and last.exists() else None)
        except SystemExit:
            # Lightning's answer to Ctrl-C, after which it leaves the signal ignored.
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
    if module.float_state is None:
        module.finish_float()
        module.average.module.load_state_dict(module.model.state_dict())
    return module


def run_of(module: EmotionModule, features: FeatureSettings) -> Run:
    """A trained module as a run, not yet saved."""
    return Run(
        config=module.model.config,
        features=features,
        weights=module.final(Phase.INT8).state_dict(),
        float_weights=module.final(Phase.FLOAT).state_dict(),
    )


def augmentations(settings: FitSettings) -> tuple[Augmentation, ...]:
    """The variants of a training clip, the clean one first."""
    return TRAINING if settings.augment else (CLEAN,)


def class_weights(utterances: Sequence[Utterance], labels: Sequence[str]) -> Tensor:
    """Weight of each class in the loss, (classes,): inverse to its frequency, 1 on average."""
    counts = torch.tensor([sum(u.label == label for u in utterances) for label in labels])
    return len(utterances) / (len(labels) * counts.clamp_min(1).float())


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


def _begin_with(model: MscnnSpu, data: FitData, settings: FitSettings) -> None:
    """Give a fresh model what the data says before training: feature statistics, word vectors."""
    parts = model.config.parts
    if parts.audio:
        clips = data.train.clips if isinstance(data.train, PairSet) else data.train
        if not isinstance(clips, FeatureSet):
            raise TrainingError(f"variant {model.config.variant} needs audio")
        mean, std = feature_statistics([variants[0] for variants in clips.variants])
        model.feature_mean.copy_(torch.from_numpy(mean))
        model.feature_std.copy_(torch.from_numpy(std))
    if parts.speaker and data.speakers is None:
        raise TrainingError(f"variant {model.config.variant} needs speaker embeddings")
    if parts.text:
        if isinstance(data.train, FeatureSet) or not (data.vocabulary or data.branches.text):
            raise TrainingError(f"variant {model.config.variant} needs words")
        if data.vocabulary:
            model.embedding.weight.data.copy_(torch.from_numpy(data.vocabulary.table))
        model.embedding.weight.requires_grad_(settings.embedding_lr > 0)
    if data.branches:
        data.branches.restore(model, Phase.FLOAT)
        data.branches.silence_rest(model)


def _labelled(examples: Examples) -> list[Utterance]:
    """The utterances whose labels count."""
    if isinstance(examples, TextSet):
        return examples.utterances[: len(examples.utterances) - examples.unlabelled]
    return examples.utterances


def _dataset(
    data: FitData, examples: Examples, training: FitSettings | None
) -> tuple[Dataset[Any], Callable[[Any], Batch]]:
    """A dataset of `examples`, and what makes its batches; augmented with `training`."""
    dataset, collate_fn = _modalities_dataset(data, examples, training)
    if data.speakers is not None:
        return with_speakers(dataset, collate_fn, data.speakers.of(examples.utterances))
    return dataset, collate_fn


def _modalities_dataset(
    data: FitData, examples: Examples, training: FitSettings | None
) -> tuple[Dataset[Any], Callable[[Any], Batch]]:
    """What `_dataset` makes of sound and words."""
    if isinstance(examples, TextSet):
        if training and examples.targets is not None:
            soft = SoftTextDataset(examples, data.labels, data.corpora)
            return soft, partial(collate_soft, read=_text_collate(data, training))
        return TextDataset(examples, data.labels, data.corpora), _text_collate(data, training)
    if training and training.teacher and isinstance(examples, FeatureSet):
        collate_fn = partial(collate_taught, crop=(training.min_frames, training.max_frames))
        return TaughtDataset(examples, data.labels, data.corpora), collate_fn
    crop = (training.min_frames, training.max_frames) if training else None
    varied = training is not None
    if isinstance(examples, PairSet):
        pairs = PairDataset(examples, data.labels, data.corpora, varied)
        return pairs, partial(collate_pairs, crop=crop, read=_text_collate(data, training))
    clips = ClipDataset(examples, data.labels, data.corpora, varied)
    return clips, partial(collate, crop=crop)


def _text_collate(data: FitData, training: FitSettings | None) -> Callable[[Any], Batch]:
    """What makes batches of texts; with `training` as a recognizer might return them."""
    if training is None:
        return collate_text
    marks = None
    if training.punctuation_dropout > 0 and data.vocabulary is not None:
        marks = mark_rows(data.vocabulary.words)
    return partial(
        collate_text,
        marks=marks,
        punctuation_dropout=training.punctuation_dropout,
        noise=data.noise,
    )


def _probe(data: FitData, config: ModelConfig) -> StateProbe:
    """A fresh probe of the audio maps; TrainingError for data that has no teacher."""
    if not isinstance(data.train, FeatureSet) or data.train.states is None:
        raise TrainingError(f"--teacher needs audio alone; variant {config.variant} has words")
    width = len(config.audio_kernels) * config.filters
    return StateProbe(width, [variants[0] for variants in data.train.states])


class _Report(lightning.Callback):
    """Tell somebody else's progress bar."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self._progress = progress

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: Any) -> None:
        self._progress(trainer.current_epoch + 1, trainer.max_epochs or 0)


def _averaged(model: MscnnSpu, decay: float) -> AveragedModel:
    """An exponential moving average that does not remember the random weights it began with."""

    def average_of(average: Tensor, current: Tensor, seen: Tensor | int) -> Tensor:
        warm = min(decay, (1.0 + float(seen)) / (10.0 + float(seen)))
        return warm * average + (1.0 - warm) * current

    return AveragedModel(model, avg_fn=average_of, use_buffers=True).requires_grad_(False)


def _lr_factor(
    step: int, settings: FitSettings, taught_steps: float, float_steps: float, steps: int
) -> float:
    """Learning rate at `step`, relative to the peak."""
    if step < taught_steps:
        return settings.teacher_lr / settings.lr * _cycle(step / taught_steps)
    if step < float_steps:
        return _cycle((step - taught_steps) / (float_steps - taught_steps))
    done = (step - float_steps) / max(1.0, steps - float_steps)
    return settings.qat_lr / settings.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _cycle(progress: float) -> float:
    """A rise over the first fifth, then a cosine to zero; `progress` is in [0, 1]."""
    if progress < 0.2:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * progress / 0.2))
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.2) / 0.8))


logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
