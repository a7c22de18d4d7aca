"""The house rules: arrows point one way, between the packages and between their rooms."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("edge_runtime", "training", "conversion", "benchmarks")
ALLOWED = {
    "edge_runtime": set(),
    "training": {"edge_runtime"},
    "conversion": {"edge_runtime", "training"},
    "benchmarks": {"edge_runtime", "training", "conversion"},
}
# What the device may import at all, beside the standard library; all but the first two lazily.
DEVICE = {
    "numpy",
    "_webrtcvad",
    "ai_edge_litert",
    "tflite_runtime",
    "onnxruntime",
    "soundfile",
    "soxr",
    "pyaudio",
    "sounddevice",
    "rich",
    "pocketsphinx",
    "vosk",
    "sherpa_onnx",
    "pywhispercpp",
    "faster_whisper",
    "paho",
    "wyoming",
    "zeroconf",
    "ifaddr",
    "prometheus_client",
    "websockets",
    "tuf",
    "urllib3",
}
# The rooms (and files that stand by themselves) of a package, floor by floor: a room imports from
# floors below its own, never from its own floor or from above.
FLOORS = {
    "edge_runtime": (
        "errors branches int8",
        "pcm console settings terminal untrusted portaudio addresses",
        "config",
        "events system arrays thermal notify wyoming questions made_for",
        "mfcc segment tokenizer embedding graph graph_check audio familiarity_arrays",
        "manifest text profile reference_arrays pretrained_arrays",
        "manifest_check bundle_files sinks signature",
        "bundle web",
        "model",
        "stream",
        "bench doctor enroll devices listening service",
        "collect update",
        "commands",
        "cli",
    ),
    "training": (
        "errors output provenance limits rounding workers tiers",
        "network corpora tracking begun",
        "data speech",
        "run words",
        "fit",
        "evaluate",
        "adapt",
        "commands",
        "__main__",
    ),
}
# The one file in which training starts a command of another package: the int8 figures of a fold
# are those of the converted bundle, and conversion imports training.
HIDDEN = {"training/evaluate/judge.py"}


def files_of(package: str) -> list[Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    return files


def imports_of(path: Path) -> set[str]:
    """Dotted names of everything a file imports at run time, anywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    types_alone = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in types_alone:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path, package: str) -> str:
    return path.relative_to(ROOT / package).parts[0].removesuffix(".py")


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_between_packages_point_one_way(package: str) -> None:
    for path in files_of(package):
        others = {name.split(".")[0] for name in imports_of(path)} & (set(PACKAGES) - {package})
        assert others <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {others}"


@pytest.mark.parametrize("package", FLOORS)
def test_arrows_between_rooms_point_down(package: str) -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS[package]) for room in rooms.split()}
    for path in files_of(package):
        room = room_of(path, package)
        if room == "__init__":
            continue
        assert room in floor, f"{room} has no floor: name one in FLOORS"
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] != package or parts[1] in (room, "__version__"):
                continue
            assert floor.get(parts[1], -1) < floor[room], f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_imports_itself_in_a_circle(package: str) -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files_of(package)
    }
    arrows: dict[str, set[str]] = defaultdict(set)
    for module, path in modules.items():
        for name in imports_of(path):
            # `from package.module import name`: the module, unless the name is one.
            target = name if name in modules else name.rpartition(".")[0]
            if target in modules and target != module:
                arrows[module].add(target)
    # A registry names the files it holds where it opens them, and they take its types.
    registries = {module for module, path in modules.items() if path.name == "__init__.py"}
    while True:
        leaves = {m for m in modules if not (arrows[m] & modules.keys()) - registries - {m}}
        if not leaves & modules.keys():
            break
        for leaf in leaves:
            modules.pop(leaf, None)
    assert not modules, f"these import one another: {sorted(modules)}"


def test_training_and_conversion_are_called_by_hidden_arrows_from_one_file_alone() -> None:
    called = re.compile(r"^(training|conversion|benchmarks)(\.\w+)*$")
    for package in ("edge_runtime", "training", "conversion"):
        for path in files_of(package):
            strings = [
                node.value
                for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(call, (ast.List, ast.Tuple))
                for node in call.elts
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            starts = "-m" in strings and any(map(called.match, strings))
            name = str(path.relative_to(ROOT))
            assert starts == (name in HIDDEN), f"{name} starts a command of the workstation"


def test_the_device_imports_nothing_heavy() -> None:
    for path in files_of("edge_runtime"):
        names = {name.split(".")[0] for name in imports_of(path)}
        foreign = names - set(sys.stdlib_module_names) - {"edge_runtime"}
        assert foreign <= DEVICE, f"{path.relative_to(ROOT)} imports {foreign - DEVICE}"


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_and_files_can_be_held_in_mind(package: str) -> None:
    for path in files_of(package):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 500, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= 80, f"{path.relative_to(ROOT)}: {node.name} has {lines} lines"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_and_room_says_what_it_is_for(package: str) -> None:
    for path in files_of(package):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
