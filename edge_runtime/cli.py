"""`edge-emotion`: listen to files, a microphone or a pipe, and say how it was felt."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_runtime import __version__
from edge_runtime.audio import AudioSource, LiveSource
from edge_runtime.audio.mono import HIGHEST_RATE, LOWEST_RATE
from edge_runtime.audio.raw import ENCODINGS, RawFormat
from edge_runtime.audio.sources import LIVE, Asked, file_source
from edge_runtime.bundle import DEFAULT, Bundle, load_bundle
from edge_runtime.console import (
    OK,
    OURS,
    THEIRS,
    UntilInterrupted,
    command_parser,
    note,
    run_command,
)
from edge_runtime.enroll import SECONDS, SECONDS_LIMITS, Enrolment, listen
from edge_runtime.errors import AudioError, EdgeError, ProfileError
from edge_runtime.events import EmotionEvent, SourceEvent
from edge_runtime.graph import THREADS
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.profile import delete_profile, profile_named, profile_names, profile_path
from edge_runtime.settings import Settings, add_arguments, from_arguments, setting
from edge_runtime.sinks import AUTO, NAMES, LevelSink, Sink, open_sink
from edge_runtime.stream import PARTIAL_LIMITS, PARTIAL_SECONDS, EmotionStream
from edge_runtime.text import GIVEN_FORMS, OFF
from edge_runtime.text.engines import forms

PROGRAM = "edge-emotion"
STANDARD_INPUT = "-"
_BUNDLE = 'Bundle: a folder, a .zip, "default", or "large" where it was built.'
_EPILOG = """examples:
  edge-emotion run interview.wav                     one line per utterance
  edge-emotion run --mic                             listen; Ctrl-C ends it
  edge-emotion run --mic --text asr                  hear the words, too
  edge-emotion run --out jsonl *.flac > events.jsonl one JSON object a line
  arecord -f S16_LE -r 16000 -c 1 -t raw | edge-emotion run -
  ffmpeg -i video.mp4 -f wav - | edge-emotion run -  whatever ffmpeg reads
  edge-emotion enroll anna                           ten seconds of ordinary speech
  edge-emotion run --mic --speaker anna              judge by that plain voice
  edge-emotion doctor                                what works on this device

exit codes: 0 fine, 2 a mistake in what was asked, 1 a fault of this program
"""


@dataclass(frozen=True)
class RunSettings(Settings):
    """Options of `run`."""

    bundle: str = setting(DEFAULT, _BUNDLE)
    text: str = setting(
        OFF,
        f"Where the words come from: {', '.join((OFF, *forms()))}; or from elsewhere: "
        f"{', '.join(GIVEN_FORMS)} (- is standard input).",
    )
    out: str = setting(
        AUTO, "Output: pretty, jsonl, or auto (pretty on a terminal).", choices=NAMES
    )
    partial_seconds: float = setting(
        PARTIAL_SECONDS,
        "Seconds of speech between two verdicts on a running utterance; 0 for none.",
        PARTIAL_LIMITS,
    )
    speaker: str | None = setting(
        None, "Judge by the plain voice of who is enrolled by this name.", metavar="NAME"
    )
    adapt: bool = setting(
        False,
        "Learn the speaker's plain voice from the stream itself, and forget it where somebody else "
        "speaks.",
    )
    whole: bool = setting(False, "Take each file, or all of the pipe, for one utterance.")
    realtime: bool = setting(False, "Play files at the speed of speech.")
    threads: int = setting(1, "Threads of the interpreter.", THREADS)
    rate: int | None = setting(
        None,
        "Of raw samples: frames a second, Hz (16000 unless given).",
        minimum=LOWEST_RATE,
        maximum=HIGHEST_RATE,
    )
    format: str | None = setting(
        None,
        f"Of raw samples: {', '.join(ENCODINGS)} (s16le unless given).",
        choices=tuple(ENCODINGS),
        metavar="FORMAT",
    )
    channels: int | None = setting(
        None, "Of raw samples: samples a frame (1 unless given).", minimum=1, maximum=64
    )
    device: str | None = setting(
        None, "Microphone: index or part of its name, see `edge-emotion devices`."
    )
    channel: int | None = setting(
        None,
        "Of the microphone's channels the one to take; unless given, those that are not dead are "
        "mixed.",
        minimum=1,
        maximum=64,
    )
    wait: bool = setting(
        False,
        "Wait for a microphone or program that is not there yet. One that was heard is always "
        "waited for.",
    )


@dataclass(frozen=True)
class EnrollSettings(Settings):
    """Options of `enroll`."""

    bundle: str = setting(DEFAULT, _BUNDLE)
    seconds: float = setting(SECONDS, "Seconds of speech that are wanted.", SECONDS_LIMITS)
    anyway: bool = setting(False, "Enroll what sounds like two people.")
    device: str | None = setting(
        None, "Microphone: index or part of its name, see `edge-emotion devices`."
    )


@dataclass(frozen=True)
class BenchSettings(Settings):
    """Options of `bench`."""

    bundle: str = setting(DEFAULT, _BUNDLE)
    json: bool = setting(False, "Print JSON.")
    threads: int = setting(1, "Threads of the interpreter.", THREADS)


@dataclass(frozen=True)
class DoctorSettings(Settings):
    """Options of `doctor`."""

    bundle: str = setting(DEFAULT, _BUNDLE)


@dataclass(frozen=True)
class DevicesSettings(Settings):
    """Options of `devices`."""

    meter: bool = setting(False, "Show how loud it is there, until Ctrl-C.")
    device: str | None = setting(None, "Of the meter: index or part of a name.")
    channel: int | None = setting(None, "Of the meter: its channel.", minimum=1, maximum=64)
    seconds: float | None = setting(None, "Of the meter: how long.", above=0)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result, commands = command_parser(
        PROGRAM, "Speech emotion recognition on this device; no audio leaves it.", _EPILOG
    )
    result.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")

    run = commands.add_parser("run", help="stream audio, print emotion events")
    run.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="audio files (WAV, FLAC, OGG, MP3, AIFF...), - for standard input",
    )
    source = run.add_mutually_exclusive_group()
    source.add_argument("--mic", action="store_true", help="listen to a microphone")
    source.add_argument(
        "--stdin",
        action="store_true",
        help="listen to standard input, as - does: raw samples (--rate, --format, --channels), or "
        "any audio file; WAV, AIFF, MP3, FLAC and OGG are heard as they come",
    )
    source.add_argument(
        "--mic-command",
        metavar="COMMAND",
        help="listen to what a program writes, raw samples (--rate, --format, --channels), and "
        "start it again when it ends: --mic-command 'arecord -f S16_LE -r 16000 -t raw'",
    )
    source.add_argument(
        "--listen",
        metavar="unix:PATH|tcp:PORT",
        help="listen to raw samples that another program of this machine sends",
    )
    add_arguments(run, RunSettings)
    run.set_defaults(command=_run)

    enroll = commands.add_parser(
        "enroll",
        help="keep what is the plain voice of a speaker",
        description="Ten seconds of ordinary speech become a profile: statistics of a voice, "
        "neither audio nor words, readable by its owner alone. Deleting it forgets the voice.",
    )
    enroll.add_argument("name", nargs="?", metavar="NAME", help="who speaks")
    enroll.add_argument("file", nargs="?", metavar="FILE", help="a recording, in place of --mic")
    how = enroll.add_mutually_exclusive_group()
    how.add_argument("--mic", action="store_true", help="listen to a microphone (the default)")
    how.add_argument("--stdin", action="store_true", help="listen to standard input, as run does")
    how.add_argument("--list", action="store_true", help="say who is enrolled")
    how.add_argument("--delete", action="store_true", help="forget NAME")
    add_arguments(enroll, EnrollSettings)
    enroll.set_defaults(command=_enroll)

    bench = commands.add_parser("bench", help="latency per stage on this device")
    add_arguments(bench, BenchSettings)
    bench.set_defaults(command=_bench)

    doctor = commands.add_parser("doctor", help="what is installed, what works, what is missing")
    add_arguments(doctor, DoctorSettings)
    doctor.set_defaults(command=_doctor)

    devices = commands.add_parser("devices", help="list microphones, or show a level meter")
    add_arguments(devices, DevicesSettings)
    devices.set_defaults(command=_devices)

    demo = commands.add_parser("demo", help="stream the scene that ships in the box")
    demo.add_argument("clips", nargs="*", metavar="FILE", help="clips to stream after it")
    demo.set_defaults(command=_demo)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; the exit code."""
    parsed = parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _carry_out(parsed))


class _Stopped(Exception):  # noqa: N818  # it is none
    """Ctrl-C, SIGTERM or SIGHUP ended what was heard; all of that is said."""

    def __init__(self, code: int) -> None:
        self.code = code


def _carry_out(parsed: argparse.Namespace) -> int:
    try:
        return int(parsed.command(parsed))
    except _Stopped as stop:
        return stop.code


def _run(arguments: argparse.Namespace) -> int:
    settings = from_arguments(RunSettings, arguments)
    if arguments.files == [STANDARD_INPUT]:
        arguments.files, arguments.stdin = [], True
    live = any(getattr(arguments, name) for name in LIVE)
    if live == bool(arguments.files):
        raise EdgeError("name one or more FILEs, or --mic, or --stdin (see --help)")
    _refuse_shared_input(arguments, settings)
    bundle = load_bundle(settings.bundle)
    sink = open_sink(settings.out)
    try:
        if live:
            # Refuses before any audio is opened.
            with _open_stream(bundle, settings, live=True) as stream:
                stream.wait_ready()
                _listen(_live_source(arguments, settings), stream, settings, sink)
            return OK
        return _run_files(arguments.files, bundle, settings, sink)
    finally:
        sink.close()


def _refuse_shared_input(arguments: argparse.Namespace, settings: RunSettings) -> None:
    """Standard input is one stream of one thing."""
    if STANDARD_INPUT in arguments.files:
        raise EdgeError("- is standard input, and stands alone: edge-emotion run -")
    if settings.text == f"jsonl:{STANDARD_INPUT}":
        if arguments.stdin:
            raise EdgeError(
                "standard input brings the audio; bring the words in a file (--text jsonl:FILE) or "
                "by MQTT"
            )
        if len(arguments.files) > 1:
            raise EdgeError(
                "--text jsonl:- brings the words of one recording; name one FILE, or words in a "
                "file: --text jsonl:FILE"
            )
    if arguments.mic and _raw_format(settings):
        raise EdgeError("--rate, --format and --channels are for raw samples; --mic has its own")


def _run_files(files: Sequence[str], bundle: Bundle, settings: RunSettings, sink: Sink) -> int:
    """All files, whatever happens to one of them; the model and the engine are opened once."""
    code = OK
    # Refuses before any file is opened.
    with _open_stream(bundle, settings, settings.realtime) as stream:
        stream.wait_ready()
        for number, file in enumerate(files):
            if number:
                stream.restart()
            try:
                if not _listen(file_source(file, _raw_format(settings)), stream, settings, sink):
                    raise _Stopped(code)
            except AudioError as error:
                code = THEIRS
                note(f"{PROGRAM}: {error}")
    return code


def _live_source(arguments: argparse.Namespace, settings: RunSettings) -> AudioSource:
    (kind,) = [name for name in LIVE if getattr(arguments, name, None)]
    value, raw = getattr(arguments, kind), _raw_format(settings)
    return LIVE[kind](Asked(value, raw, settings.device, settings.channel, settings.wait))


def _raw_format(settings: RunSettings) -> RawFormat | None:
    """What raw samples are, as far as it is said; None where nothing is."""
    if not (settings.rate or settings.format or settings.channels):
        return None
    default = RawFormat()
    return RawFormat(
        settings.format or default.encoding,
        settings.rate or default.rate,
        settings.channels or default.channels,
    )


def _open_stream(bundle: Bundle, settings: RunSettings, live: bool) -> EmotionStream:
    segment = bundle.manifest.segment
    profile = None if settings.speaker is None else profile_named(settings.speaker)
    return EmotionStream(
        bundle,
        settings.text,
        segment=segment.whole() if settings.whole else segment,
        partial_seconds=settings.partial_seconds,
        threads=settings.threads,
        live=live,
        adapt=settings.adapt,
        profile=profile,
    )


def _listen(source: AudioSource, stream: EmotionStream, settings: RunSettings, sink: Sink) -> bool:
    """Stream one source to its end; an interrupt is an end like any other, but returns False."""
    sink.write(SourceEvent(0.0, source.name))
    begin = time.monotonic()
    verdicts = 0
    failure: AudioError | None = None
    show = _level_shown(source, sink)
    show(0.0)
    with UntilInterrupted(source.blocks()) as blocks:
        try:
            for block in blocks:
                events = stream.skip(block.lost) if block.lost or block.ends else []
                events += [*stream.feed(block.samples), *block.status]
                for event in events:
                    verdicts += isinstance(event, EmotionEvent) and event.final
                    sink.write(event)
                show(stream.time)
                if settings.realtime:
                    time.sleep(max(0.0, begin + stream.time - time.monotonic()))
        except AudioError as error:
            failure = error  # what was heard before is still said
    for event in [*stream.finish(), *stream.settle()]:
        verdicts += isinstance(event, EmotionEvent) and event.final
        sink.write(event)
    sink.write(stream.health())
    for warning in source.warnings:
        note(f"{PROGRAM}: warning: {warning}")
    if failure:
        raise failure
    if not verdicts:
        note(f"{PROGRAM}: {source.name}: no speech found")
    return not blocks.interrupted


def _level_shown(source: AudioSource, sink: Sink) -> Callable[[float], None]:
    """What shows, at a second of the stream, how loud a live source is; where somebody looks."""
    if not isinstance(source, LiveSource):
        return lambda t: None
    if isinstance(sink, LevelSink):
        return lambda t: sink.hear(t, source.form, source.level)
    if sys.stdout.isatty():
        note(f"{PROGRAM}: {source.name}, {source.form}: speak now; Ctrl-C ends it")
    return lambda t: None


def _enroll(arguments: argparse.Namespace) -> int:
    settings = from_arguments(EnrollSettings, arguments)
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
    if arguments.file and (arguments.mic or arguments.stdin):
        raise EdgeError("name a FILE, or --mic, or --stdin (see --help)")
    enrolment = Enrolment(load_bundle(settings.bundle), settings.seconds)
    heard_by = RunSettings(device=settings.device)
    if arguments.file:
        source = file_source(arguments.file, None)
    else:
        arguments.mic = not arguments.stdin
        source = _live_source(arguments, heard_by)
        note(
            f"{PROGRAM}: {source.name}: speak as you always do, in whole sentences, until "
            f"{settings.seconds:g} s of speech are heard; Ctrl-C stops"
        )
    listen(source, enrolment)
    profile = enrolment.profile(settings.anyway)
    profile.save(path)
    print(
        f"{arguments.name}: {enrolment.speech:.1f} s of speech at {enrolment.speech_db:.0f} dB; "
        f"{path.stat().st_size:,} bytes in {path}"
    )
    print(f"use it: {PROGRAM} run --mic --speaker {arguments.name}")
    return OK


def _described(name: str) -> str:
    """A line on a profile, also on one that cannot be used."""
    try:
        profile = profile_named(name)
    except ProfileError as error:
        return f"{name}: {error}"
    return f"{name}: {profile.seconds:.1f} s of speech, {profile.made}"


def _bench(arguments: argparse.Namespace) -> int:
    from edge_runtime.bench import format_table, measure

    settings = from_arguments(BenchSettings, arguments)
    result = measure(load_bundle(settings.bundle), settings.threads)
    print(json.dumps(result) if settings.json else format_table(result))
    return OK


def _doctor(arguments: argparse.Namespace) -> int:
    from edge_runtime.doctor import examine

    report = examine(arguments.bundle)
    for line in report.lines:
        print(line)
    return OK if report.works else OURS


def _devices(arguments: argparse.Namespace) -> int:
    from edge_runtime.devices import device_table, meter

    settings = from_arguments(DevicesSettings, arguments)
    if not settings.meter:
        for line in device_table():
            print(line)
        return OK
    from edge_runtime.audio.microphone import MicrophoneSource

    meter(MicrophoneSource(settings.device, settings.channel), settings.seconds)
    return OK


def _demo(arguments: argparse.Namespace) -> int:
    from edge_runtime.bench import format_table, measure
    from edge_runtime.doctor import microphone_state

    scene = Path(__file__).parent / "demo" / "scene.flac"
    bundle = load_bundle()
    settings = RunSettings(realtime=sys.stdout.isatty())
    sink = open_sink("pretty")
    words = replace(settings, text=f"jsonl:{scene.with_suffix('.jsonl')}")
    try:
        code = _run_files([str(scene)], bundle, settings, sink)
        print(
            "\nThe same once more, with the words (scene.jsonl, as a recognizer would send them):"
        )
        code = _run_files([str(scene)], bundle, words, sink) or code
        code = _run_files(arguments.clips, bundle, settings, sink) or code
    finally:
        sink.close()
    if arguments.clips:
        print("\nThe clips after the scene are real; the bundle was trained on their corpora.")
    print(f"\nlatency on this device, interpreter threads: 1, sample rate: {SAMPLE_RATE} Hz")
    print(format_table(measure(bundle, 1)))
    works, found = microphone_state()
    print(f"\nmicrophone: {found}" + ("; next: edge-emotion run --mic" if works else ""))
    return code


if __name__ == "__main__":
    sys.exit(main())
