"""Whether a bundle is made for what runs here: its targets, and the versions that it needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edge_runtime import __version__
from edge_runtime.errors import BundleError
from edge_runtime.untrusted import shown

TARGETS = ("raspberry-pi", "jetson")
"""Targets whose bundles this version runs, on any machine that has an interpreter for the graphs.
A manifest that names none is older than the second of them, and made for the first."""
OURS = "edge-emotion"
_RELEASE = re.compile(r"\d{1,9}(\.\d{1,9}){0,5}")
_TEGRA = Path("/etc/nv_tegra_release")  # what NVIDIA's Linux for Jetson boards has


def here() -> str:
    """The target of this machine: jetson on one of its boards, else raspberry-pi."""
    return TARGETS[1] if _TEGRA.exists() else TARGETS[0]


def build_command(target: str) -> str:
    """What builds a bundle for `target`, in a checkout on a workstation."""
    return f"python -m conversion build RUN --out BUNDLE --target {target}"


def release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with, without zeros at the end; () where it has none."""
    found = _RELEASE.match(version)
    numbers = [int(number) for number in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def check_made_for(raw: Any, path: Path) -> None:
    """Look at a manifest before the rest of it is: one for other targets has other fields.

    Raises BundleError, in one line, for a bundle of other targets than `TARGETS`, and for one that
    needs a newer edge-emotion.
    """
    if not isinstance(raw, dict):
        return
    targets, runtime = raw.get("targets"), raw.get("runtime")
    if isinstance(targets, list) and targets and not set(TARGETS) & set(map(str, targets)):
        made = ", ".join(shown(target) for target in targets[:3])
        raise BundleError(
            f"bundle {path}: it is made for {made}, and edge-emotion runs those for "
            f"{' and '.join(TARGETS)}: {build_command(here())} builds one for here"
        )
    least = runtime.get(OURS) if isinstance(runtime, dict) else None
    if isinstance(least, str) and release(least) > release(__version__):
        raise BundleError(
            f"bundle {path}: it needs edge-emotion {shown(least)} or newer, this is {__version__}: "
            f"pip install --upgrade edge-emotion, or with this version {build_command(here())}"
        )
