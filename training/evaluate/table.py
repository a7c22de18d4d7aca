"""The paper's table: every variant over the same folds, beside the paper's figures and peers'.

The protocol is that of Peng, Lu, Pan, Liu, ICASSP 2021 (arXiv 2106.04133): 10 folds by speaker,
weighted and unweighted accuracy (WA, UA). A variant is trained once a seed; each run is a
`training.evaluate.crossval` of its own, whose finished folds are kept.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_runtime.console import counted
from training.corpora import Utterance
from training.data.features import FeatureSettings
from training.data.folds import Cut
from training.data.speaker import SpeakerVectors
from training.errors import TrainingError
from training.evaluate.crossval import Training, crossval, write_summary
from training.evaluate.metrics import Metrics
from training.evaluate.paper import (
    FLOAT,
    INT8,
    MEASURES,
    OURS,
    PAPER_CORPUS,
    PEERS,
    PaperTable,
    Row,
    _published,
)
from training.evaluate.settings import TableSettings
from training.fit.prepare import word_plan
from training.fit.settings import FitSettings
from training.network.config import ModelConfig, Variant, variants
from training.network.cost import cost
from training.run import load
from training.words.settings import WordSettings


@dataclass(frozen=True)
class Protocol:
    """What every variant is trained and judged with."""

    utterances: Sequence[Utterance]
    """What is spoken, and with `pair` the texts to draw words from."""
    config: ModelConfig
    """The shape of the models; its variant aside."""
    settings: FitSettings
    features: FeatureSettings
    words: WordSettings
    folds: Cut
    """Folds by speaker, or what each is one of."""
    jobs: int
    """Folds at a time."""
    pair: bool = False
    """Draw the words of a clip from the texts of its class."""
    speakers: SpeakerVectors | None = None
    """Speaker embeddings, for the variants that take them."""


def choose(
    wanted: str, utterances: Sequence[Utterance], pair: bool, speaker: bool
) -> tuple[list[str], list[str]]:
    """Names of the variants to train, and notes on those that the data does not allow.

    `wanted` are names with commas between. Raises TrainingError for a name that is none, for one
    that the data does not allow, and where there is no audio: the table is about speech.
    """
    if all(u.path is None for u in utterances):
        raise TrainingError("the table compares variants on speech; the corpora are text only")
    words = pair or any(u.text for u in utterances if u.path is not None)
    lacking = {
        name: needs
        for name in variants()
        if (needs := _needs(Variant.parse(name), words=words, speaker=speaker, pair=pair))
    }
    if wanted:
        names = list(dict.fromkeys(_canonical(name) for name in wanted.split(",") if name))
        for name in names:
            if name in lacking:
                raise TrainingError(f"variant {name} needs {lacking[name]}")
        return names, []
    notes = []
    for needs in dict.fromkeys(lacking.values()):
        count = sum(other == needs for other in lacking.values())
        notes.append(f"left out: {counted(count, 'variant')}, for want of {needs}")
    return [name for name in variants() if name not in lacking], notes


def run(
    protocol: Protocol,
    chosen: Sequence[str],
    settings: TableSettings,
    out: Path,
    notes: Sequence[str] = (),
    begin: Callable[[str], None] = lambda _: None,
) -> PaperTable:
    """Train every chosen variant with every seed into OUT/VARIANT/seedN; the table, written.

    `out` holds the table of the variants that are finished from the first one on. Raises
    TrainingError as `crossval` does.

    Parameters
    ----------
    protocol, settings : what is measured.
    chosen, notes : as `choose` gives them.
    out : folder to write.
    begin : told what begins, in words.
    """
    peers, peer_notes = _peers(settings.peers)
    forms = (FLOAT, INT8) if INT8 in settings.forms else (FLOAT,)
    labels = protocol.config.labels
    out.mkdir(parents=True, exist_ok=True)
    ours: dict[str, list[Row]] = {}
    table = PaperTable(
        forms,
        notes=list(notes),
        settings={
            **asdict(protocol.settings),
            **asdict(settings),
            "model": asdict(protocol.config),
        },
    )
    if settings.seeds == 1:
        table.notes.append("one seed, so no deviation is known; see --seeds")
    total = len(chosen) * settings.seeds
    for index, name in enumerate(chosen):
        found = []
        for seed in range(settings.seeds):
            begin(
                f"{name}, seed {protocol.settings.seed + seed}: "
                f"{index * settings.seeds + seed + 1} of {total}"
            )
            found.append(_run_variant(protocol, name, seed, out, INT8 in forms))
        for corpus in found[0]["corpora"]:
            row = _row(name, [summary["corpora"][corpus] for summary in found], out, protocol)
            ours.setdefault(corpus, []).append(row)
        # The protocol of those that read says the most.
        table.protocol = max(table.protocol, found[0]["protocol"], key=len)
        table.corpora = {
            corpus: [*rows, *_published(corpus, labels), *peers.get(corpus, [])]
            for corpus, rows in ours.items()
        }
        table.write(out)
    table.notes += [*_differing_counts(table.corpora, protocol.utterances), *peer_notes]
    if PAPER_CORPUS not in ours:
        table.notes.append("the paper's figures are of IEMOCAP, and not shown beside other corpora")
    table.write(out)
    return table


def _canonical(name: str) -> str:
    """The one spelling of a variant; TrainingError for none."""
    try:
        wanted = Variant.parse(name.strip())
    except ValueError as error:
        raise TrainingError(str(error)) from None
    return next(other for other in variants() if Variant.parse(other) == wanted)


def _needs(variant: Variant, words: bool, speaker: bool, pair: bool) -> str:
    """What the data lacks for a variant; empty if nothing."""
    if variant.text and not words:
        return "words, which the clips do not have; --pair draws them from a text corpus"
    if variant.speaker and not speaker:
        return "--speaker: resemblyzer, or a file of embeddings"
    if variant.speaker and pair and not variant.audio:
        return "texts that somebody spoke, which those that --pair draws are not"
    return ""


def _run_variant(protocol: Protocol, name: str, seed: int, out: Path, int8: bool) -> dict[str, Any]:
    """Figures of one crossval: its protocol and, by corpus, what each form of it reached."""
    config = replace(protocol.config, variant=name)
    if protocol.speakers:
        config = replace(config, speaker=protocol.speakers.width)
    audio, text = config.parts.audio, config.parts.text
    settings = replace(
        protocol.settings,
        seed=protocol.settings.seed + seed,
        # What is for sound only would be computed in vain.
        augment=protocol.settings.augment and audio,
        teacher=protocol.settings.teacher if audio else "",
    )
    usable, words = word_plan(protocol.utterances, config, protocol.words, protocol.pair and text)
    folder = out / name / f"seed{settings.seed}"
    training = Training(
        config,
        settings,
        protocol.features,
        words,
        speakers=protocol.speakers if config.parts.speaker else None,
        int8=int8,
    )
    result = crossval(usable, training, protocol.folds, folder, protocol.jobs)
    summary = write_summary(result, training, folder, protocol.folds, bool(words.train))
    metrics = summary["metrics"]
    # The last modality is all that the model takes.
    whole = {corpus: list(found.values())[-1] for corpus, found in metrics["corpora"].items()}
    return {"protocol": metrics["protocol"], "corpora": whole}


def _row(name: str, runs: Sequence[dict[str, Any]], out: Path, protocol: Protocol) -> Row:
    """The row of a variant from the forms of each of its runs on one corpus."""
    figures = {
        form: {measure: [run[form][measure] for run in runs] for measure in MEASURES}
        for form in (FLOAT, INT8)
        if form in runs[0]
    }
    # Only the vocabulary differs between folds.
    config = load(out / name / f"seed{protocol.settings.seed}" / "fold1").config
    found = cost(config)
    embeddings = found.parameters.get("embedding", 0)
    return Row(
        name,
        OURS,
        figures,
        runs[0][FLOAT]["n"],
        found.total_parameters - embeddings,
        embeddings,
        found.total_macs,
        {form: _mean_ends([Metrics.of(run[form]).ua_interval for run in runs]) for form in figures},
    )


def _peers(path: Path | None) -> tuple[dict[str, list[Row]], list[str]]:
    """Rows by corpus from what `python -m benchmarks peers --json` wrote, and notes on them.

    Raises TrainingError for another file.
    """
    if path is None:
        return {}, [
            "openSMILE is left out: python -m benchmarks peers --corpora ... --json FILE measures "
            "it, --peers FILE shows it here"
        ]
    rows: dict[str, list[Row]] = {}
    try:
        accuracy = json.loads(path.read_text(encoding="utf-8"))["accuracy"]
        for standing in accuracy["standings"]:
            if standing["who"].startswith("ours"):
                continue  # the bundle in use, of other data
            for corpus, found in standing["corpora"].items():
                figures = {FLOAT: {m: [float(found[m])] for m in MEASURES}}
                row = Row(standing["who"], PEERS, figures, int(found["n"]))
                if ends := found.get("ua_interval"):
                    row = replace(row, ua_interval={FLOAT: (float(ends[0]), float(ends[1]))})
                rows.setdefault(corpus, []).append(row)
        return rows, [f"peers: {accuracy['protocols']['peers']}"]
    except OSError as error:
        raise TrainingError(f"--peers {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TrainingError(
            f"--peers {path}: not the figures of python -m benchmarks peers --corpora ... --json"
        ) from None


def _differing_counts(corpora: dict[str, list[Row]], utterances: Sequence[Utterance]) -> list[str]:
    """A note for each corpus of which not every row judged what there is."""
    notes = []
    for corpus, rows in corpora.items():
        there = sum(u.corpus == corpus and u.path is not None for u in utterances)
        others = [f"{r.who} {r.utterances:,}" for r in rows if r.utterances not in (None, there)]
        if others:
            notes.append(
                f"{corpus}: here is {counted(there, 'utterance')}, others were judged on (without "
                f"words, without sound, or of other data): {', '.join(others)}"
            )
    return notes


def _mean_ends(intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    lower, upper = zip(*intervals, strict=True)
    return statistics.mean(lower), statistics.mean(upper)
