"""Devices an artifact can be made for. One file a target, one line of registration here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from conversion.errors import ConversionError
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import ATTENTION, AUDIO_ENCODER, HEAD, TEXT_ENCODER
from training.data.whisper_encoder import WhisperEncoder
from training.network.model import MscnnSpu

STEP_ROLES = (AUDIO_ENCODER, TEXT_ENCODER, ATTENTION, HEAD)
"""Graphs that stream: all but that of the whole window."""
ALL = "all"  # every target, each in a folder of its name


class Target(ABC):
    """A device class: what it asks of a graph, and how its artifact is made."""

    name: ClassVar[str]
    """As on the command line."""

    @abstractmethod
    def check(self, graph: Path) -> None:
        """Raise ConversionError, naming operation and tensor, if the graph cannot run there."""


class BundleTarget(Target):
    """One whose artifact is a bundle that `edge_runtime` runs, made of a training run."""

    forms: ClassVar[tuple[str, ...]]
    """What its graphs can be, such as int8 or float; the default first."""
    interpreters: ClassVar[Mapping[str, str]]
    """Least versions of what can run its graphs, by distribution: any one of them does."""

    @abstractmethod
    def graphs(self, model: MscnnSpu, work: Path, form: str) -> dict[str, Path]:
        """Write the streaming graphs of `model` into `work`, checked; return them by role.

        Raises ConversionError when a step fails or its numbers leave the bounds.
        """

    @abstractmethod
    def whole(self, model: MscnnSpu, work: Path, form: str) -> Path | None:
        """Write the model as one graph over a window; None where that form has no such graph."""

    @abstractmethod
    def encoder(self, encoder: WhisperEncoder, work: Path, form: str) -> Path:
        """Write the pre-trained encoder of a larger tier."""

    def further(self, graphs: Mapping[str, Path], work: Path, form: str) -> list[Path]:
        """Files beside the graphs that whoever installs them needs; none by default."""
        return []


class DerivedTarget(Target):
    """One whose artifact is made of a finished int8 bundle of `BASE`'s.

    `conversion.artifact.derive` has checked every graph of the bundle, and writes the manifest.
    """

    @abstractmethod
    def ready(self) -> Mapping[str, str]:
        """Versions of the tools it needs, by name.

        Raises MissingToolError, which names the command that installs it, for one that is missing.
        """

    @abstractmethod
    def derive(self, bundle: Bundle, out: Path) -> None:
        """Write the artifact's files into the empty folder `out`, sub-folders among them.

        The same bundle and tools give the same bytes. Raises ConversionError for what fails.
        """


def step_graphs(bundle: Bundle, folder: Path) -> dict[str, Path]:
    """Write the graphs of a bundle that stream into `folder`; return them by role."""
    found = {}
    for role in STEP_ROLES:
        if role in bundle.manifest.graphs:
            found[role] = folder / bundle.manifest.graphs[role].file
            found[role].write_bytes(bundle.contents[role])
    return found


def targets() -> dict[str, Target]:
    """Targets by name; the first is what the others are derived of."""
    from conversion.targets.ethos_u import EthosU
    from conversion.targets.jetson import Jetson
    from conversion.targets.microcontroller import Microcontroller
    from conversion.targets.raspberry_pi import RaspberryPi
    from conversion.targets.wasm import Wasm

    found = (RaspberryPi(), Jetson(), EthosU(), Microcontroller(), Wasm())
    return {target.name: target for target in found}


def target_named(name: str) -> Target:
    """The target of that name; ConversionError lists what there is."""
    by_name = targets()
    if name not in by_name:
        raise ConversionError(f"unknown target {name!r}; there is {', '.join(by_name)}, {ALL}")
    return by_name[name]


def bundle_target(name: str) -> BundleTarget:
    """The target of that name, whose artifact is a bundle. ConversionError for any other."""
    target = target_named(name)
    if not isinstance(target, BundleTarget):
        raise ConversionError(f"the artifact for {name} is no bundle")
    return target
