"""The paper's table: every variant over the same folds, beside the paper's figures and peers'.

The protocol is that of Peng, Lu, Pan, Liu, ICASSP 2021 (arXiv 2106.04133): 10 folds by speaker,
weighted and unweighted accuracy (WA, UA). A variant is trained once a seed; each run is a
`training.crossval` of its own, whose finished folds are kept.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib
import rich.table

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from training.corpora import Utterance
from training.cost import PAPER_FRAMES, cost
from training.crossval import crossval, write_summary
from training.data import FeatureSettings
from training.embeddings import WordSettings
from training.errors import TrainingError
from training.fit import FitSettings
from training.model import ModelConfig, Variant, variants
from training.prepare import word_plan
from training.report import COLORS, INK
from training.run import load
from training.speaker import SpeakerVectors

TABLE = "table"  # .json, .md and .png
FLOAT, INT8 = "float", "int8"
MEASURES = ("wa", "ua")
OURS, PAPER, PEERS = "ours", "paper", "peers"
PAPER_FOLDS = 10
TOKENS = ModelConfig.tokens
PAPER_CORPUS = "iemocap"
# WA and UA on IEMOCAP, four classes, 5,531 utterances. The paper's model is its best, audio + text
# + attention; MHA-2 (Yoon et al., ICASSP 2019, arXiv 1904.10788) is what it compares itself with.
PAPER_FIGURES = (
    ("Peng et al. 2021, MSCNN-SPU-ATT, ASR", 0.780, 0.791),
    ("Peng et al. 2021, MSCNN-SPU-ATT, transcripts", 0.803, 0.814),
    ("Yoon et al. 2019, MHA-2, ASR", 0.730, 0.739),
)


@dataclass(frozen=True)
class TableSettings:
    """What the table shows."""

    variants: str = ""
    """Variants, with commas between; by default all that the data allows."""
    seeds: int = 1
    """Trainings of each variant and fold, with seeds from --seed on; 3 or more give a deviation."""
    forms: str = field(default="float+int8", metadata={"choices": ("float+int8", "float")})
    """Forms that are judged; float alone is faster: nothing is converted."""
    peers: Path | None = field(default=None, metadata={"metavar": "JSON"})
    """Figures of openSMILE and others, made by python -m benchmarks peers --corpora ... --json."""


@dataclass(frozen=True)
class Row:
    """One line of the table, for one corpus."""

    who: str
    """A variant, or who else was measured."""
    source: str
    """ours, paper or peers."""
    figures: dict[str, dict[str, list[float]]]
    """Form (float, int8) to measure (wa, ua) to the figure of each seed, 0 to 1."""
    utterances: int | None = None
    """Utterances judged, each once."""
    parameters: int | None = None
    """Weights and biases, word embeddings aside."""
    embedding_parameters: int | None = None
    """Values of the embedding table."""
    macs: int | None = None
    """Multiply-accumulates of an utterance of `PAPER_FRAMES` and `TOKENS`."""

    def to_dict(self) -> dict[str, Any]:
        """The fields, each figure with mean and, of several seeds, standard deviation."""
        figures = {
            form: {measure: _spread(values) for measure, values in measures.items()}
            for form, measures in self.figures.items()
        }
        known = {
            "utterances": self.utterances,
            "parameters": self.parameters,
            "embedding_parameters": self.embedding_parameters,
            "macs": self.macs,
        }
        return {
            "who": self.who,
            "source": self.source,
            **figures,
            **{name: value for name, value in known.items() if value is not None},
        }

    def cells(self, forms: Sequence[str]) -> list[str]:
        """What a reader sees, in the order of `columns`."""
        found = [self.figures.get(form, {}).get(m) for form in forms for m in MEASURES]
        return [
            self.who,
            "-" if self.utterances is None else f"{self.utterances:,}",
            *(_percent(values) if values else "-" for values in found),
            "-" if self.parameters is None else f"{self.parameters:,}",
            f"{self.embedding_parameters:,}" if self.embedding_parameters else "-",
            "-" if self.macs is None else f"{self.macs / 1e6:,.1f}",
        ]


@dataclass
class PaperTable:
    """The table of every corpus, and what a reader must know."""

    forms: tuple[str, ...]
    """Forms of ours: float, int8."""
    protocol: str = ""
    """How it was measured."""
    notes: list[str] = field(default_factory=list)
    """What is missing or different, a sentence each."""
    corpora: dict[str, list[Row]] = field(default_factory=dict)
    """Corpus to its rows: ours, the paper's, peers'."""

    def columns(self) -> list[str]:
        """Titles of the cells of a row."""
        figures = [f"{form} {measure.upper()} %" for form in self.forms for measure in MEASURES]
        return ["variant", "n", *figures, "parameters", "word table", "MMAC"]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "protocol": self.protocol,
            "notes": self.notes,
            "corpora": {
                corpus: [row.to_dict() for row in rows] for corpus, rows in self.corpora.items()
            },
        }

    def markdown(self) -> str:
        """For a report or README."""
        parts = []
        for corpus, rows in self.corpora.items():
            lines = [self.columns(), ["---", *["---:"] * (len(self.columns()) - 1)]]
            lines += [row.cells(self.forms) for row in rows]
            table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
            parts.append(f"## {corpus}\n\n{table}")
        return "\n".join([*parts, "".join(f"- {line}\n" for line in self.explanation())])

    def explanation(self) -> list[str]:
        """Protocol and notes, a line each."""
        return [
            f"ours: {self.protocol}",
            f"n: utterances; word table: values of the embedding table; MMAC: {PAPER_FRAMES / 100} "
            f"s and {TOKENS} words, speaker encoder not counted; ±: standard deviation over seeds",
            *self.notes,
        ]

    def tables(self) -> list[rich.table.Table]:
        """One for the terminal for each corpus; a line parts what is ours from the rest."""
        found = []
        for corpus, rows in self.corpora.items():
            table = rich.table.Table(title=corpus, title_justify="left")
            for index, column in enumerate(self.columns()):
                table.add_column(column, justify="right" if index else "left", no_wrap=True)
            for row, following in zip(rows, [*rows[1:], rows[-1]], strict=True):
                table.add_row(*row.cells(self.forms), end_section=row.source != following.source)
            found.append(table)
        return found

    def write(self, out: Path) -> None:
        """`table.json`, `table.md` and `table.png` in `out`."""
        text = json.dumps(self.to_dict(), indent=1)
        (out / f"{TABLE}.json").write_text(text + "\n")
        (out / f"{TABLE}.md").write_text(self.markdown(), encoding="utf-8")
        plot(self, out / f"{TABLE}.png")


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
    folds: int | None
    """Folds by speaker; None: each recording session is one."""
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
        if (needs := _needs(Variant.parse(name), words=words, speaker=speaker))
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
        notes.append(f"{count} variants are left out: they need {needs}")
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
    if settings.seeds < 1:
        raise TrainingError(f"--seeds {settings.seeds}: expected at least 1")
    peers, peer_notes = _peers(settings.peers)
    forms = (FLOAT, INT8) if INT8 in settings.forms else (FLOAT,)
    labels = protocol.config.labels
    out.mkdir(parents=True, exist_ok=True)
    ours: dict[str, list[Row]] = {}
    table = PaperTable(forms, notes=list(notes))
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


def plot(table: PaperTable, path: Path) -> None:
    """WA and UA of every row as dots, with deviations over seeds, as PNG; a row a corpus."""
    heights = [1.3 + 0.3 * len(rows) for rows in table.corpora.values()]
    figure, axes = plt.subplots(
        len(heights),
        2,
        figsize=(11, sum(heights) + 0.5),
        height_ratios=heights,
        squeeze=False,
        sharey="row",
        layout="constrained",
    )
    for line, (corpus, rows) in zip(axes, table.corpora.items(), strict=True):
        for axis, measure in zip(line, MEASURES, strict=True):
            _draw(axis, rows, measure, table.forms)
            axis.set_title(f"{corpus}: {measure.upper()} %", fontsize=11, color=INK)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw(axis: Axes, rows: Sequence[Row], measure: str, forms: Sequence[str]) -> None:
    """One measure of every row: dots in the colour of the form, diamonds for who is not ours."""
    ours = sum(row.source == OURS for row in rows)
    for number, form in enumerate(forms):
        shift = 0.24 * (number - (len(forms) - 1) / 2)  # so that forms do not hide each other
        _dots(axis, rows[:ours], 0, shift, form, measure, fmt="o", color=COLORS[number], label=form)
    _dots(axis, rows[ours:], ours, 0.0, FLOAT, measure, fmt="D", color=INK, label="others")
    if ours < len(rows):
        axis.axhline(ours - 0.5, color=INK, lw=0.6, ls=":")
    axis.set_yticks(range(len(rows)), [row.who for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _dots(
    axis: Axes, rows: Sequence[Row], first: int, shift: float, form: str, measure: str, **style: Any
) -> None:
    """Means and deviations of `rows`, the first of them at height `first` + `shift`."""
    if not rows:
        return
    values = [row.figures[form][measure] for row in rows]
    axis.errorbar(
        [100 * statistics.mean(seeds) for seeds in values],
        [first + index + shift for index in range(len(rows))],
        xerr=[100 * _deviation(seeds) for seeds in values],
        ms=6,
        capsize=3,
        **style,
    )


def _canonical(name: str) -> str:
    """The one spelling of a variant; TrainingError for none."""
    try:
        wanted = Variant.parse(name.strip())
    except ValueError as error:
        raise TrainingError(str(error)) from None
    return next(other for other in variants() if Variant.parse(other) == wanted)


def _needs(variant: Variant, words: bool, speaker: bool) -> str:
    """What the data lacks for a variant; empty if nothing."""
    if variant.text and not words:
        return "words, which the clips do not have; --pair draws them from a text corpus"
    if variant.speaker and not speaker:
        return "--speaker: resemblyzer, or a file of embeddings"
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
        teacher=protocol.settings.teacher and audio,
    )
    usable, words = word_plan(protocol.utterances, config, protocol.words, protocol.pair and text)
    folder = out / name / f"seed{settings.seed}"
    result = crossval(
        usable,
        config,
        settings,
        protocol.features,
        protocol.folds,
        folder,
        protocol.jobs,
        words,
        speakers=protocol.speakers if config.parts.speaker else None,
        int8=int8,
    )
    summary = write_summary(result, config, folder, protocol.folds is None, bool(words.train))
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
    )


def _published(corpus: str, labels: Sequence[str]) -> list[Row]:
    """What the paper reports of a corpus, if it is the same task."""
    if corpus != PAPER_CORPUS or len(labels) != 4:
        return []
    return [Row(who, PAPER, {FLOAT: {"wa": [wa], "ua": [ua]}}) for who, wa, ua in PAPER_FIGURES]


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
        accuracy = json.loads(path.read_text())["accuracy"]
        for standing in accuracy["standings"]:
            if standing["who"].startswith("ours"):
                continue  # the bundle in use, of other data
            for corpus, found in standing["corpora"].items():
                figures = {FLOAT: {m: [float(found[m])] for m in MEASURES}}
                row = Row(standing["who"], PEERS, figures, int(found["n"]))
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
                f"{corpus}: {there:,} utterances are here, others were judged on (without words, "
                f"without sound, or of other data): {', '.join(others)}"
            )
    return notes


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _spread(values: Sequence[float]) -> dict[str, Any]:
    spread: dict[str, Any] = {"mean": round(statistics.mean(values), 4)}
    if len(values) > 1:
        spread |= {"std": round(_deviation(values), 4), "seeds": list(values)}
    return spread


def _percent(values: Sequence[float]) -> str:
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * _deviation(values):.1f}" if len(values) > 1 else mean
