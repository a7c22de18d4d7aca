"""Clips with words: their own, or, where no corpus has both, drawn by class.

Class-conditional pairing puts a text of the same class, from a text-only corpus, to each clip:
audio and words are independent given the emotion. It is an option that must be asked for, and
whatever is trained or measured that way says so (`PAIRING`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from training.corpora import NEUTRAL, Utterance
from training.data.batch import Batch, collate
from training.data.features import ClipDataset, FeatureSet
from training.data.tokens import Ids, collate_text
from training.errors import TrainingError

PAIRING = (
    "class-conditional pairing: the words of a clip were drawn at random from texts of the same "
    "class; nobody spoke them"
)
"""Class of the texts that tell nothing."""
Item = tuple[tuple[Tensor, int, int], Tensor]


@dataclass(eq=False)
class PairSet:
    """Clips, and for each the texts that may go with it."""

    clips: FeatureSet
    tokens: list[Ids]
    """Rows of the embedding table of every text; empty where a clip has no words."""
    choices: list[npt.NDArray[np.int64]]
    """Per clip, indices into `tokens`: one is drawn each time the clip is seen."""
    neutral: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Indices of texts that go with any clip, whatever its class."""
    neutral_share: float = 0.0
    """How often one of those is drawn."""

    @property
    def utterances(self) -> list[Utterance]:
        """Those of the clips."""
        return self.clips.utterances

    @property
    def skipped(self) -> list[tuple[Utterance, str]]:
        """Clips that could not be read, and why."""
        return self.clips.skipped


def with_own_words(clips: FeatureSet, tokens: list[Ids]) -> PairSet:
    """Each clip with its own words, `tokens` in the order of the clips."""
    return PairSet(clips, tokens, [np.array([index]) for index in range(len(tokens))])


def with_drawn_words(
    clips: FeatureSet, pool: Sequence[Utterance], tokens: list[Ids], neutral_share: float = 0.0
) -> PairSet:
    """Each clip with any text of its class, or, so often, with any that is `NEUTRAL`.

    Most of what people say tells nothing of how they say it: a model that has only heard words that
    tell the class trusts words that tell nothing. `tokens` are in the order of `pool`.
    Raises TrainingError when a class has no text.
    """
    labels = {u.label for u in clips.utterances}
    of_class = _by_class(pool, labels | ({NEUTRAL} if neutral_share else set()))
    choices = [of_class[u.label] for u in clips.utterances]
    if not neutral_share:
        return PairSet(clips, tokens, choices)
    return PairSet(clips, tokens, choices, of_class[NEUTRAL], neutral_share)


def draw_words(
    utterances: Sequence[Utterance], pool: Sequence[Utterance], seed: int
) -> list[Utterance]:
    """`utterances`, each with the text of one of `pool` of its class; the same for a seed.

    Raises TrainingError when a class has no text.
    """
    of_class = _by_class(pool, {u.label for u in utterances})
    rng = np.random.default_rng(seed)
    return [replace(u, text=pool[int(rng.choice(of_class[u.label]))].text) for u in utterances]


class PairDataset(Dataset[Item]):
    """((features (frames, F), label, corpus), tokens (words,)) of each clip.

    In training, clips vary as in `ClipDataset`. Each access draws one of the clip's texts.
    """

    def __init__(
        self, pairs: PairSet, labels: Sequence[str], corpora: Sequence[str], training: bool
    ) -> None:
        self._clips = ClipDataset(pairs.clips, labels, corpora, training)
        self._tokens, self._choices = pairs.tokens, pairs.choices
        self._neutral, self._neutral_share = pairs.neutral, pairs.neutral_share

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Item:
        choices = self._choices[index]
        if self._neutral_share and float(torch.rand(())) < self._neutral_share:
            choices = self._neutral
        pick = int(torch.randint(len(choices), ()))
        return self._clips[index], torch.from_numpy(self._tokens[choices[pick]])


def collate_pairs(
    items: Sequence[Item],
    crop: tuple[int, int] | None = None,
    read: Callable[[list[tuple[Tensor, int, int]]], Batch] = collate_text,
) -> Batch:
    """Pad clips and texts to the longest; `crop` as in `collate`, `read` as `collate_text`."""
    batch = collate([clip for clip, _ in items], crop)
    texts = read([(tokens, 0, 0) for _, tokens in items])
    batch.tokens, batch.words = texts.tokens, texts.words
    return batch


def _by_class(pool: Sequence[Utterance], labels: set[str]) -> dict[str, npt.NDArray[np.int64]]:
    of_class = {
        label: np.array([i for i, u in enumerate(pool) if u.label == label]) for label in labels
    }
    missing = sorted(label for label, indices in of_class.items() if len(indices) == 0)
    if missing:
        raise TrainingError(f"no text of class {', '.join(missing)} to pair with")
    return of_class
