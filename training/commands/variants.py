"""`python -m training variants`: what each variant costs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from edge_runtime.console import OK
from edge_runtime.settings import from_arguments


@dataclass(frozen=True)
class CostSettings:
    """The model whose variants are counted."""

    filters: int = 128
    """Filters per kernel length."""
    hidden: int = 128
    """Width of the hidden dense layer."""
    embedding: int = 50
    """Width of a word embedding."""
    vocabulary: int = 10_000
    """Rows of the embedding table."""
    speaker: int = 512
    """Width of the speaker embedding."""
    frames: int = 750
    """Frames of the utterance, 10 ms each."""
    tokens: int = 128
    """Words of the utterance."""


def variants_command(arguments: argparse.Namespace) -> int:
    """Print what each variant costs."""
    from rich.console import Console
    from rich.table import Table

    from training.network.config import ModelConfig, variants
    from training.network.cost import cost

    shape = from_arguments(CostSettings, arguments)
    table = Table(
        "variant", "head reads", "parameters", "and embeddings", "MMAC", "audio", "text", "att"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name in variants():
        config = ModelConfig(
            variant=name,
            filters=shape.filters,
            hidden=(shape.hidden,),
            embedding=shape.embedding,
            vocabulary=shape.vocabulary,
            speaker=shape.speaker,
        )
        found = cost(config, shape.frames, shape.tokens)
        embeddings = found.parameters.get("embedding", 0)
        table.add_row(
            name,
            f"{found.width:,}",
            f"{found.total_parameters - embeddings:,}",
            f"{embeddings:,}" if embeddings else "-",
            f"{found.total_macs / 1e6:,.1f}",
            *(f"{found.macs.get(p, 0) / 1e6:,.1f}" for p in ("audio", "text", "attention")),
        )
    Console(width=110).print(table)
    print(
        f"one utterance of {shape.frames} frames and {shape.tokens} words; in int8 a parameter is "
        "a byte; the speaker embedding's own encoder is not counted"
    )
    return OK
