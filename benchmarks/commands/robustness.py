"""`python -m benchmarks robustness`: corpora by conditions, ordinary speech, and no speech."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.output import add_bundle, add_count, add_jobs, add_json, add_tier, write_json
from edge_runtime.console import OK, counted
from training.commands.common import add_classes
from training.output import new_file
from training.tiers import SMALL

if TYPE_CHECKING:
    from benchmarks.robust_peers import Row
    from benchmarks.robustness import Part, Robustness
    from training.corpora import Found


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "robustness", help="corpora by conditions: rooms, noises, lines, microphones, levels"
    )
    add_bundle(command)
    command.add_argument(
        "--crossval",
        type=Path,
        metavar="DIR",
        help="instead of a bundle those of a finished crossval's folds, each on clips of its own "
        "test speakers",
    )
    add_tier(command, "with --crossval: ")
    add_json(command)
    command.add_argument(
        "corpora",
        nargs="+",
        metavar="NAME=PATH",
        help="labelled speech, and ordinary speech such as librispeech=DIR; the figures are honest "
        "where none of it trained the bundle",
    )
    add_classes(command, "as the bundle was trained")
    for name, what in (
        ("noises", "folders of noises"),
        ("rooms", "folders of impulse responses of rooms"),
        ("babble", "folders of ordinary speech, of which people talking behind are made"),
    ):
        command.add_argument(
            f"--{name}",
            default="",
            metavar="DIR,...",
            help=f"{what}, apart by commas; best such as did not train",
        )
    add_count(
        command,
        "--clips",
        "most clips of a corpus, evenly over classes and speakers",
        minimum=4,
        default=100,
    )
    add_jobs(command)
    command.add_argument(
        "--peers",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="also openSMILE's feature sets with an SVM that is trained on these: the corpora that "
        "the bundle trained on. A third of a second a clip and condition",
    )
    command.add_argument("--plot", type=new_file, metavar="PNG", help="draw UA as a heat map")
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from benchmarks.errors import BenchmarkError
    from benchmarks.robustness import robustness
    from edge_runtime.bundle import load_bundle
    from training.commands.fit import classes_of
    from training.corpora import load_corpora
    from training.corpora.class_map import open_classes
    from training.data.surroundings import surroundings

    if arguments.plot:
        from benchmarks.heatmap import plot  # what it needs is missed before any work
    if arguments.peers:
        from benchmarks.peers import opensmile_sets
        from benchmarks.robust_peers import judge_peer
    if arguments.tier != SMALL and not arguments.crossval:
        raise BenchmarkError("--tier is of the folds of --crossval; else name a --bundle")
    if arguments.peers and arguments.crossval:
        raise BenchmarkError(
            "--peers are trained once, on corpora that are not judged: leave out --crossval"
        )
    around = surroundings(arguments.noises, arguments.rooms, arguments.babble)
    if arguments.crossval:
        classes = classes_of(arguments.crossval, arguments.classes)
    else:
        known = load_bundle(arguments.bundle).manifest.training
        classes = open_classes(arguments.classes, known)
    parts = _parts(arguments, load_corpora(arguments.corpora, "", classes))
    result = robustness(parts, around, arguments.jobs)
    manifest = load_bundle(parts[0].bundle).manifest
    name = f"of each fold of {arguments.crossval}" if arguments.crossval else manifest.name
    rivals = {}
    if arguments.peers:
        lessons = [
            u for f in load_corpora(arguments.peers, None, classes).values() for u in f.utterances
        ]
        for peer in opensmile_sets.peers():
            rivals[peer.name] = judge_peer(
                peer, lessons, parts[0].labelled, around, list(manifest.labels), arguments.jobs
            )
    _print(result, name)
    _print_peers(result, rivals)
    if arguments.plot:
        plot(result, f"UA of bundle {name}, sound alone, int8 on the device's path", arguments.plot)
    figures = {"bundle": name, "clips": arguments.clips, **result.to_dict()}
    figures["peers"] = {
        who: {c: {k: m.to_dict() for k, m in row.items()} for c, row in rows.items()}
        for who, rows in rivals.items()
    }
    write_json(arguments.json, figures)
    return OK


def _parts(arguments: argparse.Namespace, found: Mapping[str, Found]) -> list[Part]:
    """What is to be judged, by which bundle: one, or each fold's what it did not train on."""
    from benchmarks.errors import BenchmarkError
    from benchmarks.robustness import Part, evenly
    from training.evaluate.adapted import crossval_parts
    from training.evaluate.crossval_files import bundle_of

    most = arguments.clips
    spoken = [(name, [u for u in part.utterances if u.path]) for name, part in found.items()]
    labelled = {name: clips for name, clips in spoken if clips}
    plain = [u for part in found.values() for u in part.ordinary]
    if not labelled:
        raise BenchmarkError("name a corpus with audio and labels, such as ravdess=DIR")
    if not arguments.crossval:
        few = {name: evenly(clips, most) for name, clips in labelled.items()}
        return [Part(arguments.bundle, few, evenly(plain, most))]
    parts = []
    for fold, tested, _ in crossval_parts(arguments.crossval, sum(labelled.values(), plain)):
        bundle = bundle_of(fold, arguments.tier)
        clips = {
            name: evenly([u for u in tested if u.corpus == corpus], most)
            for name, corpus in ((name, clips[0].corpus) for name, clips in labelled.items())
        }
        calm = {u.corpus for u in plain}
        parts.append(
            Part(
                str(bundle),
                {name: few for name, few in clips.items() if few},
                evenly([u for u in tested if u.corpus in calm], most),
            )
        )
    return parts


def _print(result: Robustness, bundle: str) -> None:
    from rich.table import Table

    from edge_runtime.terminal import Tables
    from training.evaluate.metrics import INTERVAL

    corpora = list(result.cells)
    columns = [f"{corpus}\nUA [95 %]" for corpus in corpora]
    table = Table("condition", *columns, *(["ordinary\ncalm %"] if result.ordinary else []))
    conditions = list(result.cells[corpora[0]])
    for name in conditions:
        cells = [result.cells[corpus][name].metrics.ua_text() for corpus in corpora]
        calm = [f"{100 * result.calm(name):.0f}"] if result.ordinary else []
        table.add_row(name, *cells, *calm)
    table.add_section()
    for what, value in (("mean UA", "ua"), ("ECE, clean", "ece"), ("unsure, clean", "unsure")):
        table.add_row(what, *(f"{_summary(result, corpus, value):.1f}" for corpus in corpora))
    Tables(30 + 22 * len(corpora) + 10).print(table)
    counts = ", ".join(
        f"{corpus} {result.cells[corpus]['clean'].metrics.n} clips" for corpus in corpora
    )
    print(f"bundle {bundle}, sound alone, through the device's path; {counts}")
    if result.skipped:
        print(f"{result.skipped} clips skipped: unreadable, or of a class the bundle does not have")
    if result.ordinary:
        print("ordinary, calm: share of the final verdicts that are neutral or unsure")
    print(_of_no_speech(result.nonspeech))
    print(INTERVAL)


def _print_peers(result: Robustness, rivals: dict[str, Row]) -> None:
    """Clean, and the mean over all conditions, of peers beside ours."""
    from rich.table import Table

    from edge_runtime.terminal import Tables

    if not rivals:
        return
    corpora = list(result.cells)
    ours = {c: {k: v.metrics for k, v in row.items()} for c, row in result.cells.items()}
    table = Table("UA %: clean, mean over conditions", *corpora)
    for who, rows in {"ours": ours, **rivals}.items():
        table.add_row(
            who,
            *(
                f"{100 * rows[c]['clean'].ua:.1f}, "
                f"{100 * sum(m.ua for m in rows[c].values()) / len(rows[c]):.1f}"
                for c in corpora
            ),
        )
    Tables(40 + 14 * len(corpora)).print(table)


def _of_no_speech(sounds: dict[str, list[str]]) -> str:
    """How many sounds were taken for speech, and for what, in one sentence."""
    labels = Counter(label for verdicts in sounds.values() for label in verdicts)
    told = ", ".join(f"{label} {count}" for label, count in labels.most_common())
    heard = sum(bool(verdicts) for verdicts in sounds.values())
    return f"no speech: of {counted(len(sounds), 'sound')} {heard} taken for speech" + (
        f" ({told})" if told else ""
    )


def _summary(result: Robustness, corpus: str, value: str) -> float:
    """Per cent: UA over all conditions, or ECE or share of unsure of clean clips."""
    row = result.cells[corpus]
    if value == "ua":
        return 100 * sum(cell.metrics.ua for cell in row.values()) / len(row)
    clean = row["clean"]
    return 100 * (clean.calibration_error if value == "ece" else clean.unsure)
