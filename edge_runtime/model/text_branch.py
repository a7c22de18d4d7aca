"""The text branch, running: words in, int8 maps and their statistics out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_runtime.branches import STATISTICS
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError
from edge_runtime.graph import Array
from edge_runtime.manifest import TEXT_ENCODER
from edge_runtime.model.spu import RunningStatistics
from edge_runtime.tokenizer import Tokenizer

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Reading:
    """What the text branch made of an utterance's words."""

    words: int
    """Words that were read, at least one."""
    maps: list[Array]
    """Per scale int8 (1, tokens, filters), the zero point beyond the words."""
    statistics: Float32
    """Max, mean and standard deviation per scale, (scales, 3, filters)."""
    swem: Float32
    """Max and mean of the word embeddings, (2, width) (SWEM, Shen et al. 2018)."""


class TextEncoder:
    """The tokenizer, embedding table and text graph of a bundle.

    Raises BundleError for a bundle whose model reads no words or whose table does not fit, and
    EngineError when the graph cannot be opened.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, engine: str | None = None) -> None:
        part = bundle.manifest.text
        if part is None:
            raise BundleError(f"bundle {bundle.source}: its model reads no words")
        self._table = bundle.embeddings()
        self._tokenizer = Tokenizer(bundle.vocabulary(), part.tokens, part.punctuation)
        self._graph = bundle.open_graph(TEXT_ENCODER, threads, engine)
        self._filters, self._tokens = bundle.manifest.filters, part.tokens
        self._before = part.context[0]
        outputs = self._graph.outputs
        self._zeros = np.repeat([spec.zero_point for spec in outputs], self._filters)
        self._scales = np.repeat([spec.scale or 1.0 for spec in outputs], self._filters)
        window = self._graph.inputs[0]
        self._empty = np.full(window.shape, window.zero_point, window.dtype)
        self._text: str | None = None
        self._reading: Reading | None = None

    def read(self, text: str) -> Reading | None:
        """What the first words of `text` say; None where it has no word.

        The last text is remembered: asking again for the same costs nothing.
        """
        if text != self._text:
            self._text, self._reading = text, self._read(text)
        return self._reading

    def _read(self, text: str) -> Reading | None:
        ids = self._tokenizer.encode(text).ids
        count = len(ids)
        if count == 0:
            return None
        window = self._empty.copy()
        window[0, 0, self._before : self._before + count] = self._table.values[ids]
        maps = [output[0] for output in self._graph(window)]  # (1, tokens, filters) each
        pooled = RunningStatistics(self._zeros.size)
        pooled.update([scale[0, :count] for scale in maps], self._zeros)
        for spec, scale in zip(self._graph.outputs, maps, strict=True):
            scale[:, count:] = spec.zero_point  # attention must find nothing beyond the end
        statistics = pooled.result(self._scales).reshape(STATISTICS, len(maps), self._filters)
        rows = self._table.rows(ids)
        return Reading(
            words=count,
            maps=maps,
            statistics=statistics.transpose(1, 0, 2),
            swem=np.stack([rows.max(axis=0), rows.mean(axis=0)]),
        )
