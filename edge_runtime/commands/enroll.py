"""`edge-emotion enroll`: keep what is the plain voice of a speaker."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from edge_runtime.audio import AudioSource
from edge_runtime.audio.sources import LIVE, file_source
from edge_runtime.bundle import DEFAULT, load_bundle
from edge_runtime.commands.common import (
    add_command,
    asked_source,
    open_live,
    without_farther_form,
)
from edge_runtime.commands.settings import BUNDLE, SourceSettings, effective_settings
from edge_runtime.config import GIVEN, Effective
from edge_runtime.console import OK, PROGRAM, note
from edge_runtime.enroll import SECONDS, SECONDS_LIMITS, Enrolment, listen
from edge_runtime.errors import EdgeError, ProfileError
from edge_runtime.profile import delete_profile, profile_named, profile_names, profile_path
from edge_runtime.settings import Settings, group, setting
from edge_runtime.update.settings import TrustSettings


@dataclass(frozen=True)
class EnrollSettings(Settings):
    """Options of `enroll`."""

    bundle: str = setting(DEFAULT, BUNDLE)
    seconds: float = setting(SECONDS, "Seconds of speech that are wanted.", SECONDS_LIMITS)
    anyway: bool = setting(False, "Enroll what sounds like two people.")
    trust: TrustSettings = group(TrustSettings())
    source: SourceSettings = group(SourceSettings())


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = add_command(
        commands,
        "enroll",
        EnrollSettings,
        enroll,
        "keep what is the plain voice of a speaker",
        "Ten seconds of ordinary speech become a profile: statistics of a voice, neither audio nor "
        "words, readable by its owner alone. Deleting it forgets the voice.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="who speaks")
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="a recording; unless given, what `run` would listen to, or a microphone",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--list", action="store_true", help="say who is enrolled")
    how.add_argument("--delete", action="store_true", help="forget NAME")


def enroll(arguments: argparse.Namespace) -> int:
    """Make, list or delete profiles; the exit code."""
    found = effective_settings(EnrollSettings, arguments)
    settings = found.settings
    if arguments.list:
        for name in profile_names():
            print(_described(name))
        return OK
    if arguments.name is None:
        raise EdgeError("name who speaks: edge-emotion enroll NAME (see --help)")
    path = profile_path(arguments.name)
    if arguments.delete:
        delete_profile(arguments.name)
        print(f"{arguments.name} is forgotten: {path} is deleted")
        return OK
    if arguments.file and any(found.origin(kind).rank == GIVEN for kind in LIVE):
        raise EdgeError("name a FILE, or --mic, or --stdin (see --help)")
    gain_db = 0.0 if arguments.file else settings.source.gain_db
    bundle = load_bundle(settings.bundle, settings.trust.trust)
    enrolment = Enrolment(bundle, settings.seconds)
    with closing(_opened(found, arguments.file)) as source:
        if not arguments.file:
            note(
                f"{PROGRAM}: {source.name}: speak as you always do, in whole sentences, until "
                f"{settings.seconds:g} s of speech are heard; Ctrl-C stops"
            )
        listen(source, enrolment, gain_db)
    profile = enrolment.profile(settings.anyway)
    profile.save(path)
    print(
        f"{arguments.name}: {enrolment.speech:.1f} s of speech at {enrolment.speech_db:.0f} dB; "
        f"{path.stat().st_size:,} bytes in {path}"
    )
    print(f"use it: {PROGRAM} run --mic --speaker {arguments.name}")
    return OK


def _opened(found: Effective[EnrollSettings], file: str | None) -> AudioSource:
    """The file, or the live source that settings ask for, as `run` opens them. EdgeError."""
    if file is None:
        return open_live(*asked_source(found, "mic"))
    return file_source(file, without_farther_form(found, GIVEN).raw)


def _described(name: str) -> str:
    """A line on a profile, also on one that cannot be used."""
    try:
        profile = profile_named(name)
    except ProfileError as error:
        return f"{name}: {error}"
    return f"{name}: {profile.seconds:.1f} s of speech, {profile.made}"
