"""One model: float training, then quantization-aware training, both with averaged weights."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader

from training.data.augment import CLEAN, TRAINING, Augmentation, versions
from training.data.features import FeatureSet, FeatureSettings, feature_statistics
from training.data.pairs import PairSet, collate_pairs
from training.data.surroundings import surroundings
from training.data.teacher import StateProbe
from training.data.tokens import (
    TextSet,
)
from training.errors import TrainingError
from training.fit.examples import FitData, _dataset, _labelled, _text_collate, loss_weights
from training.fit.module import EmotionModule
from training.fit.schedule import BATCH, EvenBatches, Steps
from training.fit.settings import FitSettings, SurroundingSettings
from training.network.config import ModelConfig
from training.network.fakequant import Phase
from training.network.model import MscnnSpu
from training.output import at_once, sweep
from training.run import LOG_FOLDER, Run


def fit(
    data: FitData,
    config: ModelConfig,
    settings: FitSettings,
    folder: Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    logger: Logger | None = None,
) -> EmotionModule:
    """Train one model, with checkpoints, CSV log and resume in `folder`.

    Parameters
    ----------
    data : training clips, and clips to watch.
    config, settings : the model's shape and the schedule.
    folder : receives `checkpoints/last.ckpt` and, per start, `log/version_N/metrics.csv`.
    resume : go on from `checkpoints/last.ckpt` where there is one.
    progress : called with (epochs done, epochs in all) in place of the progress bar.
    logger : told the learning curves as well, beside the CSV log.
    """
    lightning.seed_everything(settings.seed, verbose=False)
    model = MscnnSpu(config)
    _begin_with(model, data, settings)
    data.branches.freeze(model)
    if settings.batch_norm and config.parts.audio and not data.start and not data.branches.audio:
        for convolution in model.audio.convolutions():
            convolution.normalize()
    examples = len(data.train.utterances)
    # Other augmentations are no device's: what is pooled is measured on whole clips without them.
    clean, clean_collate = _dataset(data, data.train, None, varied=settings.surrounded)
    # Texts without marks are no distortion: the device's statistics and ranges are for both.
    if isinstance(data.train, TextSet):
        clean_collate = _text_collate(data, settings)
    elif isinstance(data.train, PairSet) and data.speakers is None:
        clean_collate = partial(collate_pairs, read=_text_collate(data, settings))
    module = EmotionModule(
        model,
        settings,
        loss_weights(_labelled(data.train), data.labels, data.corpora, settings),
        DataLoader(clean, batch_sampler=EvenBatches(examples, BATCH), collate_fn=clean_collate),
        data.branches,
        _probe(data, config) if settings.teacher else None,
    )
    loader = training_loader(data, settings)
    last = folder / "checkpoints" / "last.ckpt"
    trainer = trainer_of(settings, folder, last, progress, logger)
    run_trainer(trainer, module, loader, watch_loader(data), last if resume else None)
    if module.float_state is None:
        module.finish_float()
        module.average.module.load_state_dict(module.model.state_dict())
    return module.cpu()


def training_loader(data: FitData, settings: FitSettings) -> DataLoader[Any]:
    """Batches of the training clips, varied as `settings` say; a pass is an epoch."""
    dataset, collate = _dataset(data, data.train, settings)
    batches = steps_of(data, settings).batches(len(data.train.utterances))
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate)


def watch_loader(data: FitData) -> DataLoader[Any] | None:
    """Batches of the clips to watch, as they are; None for none."""
    if not data.watch or not data.watch.utterances:
        return None
    watched, collate = _dataset(data, data.watch, None)
    return DataLoader(watched, 64, collate_fn=collate)


def run_trainer(
    trainer: lightning.Trainer,
    module: EmotionModule,
    loader: DataLoader[Any],
    watch: DataLoader[Any] | None,
    last: Path | None,
) -> None:
    """Train, from the checkpoint `last` where there is one; KeyboardInterrupt for Ctrl-C."""
    with warnings.catch_warnings():
        # Worker processes for the data would cost more than the tensors they hand over.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*no `val_dataloader`.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, loader, watch, ckpt_path=last if last and last.exists() else None)
        except SystemExit:
            # Lightning's answer to Ctrl-C, after which it leaves the signal ignored.
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None


def accelerator_of(device: str) -> str:
    """Lightning's name for where `--device` trains; TrainingError for a GPU that is not there."""
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise TrainingError(
            "--device cuda: PyTorch finds no GPU here (torch.cuda.is_available() is False); choose "
            "--device cpu, or install its build for CUDA"
        )
    return "cuda" if there and device != "cpu" else "cpu"


def trainer_of(
    settings: FitSettings,
    folder: Path,
    last: Path,
    progress: Callable[[int, int], None] | None,
    logger: Logger | None = None,
) -> lightning.Trainer:
    """Lightning's loop, with a checkpoint `last` after each epoch. TrainingError without a GPU."""
    return lightning.Trainer(
        accelerator=accelerator_of(settings.device),
        devices=1,
        max_epochs=settings.all_epochs,
        gradient_clip_val=settings.clip_norm,
        logger=[CSVLogger(folder, name=LOG_FOLDER), *([logger] if logger else [])],
        plugins=[_WholeCheckpoints()],
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


def run_of(module: EmotionModule, features: FeatureSettings) -> Run:
    """A trained module as a run, not yet saved."""
    return Run(
        config=module.model.config,
        features=features,
        weights=module.final(Phase.INT8).state_dict(),
        float_weights=module.final(Phase.FLOAT).state_dict(),
    )


def steps_of(data: FitData, settings: FitSettings) -> Steps:
    """The steps of an epoch of `fit`."""
    return Steps.of(
        len(data.train.utterances), settings.batch, settings.epoch_steps, settings.epoch_most
    )


def augmentations(settings: FitSettings) -> tuple[Augmentation, ...]:
    """The variants of a training clip, the clean one first.

    Raises TrainingError for folders of `settings` that cannot be used.
    """
    if settings.surrounded:
        return surrounded_variants(settings)
    return TRAINING if settings.augment else (CLEAN,)


def surrounded_variants(settings: SurroundingSettings) -> tuple[Augmentation, ...]:
    """A clip as it is, and as devices hear it in the surroundings of `settings`, if they name any.

    Raises TrainingError for folders that cannot be used.
    """
    around = surroundings(settings.noises, settings.rooms, settings.babble)
    return versions(around, settings.versions if around else 0)


def watched_augmentations(settings: FitSettings) -> tuple[Augmentation, ...]:
    """The variants of a clip that is judged: clean, and once degraded where training clips are."""
    return augmentations(settings)[:2] if settings.surrounded else (CLEAN,)


def _begin_with(model: MscnnSpu, data: FitData, settings: FitSettings) -> None:
    """Give a fresh model what the data says before training: feature statistics, word vectors."""
    parts = model.config.parts
    if parts.audio and data.start is None:  # whose weights expect features by its own statistics
        clips = data.train.clips if isinstance(data.train, PairSet) else data.train
        if not isinstance(clips, FeatureSet):
            raise TrainingError(f"variant {model.config.variant} needs audio")
        mean, std = feature_statistics(clips.clean)
        model.feature_mean.copy_(torch.from_numpy(mean))
        model.feature_std.copy_(torch.from_numpy(std))
    if parts.speaker and data.speakers is None:
        raise TrainingError(f"variant {model.config.variant} needs speaker embeddings")
    if parts.text:
        if isinstance(data.train, FeatureSet) or not (
            data.vocabulary or data.branches.text or data.start
        ):
            raise TrainingError(f"variant {model.config.variant} needs words")
        if data.vocabulary:
            model.embedding.weight.data.copy_(torch.from_numpy(data.vocabulary.table))
        model.embedding.weight.requires_grad_(settings.embedding_lr > 0)
    if data.start:
        model.load_state_dict(data.start.start())
    if data.branches:
        data.branches.restore(model, Phase.FLOAT)
        data.branches.silence_rest(model)


def _probe(data: FitData, config: ModelConfig) -> StateProbe:
    """A fresh probe of the audio maps; TrainingError for data that has no teacher."""
    if not isinstance(data.train, FeatureSet) or data.train.states is None:
        raise TrainingError(f"--teacher needs audio alone; variant {config.variant} has words")
    width = len(config.audio_kernels) * config.filters
    states, by_frame = data.train.states, data.train.frame_states
    return StateProbe(width, config.audio_statistics, states, by_frame)


class _WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that take the place of the last at once.

    Lightning's own are made in the folder for temporary files, often another file system, from
    where they are copied: killed in the middle, they are cut off.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`, whole or not at all."""
        sweep(Path(path))
        with at_once(Path(path)) as new:
            torch.save(checkpoint, new)


class _Report(lightning.Callback):
    """Tell somebody else's progress bar."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self._progress = progress

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: Any) -> None:
        self._progress(trainer.current_epoch + 1, trainer.max_epochs or 0)


logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
