"""What several commands have in common: where they look, and where figures go."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from edge_runtime.settings import Limits, number
from training.output import at_once, new_file
from training.tiers import SMALL, TIERS

Item = TypeVar("Item")

BUILT_FROM = "the run that the bundle was built from"


def add_bundle(command: argparse.ArgumentParser) -> None:
    """`--bundle`."""
    command.add_argument("--bundle", default="default", help="folder, .zip, or default")


def add_json(command: argparse.ArgumentParser, help: str = "write the figures as JSON") -> None:
    """`--json`."""
    command.add_argument("--json", type=new_file, metavar="F", help=help)


def add_run(command: argparse.ArgumentParser, whose: str = BUILT_FROM) -> None:
    """`--run`."""
    command.add_argument("--run", type=Path, metavar="RUN", help=whose)


def add_count(
    command: argparse._ActionsContainer,
    option: str,
    help: str,
    minimum: int = 1,
    default: int | None = None,
    otherwise: str = "",
) -> None:
    """An option that counts something, from `minimum` on; what stands for it when it is not given.

    `otherwise` says that in words, where there is no `default`.
    """
    known = otherwise if default is None else str(default)
    command.add_argument(
        option,
        type=number(int, Limits(minimum=minimum)),
        default=default,
        metavar="N",
        help=f"{help} (default: {known})" if known else help,
    )


def add_jobs(command: argparse.ArgumentParser) -> None:
    """`--jobs`."""
    add_count(command, "--jobs", "processes at a time", otherwise="one a core")


def add_tier(command: argparse.ArgumentParser, where: str = "") -> None:
    """`--tier`; `where` it counts."""
    command.add_argument(
        "--tier",
        choices=TIERS,
        default=SMALL,
        help=f"{where}whose bundles of the folds: of the model alone (small, the default), or with "
        "a pre-trained encoder, after python -m training pretrained",
    )


def tracked(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
    """`items`, behind a progress bar on standard error that goes when it is done."""
    from rich.console import Console
    from rich.progress import track

    yield from track(items, title, total=total, console=Console(stderr=True), transient=True)


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write figures to `path`, if any. Raises OSError."""
    if path:
        with at_once(path) as new:
            new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
