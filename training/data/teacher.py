"""A speaker encoder as teacher: its states over time are a second target of the audio maps.

The encoder is Resemblyzer's (Apache-2.0): the LSTM of "Generalized End-to-End Loss for Speaker
Verification" (Wan et al. 2018), trained on thousands of speakers, its weights in its wheel. What
its second layer knows of a voice carries over to speakers that an emotion corpus lacks. A linear
probe on the audio maps learns to predict those states (knowledge distillation by hints, Romero et
al. 2015, arXiv 1412.6550); encoder and probe stay on the workstation.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from edge_runtime.audio.file import READER_VERSION, read_file
from edge_runtime.pcm import SAMPLE_RATE, Float32, Int16
from edge_runtime.segment import speech_of
from training.corpora import Utterance
from training.data.augment import Augmentation, augment
from training.data.batch import Batch, collate
from training.data.cache import cache_folder, parallel, read_cache, write_cache
from training.data.features import FeatureSet, FeatureSettings, opened_cache
from training.errors import TrainingError

Int8 = npt.NDArray[np.int8]

STATES = 256  # width of a layer of the encoder
_LAYERS = 2  # the second of three: what comes later is about the speaker alone
_MELS, _FFT, _HOP = 40, 400, 160  # the encoder's own features, at 16 kHz
_LEVEL_DB = -30.0  # quieter clips are raised to this RMS level, relative to full scale
_FULL_SCALE = 32768  # of int16
_STEPS = 127  # states lie between -1 and 1; int8 steps to 1
_CACHE_VERSION = 1  # raise when the code below changes what `states_of` computes
_PACKAGE, _WEIGHTS = "Resemblyzer", "resemblyzer/pretrained.pt"


class StateProbe(nn.Module):
    """Linear prediction of the teacher's standardized states from the maps of all scales."""

    mean: Tensor
    std: Tensor

    def __init__(self, maps: int, states: Sequence[Int8]) -> None:
        """`maps` is the width of all maps of a step; `states` (frames, STATES) are typical ones."""
        super().__init__()
        known = np.concatenate(states).astype(np.float32) / _STEPS
        self.linear = nn.Linear(maps, STATES)
        self.register_buffer("mean", torch.from_numpy(known.mean(axis=0)))
        self.register_buffer("std", torch.from_numpy(known.std(axis=0) + 1e-3))

    def forward(self, maps: list[Tensor], mask: Tensor, states: Tensor) -> Tensor:
        """Mean squared error over the valid steps, 1 for a probe that knows nothing.

        Maps per scale (B, P, C), mask (B, P), states (B, P, STATES).
        """
        found = self.linear(torch.cat(maps, dim=2))
        error = ((found - (states - self.mean) / self.std) ** 2).mean(dim=2)
        loss: Tensor = (error * mask).sum() / mask.sum()
        return loss


class TaughtDataset(Dataset[tuple[Tensor, int, int]]):
    """Training clips as `ClipDataset` draws them, the teacher's states behind the features.

    (features + STATES columns (frames, F + STATES), label index, corpus index)
    """

    def __init__(self, features: FeatureSet, labels: Sequence[str], corpora: Sequence[str]) -> None:
        assert features.states is not None
        self._variants, self._states = features.variants, features.states
        self._labels = [labels.index(u.label) for u in features.utterances]
        self._corpora = [corpora.index(u.corpus) for u in features.utterances]
        self._shares = torch.tensor(features.shares)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        pick = int(torch.multinomial(self._shares, 1))
        states = self._states[index][pick].astype(np.float32) / _STEPS
        both = np.concatenate([self._variants[index][pick], states], axis=1)
        return torch.from_numpy(both), self._labels[index], self._corpora[index]


def collate_taught(items: Sequence[tuple[Tensor, int, int]], crop: tuple[int, int]) -> Batch:
    """`collate`, then features and states apart: the states go into `Batch.states`."""
    batch = collate(items, crop)
    assert batch.features is not None
    both = batch.features
    batch.features, batch.states = both[:, :, :-STATES], both[:, :, -STATES:]
    return batch


def states_of(samples: Int16) -> Int8:
    """The teacher's states over a clip, a row every 10 ms, times 127: int8 (n // 160, STATES).

    `samples` are int16, mono, 16 kHz, (n,). Raises TrainingError without Resemblyzer or librosa.
    """
    return _states([samples])[0]


def teach(
    features: FeatureSet,
    settings: FeatureSettings,
    augmentations: Sequence[Augmentation],
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Give `features`, made with these settings and augmentations, the teacher's states.

    They are kept in the cache, 256 bytes a frame. `workers` are processes, one per core by default;
    1 stays in this process. Raises TrainingError without Resemblyzer or librosa.
    """
    weights()
    folder = opened_cache(cache_folder("teacher"))
    tasks = [
        (utterance, [len(v) for v in variants], settings, tuple(augmentations), folder)
        for utterance, variants in zip(features.utterances, features.variants, strict=True)
    ]
    features.states = list(parallel(_teach_one, tasks, workers, "asking the teacher", progress))


def weights() -> Path:
    """The encoder's weights in the installed package; TrainingError without it or librosa."""
    try:
        path = Path(str(importlib.metadata.distribution(_PACKAGE).locate_file(_WEIGHTS)))
        importlib.metadata.version("librosa")
    except importlib.metadata.PackageNotFoundError as error:
        raise TrainingError(
            f"--teacher needs {error.name}; pip install librosa, then pip install --no-deps "
            f"{_PACKAGE}"
        ) from None
    return path


_Task = tuple[Utterance, list[int], FeatureSettings, tuple[Augmentation, ...], Path]


def _teach_one(task: _Task) -> list[Int8]:
    """States of every variant of a clip, as many frames as its features have."""
    utterance, lengths, settings, augmentations, folder = task
    content = hashlib.sha256(utterance.audio.read_bytes()).hexdigest()
    identity = json.dumps(
        [
            _CACHE_VERSION,
            READER_VERSION,
            content,
            utterance.start,
            utterance.end,
            asdict(settings.segment),
            settings.trim,
            [a.identity() for a in augmentations],
        ],
        sort_keys=True,
    )
    path = folder / (hashlib.sha256(identity.encode()).hexdigest() + ".npy")
    joined = read_cache(path)
    if joined is None:
        samples = read_file(utterance.audio, utterance.start, utterance.end)
        varied = [augment(samples, a, int(content[:8], 16)) for a in augmentations]
        if settings.trim:
            varied = [speech_of(v, settings.segment) for v in varied]
        states = _states(varied)
        joined = np.concatenate([_as_long(s, n) for s, n in zip(states, lengths, strict=True)])
        write_cache(path, joined)
    return np.split(np.asarray(joined, np.int8), np.cumsum(lengths)[:-1])


def _as_long(states: Int8, frames: int) -> Int8:
    """Cut to `frames` rows, or with the last one repeated."""
    missing = max(0, frames - len(states))
    return np.concatenate([states, np.repeat(states[-1:], missing, axis=0)])[:frames]


@torch.no_grad()
def _states(clips: Sequence[Int16]) -> list[Int8]:
    mels = [torch.from_numpy(_mels(clip)) for clip in clips]
    padded = nn.utils.rnn.pad_sequence(mels, batch_first=True)
    states, _ = _encoder()(padded)
    return [
        np.rint(rows[: len(mel)].numpy() * _STEPS).astype(np.int8)
        for rows, mel in zip(states, mels, strict=True)
    ]


def _mels(samples: Int16) -> Float32:
    """The encoder's own features, as Resemblyzer computes them: (max(1, n // 160), 40).

    Its first frame is centred at the first sample, that of an MFCC 12.5 ms later: it is left out.
    """
    import librosa

    signal = samples.astype(np.float32) / _FULL_SCALE
    level = 10 * math.log10(max(float(np.mean(signal**2)), 1e-12)) if signal.size else 0.0
    signal = signal * np.float32(10 ** (max(0.0, _LEVEL_DB - level) / 20))
    power = librosa.feature.melspectrogram(
        y=signal, sr=SAMPLE_RATE, n_fft=_FFT, hop_length=_HOP, n_mels=_MELS
    )
    frames = np.asarray(power.T, np.float32)
    return frames[1:] if len(frames) > 1 else frames


@lru_cache(maxsize=1)
def _encoder() -> nn.LSTM:
    """The first layers of the encoder's LSTM."""
    state = torch.load(weights(), map_location="cpu", weights_only=True)["model_state"]
    encoder = nn.LSTM(_MELS, STATES, _LAYERS, batch_first=True)
    encoder.load_state_dict({name: state[f"lstm.{name}"] for name in encoder.state_dict()})
    return encoder.eval()
