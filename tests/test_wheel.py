"""What a device installs: one wheel with edge_runtime alone, light to import."""

from __future__ import annotations

import compileall
import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.pcm import SAMPLE_RATE

REPOSITORY = Path(__file__).parents[1]
NOT_SOURCES = (
    *(".git", ".venv*", "venv*", "build", "dist", "runs", "bundles", "*.egg-info", "__pycache__"),
    ".*_cache",
)
HEAVY = (
    *(
        "torch",
        "lightning",
        "torchmetrics",
        "sklearn",
        "scipy",
        "matplotlib",
        "onnx",
        "onnxruntime",
    ),
    *(
        "soundfile",
        "soxr",
        "rich",
        "sounddevice",
        "pyaudio",
        "training",
        "conversion",
        "benchmarks",
    ),
)
BUNDLE = "edge_runtime/models/default"
MEGABYTE = 1_000_000


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pip wheel .` of a copy: a build folder that an earlier build left must not add to it."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, copy)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def bare_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and its base requirements."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-compile", wheel)
    return python


def run(*command: object, cwd: Path | None = None) -> str:
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_wheel_holds_edge_runtime_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    (info,) = tops - {"edge_runtime"}
    assert info.endswith(".dist-info")


def test_wheel_holds_every_file_of_edge_runtime(wheel: Path) -> None:
    """Models, demo, page: what `package_data` forgets is missing only on the user's machine."""
    sources = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "edge_runtime").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources - set(zipfile.ZipFile(wheel).namelist()) == set()
    assert f"{BUNDLE}/manifest.json" in sources


def test_default_bundle_is_small(wheel: Path) -> None:
    members = zipfile.ZipFile(wheel).infolist()
    size = sum(m.file_size for m in members if m.filename.startswith(BUNDLE))
    assert 0 < size <= 7.7 * MEGABYTE


def test_the_microphone_installs_without_a_compiler(wheel: Path, bare_python: Path) -> None:
    """A fresh Raspberry Pi OS has neither gcc nor portaudio.h."""
    pip = (bare_python, "-m", "pip", "install", "--dry-run", "--only-binary=:all:")
    found = run(*pip, f"edge-emotion[files,mic,view] @ {wheel.as_uri()}")
    assert "sounddevice" in found


def test_wheel_runs_on_its_base_requirements_alone(bare_python: Path, tmp_path: Path) -> None:
    """A second of noise to a verdict, and none of what only others need gets imported."""
    program = f"""
import json, sys
import numpy as np
from edge_runtime import EmotionStream, load_bundle
bundle = load_bundle()
stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole())
noise = np.random.default_rng(0).normal(0, 0.1, {SAMPLE_RATE}).astype(np.float32)
events = stream.feed(noise) + stream.finish()
import edge_runtime
print(json.dumps([edge_runtime.__file__, [e.type for e in events], sorted(sys.modules)]))
"""
    origin, events, modules = json.loads(
        run(bare_python, "-I", "-c", program, cwd=tmp_path).splitlines()[-1]
    )
    assert Path(origin).is_relative_to(bare_python.parents[1])
    assert "emotion" in events
    assert {name.split(".")[0] for name in modules} & set(HEAVY) == set()


def test_importing_needs_neither_interpreter_nor_heavy_packages(
    bare_python: Path, tmp_path: Path
) -> None:
    program = "import json, sys, edge_runtime; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(run(bare_python, "-I", "-c", program, cwd=tmp_path))
    tops = {name.split(".")[0] for name in modules}
    assert tops & {*HEAVY, "numpy", "ai_edge_litert"} == set()


def test_command_of_the_wheel_reads_a_pipe(bare_python: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 3000, SAMPLE_RATE).astype("<i2")
    result = subprocess.run(
        [bare_python.with_name("edge-emotion"), "run", "--stdin", "--whole", "--out", "jsonl"],
        input=noise.tobytes(),
        capture_output=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert any(event["type"] == "emotion" and event["final"] for event in events)


def test_command_names_the_extra_that_is_missing(bare_python: Path, tmp_path: Path) -> None:
    """The base cannot read files, and says what can."""
    file = tmp_path / "clip.wav"
    file.write_bytes(b"RIFF")
    result = subprocess.run(
        [bare_python.with_name("edge-emotion"), "run", "--out", "jsonl", file],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "pip install 'edge-emotion[files]'" in line


def test_compiled_files_alone_are_enough(tmp_path: Path) -> None:
    """Some appliances keep no sources: the help is all there, and the command runs."""
    package = tmp_path / "edge_runtime"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "edge_runtime", package, ignore=ignored)
    assert compileall.compile_dir(package, quiet=1, legacy=True)
    for source in package.rglob("*.py"):
        source.unlink()
    start = "from edge_runtime.cli import main; raise SystemExit(main())"
    text = run(sys.executable, "-c", start, "run", "--help", cwd=tmp_path)
    assert "Threads of the interpreter." in text
    assert "test run" in run(sys.executable, "-c", start, "doctor", cwd=tmp_path)
