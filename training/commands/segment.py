"""`python -m training segment`: long clips become a manifest of their utterances."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.collect.recording import SHORTEST
from edge_runtime.console import OK, counted
from edge_runtime.settings import add_arguments, from_arguments, setting
from training.commands.common import CLASSES, FOUR, add_corpora

if TYPE_CHECKING:
    from training.adapt.long_clips import Cut

_NORMAL = "normal"
_SHOWN = 5  # clips that are named


@dataclass(frozen=True)
class SegmentRecipe:
    """How long clips are cut."""

    out: Path = setting(Path("segments.csv"), "Manifest to write; none is replaced.", metavar="CSV")
    classes: str = setting(FOUR, CLASSES, metavar="MAP")
    bundle: str = setting(
        "default", "Bundle whose end-pointing cuts: a folder, a .zip, or default."
    )
    sensitivity: str = setting(
        _NORMAL,
        "What counts as speech, as for edge-emotion run.",
        choices=("low", _NORMAL, "high"),
    )
    jobs: int | None = setting(
        None, "Processes that hear clips (default: one a core).", metavar="N", minimum=1
    )


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "segment",
        help="cut clips longer than 30 s to their utterances",
        description="Write a manifest in which each clip longer than 30 s is the utterances in it, "
        "by start and end, where a device would end them. Audio files stay as they are, shorter "
        "clips too. Each utterance has the label of its clip, which need not be true of it: "
        "listen to them. What was written down of a clip's words is left out.",
    )
    add_corpora(command)
    add_arguments(command, SegmentRecipe)
    command.set_defaults(command=_run)


def command_for(corpora: Sequence[str], classes: str) -> str:
    """What to type to have the long clips of these corpora, NAME=PATH each, cut."""
    _, _, path = corpora[0].partition("=")
    stem = Path(path).with_suffix("")
    taken = (Path(f"{stem}-{number}.csv") for number in ["cut", *range(2, 100)])
    out = next(path for path in taken if not path.expanduser().exists())
    mapped = ["--classes", classes] if classes != FOUR else []
    return f"python -m training segment {shlex.join([*corpora, *mapped, '--out', str(out)])}"


def _run(arguments: argparse.Namespace) -> int:
    from edge_runtime.bundle import load_bundle
    from training.adapt.long_clips import cut_long
    from training.corpora import load_corpora, manifest
    from training.corpora.class_map import open_classes
    from training.errors import TrainingError
    from training.output import at_once

    recipe = from_arguments(SegmentRecipe, arguments)
    if recipe.out.exists():
        raise TrainingError(f"{recipe.out} is there already: name another by --out, or delete it")
    params = load_bundle(recipe.bundle).manifest.segment.sensitive(recipe.sensitivity)
    found = load_corpora(arguments.corpora, classes=open_classes(recipe.classes))
    utterances = [u for part in found.values() for u in part.utterances]
    cut = cut_long(utterances, params, recipe.jobs)
    with at_once(recipe.out) as new:
        manifest.write(new, cut.utterances)
    _tell(cut, recipe.out)
    return OK


def _tell(cut: Cut, out: Path) -> None:
    for what, clips in (("no speech in", cut.empty), ("left out", cut.failed)):
        if clips:
            more = ", ..." * (len(clips) > _SHOWN)
            names = ", ".join(str(clip.path) for clip in clips[:_SHOWN])
            logging.warning("%s %s: %s%s", what, counted(len(clips), "clip"), names, more)
    too_short = f", {cut.short} shorter than {SHORTEST:g} s left out" * bool(cut.short)
    print(
        f"{out}: {counted(cut.parts, 'utterance')} of {counted(cut.long, 'long clip')}"
        f"{too_short}; {counted(cut.as_they_were, 'clip')} as before"
    )
    if cut.parts:
        print("each utterance has the label of its clip: listen to them, and correct what is not")
    print(f"next: python -m training adapt {shlex.quote(f'manifest={out}')}")
