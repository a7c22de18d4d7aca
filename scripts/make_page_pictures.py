"""Take pictures of the page, as a phone and as a desktop computer show it.

    .venv/bin/python scripts/make_page_pictures.py [EVENTS.jsonl]

EVENTS.jsonl is what `edge-emotion run --out jsonl` wrote. Without it real clips of RAVDESS and
EMO-DB ($CORPORA) are spread over an hour of silence and judged by the bundle in the box, and the
scene in the box comes last; the words are those that were spoken. A real server and a real Chromium
do the rest. Writes docs/page-phone.png and docs/page-desktop.png.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from edge_runtime import EmotionStream, __version__, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.audio.levels import Level
from edge_runtime.events import EmotionEvent, Event, RevisedEvent, Word
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.sinks import Context
from edge_runtime.web import WebSettings
from edge_runtime.web.access import access_of
from edge_runtime.web.server import Server

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "device"))

from chromium import Browser  # noqa: E402  # the one that the tests use

SCENE = ROOT / "edge_runtime" / "demo" / "scene.flac"
CORPORA = Path(os.environ.get("CORPORA") or ROOT.parent / "shared" / "data")
SENTENCES = {"01": "kids are talking by the door", "02": "dogs are sitting by the door"}
CLIPS = 270
SCENE_SECONDS = 17.5
BLOCK = SAMPLE_RATE // 10
PICTURES = {  # name: width, height, scheme, pixels a CSS pixel, colors of the file
    "page-phone": (390, 844, "dark", 2, 128),
    "page-desktop": (1280, 800, "light", 1.5, 128),
}


def hour() -> Iterator[Event]:
    """Clips of all classes in an order and with pauses of chance, the scene last."""
    rng = np.random.default_rng(3)
    ravdess = sorted(CORPORA.glob("ravdess/Actor_*/03-01-0[1345]-*.flac"))
    emodb = sorted(CORPORA.glob("emodb/wav/*[FNWT]?.flac"))
    chosen = [
        clip
        for clips, share in ((ravdess, 0.8), (emodb, 0.2))
        for clip in rng.choice(np.array(clips), round(CLIPS * share))
    ]
    rng.shuffle(chosen)
    with EmotionStream(load_bundle()) as stream:
        for clip in chosen:
            words = SENTENCES[clip.stem.split("-")[4]] if "ravdess" in clip.parts else ""
            yield from _spoken(stream, read_file(clip), words)
            pause = rng.normal(0, 3, round(rng.exponential(7) + 2) * SAMPLE_RATE)
            yield from _spoken(stream, pause.astype(np.int16), "")
        lines = SCENE.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
        yield from _scene(stream, [json.loads(line) for line in lines])
        yield stream.health()


def _spoken(stream: EmotionStream, samples: Int16, words: str) -> Iterator[Event]:
    if words:
        stream.read(words)
    for begin in range(0, len(samples), BLOCK):
        yield from stream.feed(samples[begin : begin + BLOCK])


def _scene(stream: EmotionStream, texts: list[dict[str, Any]]) -> Iterator[Event]:
    """The scene into its fourth sentence, with its words as they come."""
    scene = read_file(SCENE)[: round(SCENE_SECONDS * SAMPLE_RATE)]
    for begin in range(0, len(scene), BLOCK):
        while texts and float(texts[0].get("start", 0)) <= begin / SAMPLE_RATE:
            stream.read(str(texts.pop(0)["text"]))
        yield from stream.feed(scene[begin : begin + BLOCK])


def read(path: Path) -> Iterator[Event]:
    """The events of a file."""
    kinds = {kind.type: kind for kind in (*get_args(Event), RevisedEvent)}
    for line in path.read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        kind = kinds[found["type"]]
        values = {item.name: found[item.name] for item in fields(kind) if item.name in found}
        if "words" in values:
            values["words"] = tuple(Word(**word) for word in values["words"])
        yield kind(**values)


def main() -> None:
    """Write both pictures."""
    events = list(read(Path(sys.argv[1])) if len(sys.argv) > 1 else hour())
    end = max(event.t for event in events)
    verdict = next(event for event in events if isinstance(event, EmotionEvent))
    settings = WebSettings(on=True, port=0)
    context = Context("living room", __version__, "default", tuple(verdict.scores))
    server = Server(settings, access_of(settings), context)
    now = datetime.now(UTC)
    for event in events:
        server.hand_over(event, now - timedelta(seconds=end - event.t))
        time.sleep(0.0005)  # no more than the server takes
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder), "--font-render-hinting=none")
        try:
            for name, (width, height, scheme, scale, colors) in PICTURES.items():
                page = browser.page()
                page.call("Emulation.setLocaleOverride", locale="en-GB")
                page.look(width, height, scheme, scale)
                page.go(server.url)
                page.until("document.querySelectorAll('#list li').length > 2")
                server.hand_over_level(end, "48 kHz, 2 channels", Level(-21.0, -9.0))
                page.until("!document.getElementById('level').hidden")
                time.sleep(0.4)
                image = Image.open(BytesIO(page.picture())).convert("RGB").quantize(colors)
                out = ROOT / "docs" / f"{name}.png"
                image.save(out, optimize=True)
                print(f"{out}: {out.stat().st_size:,} bytes")
                page.close()
        finally:
            browser.close()
            server.close()


if __name__ == "__main__":
    main()
