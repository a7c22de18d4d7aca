"""Sizes on which training, conversion and the device agree: of the head, of a window of words."""

from __future__ import annotations

from collections.abc import Sequence

STATISTICS = 3  # max, mean and standard deviation of each filter
SWEM = 2  # max and mean of the word embeddings


def branch_widths(
    *,
    filters: int,
    audio_scales: int = 0,
    text_scales: int = 0,
    queries: int = 0,
    embedding: int = 0,
    speaker: int = 0,
) -> dict[str, int]:
    """What the head reads, in its order: name of the branch to its width; none of width 0.

    Parameters
    ----------
    filters : filters per kernel length, of audio and text alike.
    audio_scales, text_scales : kernel lengths of each encoder; 0 for a model without it.
    queries : audio vectors that attend to each text scale; 0 without attention.
    embedding : width of a word embedding where max and mean of them join the head, else 0.
    speaker : width of the speaker embedding that joins the head; 0 for none.
    """
    widths = {
        "audio": audio_scales * STATISTICS * filters,
        "text": text_scales * STATISTICS * filters,
        "attention": text_scales * queries * filters,
        "swem": SWEM * embedding,
        "speaker": speaker,
    }
    return {name: width for name, width in widths.items() if width}


def query_count(audio_scales: int, pairs: str) -> int:
    """Audio vectors that attend to each text scale, with `pairs` "all" or "matched"."""
    return STATISTICS * (audio_scales if pairs == "all" else 1)


def text_context(kernels: Sequence[int]) -> tuple[int, int]:
    """Words before the first and after the last one that kernels of these lengths reach.

    An even kernel leans to the words to come: it sees (k - 1) // 2 before a word, k // 2 after it.
    """
    return (max(kernels) - 1) // 2, max(kernels) // 2
