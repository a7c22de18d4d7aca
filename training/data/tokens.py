"""Utterances' words to token tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from edge_runtime.tokenizer import FIRST_WORD, PADDING, Tokenizer, is_mark
from training.corpora import Utterance, class_indices
from training.data.batch import Batch

Ids = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


@dataclass(eq=False)
class TextSet:
    """Tokens of the utterances that have words."""

    utterances: list[Utterance]
    """Those with at least one word, in the order given."""
    tokens: list[Ids]
    """Per utterance, its rows of the embedding table."""
    skipped: list[tuple[Utterance, str]]
    """Those without, and why."""
    words: int = 0
    """Words in all."""
    unknown: int = 0
    """Words that are read as the unknown word."""
    cut: int = 0
    """Words beyond the longest text that is read."""
    targets: Float32 | None = None
    """Probabilities (n, classes) to learn in place of the labels; None: the labels."""
    unlabelled: int = 0
    """How many at the end are learned by targets alone; their labels are another corpus's."""


def tokenize(utterances: Sequence[Utterance], tokenizer: Tokenizer) -> TextSet:
    """Tokens of every utterance; texts without a word are skipped and counted."""
    result = TextSet([], [], [])
    for utterance in utterances:
        tokens = tokenizer.encode(utterance.text)
        if len(tokens.ids) == 0:
            result.skipped.append((utterance, "it has no words"))
            continue
        result.utterances.append(utterance)
        result.tokens.append(tokens.ids)
        result.words += len(tokens.ids)
        result.unknown += tokens.unknown
        result.cut += tokens.cut
    return result


def encode(utterances: Sequence[Utterance], tokenizer: Tokenizer) -> list[Ids]:
    """Tokens of every utterance, empty where it has no word."""
    return [tokenizer.encode(utterance.text).ids for utterance in utterances]


class TextDataset(Dataset[tuple[Tensor, int, int]]):
    """(tokens (words,), label index, corpus index) of each text."""

    def __init__(self, texts: TextSet, labels: Sequence[str], corpora: Sequence[str]) -> None:
        self._tokens = texts.tokens
        self._labels = class_indices(texts.utterances, labels)
        self._corpora = [corpora.index(u.corpus) for u in texts.utterances]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return torch.from_numpy(self._tokens[index]), self._labels[index], self._corpora[index]


class SoftTextDataset(Dataset[tuple[tuple[Tensor, Tensor], int, int]]):
    """((tokens (words,), target (classes,)), label index, corpus index) of each text."""

    def __init__(self, texts: TextSet, labels: Sequence[str], corpora: Sequence[str]) -> None:
        assert texts.targets is not None
        self._texts, self._targets = TextDataset(texts, labels, corpora), texts.targets

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, Tensor], int, int]:
        tokens, label, corpus = self._texts[index]
        return (tokens, torch.from_numpy(self._targets[index])), label, corpus


def collate_soft(
    items: Sequence[tuple[tuple[Tensor, Tensor], int, int]],
    read: Callable[[Sequence[tuple[Tensor, int, int]]], Batch],
) -> Batch:
    """What `read` makes of the texts, with their targets."""
    batch = read([(tokens, label, corpus) for (tokens, _), label, corpus in items])
    batch.targets = torch.stack([target for (_, target), _, _ in items])
    return batch


def mark_rows(vocabulary: Sequence[str]) -> Tensor:
    """Rows of the embedding table that stand for marks, int64 (marks,)."""
    rows = [row for row, word in enumerate(vocabulary, FIRST_WORD) if is_mark(word)]
    return torch.tensor(rows, dtype=torch.int64)


def without_marks(tokens: Tensor, marks: Tensor) -> Tensor:
    """Tokens (words,) without the rows `marks`; a text of nothing else stays as it is."""
    plain = tokens[~torch.isin(tokens, marks)]
    return plain if len(plain) else tokens


def collate_text(
    items: Sequence[tuple[Tensor, int, int]],
    marks: Tensor | None = None,
    punctuation_dropout: float = 0.0,
    noise: Callable[[Tensor], Tensor] | None = None,
) -> Batch:
    """Pad texts to the longest, which may be empty.

    `noise` corrupts the tokens (words,) of each text first, such as
    `training.words.asrnoise.AsrNoise`.

    A share `punctuation_dropout` of them, 0 to 1, drawn at random, loses every row in `marks`: a
    model so trained reads written text and what an ASR returns.
    """
    texts = [noise(tokens) if noise and len(tokens) else tokens for tokens, _, _ in items]
    if marks is not None and punctuation_dropout > 0:
        lost = torch.rand(len(texts)) < punctuation_dropout
        texts = [
            without_marks(t, marks) if gone else t for t, gone in zip(texts, lost, strict=True)
        ]
    longest = max(1, *(len(text) for text in texts), 0)
    padded = torch.full((len(texts), longest), PADDING)
    for row, text in enumerate(texts):
        padded[row, : len(text)] = text
    return Batch(
        labels=torch.tensor([label for _, label, _ in items]),
        corpora=torch.tensor([corpus for _, _, corpus in items]),
        tokens=padded,
        words=torch.tensor([len(text) for text in texts]),
    )
