"""`python -m training`: corpora on disk become quantization-aware models."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

from edge_runtime.console import command_parser, run_command
from edge_runtime.errors import EdgeError
from training import commands
from training.commands.common import with_preset
from training.errors import TrainingError

_EPILOG = """examples:
  python -m training corpora  ravdess=data/ravdess emodb=data/emodb
  python -m training fit      manifest=my_clips.csv --out runs/mine
  python -m training adapt    manifest=my_clips.csv --out runs/own
  python -m training adapt    ravdess=data/ravdess emodb=data/emodb --classes seven --out runs/7
  python -m training segment  manifest=long.csv --out utterances.csv
  python -m training crossval ravdess=data/ravdess emodb=data/emodb --folds 5 --out runs/cv
  python -m training fit      ravdess=data/ravdess emodb=data/emodb --crossval runs/cv
  python -m training reference runs/cv ravdess=data/ravdess emodb=data/emodb
  python -m training dimensions runs/mine manifest=rated_clips.csv
  python -m training fit      meld=data/meld --variant text+swem --out runs/words
  python -m training fit      ravdess=data/ravdess meld=data/meld --variant audio+text+att+swem \\
      --pair --audio-run runs/mine --text-run runs/words --modality-dropout 0.5
  python -m training fit      ravdess=data/ravdess --variant audio+speaker --speaker xvector.scp
  python -m training transcribe ravdess=data/ravdess --out runs/transcripts.csv
  python -m training keywords goemotions=data/goemotions librispeech=data/librispeech
  python -m training phrases  my_phrases.csv librispeech=data/librispeech --labels runs/own
  python -m training table    iemocap=data/iemocap --preset paper --speaker xvector.scp --seeds 3
  python -m training variants --embedding 300 --vocabulary 20000

NAME is ravdess, emodb, nemo, ased, emovo, koemo, emospeech, iemocap, meld, cremad, tess, savee,
esd, msppodcast, goemotions (text only), librispeech (ordinary speech: trains only with --ordinary),
or manifest (a CSV: path,label,speaker,session,text,split,start,end,valence,arousal). The layout,
licence and full counts of each are in training/corpora/NAME.py. Two of a kind are told apart as
NAME@LABEL=PATH, as in manifest@home=a.csv manifest@car=b.csv; without LABEL the second is NAME@2. A
speaker who has the same name in both is the same person, and a clip that is in both counts once.
"""


def parser() -> argparse.ArgumentParser:
    """The command line; built without torch."""
    result, places = command_parser(
        "python -m training",
        "Train MSCNN-SPU speech emotion models, quantization-aware.",
        _EPILOG,
    )
    for name in commands.MODULES:
        importlib.import_module(f"training.commands.{name}").add(places)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; the exit code."""
    parsed = with_preset(parser(), arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return run_command("training", lambda: int(parsed.command(parsed)), (TrainingError, EdgeError))


if __name__ == "__main__":
    sys.exit(main())
