"""`python -m training`: corpora on disk become quantization-aware models."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from edge_runtime.console import command_parser, run_command
from edge_runtime.errors import EdgeError
from edge_runtime.settings import add_arguments
from training.commands.common import ModelSettings, SpeakerSettings
from training.commands.corpora import corpora_command
from training.commands.crossval import crossval_command
from training.commands.fit import fit_command
from training.commands.table import table_command
from training.commands.variants import CostSettings, variants_command
from training.commands.words import KEYWORDS, keywords_command, transcribe_command

_EPILOG = """examples:
  python -m training corpora  ravdess=data/ravdess emodb=data/emodb
  python -m training fit      manifest=my_clips.csv --out runs/mine
  python -m training crossval ravdess=data/ravdess emodb=data/emodb --folds 5 --out runs/cv
  python -m training fit      ravdess=data/ravdess emodb=data/emodb --crossval runs/cv
  python -m training fit      meld=data/meld --variant text+swem --out runs/words
  python -m training fit      ravdess=data/ravdess meld=data/meld --variant audio+text+att+swem \\
      --pair --audio-run runs/mine --text-run runs/words --modality-dropout 0.5
  python -m training fit      ravdess=data/ravdess --variant audio+speaker --speaker xvector.scp
  python -m training transcribe ravdess=data/ravdess --out runs/transcripts.csv
  python -m training keywords meld=data/meld goemotions=data/goemotions ravdess=data/ravdess
  python -m training table    iemocap=data/iemocap --speaker xvector.scp --seeds 3 --out runs/table
  python -m training variants --embedding 300 --vocabulary 20000

NAME is ravdess, emodb, iemocap, meld, cremad, tess, savee, esd, msppodcast, goemotions (text only),
or manifest (a CSV: path,label,speaker,session,text,split,start,end). The layout, licence and full
counts of each are in training/corpora/NAME.py.
"""


def add_word_arguments(group: Any) -> None:
    """Options of models that read, whatever they start from."""
    from training.words.settings import WordSettings

    add_arguments(group, WordSettings)
    group.add_argument(
        "--pair",
        action="store_true",
        help="put to each clip a text of the same class from the text-only corpora, drawn at "
        "random; every figure and model card that rests on it says so",
    )


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; the exit code."""
    from training.evaluate.table import PAPER_FOLDS, TableSettings
    from training.fit.settings import FitSettings
    from training.speech.settings import TRANSCRIPTS, KeywordSettings, TranscribeSettings
    from training.words.distil import DistilSettings

    parser, commands = command_parser(
        "python -m training",
        "Train MSCNN-SPU speech emotion models, quantization-aware.",
        _EPILOG,
    )

    corpora = commands.add_parser("corpora", help="what is there: clips, hours, speakers, classes")
    fit = commands.add_parser("fit", help="train one model")
    crossval = commands.add_parser("crossval", help="speaker-independent folds, UA/WA, plots")
    table = commands.add_parser("table", help="every variant over the paper's folds, as a table")
    variants = commands.add_parser("variants", help="parameters and MACs of every variant")
    variants.set_defaults(command=variants_command)
    add_arguments(variants, CostSettings)
    hearing = commands.add_parser("transcribe", help="what an engine hears in every clip, as a CSV")
    add_arguments(hearing, TranscribeSettings)
    hearing.add_argument(
        "--out",
        type=Path,
        default=TRANSCRIPTS,
        metavar="CSV",
        help=f"manifest to write; rows that it has are kept (default: {TRANSCRIPTS})",
    )
    keywords = commands.add_parser("keywords", help="learn the list of phrases that a device spots")
    add_arguments(keywords, KeywordSettings)
    keywords.add_argument(
        "--out", type=Path, default=KEYWORDS, metavar="TXT", help=f"(default: {KEYWORDS})"
    )
    for command, function in (
        (corpora, corpora_command),
        (fit, fit_command),
        (crossval, crossval_command),
        (hearing, transcribe_command),
        (keywords, keywords_command),
        (table, table_command),
    ):
        command.add_argument("corpora", nargs="+", metavar="NAME=PATH", help="a corpus on disk")
        command.set_defaults(command=function)
    add_arguments(table, TableSettings)
    for command in (fit, crossval, table):
        command.add_argument(
            "--out", type=Path, default=None, metavar="RUN", help="folder to write"
        )
        add_arguments(command.add_argument_group("schedule"), FitSettings)
        model = command.add_argument_group("model")
        if command is not table:
            model.add_argument(
                "--variant",
                default="audio",
                help="audio, text, audio+text or audio+text+att; then +swem, +speaker or both "
                "(default: audio)",
            )
        add_arguments(model, ModelSettings)
        words = command.add_argument_group("words")
        add_word_arguments(words)
        if command is not table:
            words.add_argument(
                "--text-run",
                type=Path,
                metavar="RUN",
                help="audio + text: start from the text encoder of this run, and keep it",
            )
        add_arguments(command.add_argument_group("speaker embedding"), SpeakerSettings)
    add_arguments(fit.add_argument_group("distillation, words alone"), DistilSettings)
    fit.add_argument(
        "--audio-run",
        type=Path,
        metavar="RUN",
        help="audio + text: start from the audio encoder of this run, and keep it",
    )
    crossval.add_argument(
        "--audio-runs",
        type=Path,
        metavar="CROSSVAL",
        help="audio + text: start each fold from the audio encoder of the same fold of a finished "
        "crossval, and keep it",
    )
    fit.add_argument("--resume", action="store_true", help="go on where RUN was interrupted")
    fit.add_argument(
        "--watch",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="share of each corpus's speakers kept out of training, to measure and calibrate on "
        "(default: 0.2; 0 with --crossval)",
    )
    fit.add_argument(
        "--crossval",
        type=Path,
        metavar="RUN",
        help="a finished crossval of the same data: train on every speaker, and take calibration "
        "and figures from there",
    )
    for command, count in ((crossval, 5), (table, PAPER_FOLDS)):
        command.add_argument(
            "--folds", type=int, metavar="K", help=f"folds by speaker (default: {count})"
        )
        command.add_argument(
            "--by",
            choices=("speaker", "session"),
            default="speaker",
            help="what a fold is cut by (default: speaker); by session, each session is a fold",
        )
        command.add_argument(
            "--jobs", type=int, metavar="N", help="folds at a time (default: cores)"
        )

    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from training.errors import TrainingError

    return run_command("training", lambda: int(parsed.command(parsed)), (TrainingError, EdgeError))


if __name__ == "__main__":
    sys.exit(main())
