"""`edge-emotion`: listen to files, a microphone or a pipe, and say how it was felt."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from edge_runtime import __version__
from edge_runtime.audio import AudioSource
from edge_runtime.bundle import DEFAULT, Bundle, load_bundle
from edge_runtime.console import OK, OURS, THEIRS, UntilInterrupted, command_parser, run_command
from edge_runtime.errors import AudioError, EdgeError
from edge_runtime.events import EmotionEvent, SourceEvent
from edge_runtime.graph import THREADS
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.settings import Settings, add_arguments, from_arguments, setting
from edge_runtime.sinks import AUTO, NAMES, Sink, open_sink
from edge_runtime.stream import PARTIAL_LIMITS, PARTIAL_SECONDS, EmotionStream

PROGRAM = "edge-emotion"
_BUNDLE = 'Bundle: a folder, a .zip, or "default".'
_EPILOG = """examples:
  edge-emotion run interview.wav                     one line per utterance
  edge-emotion run --mic                             listen; Ctrl-C ends it
  edge-emotion run --mic --text asr                  hear the words, too
  edge-emotion run --out jsonl *.flac > events.jsonl one JSON object a line
  arecord -f S16_LE -r 16000 -c 1 -t raw | edge-emotion run --stdin
  edge-emotion doctor                                what works on this device

exit codes: 0 fine, 2 a mistake in what was asked, 1 a fault of this program
"""


@dataclass(frozen=True)
class RunSettings(Settings):
    """Options of `run`."""

    bundle: str = setting(DEFAULT, _BUNDLE)
    text: str = setting(
        "off",
        "Where the words come from: off, keywords, asr, keywords:FILE, vosk:DIR, sherpa:DIR, "
        "whisper:FILE; or from elsewhere: jsonl:FILE, jsonl:- (standard input), mqtt://HOST/TOPIC.",
    )
    out: str = setting(
        AUTO, "Output: pretty, jsonl, or auto (pretty on a terminal).", choices=NAMES
    )
    partial_seconds: float = setting(
        PARTIAL_SECONDS,
        "Seconds of speech between two verdicts on a running utterance; 0 for none.",
        PARTIAL_LIMITS,
    )
    whole: bool = setting(False, "Take each file, or all of the pipe, for one utterance.")
    realtime: bool = setting(False, "Play files at the speed of speech.")
    threads: int = setting(1, "Threads of the interpreter.", THREADS)
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


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; the exit code."""
    parser, commands = command_parser(
        PROGRAM, "Speech emotion recognition on this device; no audio leaves it.", _EPILOG
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")

    run = commands.add_parser("run", help="stream audio, print emotion events")
    run.add_argument("files", nargs="*", metavar="FILE", help="audio files (WAV, FLAC, OGG, MP3)")
    source = run.add_mutually_exclusive_group()
    source.add_argument("--mic", action="store_true", help="listen to a microphone")
    source.add_argument(
        "--stdin", action="store_true", help="raw PCM16, 16 kHz, mono on standard input"
    )
    add_arguments(run, RunSettings)
    run.set_defaults(command=_run)

    bench = commands.add_parser("bench", help="latency per stage on this device")
    add_arguments(bench, BenchSettings)
    bench.set_defaults(command=_bench)

    doctor = commands.add_parser("doctor", help="what is installed, what works, what is missing")
    add_arguments(doctor, DoctorSettings)
    doctor.set_defaults(command=_doctor)

    devices = commands.add_parser("devices", help="list microphones")
    devices.set_defaults(command=_devices)

    demo = commands.add_parser("demo", help="stream the scene that ships in the box")
    demo.add_argument("clips", nargs="*", metavar="FILE", help="clips to stream after it")
    demo.set_defaults(command=_demo)

    parsed = parser.parse_args(arguments)
    return run_command(PROGRAM, lambda: int(parsed.command(parsed)))


def _run(arguments: argparse.Namespace) -> int:
    settings = from_arguments(RunSettings, arguments)
    live = arguments.mic or arguments.stdin
    if live == bool(arguments.files):
        raise EdgeError("name one or more FILEs, or --mic, or --stdin (see --help)")
    bundle = load_bundle(settings.bundle)
    sink = open_sink(settings.out)
    try:
        if live:
            # Refuses before any audio is opened.
            with _open_stream(bundle, settings, live=True) as stream:
                stream.wait_ready()
                _listen(_live_source(arguments), stream, settings, sink)
            return OK
        return _run_files(arguments.files, bundle, settings, sink)
    finally:
        sink.close()


def _run_files(files: Iterable[str], bundle: Bundle, settings: RunSettings, sink: Sink) -> int:
    """All files, whatever happens to one of them."""
    from edge_runtime.audio.file import FileSource

    code = OK
    for file in files:
        try:
            # Refuses before the file is opened.
            with _open_stream(bundle, settings, settings.realtime) as stream:
                stream.wait_ready()
                if not _listen(FileSource(file), stream, settings, sink):
                    break
        except AudioError as error:
            code = THEIRS
            print(f"{PROGRAM}: {error}", file=sys.stderr)
    return code


def _live_source(arguments: argparse.Namespace) -> AudioSource:
    if arguments.mic:
        from edge_runtime.audio.microphone import MicrophoneSource

        return MicrophoneSource(arguments.device)
    from edge_runtime.audio.stdin import StdinSource

    return StdinSource()


def _open_stream(bundle: Bundle, settings: RunSettings, live: bool) -> EmotionStream:
    segment = bundle.manifest.segment
    return EmotionStream(
        bundle,
        settings.text,
        segment=segment.whole() if settings.whole else segment,
        partial_seconds=settings.partial_seconds,
        threads=settings.threads,
        live=live,
    )


def _listen(source: AudioSource, stream: EmotionStream, settings: RunSettings, sink: Sink) -> bool:
    """Stream one source to its end; Ctrl-C is an end like any other, but returns False."""
    sink.write(SourceEvent(0.0, source.name))
    begin = time.monotonic()
    verdicts = 0
    failure: AudioError | None = None
    with UntilInterrupted(source.blocks()) as blocks:
        try:
            for block in blocks:
                events = stream.skip(block.lost) if block.lost else []
                events += stream.feed(block.samples)
                for event in events:
                    verdicts += isinstance(event, EmotionEvent) and event.final
                    sink.write(event)
                if settings.realtime:
                    time.sleep(max(0.0, begin + stream.time - time.monotonic()))
        except AudioError as error:
            failure = error  # what was heard before is still said
    for event in [*stream.finish(), *stream.settle()]:
        verdicts += isinstance(event, EmotionEvent) and event.final
        sink.write(event)
    sink.write(stream.health())
    for warning in source.warnings:
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
    if failure:
        raise failure
    if not verdicts:
        print(f"{PROGRAM}: {source.name}: no speech found", file=sys.stderr)
    return not blocks.interrupted


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


def _devices(_: argparse.Namespace) -> int:
    from edge_runtime.audio.microphone import list_microphones

    microphones = list_microphones()
    if not microphones:
        raise EdgeError("no microphone found: is one plugged in, and is the user in group audio?")
    for info in microphones:
        mark = "*" if info["default"] else " "
        rate = info["defaultSampleRate"] / 1000
        print(f"{mark} {info['index']:3d}  {info['name']}  ({rate:g} kHz)")
    print("* is the default; choose another with: edge-emotion run --mic --device INDEX")
    return OK


def _demo(arguments: argparse.Namespace) -> int:
    from edge_runtime.bench import format_table, measure

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
    return code


if __name__ == "__main__":
    sys.exit(main())
