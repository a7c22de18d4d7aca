"""Every figure of a bundle on one self-contained HTML page, `templates/report.html.jinja`."""

from __future__ import annotations

import base64
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from benchmarks.contest import Comparison
from edge_runtime.bench import PERCENTILES
from edge_runtime.manifest import Manifest
from training.evaluate.metrics import INTERVAL, Metrics, ua_text
from training.evaluate.report import plot_confusion
from training.output import at_once

_TEMPLATE = "report.html.jinja"


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
    """Write the page to `path`; what names and texts hold is shown, never taken for HTML."""
    environment = Environment(
        loader=PackageLoader("benchmarks"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = environment.get_template(_TEMPLATE).render(
        manifest=report.manifest,
        made=f"{now}, {platform.machine()}, Python {platform.python_version()}",
        published=_published(report.manifest),
        accuracy=report.accuracy,
        clips=report.clips,
        confusion=_confusion(report.clips, report.accuracy) if report.accuracy else "",
        latency=report.latency,
        columns=[f"p{p}" for p in PERCENTILES],
        stages=_stages(report.latency),
        peers=[row.cells() for row in report.peers],
        INTERVAL=INTERVAL,
    )
    with at_once(path) as new:
        new.write_text(page + "\n", encoding="utf-8")


def _published(manifest: Manifest) -> list[tuple[object, ...]]:
    """Rows of the figures that the bundle carries."""
    return [
        (corpus, modality, form, values["n"], ua_text(values), f"{100 * values['wa']:.1f}")
        for corpus, modalities in manifest.metrics.get("corpora", {}).items()
        for modality, forms in modalities.items()
        for form, values in forms.items()
    ]


def _confusion(clips: str, accuracy: Metrics) -> str:
    """The confusion matrix as a PNG, in base64."""
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "confusion.png"
        plot_confusion([(clips, accuracy)], png)
        return base64.b64encode(png.read_bytes()).decode()


def _stages(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the milliseconds of each stage, a column for each of `PERCENTILES`."""
    stages = {
        f"{stage}, per {result['block_ms']} ms of speech": values
        for stage, values in result["stages_ms_per_block"].items()
    }
    stages["final verdict, from the last sample to the event"] = result["final_verdict_ms"]
    return [(name, *(f"{v[f'p{p}']:.3f}" for p in PERCENTILES)) for name, v in stages.items()]
