"""`python -m benchmarks text`: words, what engines hear of them, and what it changes."""

from __future__ import annotations

import argparse
from itertools import islice
from typing import TYPE_CHECKING, Any

from benchmarks.output import add_bundle, add_count, add_json, add_run, write_json
from edge_runtime.console import OK
from training.commands.common import add_classes

if TYPE_CHECKING:
    from edge_runtime.bundle import Bundle
    from training.corpora import Utterance


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "text", help="words: texts alone beside TF-IDF, what engines hear, and what it changes"
    )
    command.add_argument("corpora", nargs="+", metavar="NAME=PATH", help="texts, speech, or both")
    add_classes(command, "as the run was trained")
    add_bundle(command)
    add_json(command)
    add_run(command, "a run that reads")
    kind = command.add_mutually_exclusive_group()
    kind.add_argument(
        "--engines",
        action="store_true",
        help="word error rate on neutral clips, key phrases found and imagined, time and memory",
    )
    add_count(
        kind,
        "--spoken",
        "speak N sentences of a development split (flite), in voices that agree or conflict",
    )
    add_count(
        kind,
        "--faults",
        "stream N clips at the speed of speech while the engine is killed, stopped, slowed",
        minimum=3,
    )
    command.add_argument(
        "--engine",
        default="",
        metavar="NAME",
        help="another engine, as for edge-emotion run --text: beside those in the box; with "
        "--faults, in their place",
    )
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from edge_runtime.text.engines import check_source

    if arguments.engine:
        check_source(arguments.engine)  # what is wrong with it is said before any work
    if arguments.engines:
        return _engines(arguments)
    if arguments.spoken is not None:
        return _spoken(arguments)
    if arguments.faults is not None:
        return _faults(arguments)
    from rich.table import Table

    from benchmarks.peers.tfidf import compare_texts
    from edge_runtime.terminal import Tables
    from training.run import load

    run = load(arguments.run) if arguments.run else None
    rows = compare_texts(arguments.corpora, run, arguments.classes)
    table = Table("corpus", "what", "texts", "UA % [95 %]", "WA %", "recall %")
    for corpus, what, metrics in rows:
        recalls = "  ".join(f"{k} {100 * v:.0f}" for k, v in metrics.per_class_recall.items())
        figures = metrics.ua_text(), f"{100 * metrics.wa:.1f}"
        table.add_row(corpus, what, str(metrics.n), *figures, recalls)
    Tables().print(table)
    print("trained on the official training split, judged on the development split")
    result = [{"corpus": c, "what": w, **m.to_dict()} for c, w, m in rows]
    write_json(arguments.json, {"rows": result})
    return OK


def _engines(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from benchmarks.hearing import (
        MODES,
        costs,
        phrases_of,
        spot_in_sentences,
        spot_in_speech,
        to_dict,
        word_errors,
    )
    from edge_runtime.bundle import load_bundle
    from edge_runtime.terminal import Tables

    bundle = load_bundle(arguments.bundle)
    utterances, held_out = _speech_and_texts(arguments, bundle)
    phrases = phrases_of(bundle)
    neutral = [u for u in utterances if u.label == "neutral"]
    errors = {name: word_errors(neutral, name) for name in ("asr", *_named(arguments))}
    spotted = {"sentences spoken by flite": spot_in_sentences(phrases, held_out)}
    for corpus in sorted({u.corpus for u in utterances if u.path is not None}):
        spotted[corpus] = spot_in_speech(phrases, [u for u in utterances if u.corpus == corpus])
    measured = costs(bundle, utterances, (*MODES, *_named(arguments)))
    table = Table("what", "figure", "on")
    for name, found in errors.items():
        table.add_row(
            f"{name}, word error rate",
            f"{100 * found.error_rate:.1f} %",
            f"{found.words} words of neutral clips: {found.substitutions} substituted, "
            f"{found.lost.total()} lost, {found.added.total()} added",
        )
    for name, of in spotted.items():
        if of.said:
            table.add_row(
                "key phrases found",
                f"{100 * of.hits / of.said:.0f} %",
                f"{of.hits} of {of.said} in {of.clips} clips, {name}",
            )
        table.add_row(
            "false alarms an hour", f"{of.hourly:.1f}", f"{of.alarms} in {of.hours:.3f} h, {name}"
        )
    for cost in measured:
        table.add_row(
            f"{cost.mode}: real-time factor",
            f"{cost.real_time_factor:.3f}",
            f"of its own process, {cost.rss_mb:.0f} MB; emotion path "
            f"{cost.emotion_real_time_factor:.4f}",
        )
    Tables(100).print(table)
    print(
        f"{len(phrases)} phrases; sentences are of development splits, by which none was tuned; "
        "those of the default bundle were tuned on LibriSpeech and on sentences of the training "
        "split: on other speech false alarms are a result"
    )
    write_json(arguments.json, to_dict(errors, spotted, measured))
    return OK


def _spoken(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from benchmarks.spoken import MODES, judge_spoken, sentences_of
    from edge_runtime.bundle import load_bundle
    from edge_runtime.terminal import Tables

    bundle = load_bundle(arguments.bundle)
    _, held_out = _speech_and_texts(arguments, bundle)
    modes = (*MODES, *_named(arguments))
    outcomes = judge_spoken(bundle, sentences_of(held_out, arguments.spoken), modes)
    same = ("same class\nUA / WA %", "now right,\nnow wrong", "by chance\np")
    conflict = "conflict: as\nthe words %"
    heard = "words\nheard in", "word\nerrors %"
    table = Table("words from", *heard, *same, conflict, "as the\nvoice %", "neither %")
    for outcome in outcomes:
        agreeing = outcome.agreeing
        table.add_row(
            {"off": "none: audio only"}.get(outcome.mode, outcome.mode),
            f"{outcome.heard} of {outcome.sentences}",
            f"{100 * outcome.word_error_rate:.1f}" if outcome.heard else "",
            f"{agreeing.ua_text()} / {100 * agreeing.wa:.1f}",
            f"{outcome.helped}, {outcome.harmed}",
            f"{outcome.chance:.3f}",
            *(f"{100 * outcome.share(side):.0f}" for side in ("words", "voice", "neither")),
        )
    console = Tables(100)
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
    write_json(arguments.json, {"rows": [o.to_dict() for o in outcomes]})
    return OK


def _faults(arguments: argparse.Namespace) -> int:
    from rich.table import Table

    from benchmarks.errors import BenchmarkError
    from benchmarks.faults import HARMS, harm_engine
    from benchmarks.hearing import readable
    from edge_runtime.bundle import load_bundle
    from edge_runtime.terminal import Tables

    bundle = load_bundle(arguments.bundle)
    utterances, _ = _speech_and_texts(arguments, bundle)
    spoken = readable(u for u in utterances if u.path is not None)
    clips = [samples for _, samples in islice(spoken, arguments.faults)]
    if len(clips) < 3:
        raise BenchmarkError("--faults needs 3 clips at least that can be read")
    table = Table("engine", "verdicts", "revised", "p50 ms", "p95 ms", "what the events tell")
    (engine,) = _named(arguments) or ("asr",)
    outcomes = [harm_engine(bundle, clips, harm, engine) for harm in HARMS]
    for o in outcomes:
        table.add_row(
            o.harm,
            f"{o.verdicts} of {o.utterances}",
            str(o.revised),
            f"{o.p50_ms:.1f}",
            f"{o.p95_ms:.1f}",
            "\n".join(o.told),
        )
    Tables(100).print(table)
    print("from the last sample needed to the final verdict; audio at the speed of speech")
    write_json(arguments.json, {"rows": [o.to_dict() for o in outcomes]})
    return OK


def _named(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The engine that was asked for, if any."""
    return (arguments.engine,) if arguments.engine else ()


def _speech_and_texts(
    arguments: argparse.Namespace, bundle: Bundle
) -> tuple[list[Utterance], list[Utterance]]:
    """All utterances, and those of development splits."""
    from training.corpora import load_corpora
    from training.corpora.class_map import open_classes
    from training.data.folds import official_split

    classes = open_classes(arguments.classes, bundle.manifest.training)
    found = load_corpora(arguments.corpora, classes=classes)
    utterances = [u for corpus in found.values() for u in corpus.utterances]
    split = official_split([u for u in utterances if u.text and u.split])
    return utterances, split[1] if split else []
