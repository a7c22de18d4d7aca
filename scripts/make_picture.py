"""Record what `edge-emotion demo` shows in a terminal as docs/demo.svg.

    .venv/bin/python scripts/make_picture.py [OUT.svg]

The scene runs through the bundle in the box, and its events through the terminal view itself; rich
exports what it drew. Latencies are those of the machine it is run on.
"""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import FileSource
from edge_runtime.events import EmotionEvent, SourceEvent
from edge_runtime.sinks.pretty import PrettySink

ROOT = Path(__file__).parent.parent
SCENE = ROOT / "edge_runtime" / "demo" / "scene.flac"
WIDTH = 84  # columns; an utterance with its words fits


def main() -> None:
    """Write the picture."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "demo.svg"
    console = Console(
        record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text("$ edge-emotion run scene.flac --text jsonl:scene.jsonl", style="bold"))
    words = f"jsonl:{SCENE.with_suffix('.jsonl')}"
    sink = PrettySink(console)
    source = FileSource(SCENE)
    with EmotionStream(load_bundle("default"), words, live=False, partial_seconds=0) as stream:
        sink.write(SourceEvent(0.0, SCENE.name))
        for block in source.blocks():
            for event in stream.feed(block.samples):
                if isinstance(event, EmotionEvent):  # the running line is no part of a still
                    sink.write(event)
        for event in stream.finish():
            sink.write(event)
    sink.close()
    out.write_text(
        console.export_svg(title="edge-emotion", theme=MONOKAI, font_aspect_ratio=0.61),
        encoding="utf-8",
    )
    print(out)


if __name__ == "__main__":
    main()
