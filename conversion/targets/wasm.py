"""A browser: the C99 library as WebAssembly, and a page that listens through the microphone."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from conversion.c99.library import SOURCES, read_library, write_library
from conversion.errors import ConversionError, MissingToolError
from conversion.targets import DerivedTarget
from conversion.targets.microcontroller import Microcontroller
from edge_runtime import __version__
from edge_runtime.bundle import Bundle
from edge_runtime.web.pages import INDEX, SECURITY, load_assets

_OWN = SOURCES.parent / "browser"
_SHARED = ("style.css", "icon.svg", "record.js", "colors.js", "timeline.js", "view.js")
"""Of the page that a device serves: the looks, and what draws them."""
_SCRIPTS = ("listen.js", "sound.js", "browser.js")
_MODEL = "model.js"
WASM = "edge_emotion.wasm"
_OPTIONS = (
    *("-target", "wasm32-freestanding", "-std=c99", "-O3", "-msimd128", "-mbulk-memory"),
    *("-Wall", "-Wextra", "-Werror", "-nostdlib", "-Wl,--no-entry", "-Wl,--strip-all"),
)
_TIMEOUT = 600  # seconds
# Of a device's page: what is for its token, its recordings, and its connection.
_NOT_HERE = (
    r'<form id="ask".*?</form>',
    r'<section id="welcome".*?</section>',
    r'<button id="back".*?</button>',
    r'<button type="button" class="open">Open a recording</button>',
    r'<input id="file"[^>]*>',
    r'<p id="drop"[^>]*>.*?</p>',
)


class Wasm(DerivedTarget):
    """Static files for any web server: the model, and a page of the device's looks."""

    name = "wasm"

    def check(self, graph: Path) -> None:
        """Raise ConversionError as for a microcontroller: it is the same library."""
        Microcontroller().check(graph)

    def ready(self) -> Mapping[str, str]:
        """See DerivedTarget."""
        if importlib.util.find_spec("ziglang") is None:
            raise MissingToolError(
                self.name,
                "a compiler for WebAssembly, the package ziglang",
                "pip install -e '.[wasm]' in a checkout, on a workstation",
            )
        return {"ziglang": importlib.metadata.version("ziglang")}

    def derive(self, bundle: Bundle, out: Path) -> None:
        """See DerivedTarget: the module, the page and its scripts."""
        library = read_library(bundle)
        with tempfile.TemporaryDirectory() as work:
            write_library(library, Path(work))
            _compile(Path(work), out / WASM)
        assets = load_assets()
        for name in _SHARED:
            (out / name).write_bytes(assets[f"/{name}"].content)
        for name in _SCRIPTS:
            (out / name).write_bytes((_OWN / name).read_bytes())
        model = {
            "name": bundle.manifest.name,
            "version": __version__,
            "labels": bundle.manifest.labels,
            "segment": asdict(bundle.manifest.segment),
        }
        text = f"edge.model = {json.dumps(model, indent=1)};\n"
        (out / _MODEL).write_text(text, encoding="utf-8")
        page = _page(assets[f"/{INDEX}"].content.decode("utf-8"))
        (out / INDEX).write_text(page, encoding="utf-8")


def _compile(sources: Path, out: Path) -> None:
    files = sorted(path.name for path in sources.glob("*.c"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", *_OPTIONS),
            *("-I", str(_OWN / "include"), "-I", "."),
            *files,
            str(_OWN / "edge_emotion_wasm.c"),
            *("-o", str(out.resolve())),
        ],
        cwd=sources,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or "nothing was said").splitlines()[0]
        raise ConversionError(f"ziglang does not compile the C99 library: {said}")


def _page(device: str) -> str:
    """The page that a device serves, with the browser's microphone in the place of the device."""
    for part in _NOT_HERE:
        device = _replaced(device, part, "")
    policy = SECURITY["Content-Security-Policy"].replace("'self';", "'self' 'wasm-unsafe-eval';", 1)
    policy = "; ".join(p for p in policy.split("; ") if not p.startswith("frame-ancestors"))
    security = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    scripts = "\n".join(f'<script defer src="{name}"></script>' for name in (_MODEL, *_SCRIPTS[1:]))
    for part, place in (
        (r'(?<=<meta charset="utf-8">)', f"\n{security}"),
        (r'<script defer src="app\.js"></script>', scripts),
        (r"(?=</header>)", '<button id="listen" type="button">Listen</button>\n'),
        (r"No audio leaves the device\. This page only reads\.", "No audio leaves this browser."),
    ):
        device = _replaced(device, part, place)
    return device


def _replaced(page: str, part: str, place: str) -> str:
    found, count = re.subn(part, lambda _: place, page, flags=re.S)
    if count == 0:
        raise ConversionError(f"the page of edge_runtime.web has no {part}")
    return found
