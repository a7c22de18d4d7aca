"""Every figure of a bundle on one self-contained HTML page."""

from __future__ import annotations

import base64
import platform
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.contest import Comparison
from edge_runtime.bench import PERCENTILES
from edge_runtime.manifest import Manifest
from training.evaluate.metrics import INTERVAL, Metrics, ua_text
from training.evaluate.report import plot_confusion
from training.output import at_once

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22313f; max-width: 52rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid #dde3e8; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; } p.note { color: #66737f; font-size: .9rem; } img { max-width: 100%; }
"""


@dataclass(frozen=True)
class Report:
    """What goes on the page."""

    manifest: Manifest
    latency: dict[str, Any]
    """What `edge_runtime.bench.measure` returned."""
    peers: Sequence[Comparison]
    accuracy: Metrics | None
    """Accuracy on labelled clips, where some were given."""
    clips: str = ""
    """Name of their manifest."""


def write(report: Report, path: Path) -> None:
    """Write the page to `path`."""
    manifest = report.manifest
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = [
        f"<h1>{escape(manifest.name)}: {escape(manifest.variant)} model, int8</h1>",
        _note(f"{now}, {platform.machine()}, Python {platform.python_version()}"),
        *_published(manifest),
        *_judged(report),
        *_latency(report.latency),
        "<h2>Beside what people use today</h2>",
        _table(
            ("", "ours", "peer", "ours ms", "peer ms", "ours / peer"),
            [row.cells() for row in report.peers],
        ),
        _note("Medians of alternating runs on 7.5 s of audio, one thread."),
    ]
    head = f'<meta charset="utf-8"><title>{escape(manifest.name)}</title><style>{_STYLE}</style>'
    page = f"<html lang=en><head>{head}</head>\n<body>{''.join(body)}</body></html>\n"
    with at_once(path) as new:
        new.write_text(f"<!doctype html>\n{page}", encoding="utf-8")


def _published(manifest: Manifest) -> list[str]:
    """The figures that the bundle carries."""
    metrics = manifest.metrics
    if "corpora" not in metrics:
        return []
    rows = [
        (
            corpus,
            modality,
            form,
            values["n"],
            ua_text(values),
            f"{100 * values['wa']:.1f}",
        )
        for corpus, modalities in metrics["corpora"].items()
        for modality, forms in modalities.items()
        for form, values in forms.items()
    ]
    return [
        "<h2>Accuracy, cross-validated when it was made</h2>",
        _table(("corpus", "from", "form", "n", "UA % [95 %]", "WA %"), rows),
        _note(str(metrics["protocol"])),
        _note(INTERVAL),
    ]


def _judged(report: Report) -> list[str]:
    if report.accuracy is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "confusion.png"
        plot_confusion([(report.clips, report.accuracy)], png)
        image = base64.b64encode(png.read_bytes()).decode()
    return [
        f"<h2>Accuracy on {escape(report.clips)}</h2>",
        f'<img alt="confusion matrix" width=420 src="data:image/png;base64,{image}">',
        _note("Measured now, every clip streamed through the code that runs on the device."),
        _note(f"{report.accuracy.speakers_text()}. {INTERVAL}"),
    ]


def _latency(result: dict[str, Any]) -> list[str]:
    stages = {
        f"{stage}, per {result['block_ms']} ms of speech": values
        for stage, values in result["stages_ms_per_block"].items()
    }
    stages["final verdict, from the last sample to the event"] = result["final_verdict_ms"]
    rows = [(name, *(f"{v[f'p{p}']:.3f}" for p in PERCENTILES)) for name, v in stages.items()]
    return [
        "<h2>Latency</h2>",
        _table(("milliseconds", *(f"p{p}" for p in PERCENTILES)), rows),
        _note(
            f"{result['engine']}, {result['threads']} thread, real-time factor "
            f"{result['real_time_factor']:.4f}, peak memory {result['peak_rss_mb']:.0f} MB."
        ),
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = [
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    ]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'
