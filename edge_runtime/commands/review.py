"""`edge-emotion review`: correct doubtful verdicts by ear, into a manifest that trains."""

from __future__ import annotations

import argparse
import socket
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.commands.common import add_command
from edge_runtime.commands.settings import DEVICE_NAME, effective_settings
from edge_runtime.console import OK
from edge_runtime.errors import EdgeError
from edge_runtime.questions import on_a_terminal
from edge_runtime.settings import Settings, setting

_DESCRIPTION = """\
Plays utterances that `run --keep-audio DIR` has kept, the least certain first, shows words and
verdict, and stores the label that you give: the clip and its row go beside the manifest, as
`record` has it. What is in the manifest already is not asked again.
"""
_EPILOG = """examples:
  edge-emotion run --mic --keep-audio kept --keep-below 0.6 --file heard.jsonl
  edge-emotion review heard.jsonl --audio kept --manifest recordings/manifest.csv
  edge-emotion review heard*.jsonl --audio kept --below 0.5 --play-command 'aplay -q'

1, 2, ... are the labels; k or Enter: the verdict is right; space plays it again; s skips it for
now; d drops it, and deletes its sound; u takes the last one back; q ends
"""


@dataclass(frozen=True)
class ReviewSettings(Settings):
    """Options of `review`."""

    label: str = setting(
        "",
        "Classes, with commas between; unless given, those of the manifest's folder and of the "
        "verdicts.",
        metavar="A,B,...",
    )
    below: float | None = setting(
        None, "Only what is unsure, or has less confidence than this.", minimum=0, maximum=1
    )
    who: str = setting("", "Who spoke, where it was one alone.", metavar="NAME")
    play_command: str | None = setting(
        None,
        "Program that plays a WAV file; unless given, the sound device (extra mic).",
        metavar="COMMAND",
    )
    megabytes: float = setting(
        1000.0, "Size of all clips at most, MB.", minimum=0.1, maximum=1_000_000
    )
    name: str | None = setting(None, DEVICE_NAME)


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = add_command(
        commands,
        "review",
        ReviewSettings,
        review,
        "correct doubtful verdicts by ear, for training",
        _DESCRIPTION,
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "events", nargs="+", type=Path, metavar="EVENTS", help="events of `run`: lines of JSON"
    )
    parser.add_argument(
        "--audio",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder in which `run --keep-audio DIR` has kept the sound",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        default=Path("recordings/manifest.csv"),
        metavar="CSV",
        help="where rows go, and clips beside it (default: recordings/manifest.csv)",
    )


def review(arguments: argparse.Namespace) -> int:
    """Play, ask and store; the exit code."""
    from edge_runtime.collect.collection import Collection, Session, read_about
    from edge_runtime.collect.keyboard import Keyboard
    from edge_runtime.collect.labels import labels_in, speaker_in
    from edge_runtime.collect.play import Player
    from edge_runtime.collect.reviewing import Review, doubts_in, keys_for
    from edge_runtime.collect.screen import Screen

    settings = effective_settings(ReviewSettings, arguments).settings
    if not on_a_terminal():
        raise EdgeError("review asks somebody who listens: start it in a terminal")
    speaker = speaker_in(settings.who)
    folder: Path = arguments.audio.expanduser().absolute()
    manifest: Path = arguments.manifest.expanduser().absolute()
    doubts, left_out = doubts_in(arguments.events, folder, settings.below)
    for why, count in left_out.items():
        print(f"{count} {why}")
    heard = {label for doubt in doubts for label in doubt.scores}
    known = read_about(manifest.parent).get("labels", ())
    every = labels_in(settings.label or ",".join(sorted(heard)), known) if doubts else ()
    labels = labels_in(settings.label) if settings.label else every
    if not doubts:
        raise EdgeError(
            f"no event names sound that is in {folder}: it is kept by edge-emotion run --keep-audio"
        )
    session = Session.now(
        settings.name or socket.gethostname(),
        f"kept in {folder}",
        speaker,
        "not asked here: whoever ran --keep-audio has it",
    )
    screen = Screen(True)
    limit = round(settings.megabytes * 1e6)
    with (
        closing(Player(settings.play_command)) as player,
        Collection(manifest, every, session, limit) as collection,
        Keyboard() as keyboard,
        closing(screen),
    ):
        there = {Path(row["path"]).name for row in collection.rows}
        asked = [doubt for doubt in doubts if doubt.file.name not in there]
        before = f"; {len(doubts) - len(asked)} were reviewed before" if there else ""
        screen.say(f"{len(asked)} to review{before}; clips go to {manifest.parent}")
        for line in keys_for(labels) if asked else ():
            screen.say(line)
        asking = Review(collection, labels, player, keyboard, screen, speaker)
        try:
            asking.ask(asked)
        finally:
            counts = collection.counts
            held = ", ".join(f"{counts[label]} {label}" for label in every)
            screen.say(f"{asking.told}; {manifest} has {held}")
    return OK
