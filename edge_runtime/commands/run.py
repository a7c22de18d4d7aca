"""`edge-emotion run`: stream audio, say how it was felt."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from edge_runtime.audio.sources import LIVE, file_source
from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.commands.common import (
    add_command,
    asked_source,
    flag_of,
    open_live,
    without_farther_form,
)
from edge_runtime.commands.settings import (
    RunSettings,
    SourceSettings,
    effective_settings,
    own_context,
)
from edge_runtime.commands.words import words_source
from edge_runtime.config import GIVEN, Effective
from edge_runtime.console import OK, PROGRAM, THEIRS, Stopped, note
from edge_runtime.errors import AudioError, EdgeError
from edge_runtime.listening import Again, listen
from edge_runtime.notify import Notifier
from edge_runtime.profile import profile_named
from edge_runtime.sinks import Context, Outputs, Part, Parts, Sink, open_sink
from edge_runtime.sinks.file import open_file
from edge_runtime.sinks.keep import open_keep
from edge_runtime.sinks.mqtt import open_mqtt
from edge_runtime.sinks.prometheus import open_prometheus
from edge_runtime.sinks.reactions import open_reactions
from edge_runtime.sinks.socket import open_socket
from edge_runtime.stream import EmotionStream
from edge_runtime.system import has_terminal
from edge_runtime.web import open_page

STANDARD_INPUT = "-"


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = add_command(
        commands,
        "run",
        RunSettings,
        run,
        "stream audio, print emotion events",
        "Stream audio files or a live source, and say how it was felt. All options can stand in a "
        "settings file (edge-emotion config init); with FILEs, its sections do not count.",
    )
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="audio files (WAV, FLAC, OGG, MP3, AIFF...), - for standard input",
    )


def run(arguments: argparse.Namespace) -> int:
    """Hear files one after the other, or a live source until it ends; the exit code."""
    files: list[str] = arguments.files
    if files == [STANDARD_INPUT]:
        files, arguments.stdin = [], True
    found = effective_settings(RunSettings, arguments, alone=bool(files))
    kind, source = live_source(found, bool(files))
    settings = replace(found.settings, source=source)
    _refuse_shared_input(files, kind, settings)
    notifier = Notifier()  # before anything is started that would inherit what it knows
    bundle = load_bundle(settings.bundle, settings.trust.trust)
    with closing(Outputs(parts(settings, bundle))) as outputs:
        if kind is None:
            return run_files(files, bundle, settings, outputs)
        # Refuses before any audio is opened.
        with open_stream(bundle, settings, live=True) as stream:
            stream.wait_ready()
            listen(
                open_live(kind, settings.source, settings.name),
                stream,
                outputs,
                gain_db=settings.source.gain_db,
                again=_again(arguments, found.settings) if _reloads(arguments) else None,
                notifier=notifier,
            )
    return OK


def _reloads(arguments: argparse.Namespace) -> bool:
    """Whether SIGHUP reads the settings again: a file was named, and no terminal can hang up."""
    return arguments.config is not None and not has_terminal()


def _again(arguments: argparse.Namespace, before: RunSettings) -> Again:
    """What opens stream and outputs by the settings as they are now."""

    def opened() -> tuple[EmotionStream, Parts]:
        settings = effective_settings(RunSettings, arguments).settings
        if settings.source != before.source:
            note(f"{PROGRAM}: what is listened to changes when the program is started again")
        bundle = load_bundle(settings.bundle, settings.trust.trust)
        return open_stream(bundle, settings, live=True), parts(settings, bundle)

    return opened


def live_source(found: Effective[RunSettings], files: bool) -> tuple[str | None, SourceSettings]:
    """Which live source is asked for, a name in `LIVE`; None for files. And how it is opened.

    Files count before what the settings say, the command line before the environment, and that
    before a settings file. Raises EdgeError for none of all, and for two of one place.
    """
    if files:
        source = found.settings.source
        given = [kind for kind in LIVE if getattr(source, kind) and _is_given(found, kind)]
        if given:
            raise EdgeError(f"name FILEs or {flag_of(given[0])}, not both (see --help)")
        return None, without_farther_form(found, GIVEN)
    kind, source = asked_source(found)
    if not kind:
        raise EdgeError("name one or more FILEs, or --mic, or --stdin (see --help)")
    return kind, source


def _is_given(found: Effective[RunSettings], key: str) -> bool:
    return found.origin(key).rank == GIVEN


def _refuse_shared_input(files: Sequence[str], kind: str | None, settings: RunSettings) -> None:
    """Standard input is one stream of one thing."""
    if STANDARD_INPUT in files:
        raise EdgeError("- is standard input, and stands alone: edge-emotion run -")
    if settings.text == f"jsonl:{STANDARD_INPUT}":
        if kind == "stdin":
            raise EdgeError(
                "standard input brings the audio; bring the words in a file (--text jsonl:FILE) or "
                "by MQTT"
            )
        if len(files) > 1:
            raise EdgeError(
                "--text jsonl:- brings the words of one recording; name one FILE, or words in a "
                "file: --text jsonl:FILE"
            )


def run_files(files: Sequence[str], bundle: Bundle, settings: RunSettings, outputs: Outputs) -> int:
    """All files, whatever happens to one of them; the model and the engine are opened once.

    Returns the exit code; raises Stopped with it where the user has stopped it.
    """
    code = OK
    # Refuses before any file is opened.
    with open_stream(bundle, settings, settings.realtime) as stream:
        stream.wait_ready()
        for number, file in enumerate(files):
            if number:
                stream.restart()
            try:
                source = file_source(file, settings.source.raw)
                if not listen(source, stream, outputs, realtime=settings.realtime):
                    raise Stopped(code)
            except AudioError as error:
                code = THEIRS
                note(f"{PROGRAM}: {error}")
    return code


def open_stream(bundle: Bundle, settings: RunSettings, live: bool) -> EmotionStream:
    """The stream that `settings` describe. Raises EdgeError."""
    segment = bundle.manifest.segment.sensitive(settings.sensitivity)
    profile = None if settings.speaker is None else profile_named(settings.speaker)
    stream = EmotionStream(
        bundle,
        words_source(settings),
        segment=segment.whole() if settings.whole else segment,
        partial_seconds=settings.partial_seconds,
        threshold=settings.threshold,
        threads=settings.threads,
        live=live,
        adapt=settings.adapt,
        profile=profile,
    )
    if stream.bundle is not bundle:
        note(
            f"{PROGRAM}: {stream.recognizer.engine} cannot compute the pre-trained encoder of "
            f"bundle {bundle.manifest.name}: its model judges alone; with LiteRT both do"
        )
    return stream


def parts(settings: RunSettings, bundle: Bundle) -> Parts:
    """Everything that is to get the events."""
    context = own_context(settings, bundle.manifest.name, bundle.manifest.labels)
    found = {"out": Part(settings.out, lambda: open_sink(settings.out))}
    for section, opened in SECTIONS.items():
        own = getattr(settings, section)
        found[section] = Part((own, context), partial(opened, own, context))
    return found


SECTIONS: dict[str, Callable[[Any, Context], Sink | None]] = {
    "file": open_file,
    "keep": open_keep,
    "socket": open_socket,
    "on": open_reactions,
    "mqtt": open_mqtt,
    "web": open_page,
    "prometheus": open_prometheus,
}
"""What opens the sink of a section of the settings, by its name; None where it is off."""
