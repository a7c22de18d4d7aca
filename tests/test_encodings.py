"""Text files mean the same on every device: each is read and written as what it is said to be.

Without an encoding Python takes that of the locale, which on a device without one is not UTF-8.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLACES = ("edge_runtime", "training", "conversion", "benchmarks", "scripts", "setup.py")
# What opens text unless told otherwise, and which of its arguments (by place) is the mode.
_OPENERS = {
    "open": 1,  # of Path it is the first: see `_mode`
    "fdopen": 1,
    "NamedTemporaryFile": 0,
    "TemporaryFile": 0,
    "SpooledTemporaryFile": 1,
}
_BINARY_BY_DEFAULT = {"NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"}
_COMPRESSED = {"gzip", "bz2", "lzma"}  # binary by default
_WHOLE = {"read_text": 0, "write_text": 1}  # and the place of their encoding
_RUNNERS = {"run", "Popen", "check_output", "check_call", "call"}
# Modules whose `open` opens no text file.
_OTHERS = {"os", "wave", "Image", "zipfile", "tarfile", "webbrowser", "soundfile"}


def files() -> list[Path]:
    found = []
    for place in PLACES:
        path = ROOT / place
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def without_encoding(source: str) -> list[int]:
    """Lines of calls that read or write text in whatever the locale says."""
    tree = ast.parse(source)
    return [
        call.lineno
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and _is_text(call) and not _has_encoding(call)
    ]


def _is_text(call: ast.Call) -> bool:
    owner, name = _names(call.func)
    if name in _WHOLE and owner is not None:
        return True
    if name == "TextIOWrapper":
        return True
    if name in _RUNNERS:
        return any(
            k.arg in ("text", "universal_newlines") and _value(k.value) is True
            for k in call.keywords
        )
    if name not in _OPENERS or (name == "open" and owner in _OTHERS):
        return False
    mode = _mode(call, owner, name)
    if mode is None:
        return False
    if owner in _COMPRESSED:
        return "t" in mode
    return "b" not in mode


def _mode(call: ast.Call, owner: str | None, name: str) -> str | None:
    """The mode of an opener; None where it is no such call."""
    place = 0 if name == "open" and owner and owner not in _COMPRESSED | {"io"} else _OPENERS[name]
    given = next((k.value for k in call.keywords if k.arg == "mode"), None)
    if given is None and len(call.args) > place:
        given = call.args[place]
    if given is None:
        return "b" if name in _BINARY_BY_DEFAULT or owner in _COMPRESSED else "r"
    value = _value(given)
    # PyAudio's or a dictionary's open: its first argument is no mode.
    return value if isinstance(value, str) and set(value) <= set("rwaxbt+U") else None


def _has_encoding(call: ast.Call) -> bool:
    _, name = _names(call.func)
    place = _WHOLE.get(name)
    return any(k.arg in ("encoding", None) for k in call.keywords) or (
        place is not None and len(call.args) > place
    )


def _names(function: ast.expr) -> tuple[str | None, str]:
    """What a call is asked of, as far as it has a name, and its own name."""
    if isinstance(function, ast.Name):
        return None, function.id
    if not isinstance(function, ast.Attribute):
        return None, ""
    owner = function.value
    while isinstance(owner, ast.Attribute):
        owner = owner.value
    return owner.id if isinstance(owner, ast.Name) else "()", function.attr


def _value(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_text_is_read_and_written_with_its_encoding_named(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert without_encoding(source) == []


def cases() -> Iterator[tuple[str, bool]]:
    yield from ((text, True) for text in ("open(p)", "p.open()", "p.open('w')", "open(p, 'w')"))
    yield from ((text, True) for text in ("p.read_text()", "Path(p).write_text(x)"))
    yield from ((text, True) for text in ("gzip.open(p, 'rt')", "os.fdopen(d, 'w')"))
    yield from ((text, True) for text in ("NamedTemporaryFile('w')", "io.TextIOWrapper(b)"))
    yield ("subprocess.run(c, text=True)", True)
    yield from ((text, False) for text in ("open(p, 'rb')", "p.open('wb')", "os.open(p, 0)"))
    yield from ((text, False) for text in ("gzip.open(p)", "TemporaryFile()", "wave.open(p)"))
    yield from ((text, False) for text in ("p.read_text('utf-8')", "open(p, encoding=e)"))
    yield from ((text, False) for text in ("subprocess.run(c)", "open(p, mode='rb')"))


@pytest.mark.parametrize(("source", "found"), list(cases()))
def test_the_scan_finds_what_it_looks_for(source: str, found: bool) -> None:
    assert bool(without_encoding(source)) == found
