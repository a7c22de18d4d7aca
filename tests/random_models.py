"""Models that read, with random weights: their bundles, and what they are shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from conversion.bundle import build
from conversion.targets import bundle_target
from edge_runtime import load_bundle
from edge_runtime.bundle import Bundle
from edge_runtime.mfcc import mfcc
from edge_runtime.tokenizer import FIRST_WORD, Tokenizer
from training.data.features import FeatureSettings
from training.evaluate.predict import predict
from training.network.config import ModelConfig
from training.network.fakequant import Phase, set_phase
from training.network.model import MscnnSpu
from training.run import Run

SAID = ["kids", "are", "talking", "by", "the", "door", "thank", "you"]
VOCABULARY = [*SAID, *(f"w{a}{b}" for a in "abcdefgh" for b in "abcdefgh")]


@dataclass
class Case:
    """A model with random weights, its bundle, and what it is shown."""

    run: Run
    bundle: Bundle
    path: Path
    sounds: list[npt.NDArray[np.int16]]
    texts: list[str]

    def inputs(self, hear: bool = True, read: bool = True) -> tuple[object, object]:
        """Features and tokens of all examples; None for what the model does not take."""
        config = self.run.config
        tokenizer = Tokenizer(VOCABULARY, config.tokens, config.punctuation)
        features = [mfcc(sound) for sound in self.sounds]
        tokens = [tokenizer.encode(text).ids for text in self.texts]
        return (
            features if hear and config.parts.audio else None,
            tokens if read and config.parts.text else None,
        )

    def logits(self, phase: Phase, hear: bool = True, read: bool = True) -> npt.NDArray[np.float32]:
        """What torch computes, (n, classes)."""
        return predict(self.run.model(phase), *self.inputs(hear, read))  # type: ignore[arg-type]


def random_case(config: ModelConfig, path: Path, keywords: Path | None = None) -> Case:
    """A model of the shape of `config`, converted into the bundle `path`.

    It hears on one grid of maps, as the model in PyTorch does.
    """
    torch.manual_seed(1)
    rng = np.random.default_rng(0)
    config = replace(
        config,
        filters=24,
        hidden=(16,),
        vocabulary=FIRST_WORD + len(VOCABULARY),
        embedding=10,
    )
    envelope = np.abs(np.sin(np.arange(24_000) / 2500))
    sounds = [(3000 * envelope * rng.standard_normal(24_000)).astype(np.int16) for _ in range(8)]
    counts = [1, 2, 5, 9, 14, 25, 60, 140]  # the last is cut
    texts = [" ".join(rng.choice([*VOCABULARY, "unheardof"], count)) for count in counts]
    model = MscnnSpu(config)
    if config.parts.audio:
        frames = np.concatenate([mfcc(sound) for sound in sounds])
        model.feature_mean.copy_(torch.from_numpy(frames.mean(axis=0)))
        model.feature_std.copy_(torch.from_numpy(frames.std(axis=0)))
    run = Run(config, FeatureSettings(), {}, {}, vocabulary=VOCABULARY)
    examples = Case(run, None, Path(), sounds, texts)  # type: ignore[arg-type]
    given = examples.inputs()
    model.standardize.momentum = None
    model.train()
    predict(model, *given)  # type: ignore[arg-type]
    model.eval()
    set_phase(model, Phase.OBSERVE)
    predict(model, *given)  # type: ignore[arg-type]
    run.weights = run.float_weights = model.state_dict()
    examples.path = path
    target = bundle_target("raspberry-pi")
    build(run, path, target, "words", keywords=keywords, phases=1, allow_loss=True)
    examples.bundle = load_bundle(path)
    return examples
