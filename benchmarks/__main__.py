"""`python -m benchmarks`: accuracy and latency of a bundle, and what others need for the same."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK, OURS, command_parser, run_command
from edge_runtime.errors import EdgeError

if TYPE_CHECKING:
    from benchmarks.peers import Standing
    from edge_runtime.bundle import Bundle
    from training.corpora import Utterance

_EPILOG = """examples:
  python -m benchmarks accuracy --bundle default --manifest clips.csv --json accuracy.json
  python -m benchmarks latency --check
  python -m benchmarks peers
  python -m benchmarks peers --corpora ravdess=data/ravdess emodb=data/emodb --folds 5
  python -m benchmarks text meld=data/meld --run runs/meld
  python -m benchmarks text ravdess=data/ravdess meld=data/meld --engines
  python -m benchmarks text meld=data/meld --spoken 80
  python -m benchmarks text ravdess=data/ravdess --faults 8
  python -m benchmarks report --out report.html --manifest clips.csv

accuracy and latency run on a device, too: pip install 'edge-emotion[bench-device]' there, and start
them in a checkout beside it, which is never installed.
"""


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; the exit code."""
    parser, commands = command_parser(
        "python -m benchmarks",
        "Measure a bundle with the code that runs on the device.",
        _EPILOG,
    )
    accuracy = commands.add_parser(
        "accuracy", help="UA, WA and confusion on labelled clips and texts"
    )
    latency = commands.add_parser("latency", help="milliseconds per stage")
    peers = commands.add_parser("peers", help="the same clips through what people use today")
    report = commands.add_parser("report", help="all of it as one HTML page")
    for command, function in (
        (accuracy, _accuracy),
        (latency, _latency),
        (peers, _peers),
        (report, _report),
    ):
        command.add_argument("--bundle", default="default", help="folder, .zip, or default")
        command.set_defaults(command=function)
    text = commands.add_parser(
        "text", help="words: texts alone beside TF-IDF, what engines hear, and what it changes"
    )
    text.add_argument("corpora", nargs="+", metavar="NAME=PATH", help="texts, speech, or both")
    text.add_argument("--bundle", default="default", help="folder, .zip, or default")
    kind = text.add_mutually_exclusive_group()
    kind.add_argument(
        "--engines",
        action="store_true",
        help="word error rate on neutral clips, key phrases found and imagined, time and memory",
    )
    kind.add_argument(
        "--spoken",
        type=int,
        metavar="N",
        help="speak N sentences of a development split (flite), in voices that agree or conflict",
    )
    kind.add_argument(
        "--faults",
        type=int,
        metavar="N",
        help="stream N clips at the speed of speech while the engine is killed, stopped, slowed",
    )
    text.set_defaults(command=_text)
    for command in (accuracy, latency, peers, text):
        command.add_argument("--json", type=Path, metavar="F", help="write the figures as JSON")
    built_from = "the run that the bundle was built from"
    for command, whose in (
        (latency, built_from),
        (peers, built_from),
        (report, built_from),
        (text, "a run that reads"),
    ):
        command.add_argument("--run", type=Path, metavar="RUN", help=whose)
    peers.add_argument(
        "--corpora",
        nargs="+",
        metavar="NAME=PATH",
        help="labelled clips to judge peers on, beside the bundle's own figures",
    )
    peers.add_argument(
        "--folds", type=int, default=5, metavar="K", help="folds by speaker (default: 5)"
    )
    peers.add_argument("--jobs", type=int, metavar="N", help="processes at a time (default: cores)")
    latency.add_argument(
        "--check", action="store_true", help="fail where a ratio or a time left its bound"
    )
    report.add_argument("--out", type=Path, required=True, metavar="HTML", help="page to write")
    report.add_argument("--manifest", type=Path, metavar="CSV", help="labelled clips for accuracy")
    accuracy.add_argument(
        "--manifest",
        type=Path,
        required=True,
        metavar="CSV",
        help="path,label[,speaker,session,text,split,start,end]",
    )
    accuracy.add_argument(
        "--text",
        choices=("transcript", "asr", "keywords", "off"),
        help="whose words the bundle reads (default: transcript where it reads and the manifest "
        "has words, else off)",
    )
    accuracy.add_argument("--predictions", type=Path, metavar="CSV", help="write every verdict")
    accuracy.add_argument("--plot", type=Path, metavar="PNG", help="draw the confusion matrix")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from benchmarks.errors import BenchmarkError
    from conversion.errors import ConversionError
    from training.errors import TrainingError

    return run_command(
        "benchmarks",
        lambda: int(parsed.command(parsed)),
        (BenchmarkError, ConversionError, TrainingError, EdgeError),
        extras="train,convert,bench",
    )


def _accuracy(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.accuracy import accuracy
    from edge_runtime.bundle import load_bundle
    from training.corpora.manifest import load

    if arguments.plot:
        from training.evaluate.report import (
            plot_confusion,  # what it needs is missed before any work
        )
    bundle = load_bundle(arguments.bundle)
    result = accuracy(bundle, load(arguments.manifest).utterances, arguments.text)
    metrics = result.metrics()
    table = Table("true \\ predicted", *metrics.labels, "recall %")
    for label, row in zip(metrics.labels, metrics.confusion, strict=True):
        recall = metrics.per_class_recall.get(label)
        table.add_row(label, *map(str, row), "-" if recall is None else f"{100 * recall:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"{metrics.n} utterances, UA {100 * metrics.ua:.1f} %, WA {100 * metrics.wa:.1f} %, "
        f"{result.skipped} skipped; bundle {bundle.manifest.name}, {arguments.manifest}, "
        f"text {result.text}"
    )
    groups = result.by_modality()
    for modality, part in groups.items():
        console.print(
            f"by {modality}: {part.n} utterances, UA {100 * part.ua:.1f} %, "
            f"WA {100 * part.wa:.1f} %"
        )
    if arguments.predictions:
        result.write_predictions(arguments.predictions)
    if arguments.plot:
        plot_confusion(
            [(f"{bundle.manifest.name}, {arguments.manifest.stem}", metrics)], arguments.plot
        )
    content = {
        **metrics.to_dict(),
        "skipped": result.skipped,
        "text": result.text,
        "by_modality": {modality: part.to_dict() for modality, part in groups.items()},
    }
    _write_json(arguments.json, content)
    return OK


def _latency(arguments: argparse.Namespace) -> int:
    from benchmarks.errors import BenchmarkError
    from edge_runtime.bench import format_table, measure
    from edge_runtime.bundle import load_bundle

    bundle = load_bundle(arguments.bundle)
    result = measure(bundle)
    print(format_table(result))
    from benchmarks.limit import measure_rate  # not before memory is measured

    try:
        rate = measure_rate(bundle)
    except BenchmarkError as error:
        print(f"int8 products left out: {error}")
    else:
        print(rate.line())
        result["int8_rate"] = rate.to_dict()
    code = OK
    if arguments.check:
        code, result["guards"] = _check(arguments, bundle, result)
    _write_json(arguments.json, result)
    return code


def _check(
    arguments: argparse.Namespace, bundle: Bundle, result: dict[str, Any]
) -> tuple[int, list[dict[str, Any]]]:
    """Hold the figures against their bounds; the exit code, and the guards."""
    from rich.console import Console
    from rich.table import Table

    from benchmarks.guards import guards
    from benchmarks.peers import compare
    from training.run import load_run_of

    found = guards(result, compare(bundle, load_run_of(arguments.bundle, arguments.run)))
    table = Table("guard", "measured", "goal", "bound", "")
    for guard in found:
        table.add_row(*guard.cells())
    Console().print(table)
    broken = [guard for guard in found if not guard.holds]
    for guard in broken:
        print(
            f"benchmarks: {guard.what} is {guard.measured:.4g}, above its bound {guard.bound:g}",
            file=sys.stderr,
        )
    return OURS if broken else OK, [guard.to_dict() for guard in found]


def _peers(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.peers import compare, compare_accuracy
    from edge_runtime.bundle import load_bundle
    from training.run import load_run_of

    bundle = load_bundle(arguments.bundle)
    run = load_run_of(arguments.bundle, arguments.run)
    result: dict[str, Any] = {}
    if arguments.corpora:
        standings = compare_accuracy(bundle, arguments.corpora, arguments.folds, arguments.jobs)
        result["accuracy"] = _print_standings(standings, bundle.manifest.metrics, arguments.folds)
    rows = compare(bundle, run)
    table = Table("what", "ours", "peer", "ours ms", "peer ms", "ours / peer")
    for row in rows:
        table.add_row(*row.cells())
    Console().print(table)
    print("medians of alternating runs on 7.5 s of audio, one thread")
    if not arguments.corpora:
        print("accuracy is left out: name labelled clips, as in --corpora ravdess=DIR emodb=DIR")
    _write_json(arguments.json, {"rows": [row.to_dict() for row in rows], **result})
    return OK


def _print_standings(
    standings: Sequence[Standing], ours: dict[str, Any], folds: int
) -> dict[str, Any]:
    """The accuracy table on the terminal; the same for JSON."""
    from rich.console import Console
    from rich.table import Table

    corpora = list(standings[-1].metrics)
    columns = [c for name in corpora for c in (f"{name}\nUA / WA %", "mean of\nfolds UA", "clips")]
    table = Table("who", *columns, "ms per\n7.5 s", "MB")
    for standing in standings:
        table.add_row(*standing.cells(corpora))
    # Wide enough for its cells wherever it goes: a row that wraps is not read at a glance.
    Console(width=max(Console().width, 60 + 34 * len(corpora))).print(table)
    protocols = {
        "peers": f"{folds} speaker-independent folds, each corpus by itself; features of whole "
        "clips, standardized; SVC of scikit-learn, its defaults, balanced classes",
        "ours": str(ours.get("protocol", "none in this bundle")),
    }
    for who, protocol in protocols.items():
        print(f"{who}: {protocol}")
    print(
        "UA / WA over the clips of all test folds together; ms: features alone of peers, "
        "all of ours, medians of alternating runs, one thread; MB: without Python packages"
    )
    return {"protocols": protocols, "standings": [s.to_dict() for s in standings]}


def _text(arguments: argparse.Namespace) -> int:
    if arguments.engines:
        return _engines(arguments)
    if arguments.spoken is not None:
        return _spoken(arguments)
    if arguments.faults is not None:
        return _faults(arguments)
    from rich.console import Console
    from rich.table import Table

    from benchmarks.peers.tfidf import compare_texts
    from training.run import load

    rows = compare_texts(arguments.corpora, load(arguments.run) if arguments.run else None)
    table = Table("corpus", "what", "texts", "UA %", "WA %", "recall %")
    for corpus, what, metrics in rows:
        recalls = "  ".join(f"{k} {100 * v:.0f}" for k, v in metrics.per_class_recall.items())
        figures = f"{100 * metrics.ua:.1f}", f"{100 * metrics.wa:.1f}"
        table.add_row(corpus, what, str(metrics.n), *figures, recalls)
    Console().print(table)
    print("trained on the official training split, judged on the development split")
    result = [{"corpus": c, "what": w, **m.to_dict()} for c, w, m in rows]
    _write_json(arguments.json, {"rows": result})
    return OK


def _engines(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.hearing import (
        costs,
        phrases_of,
        spot_in_sentences,
        spot_in_speech,
        to_dict,
        word_errors,
    )
    from edge_runtime.bundle import load_bundle

    bundle = load_bundle(arguments.bundle)
    utterances, held_out = _speech_and_texts(arguments.corpora)
    phrases = phrases_of(bundle)
    errors = word_errors([u for u in utterances if u.label == "neutral"])
    sentences = spot_in_sentences(phrases, held_out)
    speech = spot_in_speech(phrases, utterances)
    found = costs(bundle, utterances)
    table = Table("what", "figure", "on")
    table.add_row(
        "asr, word error rate",
        f"{100 * errors.error_rate:.1f} %",
        f"{errors.words} words of neutral clips: {errors.substitutions} substituted, "
        f"{errors.lost.total()} lost, {errors.added.total()} added",
    )
    for name, spotted in (("sentences spoken by flite", sentences), ("all speech", speech)):
        if spotted.said:
            table.add_row(
                "key phrases found",
                f"{100 * spotted.hits / spotted.said:.0f} %",
                f"{spotted.hits} of {spotted.said} in {spotted.clips} {name}",
            )
        table.add_row(
            "false alarms an hour",
            f"{spotted.hourly:.1f}",
            f"{spotted.alarms} in {spotted.hours:.3f} h of {name}",
        )
    for cost in found:
        table.add_row(
            f"{cost.mode}: real-time factor",
            f"{cost.real_time_factor:.3f}",
            f"of its own process, {cost.rss_mb:.0f} MB; emotion path "
            f"{cost.emotion_real_time_factor:.4f}",
        )
    Console(width=max(100, Console().width)).print(table)
    print(
        f"{len(phrases)} phrases; sentences are of development splits, in none of which they were "
        "tuned; thresholds were tuned on training sentences and, for the default bundle, on this "
        "same shared speech: its false alarms are a check, not a result"
    )
    _write_json(arguments.json, to_dict(errors, sentences, speech, found))
    return OK


def _spoken(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.spoken import judge_spoken, sentences_of
    from edge_runtime.bundle import load_bundle

    bundle = load_bundle(arguments.bundle)
    _, held_out = _speech_and_texts(arguments.corpora)
    outcomes = judge_spoken(bundle, sentences_of(held_out, arguments.spoken))
    same = ("same class\nUA / WA %", "now right,\nnow wrong", "by chance\np")
    conflict = "conflict: as\nthe words %"
    table = Table("words from", "words\nheard in", *same, conflict, "as the\nvoice %", "neither %")
    for outcome in outcomes:
        agreeing = outcome.agreeing
        table.add_row(
            {"off": "none: audio only"}.get(outcome.mode, outcome.mode),
            f"{outcome.heard} of {outcome.sentences}",
            f"{100 * agreeing.ua:.1f} / {100 * agreeing.wa:.1f}",
            f"{outcome.helped}, {outcome.harmed}",
            f"{outcome.chance:.3f}",
            *(f"{100 * outcome.share(side):.0f}" for side in ("words", "voice", "neither")),
        )
    console = Console(width=max(100, Console().width))
    console.print(table)
    last = outcomes[-1]
    confusion = Table("words / voice", *(f"{o.mode}" for o in outcomes))
    for case in sorted(last.confusion):
        cells = (
            ", ".join(f"{k} {n}" for k, n in o.confusion.get(case, {}).items()) for o in outcomes
        )
        confusion.add_row(case, *cells)
    console.print(confusion)
    print(
        "synthetic speech: sentences of a development split, each spoken twice by flite, with "
        "pace, pitch, spread and loudness of its own class and of another; p: exact sign test"
    )
    _write_json(arguments.json, {"rows": [o.to_dict() for o in outcomes]})
    return OK


def _faults(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.errors import BenchmarkError
    from benchmarks.faults import HARMS, harm_engine
    from edge_runtime.audio.file import read_file
    from edge_runtime.bundle import load_bundle

    bundle = load_bundle(arguments.bundle)
    utterances, _ = _speech_and_texts(arguments.corpora)
    spoken = [u for u in utterances if u.path is not None][: arguments.faults]
    if len(spoken) < 3:
        raise BenchmarkError("--faults needs 3 clips at least")
    clips = [read_file(u.audio, u.start, u.end) for u in spoken]
    table = Table("engine", "verdicts", "revised", "p50 ms", "p95 ms", "what the events tell")
    outcomes = [harm_engine(bundle, clips, harm) for harm in HARMS]
    for o in outcomes:
        table.add_row(
            o.harm,
            f"{o.verdicts} of {o.utterances}",
            str(o.revised),
            f"{o.p50_ms:.1f}",
            f"{o.p95_ms:.1f}",
            "\n".join(o.told),
        )
    Console(width=max(120, Console().width)).print(table)
    print("from the last sample needed to the final verdict; audio at the speed of speech")
    _write_json(arguments.json, {"rows": [o.to_dict() for o in outcomes]})
    return OK


def _speech_and_texts(corpora: list[str]) -> tuple[list[Utterance], list[Utterance]]:
    """All utterances, and those of development splits."""
    from training.corpora import load_corpora
    from training.data.folds import official_split

    utterances = [u for found in load_corpora(corpora).values() for u in found.utterances]
    split = official_split([u for u in utterances if u.text and u.split])
    return utterances, split[1] if split else []


def _report(arguments: argparse.Namespace) -> int:
    from benchmarks.accuracy import accuracy
    from benchmarks.peers import compare
    from benchmarks.report import Report, write
    from edge_runtime.bench import measure
    from edge_runtime.bundle import load_bundle
    from training.corpora.manifest import load
    from training.run import load_run_of

    bundle = load_bundle(arguments.bundle)
    judged = None
    if arguments.manifest:
        judged = accuracy(bundle, load(arguments.manifest).utterances).metrics()
    rows = compare(bundle, load_run_of(arguments.bundle, arguments.run))
    source = arguments.manifest.name if arguments.manifest else ""
    write(Report(bundle.manifest, measure(bundle), rows, judged, source), arguments.out)
    print(f"report in {arguments.out}")
    return OK


def _write_json(path: Path | None, content: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
