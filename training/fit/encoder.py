"""Train a pre-trained encoder further, on the clips that train a model, for its larger tiers.

Mean and standard deviation of its states over a window go through one linear layer, as on the
device (`edge_runtime.model.pretrained`), and all of it learns the classes. Clips are heard as they
are and as devices hear them; windows are cut where one is longer; stretches of time and of bands
are masked (SpecAugment, Park et al. 2019, arXiv 1904.08779).

What is used lies between the published weights and those that were trained (WiSE-FT, Wortsman et
al. 2022, arXiv 2109.01903): it hears people better who did not train, and in rooms, than either.
The layer that learned with them does not fit it, and is left behind. How it was found:
docs/experiments.md.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge_runtime.model.pretrained import fill_window
from edge_runtime.pcm import Float32
from edge_runtime.pretrained_arrays import MELS, STRIDE
from training.corpora import Utterance, class_indices
from training.data.balance import cells, check_every_class
from training.data.cache import cache_folder, cache_key, content_of, opened_cache, parallel
from training.data.log_mels import Float16, LogMels
from training.data.teachers.whisper import WIDTH
from training.data.whisper_encoder import (
    WhisperEncoder,
    packed_encoder,
    published_encoder,
    unpacked_encoder,
)
from training.fit.settings import EncoderSettings
from training.output import at_once
from training.tiers import Extent

TUNED_FRAMES = 400
"""Window of an encoder that is trained further, frames of 10 ms: few clips are longer."""
_HEAD_LR = 1e-3  # of the layer behind the encoder, which begins from nothing
_WEIGHT_DECAY, _SMOOTHING, _DROPOUT, _WARM_UP = 0.01, 0.1, 0.2, 0.15
_CLEAN = 0.4  # share of the clips that are heard as they are, beside one in so many of the rest
_MASKED, _MASK_BANDS, _MASK_FRAMES = 0.5, 10, 20  # share of the windows, and the most of each
_LEAST_BATCH = 4  # clips by which statistics can be standardized


@dataclass(eq=False)
class Examples:
    """Clips of several folds, to train on."""

    mels: LogMels
    """What the encoder reads of them."""
    labels: Sequence[str]
    """The classes."""
    classes: npt.NDArray[np.int64] = field(init=False)
    """Of each clip; -1 of sounds that say nothing."""

    def __post_init__(self) -> None:
        self.classes = np.array(class_indices(self.mels.utterances, self.labels))

    def places(self, utterances: Sequence[Utterance]) -> npt.NDArray[np.int64]:
        """Where those of `utterances` are that could be heard."""
        wanted = {id(utterance) for utterance in utterances}
        known = [p for p, one in enumerate(self.mels.utterances) if id(one) in wanted]
        return np.array(known, np.int64)


class Network(nn.Module):
    """The encoder, statistics over the real frames of a window, and a layer of class scores."""

    def __init__(self, encoder: WhisperEncoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = nn.BatchNorm1d(2 * WIDTH, affine=False, momentum=0.05)
        self.drop = nn.Dropout(_DROPOUT)
        self.head = nn.Linear(2 * WIDTH, classes)

    def forward(self, windows: Tensor, lengths: Tensor) -> Tensor:
        """Windows (n, 80, frames), real states of each (n,), to scores (n, classes)."""
        states = self.encoder(windows).float()
        real = (torch.arange(states.shape[1])[None] < lengths[:, None]).float()[:, :, None]
        count = real.sum(dim=1)
        mean = (states * real).sum(dim=1) / count
        spread = ((states - mean[:, None]).square() * real).sum(dim=1) / count
        # The root of nothing has no gradient.
        statistics = torch.cat([mean, (spread + 1e-5).sqrt()], dim=1)
        scores: Tensor = self.head(self.drop(self.norm(statistics)))
        return scores


def tuned_encoders(
    examples: Examples,
    folds: Mapping[str, npt.NDArray[np.int64]],
    settings: EncoderSettings,
    extent: Extent,
    made_from: Sequence[Any],
    jobs: int | None = None,
    progress: bool = True,
) -> list[bytes]:
    """An encoder for each of `folds`, by the places of the clips that train it; cached.

    They are `packed_encoder`s, as far from the published one as `settings` say.

    Parameters
    ----------
    examples : the clips of all of them.
    folds : by what progress calls them.
    settings : how they are trained.
    extent : how much of the encoder.
    made_from : what fixes what is heard of a clip, as JSON can hold it.
    jobs : processes, one thread each; by default one a core. What is trained alone has all cores.

    What is finished is kept when the rest is interrupted. Raises TrainingError as `tune`.
    """
    folder = opened_cache(cache_folder("encoders"))
    clips = [
        [content_of(one.audio), one.start, one.end, one.corpus, int(truth)]
        for one, truth in zip(examples.mels.utterances, examples.classes, strict=True)
    ]
    tasks = []
    for name, places in folds.items():
        trained_by = {k: v for k, v in asdict(settings).items() if k != "encoder_share"}
        identity = [_VERSION, trained_by, asdict(extent), *made_from, list(examples.labels)]
        path = folder / cache_key(*identity, [clips[place] for place in places])
        tasks.append((examples, places, settings, extent, name, path.with_suffix(".npz")))
    wanted = [task for task in tasks if not task[-1].exists()]
    threads = 1 if len(wanted) > 1 and jobs != 1 else None
    workers = jobs if len(wanted) > 1 else 1
    found = parallel(partial(_tune, threads=threads), wanted, workers, _TITLE, progress, chunk=1)
    with contextlib.closing(found):
        fresh = {task[-1]: one for task, one in zip(wanted, found, strict=True)}
    every = [fresh.get(task[-1]) or task[-1].read_bytes() for task in tasks]
    published = published_encoder(extent, TUNED_FRAMES).state_dict()
    return [_between(published, content, settings.encoder_share) for content in every]


def _between(published: Mapping[str, Tensor], trained: bytes, share: float) -> bytes:
    """The encoder so far from the published weights to those of one that was trained, 0 to 1."""
    encoder = unpacked_encoder(trained)
    state = {
        name: torch.lerp(published[name], values, share)
        for name, values in encoder.state_dict().items()
    }
    encoder.load_state_dict(state)
    return packed_encoder(encoder)


_VERSION = 1  # raise when what is trained changes
_TITLE = "training encoders further"
_Task = tuple[Examples, npt.NDArray[np.int64], EncoderSettings, Extent, str, Path]


def _tune(task: _Task, threads: int | None) -> bytes:
    """Train one and cache it."""
    if threads:
        torch.set_num_threads(threads)
    examples, train, settings, extent, name, path = task
    content = packed_encoder(tune(examples, train, settings, extent, name).encoder)
    if path.parent.is_dir():
        with at_once(path) as new:
            new.write_bytes(content)
    return content


def tune(
    examples: Examples,
    train: npt.NDArray[np.int64],
    settings: EncoderSettings,
    extent: Extent,
    name: str,
) -> Network:
    """Train the published encoder further, on the clips at the places `train`; the last epoch
    counts. It comes back in evaluation mode.

    `name` is of whom progress is told. Raises TrainingError where a class is missing, and as
    `published_encoder`.
    """
    truth = examples.classes[train]
    check_every_class(truth, examples.labels, "training the encoder")
    torch.manual_seed(settings.seed)
    drawn = np.random.default_rng(settings.seed)
    network = Network(published_encoder(extent, TUNED_FRAMES), len(examples.labels)).train()
    parts = [
        {"params": network.encoder.parameters(), "lr": settings.encoder_lr},
        {"params": network.head.parameters(), "lr": _HEAD_LR},
    ]
    optimizer = torch.optim.AdamW(parts, weight_decay=_WEIGHT_DECAY)
    batches = _batches(len(train), settings.encoder_batch)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [settings.encoder_lr, _HEAD_LR],
        total_steps=settings.encoder_epochs * len(batches),
        pct_start=_WARM_UP,
    )
    frames = examples.mels.opened()
    targets, weights = _targets(truth, len(examples.labels)), _weights(examples, train)
    for epoch in range(settings.encoder_epochs):
        began, order, lost, right = monotonic(), drawn.permutation(len(train)), 0.0, 0
        for batch in batches:
            mine = order[batch]
            windows, lengths = _windows(examples.mels, frames, train[mine], drawn)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
                scores = network(windows, lengths)
            losses = nn.functional.cross_entropy(scores.float(), targets[mine], reduction="none")
            loss = (losses * weights[mine]).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # of torch
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            cycle.step()
            lost += float(loss.detach()) * len(mine)
            right += int((scores.detach().argmax(dim=1).numpy() == truth[mine]).sum())
        share, mean = right / int((truth >= 0).sum()), lost / len(train)
        print(  # from whatever process
            f"{name}: epoch {epoch + 1} of {settings.encoder_epochs}, loss {mean:.3f}, "
            f"{100 * share:.0f} % of the clips right, {monotonic() - began:.0f} s",
            file=sys.stderr,
        )
    return network.eval()


def _batches(clips: int, batch: int) -> list[slice]:
    """Of an order of clips; a last one too small to be standardized goes with the one before."""
    starts = list(range(0, clips, batch))
    if len(starts) > 1 and clips - starts[-1] < _LEAST_BATCH:
        starts.pop()
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], clips], strict=True)]


def _targets(truth: npt.NDArray[np.int64], classes: int) -> Tensor:
    """Of clips (n,) the probabilities to learn, (n, classes): smoothed; of no class, all alike."""
    targets = np.full((len(truth), classes), 1 / classes)
    known = np.flatnonzero(truth >= 0)
    targets[known] = _SMOOTHING / classes
    targets[known, truth[known]] += 1 - _SMOOTHING
    return torch.from_numpy(targets.astype(np.float32))


def _weights(examples: Examples, train: npt.NDArray[np.int64]) -> Tensor:
    """Of each clip: all of a class of a corpus weigh the root of their number; 1 on average."""
    utterances = [examples.mels.utterances[place] for place in train]
    weights = np.ones(len(train))
    for _, cell in cells(utterances, examples.classes[train]):
        weights[cell] = 1 / np.sqrt(len(cell))
    return torch.from_numpy((weights / weights.mean()).astype(np.float32))


def _windows(
    mels: LogMels, frames: Float16, places: npt.NDArray[np.int64], drawn: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A window of each clip in one of its variants, (n, 80, frames), and real states, (n,)."""
    variants = mels.ends.shape[1]
    windows = np.empty((len(places), MELS, TUNED_FRAMES), np.float32)
    lengths = np.empty(len(places), np.int64)
    for row, place in enumerate(places):
        variant = 0 if drawn.random() < _CLEAN else int(drawn.integers(variants))
        levels: Float32 = mels.of(frames, int(place), variant).astype(np.float32)
        start = int(drawn.integers(max(0, len(levels) - TUNED_FRAMES) + 1))
        levels = levels[start : start + TUNED_FRAMES]
        window = windows[row]
        fill_window(window, levels)
        if drawn.random() < _MASKED:
            mean = window.mean()
            band = drawn.integers(MELS - _MASK_BANDS)
            window[band : band + drawn.integers(1, _MASK_BANDS + 1)] = mean
            first = drawn.integers(max(1, len(levels) - _MASK_FRAMES))
            window[:, first : first + drawn.integers(1, _MASK_FRAMES)] = mean
        lengths[row] = max(1, len(levels) // STRIDE)
    return torch.from_numpy(windows), torch.from_numpy(lengths)
