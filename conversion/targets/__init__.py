"""Devices a bundle can be made for. One file a target, one line of registration here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from conversion.errors import ConversionError


class Target(Protocol):
    """What a device class asks of a graph."""

    name: str
    """As on the command line."""

    def check(self, graph: Path) -> None:
        """Raise ConversionError if the int8 graph at `graph` cannot run there."""
        ...


def targets() -> dict[str, Target]:
    """Targets by name."""
    from conversion.targets.raspberry_pi import RaspberryPi

    return {target.name: target for target in (RaspberryPi(),)}


def target_named(name: str) -> Target:
    """The target of that name; ConversionError lists what there is."""
    by_name = targets()
    if name not in by_name:
        raise ConversionError(f"unknown target {name!r}; there is {', '.join(by_name)}")
    return by_name[name]
