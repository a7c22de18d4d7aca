"""`edge-emotion`: listen to files, a microphone or a pipe, and say how it was felt."""

from __future__ import annotations

import argparse
import importlib
import sys

from edge_runtime import __version__, commands
from edge_runtime.console import PROGRAM, Stopped, command_parser, run_command

_EPILOG = """examples:
  edge-emotion run interview.wav                     one line per utterance
  edge-emotion run --mic                             listen; Ctrl-C ends it
  edge-emotion run --mic --text asr                  hear the words, too
  edge-emotion run --out jsonl *.flac > events.jsonl one JSON object a line
  arecord -f S16_LE -r 16000 -c 1 -t raw | edge-emotion run -
  ffmpeg -i video.mp4 -f wav - | edge-emotion run -  whatever ffmpeg reads
  edge-emotion enroll anna                           ten seconds of ordinary speech
  edge-emotion run --mic --speaker anna              judge by that plain voice
  edge-emotion record --label angry,neutral          clips of one's own, for training
  edge-emotion config init --mic                     a settings file, to be changed
  edge-emotion doctor                                what works on this device
  edge-emotion update bundle.zip                     another bundle, tried before it is taken

exit codes: 0 fine, 2 a mistake in what was asked, 1 a fault of this program
"""


def parser(only: str = "") -> argparse.ArgumentParser:
    """The command line; with the name of a command, of that alone: no other is read in."""
    result, places = command_parser(
        PROGRAM,
        "Speech emotion recognition on this device; no audio leaves it unless --text names a "
        "server.",
        _EPILOG,
    )
    result.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    for name in (only,) if only else commands.MODULES:
        importlib.import_module(f"edge_runtime.commands.{name}").add(places)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    named = given[0] if given and given[0] in commands.MODULES else ""
    parsed = parser(named).parse_args(given)
    return run_command(PROGRAM, lambda: _carry_out(parsed))


def _carry_out(parsed: argparse.Namespace) -> int:
    try:
        return int(parsed.command(parsed))
    except Stopped as stop:
        return stop.code


if __name__ == "__main__":
    sys.exit(main())
