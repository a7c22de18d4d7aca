"""`python -m training phrases`: a list of one's own phrases for a device to spot."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK, counted
from edge_runtime.settings import add_arguments, from_arguments
from training.commands.common import as_manifest
from training.output import new_file
from training.speech.settings import PhraseSettings

if TYPE_CHECKING:
    from training.speech.own_phrases import OwnPhrase
    from training.speech.tune_phrases import OwnList

PHRASES = Path("runs/phrases.txt")
_DESCRIPTION = """Find out how each phrase is pronounced, speak it with several voices, and set the
threshold at which other speech sets it off no more often than --alarms allows. Other speech is
synthesized; name corpora of real speech, of any people, to tune on that, too."""
_EPILOG = """FILE is a CSV (or separated by semicolons or tabs):

  phrase,class
  reboot the zorblax,stressed
  this is driving me crazy,stressed|angry
  take it easy,calm

Words that no dictionary has, such as names of products, are read by rule, which is shown; a third
column, pronunciation, says it better: zorblax=Z AO R B L AE K S (ARPAbet; several words with /).

examples:
  python -m training phrases my.csv librispeech=data/librispeech --labels runs/mine --out my.txt
  edge-emotion run --mic --text keywords:my.txt               # the words as events
  python -m conversion build runs/mine --keywords my.txt --out bundles/mine
  edge-emotion run --mic --bundle bundles/mine --text keywords  # and they count in the verdict
  python -m training phrases wir.csv --model german --voice de --out german/keywords.txt
"""


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "phrases",
        help="a list of your own phrases, with classes, for a device to spot",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("file", type=Path, metavar="FILE", help="phrases with classes")
    command.add_argument(
        "corpora", nargs="*", metavar="NAME=PATH", help="real speech, to tune on in addition"
    )
    add_arguments(command, PhraseSettings)
    command.add_argument(
        "--out", type=new_file, default=PHRASES, metavar="TXT", help=f"(default: {PHRASES})"
    )
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from training.corpora import load_corpora
    from training.errors import TrainingError
    from training.speech.own_phrases import read_phrases
    from training.speech.tune_phrases import tune

    settings = from_arguments(PhraseSettings, arguments)
    wanted = _labels(settings.labels)
    own = read_phrases(arguments.file, wanted)
    labels = wanted or list(dict.fromkeys(label for phrase in own for label in phrase.classes))
    corpora = [*map(as_manifest, arguments.corpora)]
    found = load_corpora(corpora, ordinary="") if corpora else {}
    speech = [u for part in found.values() for u in (*part.utterances, *part.ordinary)]
    result = tune(own, labels, speech, settings)
    _tell(result, own)
    if not result.kept:
        raise TrainingError(
            f"none of {counted(len(own), 'phrase')} is found again; nothing was written"
        )
    result.write(arguments.out, arguments.file, settings)
    if len(labels) == 1:
        logging.warning(
            "warning: %s is the only class, so hearing a phrase tells nothing: --labels names the "
            "others",
            labels[0],
        )
    print(_summary(result, settings, arguments.out))
    return OK


def _labels(named: str) -> list[str]:
    """The classes that `--labels` names: of a run, of a bundle, or themselves."""
    path = Path(named)
    if not named or ("," in named and not path.exists()):
        return [name.strip() for name in named.split(",") if name.strip()]
    from edge_runtime.bundle import load_bundle
    from training.run import RUN_FILE, load

    if (path / RUN_FILE).is_file():
        return list(load(path).config.labels)
    return list(load_bundle(named).manifest.labels)


def _tell(result: OwnList, own: list[OwnPhrase]) -> None:
    from rich.table import Table

    from edge_runtime.terminal import Tables

    classes = {phrase.text: phrase.classes for phrase in own}
    table = Table("phrase", "for", "log10 threshold", "found", "alarms an hour", "odds")
    for entry in (*result.kept, *result.dropped):
        phrase = entry.phrase
        named = classes[phrase.text]
        table.add_row(
            phrase.text,
            ", ".join(named),
            f"{phrase.threshold:.1f}",
            f"{entry.hits} of {entry.spoken}",
            f"{entry.rate:g}",
            "dropped: found too seldom"
            if entry in result.dropped
            else _odds(phrase.weights, named),
        )
    Tables().print(table)
    for word, phones in result.read.items():
        print(f"in no dictionary, read by rule: {word}={phones}")
    for note in result.notes:
        logging.warning("warning: %s", note)


def _odds(weights: dict[str, float], named: list[str]) -> str:
    """How much likelier a class that is named becomes, beside one that is not."""
    from math import exp

    others = [value for label, value in weights.items() if label not in named]
    return f"x {exp(weights[named[0]] - others[0]):.1f}" if others else ""


def _summary(result: OwnList, settings: PhraseSettings, out: Path) -> str:
    tested = result.held_out
    rate = f", {tested.alarms / tested.hours:.0f} an hour" if tested.hours else ""
    return (
        f"{out}: {counted(len(result.kept), 'phrase')}, {len(result.dropped)} dropped; tuned for "
        f"{settings.alarms:g} false alarms an hour on {result.hours:.2f} h of real and "
        f"{result.spoken_hours:.2f} h of synthesized speech\n"
        f"voice {tested.voice}, which it was not tuned on: found {tested.found} of "
        f"{tested.spoken}, {counted(tested.alarms, 'false alarm')} in {tested.hours:.2f} h{rate}\n"
        f"next: edge-emotion run --mic --text keywords:{out}, or python -m conversion build RUN "
        f"--keywords {out} --out BUNDLE"
    )
