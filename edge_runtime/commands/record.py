"""`edge-emotion record`: labelled clips of one's own speech, for training."""

from __future__ import annotations

import argparse
import socket
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.bundle import DEFAULT, load_bundle
from edge_runtime.commands.common import add_command, asked_source, open_live
from edge_runtime.commands.settings import (
    BUNDLE,
    DEVICE_NAME,
    SourceSettings,
    effective_settings,
)
from edge_runtime.console import OK, PROGRAM, counted
from edge_runtime.errors import EdgeError
from edge_runtime.questions import Questions, on_a_terminal
from edge_runtime.segment import NORMAL, SENSITIVITIES
from edge_runtime.settings import Settings, group, setting
from edge_runtime.update.settings import TrustSettings

_DESCRIPTION = """\
Asks for one class after the other, and stores what is said then: a clip for each utterance, cut as
the device itself cuts it, with a manifest that trains. The same folder can be gone on with later,
by other people too. Nothing is stored before somebody agrees, and nothing leaves this device.
"""
_EPILOG = """examples:
  edge-emotion record --label angry,neutral           ask, and store clips in ./recordings
  edge-emotion record kitchen --label calm,stressed --who anna --count 20
  edge-emotion record kitchen --who ben                the same labels again, another voice
  edge-emotion record --mic-command 'arecord -q -f S16_LE -r 16000 -t raw'
  edge-emotion devices --meter                         is it loud enough?

in a terminal: 1, 2, ... give the last clip another label, d drops it, s asks for another class,
p pauses, q ends. Without a terminal: --count N --consent; so with --stdin, which is the keyboard.
"""
_CONSENT = """\
What is said here is recorded: each utterance is stored as sound in
{folder}
on this device, with the emotion that was asked for and {who},
to train a classifier of emotion. Nothing is sent anywhere. A clip is deleted
with d while recording, all of it with that folder.\
"""


@dataclass(frozen=True)
class RecordSettings(Settings):
    """Options of `record`."""

    label: str = setting(
        "",
        "Classes that are asked for, with commas between; unless given, those of the folder.",
        metavar="A,B,...",
    )
    who: str = setting(
        "",
        "Who speaks: a name or a number, the same each time; it lets training be tried on voices "
        "that it has not heard.",
        metavar="NAME",
    )
    count: int | None = setting(
        None,
        "Clips that each class is to have in the folder; unless given, until q or Ctrl-C.",
        minimum=1,
        maximum=100_000,
    )
    consent: bool = setting(
        False, "Say that whoever can be heard has agreed; then nobody is asked."
    )
    megabytes: float = setting(
        1000.0, "Size of all clips at most, MB.", minimum=0.1, maximum=1_000_000
    )
    name: str | None = setting(None, DEVICE_NAME)
    bundle: str = setting(DEFAULT, BUNDLE + " It says when an utterance ends.")
    trust: TrustSettings = group(TrustSettings())
    sensitivity: str = setting(
        NORMAL, "What counts as speech, as for `run`.", choices=SENSITIVITIES
    )
    source: SourceSettings = group(SourceSettings())


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = add_command(
        commands,
        "record",
        RecordSettings,
        record,
        "record labelled clips of one's own, for training",
        _DESCRIPTION,
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("recordings"),
        metavar="FOLDER",
        help="where clips and manifest go, made where it is missing (default: recordings)",
    )


def record(arguments: argparse.Namespace) -> int:
    """Ask, listen and store; the exit code."""
    from edge_runtime.collect.collection import MANIFEST, Collection, Session, read_about
    from edge_runtime.collect.keyboard import Keyboard
    from edge_runtime.collect.labels import labels_in, speaker_in
    from edge_runtime.collect.recording import Plan, Recording, keys_for
    from edge_runtime.collect.screen import Screen

    found = effective_settings(RecordSettings, arguments)
    settings = found.settings
    kind, heard = asked_source(found, "mic")
    folder: Path = arguments.folder.expanduser().absolute()
    known = read_about(folder).get("labels", ())
    # Those that are named now are asked for; the folder's own are spelled alike.
    every = labels_in(settings.label, known)
    wanted = labels_in(settings.label) if settings.label else every
    speaker = speaker_in(settings.who)
    seen = on_a_terminal()
    if not seen and (settings.count is None or not settings.consent):
        instead = "; --mic-command leaves the keyboard to you" if kind == "stdin" else ""
        raise EdgeError(
            "record asks somebody at a terminal; without one, say --count N and, where whoever "
            f"can be heard has agreed, --consent{instead}"
        )
    manifest = load_bundle(settings.bundle, settings.trust.trust).manifest
    segment = manifest.segment.sensitive(settings.sensitivity)
    agreed = _ask_consent(settings, folder)
    limit = round(settings.megabytes * 1e6)
    screen = Screen(seen)
    with (
        # Not before: a microphone that is open is heard.
        closing(open_live(kind, heard, settings.name)) as source,
        Collection(
            folder / MANIFEST,
            every,
            Session.now(settings.name or socket.gethostname(), source.name, speaker, agreed),
            limit,
        ) as collection,
        Keyboard() if seen else nullcontext() as keyboard,
        closing(screen),
    ):
        for file in collection.unlisted:
            screen.say(f"{PROGRAM}: {file} is in no row of {MANIFEST}: listen to it, or delete it")
        screen.say(f"{source.name}; clips go to {folder}")
        for line in keys_for(wanted) if seen else ():
            screen.say(line)
        plan = Plan(wanted, settings.count, speaker, settings.source.gain_db)
        recording = Recording(collection, plan, segment, keyboard, screen)
        try:
            recording.listen(source)
        finally:
            counts = collection.counts
            there = ", ".join(f"{counts[label]} {label}" for label in every)
            screen.say(
                f"{counted(recording.made, 'clip')} recorded; {collection.manifest} has {there}"
            )
    if not recording.complete and not seen:
        what = "it was stopped" if recording.stopped else "the sound ended"
        raise EdgeError(f"{what} before each class had {settings.count}")
    return OK


def _ask_consent(settings: RecordSettings, folder: Path) -> str:
    """Say what is going to be stored, and have it agreed to; how it was. EdgeError: it was not."""
    who = f"the name {settings.who}" if settings.who else "no name"
    print(_CONSENT.format(folder=folder, who=who), flush=True)
    if settings.consent:
        return "yes (--consent)"
    instead = "nothing was stored; --consent says that everybody has agreed"
    if not Questions(False, instead).yes("Does everybody who can be heard here agree?", False):
        raise EdgeError("nobody agreed, and nothing was stored")
    return "yes (typed)"
