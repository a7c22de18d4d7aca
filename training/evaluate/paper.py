"""The paper's figures and ours in one table, and its plot."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rich.box
import rich.table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.evaluate.metrics import INTERVAL
from training.evaluate.report import COLORS, INK
from training.network.config import ModelConfig
from training.network.cost import PAPER_FRAMES
from training.output import into_at_once
from training.provenance import provenance

TABLE = "table"  # .json, .md and .png

FLOAT, INT8 = "float", "int8"

MEASURES = ("wa", "ua")

OURS, PAPER, PEERS = "ours", "paper", "peers"

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
    ua_interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Form to the 95 % interval of UA, 0 to 1: the mean of those of the seeds; see `ua_interval`
    of `training.evaluate.metrics`. Empty where it was not published."""

    def to_dict(self) -> dict[str, Any]:
        """The fields, each figure with mean and, of several seeds, standard deviation."""
        figures = {
            form: {measure: _spread(values) for measure, values in measures.items()}
            for form, measures in self.figures.items()
        }
        for form, ends in self.ua_interval.items():
            figures[form]["ua"]["interval"] = [round(end, 4) for end in ends]
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
        cells = (self._cell(form, measure) for form in forms for measure in MEASURES)
        return [*self._judged(), *cells, *self.cost()]

    def accuracy(self, form: str) -> list[str]:
        """Who, utterances, WA, UA and its interval in one form."""
        return [
            *self._judged(),
            *(_percent(self.figures[form][measure]) for measure in MEASURES),
            self._interval(form) or "-",
        ]

    def cost(self) -> list[str]:
        """Parameters, values of the word table, millions of multiply-accumulates."""
        return [
            "-" if self.parameters is None else f"{self.parameters:,}",
            f"{self.embedding_parameters:,}" if self.embedding_parameters else "-",
            "-" if self.macs is None else f"{self.macs / 1e6:,.1f}",
        ]

    def _judged(self) -> list[str]:
        return [self.who, "-" if self.utterances is None else f"{self.utterances:,}"]

    def _cell(self, form: str, measure: str) -> str:
        values = self.figures.get(form, {}).get(measure)
        if not values:
            return "-"
        interval = self._interval(form) if measure == "ua" else ""
        return f"{_percent(values)} {interval}".rstrip()

    def _interval(self, form: str) -> str:
        ends = self.ua_interval.get(form)
        return f"[{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else ""


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
    settings: dict[str, Any] = field(default_factory=dict)
    """Schedule and shape of the models, seeds among them."""

    def columns(self) -> list[str]:
        """Titles of the cells of a row."""
        figures = [f"{form} {measure.upper()} %" for form in self.forms for measure in MEASURES]
        return ["variant", "n", *figures, "parameters", "word table", "MMAC"]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "protocol": self.protocol,
            "settings": {
                key: str(v) if isinstance(v, Path) else v for key, v in self.settings.items()
            },
            **provenance(),
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
            INTERVAL,
            *self.notes,
        ]

    def tables(self) -> list[rich.table.Table]:
        """For the terminal, in 80 columns: accuracy by corpus and form, then what ours cost.

        A line parts what is ours from the rest.
        """
        tables = []
        for corpus, rows in self.corpora.items():
            for form in self.forms:
                table = _narrow(f"{corpus}, {form}", "variant", "n", "WA %", "UA %", "UA, 95 %")
                judged = [row for row in rows if form in row.figures]
                for row, following in zip(judged, [*judged[1:], *judged[-1:]], strict=True):
                    table.add_row(*row.accuracy(form), end_section=row.source != following.source)
                tables.append(table)
        costs = _narrow("cost", "variant", "parameters", "word table", "MMAC")
        for row in next(iter(self.corpora.values()), []):
            if row.parameters is not None:
                costs.add_row(row.who, *row.cost())
        return [*tables, costs]

    def write(self, out: Path) -> None:
        """`table.json`, `table.md` and `table.png` in `out`."""
        text = json.dumps(self.to_dict(), indent=1)
        with into_at_once(out, last=f"{TABLE}.json") as new:
            (new / f"{TABLE}.json").write_text(text + "\n", encoding="utf-8")
            (new / f"{TABLE}.md").write_text(self.markdown(), encoding="utf-8")
            plot(self, new / f"{TABLE}.png")


def _narrow(title: str, *columns: str) -> rich.table.Table:
    """A table without lines between its columns, the first of them words, the others numbers."""
    table = rich.table.Table(
        title=title, title_justify="left", box=rich.box.SIMPLE_HEAD, pad_edge=False
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    return table


def plot(table: PaperTable, path: Path) -> None:
    """WA and UA of every row as dots, with deviations over seeds, as PNG; a row a corpus."""
    heights = [1.3 + 0.3 * len(rows) for rows in table.corpora.values()]
    figure = Figure(figsize=(11, sum(heights) + 0.5), layout="constrained")
    axes = figure.subplots(len(heights), 2, height_ratios=heights, squeeze=False, sharey="row")
    for line, (corpus, rows) in zip(axes, table.corpora.items(), strict=True):
        for axis, measure in zip(line, MEASURES, strict=True):
            _draw(axis, rows, measure, table.forms)
            axis.set_title(f"{corpus}: {measure.upper()} %", fontsize=11, color=INK)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)


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


def _published(corpus: str, labels: Sequence[str]) -> list[Row]:
    """What the paper reports of a corpus, if it is the same task."""
    if corpus != PAPER_CORPUS or len(labels) != 4:
        return []
    return [Row(who, PAPER, {FLOAT: {"wa": [wa], "ua": [ua]}}) for who, wa, ua in PAPER_FIGURES]


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
