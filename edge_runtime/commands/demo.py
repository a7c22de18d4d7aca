"""`edge-emotion demo`: stream the scene that ships in the box."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_runtime.bundle import load_bundle
from edge_runtime.commands.run import run_files
from edge_runtime.commands.settings import RunSettings
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.sinks import Outputs, Part, open_sink


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    parser = commands.add_parser("demo", help="stream the scene that ships in the box")
    parser.add_argument("clips", nargs="*", metavar="FILE", help="clips to stream after it")
    parser.set_defaults(command=demo)


def demo(arguments: argparse.Namespace) -> int:
    """Stream scene and clips, measure latency, look for a microphone; the exit code."""
    from edge_runtime.bench import format_table, measure
    from edge_runtime.doctor import microphone_state

    scene = Path(__file__).parents[1] / "demo" / "scene.flac"
    bundle = load_bundle()
    settings = RunSettings(realtime=sys.stdout.isatty())
    outputs = Outputs({"out": Part("pretty", lambda: open_sink("pretty"))})
    words = replace(settings, text=f"jsonl:{scene.with_suffix('.jsonl')}")
    try:
        code = run_files([str(scene)], bundle, settings, outputs)
        print(
            "\nThe same once more, with the words (scene.jsonl, as a recognizer would send them):"
        )
        code = run_files([str(scene)], bundle, words, outputs) or code
        code = run_files(arguments.clips, bundle, settings, outputs) or code
    finally:
        outputs.close()
    if arguments.clips:
        print(
            "\nOf the clips after the scene: corpora that trained the bundle, such as RAVDESS and "
            "EMO-DB, it hears better than what it has never met."
        )
    print(f"\nlatency on this device, interpreter threads: 1, sample rate: {SAMPLE_RATE} Hz")
    print(format_table(measure(bundle, 1)))
    works, found = microphone_state()
    print(f"\nmicrophone: {found}" + ("; next: edge-emotion run --mic" if works else ""))
    return code
