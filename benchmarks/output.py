"""What several commands have in common: where they look, and where figures go."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

BUILT_FROM = "the run that the bundle was built from"


def add_bundle(command: argparse.ArgumentParser) -> None:
    """`--bundle`."""
    command.add_argument("--bundle", default="default", help="folder, .zip, or default")


def add_json(command: argparse.ArgumentParser) -> None:
    """`--json`."""
    command.add_argument("--json", type=Path, metavar="F", help="write the figures as JSON")


def add_run(command: argparse.ArgumentParser, whose: str = BUILT_FROM) -> None:
    """`--run`."""
    command.add_argument("--run", type=Path, metavar="RUN", help=whose)


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write figures to `path`, if any. Raises OSError."""
    from training.output import at_once

    if path:
        with at_once(path) as new:
            new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
