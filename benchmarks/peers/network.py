"""Networks of other papers, trained on our folds: how each learns, is judged and is timed.

All are judged alike: the very clips and folds of the other peers, whole or as much of them as the
paper takes; the paper's own features, optimizer, batch and loss; balanced classes, as every peer
here has them; one fixed seed; the weights after the last epoch. Nothing is chosen by the test side
of a fold or computed from it, and no clip is augmented.

They train for far less time than in their papers, so that anybody can repeat it on two cores:
without `--epochs`, for as many epochs as make the updates that the peer's file states, never more
than its paper's. A schedule of the learning rate is stretched over the epochs that there are. What
share of the training clips the last epoch got right is told, for a reader to see whether that was
enough.

A fold that has been trained is kept in the cache, by all that its figures depend on, so that what
was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers.fold_pool import Tick, side_by_side
from benchmarks.peers.judging import Cost, Indices, Judged, Side, over_folds
from edge_runtime.errors import AudioError
from edge_runtime.pcm import Float32, Int16
from training.corpora import Utterance
from training.data.cache import (
    cache_folder,
    cache_key,
    kept,
    opened_cache,
    parallel,
    read_cache,
    write_cache,
)
from training.data.folds import Fold

log = logging.getLogger(__name__)

SEED = 0
_CACHE = "networks"  # features and verdicts
_CACHE_VERSION = 1  # raise when the code below changes what a fold's verdicts are
_JUDGED_AT_ONCE = 64  # clips
_BATCH_NORM_EPS, _BATCH_NORM_SHARE = 1e-3, 0.1  # Keras's first; see `keras_layers`


@dataclass(frozen=True)
class Recipe:
    """How a paper trains its network. All functions are importable by name."""

    batch: int
    """Clips at a time."""
    updates: int
    """Of the weights, at least, without `--epochs`."""
    paper_epochs: int
    """What the paper trains for."""
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    """At the learning rate that the paper begins with."""
    loss: Callable[[Tensor, Tensor], Tensor]
    """Logits (B, classes) and classes (B,) to the loss of each clip (B,)."""
    rate: Callable[[int, int], float]
    """Epoch, from 0, and epochs to the factor of the learning rate."""

    def steps(self, clips: int) -> int:
        """Updates in an epoch of so many clips."""
        return math.ceil(clips / self.batch)

    def epochs(self, clips: int) -> int:
        """Epochs over so many clips, where nobody asks for others."""
        return min(self.paper_epochs, math.ceil(self.updates / self.steps(clips)))


@dataclass(frozen=True)
class NetworkPeer:
    """What a peer's file gives: features of a clip, and a network that learns from them."""

    key: str
    """What the command line calls it."""
    name: str
    """What it is called in tables."""
    package: str
    """The module that it needs."""
    install: str
    """How to get that."""
    features: Callable[[Int16], Float32]
    """A clip, int16, 16 kHz, (n,), n > 0, to float32 (frames, F)."""
    version: int
    """Of the file; raise it when what the features are, or how it learns, changes."""
    network: Callable[[int], nn.Module]
    """So many classes to a network: frames (B, T, F), and how many of each clip's are its own (B,)
    or None for all, to logits (B, classes)."""
    recipe: Recipe
    seconds: float | None = None
    """How much of a clip it hears at most; None: all of it."""
    standardized: bool = False
    """Whether each feature is standardized over the frames of the training side."""

    @property
    def protocol(self) -> str:
        """How it learns, one phrase."""
        return "networks of other papers, the last epoch, balanced classes"

    def judge(
        self,
        utterances: Sequence[Utterance],
        plan: Sequence[Fold],
        jobs: int | None,
        epochs: int | None,
    ) -> Judged:
        """Train on the training side of each fold, judge on the test side, by corpus.

        `jobs` are processes at a time, by default one a core, each with one thread; None `epochs`
        are the peer's own. Raises like `over_folds`.
        """
        folder = opened_cache(cache_folder(_CACHE))
        with tempfile.TemporaryDirectory() as work:
            found = extract(self, utterances, jobs, folder)
            clips, heard = Clips.write(found, Path(work) / "frames.npy"), _identities(found)
            del found
            usable = clips.lengths > 0
            notes: list[str] = []

            def learn(sides: list[Side], truth: Indices, classes: int) -> Iterator[Indices]:
                tasks = []
                for side in sides:
                    passes = epochs or self.recipe.epochs(len(side[0]))
                    kept_as = folder / _identity(self, heard, truth, side, classes, passes)
                    tasks.append(FoldTask(self, clips, truth, *side, classes, passes, kept_as))
                updates = sum(task.updates for task in tasks)
                learned = side_by_side(learn_fold, tasks, updates, jobs, self.name)
                notes.append(_note(self.recipe, tasks, [share for share, _ in learned]))
                yield from (guess for _, guess in learned)

            judged = over_folds(self.name, utterances, plan, usable, learn)
        return replace(judged, note=f"{self.name}: {notes[0]}")

    def cost(self, classes: int) -> Cost:
        """Features and the network, float32 in ONNX Runtime, on as much as it hears of 7.5 s."""
        from benchmarks.peers import SECONDS
        from conversion.export import Part, export_part
        from edge_runtime.bench import speechlike_noise
        from edge_runtime.graph import Graph

        frames, width = self.features(speechlike_noise(SECONDS)).shape
        network = self.built(classes, width)
        drawn = torch.Generator().manual_seed(SEED)
        example = torch.randn(1, frames, width, generator=drawn)
        with tempfile.TemporaryDirectory() as work:
            part = Part(network, {"frames": example}, ["logits"])
            path = export_part(self.key, part, Path(work)).path
            file_bytes, graph = path.stat().st_size, Graph(path)
        parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
        return Cost(
            lambda samples: graph(self.features(samples)[np.newaxis]),
            file_bytes,
            self.seconds,
            parameters,
        )

    def built(self, classes: int, width: int) -> nn.Module:
        """The network with its weights drawn, behind what standardizes `width` features."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            network = self.network(classes)
        return Standardized(network, width) if self.standardized else network


class Standardized(nn.Module):
    """A network behind features of mean 0 and deviation 1, once they are known."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Frames (B, T, F) -> logits (B, classes)."""
        logits: Tensor = self.network((frames - self.mean) / self.deviation, lengths)
        return logits


@dataclass(frozen=True, eq=False)
class Clips:
    """Features of all clips, one behind the other in a file that every process reads."""

    path: Path
    lengths: Indices
    """Frames of each clip; 0 for one without features."""

    @classmethod
    def write(cls, found: Sequence[Float32 | None], path: Path) -> Clips:
        """Put the features of each clip, (frames, F), into `path`."""
        lengths = np.array([0 if clip is None else len(clip) for clip in found], np.int64)
        width = next((clip.shape[1] for clip in found if clip is not None), 0)
        rows = (int(lengths.sum()), width)
        if rows[0]:
            frames = np.lib.format.open_memmap(path, "w+", np.float32, rows)  # type: ignore[no-untyped-call]
            np.concatenate([clip for clip in found if clip is not None], out=frames)
            frames.flush()
        return cls(path, lengths)

    def read(self) -> list[Float32]:
        """The features of each clip, (frames, F), still on disk."""
        frames = np.load(self.path, mmap_mode="r")
        return np.split(frames, np.cumsum(self.lengths)[:-1])


@dataclass(frozen=True, eq=False)
class FoldTask:
    """What one fold's training is made from."""

    peer: NetworkPeer
    clips: Clips
    truth: Indices
    """Class of each clip."""
    train: Indices
    test: Indices
    classes: int
    epochs: int
    verdicts: Path
    """Where they are kept."""

    @property
    def updates(self) -> int:
        """Of the weights."""
        return self.epochs * self.peer.recipe.steps(len(self.train))


def extract(
    peer: NetworkPeer,
    utterances: Sequence[Utterance],
    jobs: int | None = None,
    folder: Path | None = None,
) -> list[Float32 | None]:
    """Features of the whole clip of each utterance, from the cache where they are known.

    None for a clip that cannot be read, holds nothing, or is text only.
    """
    folder = opened_cache(folder or cache_folder(_CACHE))
    tasks = [(utterance, peer, folder) for utterance in utterances]
    result: list[Float32 | None] = []
    outcomes = parallel(_extract_one, tasks, jobs, f"{peer.name}, features")
    for utterance, outcome in zip(utterances, outcomes, strict=True):
        if isinstance(outcome, str):
            log.warning("no features of %s for %s: %s", utterance.path, peer.name, outcome)
            result.append(None)
        else:
            result.append(outcome)
    return result


def _extract_one(task: tuple[Utterance, NetworkPeer, Path]) -> Float32 | str:
    """The features of one clip, or why it has none."""
    utterance, peer, folder = task
    if utterance.path is None:
        return "text only"
    try:
        frames = kept(
            folder,
            utterance,
            lambda samples: peer.features(samples) if samples.size else None,
            *(peer.key, peer.version),
        )
    except (AudioError, OSError) as error:
        return str(error)
    return "it is empty" if frames is None else frames


def learn_fold(task: FoldTask, tick: Tick) -> tuple[float, Indices]:
    """Train and judge one fold, unless its verdicts are known.

    Returns the share of its training clips that were right in the last epoch, and the class
    predicted for each of the test side.
    """
    known = read_cache(task.verdicts)
    if known is None:
        clips = task.clips.read()
        with _one_thread():
            network, share = fit(task, clips, tick)
            guess = predict(network, [clips[i] for i in task.test])
        known = np.array([share, *guess], np.float32)
        write_cache(task.verdicts, known)
    else:
        for _ in range(task.updates):
            tick()
    return float(known[0]), known[1:].astype(np.int64)


def fit(task: FoldTask, clips: Sequence[Float32], tick: Tick) -> tuple[nn.Module, float]:
    """The network after the last epoch, and the share of clips that were right during that."""
    peer, recipe = task.peer, task.peer.recipe
    network = peer.built(task.classes, clips[task.train[0]].shape[1])
    if isinstance(network, Standardized):
        mean, deviation = _frame_statistics([clips[i] for i in task.train])
        network.mean.copy_(torch.from_numpy(mean))
        network.deviation.copy_(torch.from_numpy(deviation))
    counts = np.bincount(task.truth[task.train], minlength=task.classes)
    present = np.maximum(counts, 1)
    weights = torch.from_numpy((len(task.train) / (counts > 0).sum() / present).astype(np.float32))
    optimizer = recipe.optimizer(network)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda epoch: recipe.rate(min(epoch, task.epochs - 1), task.epochs)
    )
    drawn = np.random.default_rng(SEED)
    network.train()
    right = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)  # dropout
        for _ in range(task.epochs):
            right = 0
            order = drawn.permutation(task.train)
            # As even as can be: batch normalization has no use for a last batch of one.
            for chosen in np.array_split(order, recipe.steps(len(order))):
                frames, lengths = batch([clips[i] for i in chosen])
                truth = torch.from_numpy(task.truth[chosen])
                logits = network(frames, lengths)
                loss = (weights[truth] * recipe.loss(logits, truth)).mean()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                right += int((logits.argmax(dim=1) == truth).sum())
                tick()
            schedule.step()
    return network, right / len(task.train)


def predict(network: nn.Module, clips: Sequence[Float32]) -> Indices:
    """The class of each clip, (clips,)."""
    network.eval()
    found = []
    with torch.inference_mode():
        for first in range(0, len(clips), _JUDGED_AT_ONCE):
            frames, lengths = batch(clips[first : first + _JUDGED_AT_ONCE])
            found.append(network(frames, lengths).argmax(dim=1).numpy())
    return np.concatenate(found)


def batch(clips: Sequence[Float32]) -> tuple[Tensor, Tensor]:
    """Clips (frames, F) -> frames (B, T, F), with zeros behind a clip's own, and these (B,)."""
    lengths = [len(clip) for clip in clips]
    frames = np.zeros((len(clips), max(lengths), clips[0].shape[1]), np.float32)
    for row, clip in zip(frames, clips, strict=True):
        row[: len(clip)] = clip
    return torch.from_numpy(frames), torch.tensor(lengths)


def keras_layers(network: nn.Module) -> None:
    """Begin as Keras does: Glorot's uniform weights, no bias, batch normalization with its epsilon.

    Its running statistics move by 0.01 a batch, which is too slow for the few batches here: they
    move by 0.1, as PyTorch's do.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.eps, layer.momentum = _BATCH_NORM_EPS, _BATCH_NORM_SHARE


def _frame_statistics(clips: Sequence[Float32]) -> tuple[Float32, Float32]:
    """Mean and deviation of each feature over all frames, float32 (F,)."""
    frames = sum(len(clip) for clip in clips)
    mean = sum(clip.sum(axis=0, dtype=np.float64) for clip in clips) / frames
    variance = sum(((clip - mean) ** 2).sum(axis=0) for clip in clips) / frames
    return np.asarray(mean, np.float32), np.sqrt(np.maximum(variance, 1e-8)).astype(np.float32)


def _identities(found: Sequence[Float32 | None]) -> list[str]:
    """What each clip's features are, in hexadecimal."""
    return [hashlib.sha256(b"" if clip is None else clip.tobytes()).hexdigest() for clip in found]


def _identity(
    peer: NetworkPeer,
    heard: Sequence[str],
    truth: Indices,
    side: Side,
    classes: int,
    epochs: int,
) -> str:
    """The file of the verdicts of a fold, by all that they are made from."""
    train, test = side
    lessons = [[heard[i], int(truth[i])] for i in train]
    made_from = [lessons, [heard[i] for i in test], classes, epochs, SEED, torch.__version__]
    return cache_key(_CACHE_VERSION, peer.key, peer.version, *made_from)


def _note(recipe: Recipe, tasks: Sequence[FoldTask], shares: Sequence[float]) -> str:
    """How long the folds trained and what they got right of their training clips."""
    epochs, updates = ([getattr(task, name) for task in tasks] for name in ("epochs", "updates"))
    right = [round(100 * share) for share in shares]
    return (
        f"{_range(epochs)} epochs (its paper: {recipe.paper_epochs}), {_range(updates)} updates a "
        f"fold; {_range(right)} % of the training clips right in the last epoch"
    )


def _range(values: Sequence[int]) -> str:
    first, last = min(values), max(values)
    return str(first) if first == last else f"{first} to {last}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Folds are side by side already, and sums of several threads go by another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
