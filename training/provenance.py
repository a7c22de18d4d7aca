"""What made a figure: our version and revision, and the versions of what it rests on."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

from edge_runtime import __version__

_TOOLS = (
    "torch",
    "lightning",
    "numpy",
    "scipy",
    "scikit-learn",
    "soundfile",
    "soxr",
    "webrtcvad-wheels",
    "onnx2tf",
    "ai-edge-quantizer",
)


def provenance() -> dict[str, Any]:
    """Version, git revision and tools, as run.json, crossval.json and table.json keep them.

    `revision` is None outside of a git checkout, and ends in "+changes" where files differ from it.
    """
    return {
        "edge_emotion": __version__,
        "revision": _revision(Path(__file__).parent),
        "python": sys.version.split()[0],
        "versions": {tool: version for tool in _TOOLS if (version := _version(tool)) is not None},
    }


def _version(tool: str) -> str | None:
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return None


def _revision(folder: Path) -> str | None:
    try:
        found = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return found + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    return done.stdout.strip()
