"""The HTML report, of figures made up: what is measured is in the tests of its command."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from benchmarks.contest import Comparison
from benchmarks.report import Report, write
from edge_runtime.bench import PERCENTILES
from edge_runtime.bundle import Bundle
from training.evaluate.metrics import measure

TIMES = {f"p{p}": 1.25 for p in PERCENTILES}
LATENCY = {
    "block_ms": 20,
    "stages_ms_per_block": {"mfcc": TIMES},
    "final_verdict_ms": {**TIMES, "p50": 2.5},
    "engine": "LiteRT <x>",
    "threads": 1,
    "real_time_factor": 0.01234,
    "peak_rss_mb": 71.4,
}
PEERS = [Comparison("MFCC", "ours", "the other & co", 1.0, 2.0)]


class Page(HTMLParser):
    """Tags, images and texts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[str] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.images += [value or "" for name, value in attrs if name == "src"]

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def test_names_are_shown_and_never_taken_for_html(bundle: Bundle, tmp_path: Path) -> None:
    harm = "<script>alert('é')</script>"
    judged = measure(np.array([0, 1, 1]), np.array([0, 1, 0]), ["a", "b"])
    path = tmp_path / "report.html"
    write(Report(replace(bundle.manifest, name=harm), LATENCY, PEERS, judged, "<b>.csv"), path)
    page = Page(path)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert f"{harm}: {bundle.manifest.variant} model, int8" in page.texts
    assert "Accuracy on <b>.csv" in page.texts
    assert "the other & co" in page.texts
    assert len(page.images) == 1
    assert page.images[0].startswith("data:image/png;base64,iVBORw0KGgo")  # a PNG's first bytes


def test_the_page_has_every_figure(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write(Report(bundle.manifest, LATENCY, PEERS, None), path)
    page = Page(path)
    figures = bundle.manifest.metrics["corpora"]
    published = sum(len(forms) for found in figures.values() for forms in found.values())
    # And three rows of titles, two of latency, one of a peer.
    assert page.tags.count("tr") == published + 6
    assert page.tags.count("table") == 3
    assert not page.images
    texts = page.texts
    assert bundle.manifest.metrics["protocol"] in texts
    assert "mfcc, per 20 ms of speech" in texts
    last = texts.index("final verdict, from the last sample to the event")
    assert texts[last + 1] == "2.500"
    assert "LiteRT <x>, 1 thread, real-time factor 0.0123, peak memory 71 MB." in texts
    assert texts[texts.index("the other & co") + 1 :][:3] == ["1.00", "2.00", "0.50"]


def test_a_bundle_without_figures_has_no_empty_table(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write(Report(replace(bundle.manifest, metrics={}), LATENCY, PEERS, None), path)
    assert not any(text.startswith("Accuracy") for text in Page(path).texts)
