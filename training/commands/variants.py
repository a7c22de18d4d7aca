"""`python -m training variants`: what each variant costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_runtime.console import OK, counted
from edge_runtime.settings import Settings, add_arguments, from_arguments, setting


@dataclass(frozen=True)
class CostSettings(Settings):
    """The model whose variants are counted."""

    filters: int = setting(128, "Filters per kernel length.", minimum=1)
    hidden: int = setting(128, "Width of the hidden dense layer.", minimum=1)
    embedding: int = setting(50, "Width of a word embedding.", minimum=1)
    vocabulary: int = setting(10_000, "Rows of the embedding table.", minimum=2)
    speaker: int = setting(512, "Width of the speaker embedding.", minimum=1)
    frames: int = setting(750, "Frames of the utterance, 10 ms each.", minimum=1)
    tokens: int = setting(128, "Words of the utterance.", minimum=1)


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser("variants", help="parameters and MACs of every variant")
    add_arguments(command, CostSettings)
    command.set_defaults(
        command=lambda arguments: print_variants(from_arguments(CostSettings, arguments))
    )


def print_variants(shape: CostSettings) -> int:
    """Print what each variant costs."""
    from rich.table import Table

    from edge_runtime.terminal import Tables
    from training.network.config import ModelConfig, variants
    from training.network.cost import cost

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
    Tables(110).print(table)
    print(
        f"one utterance of {counted(shape.frames, 'frame')} and {counted(shape.tokens, 'word')}; "
        "in int8 a parameter is a byte; the speaker embedding's own encoder is not counted"
    )
    return OK
