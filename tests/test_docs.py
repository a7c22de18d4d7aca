"""What the pages say can be typed: every command parses, and what can run here runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile

from benchmarks.__main__ import parser as benchmarks_parser
from conversion.__main__ import parser as conversion_parser
from edge_runtime import EmotionStream
from edge_runtime.bundle import Bundle
from edge_runtime.cli import parser as device_parser
from edge_runtime.events import to_dict
from edge_runtime.pcm import SAMPLE_RATE, Int16
from training.__main__ import parser as training_parser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSERS = {
    "edge-emotion": device_parser,
    "python -m training": training_parser,
    "python -m conversion": conversion_parser,
    "python -m benchmarks": benchmarks_parser,
}
Command = Any


def blocks(page: Path, language: str) -> list[str]:
    """Fenced code of that language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def typed(page: Path, block: int) -> list[str]:
    """The lines of a shell block of a page, without their comments."""
    lines = blocks(page, "sh")[block].splitlines()
    return [line.split("  #")[0].strip() for line in lines]


def commands(page: Path) -> list[str]:
    """Our commands in the shell blocks, and indented by four, of a page."""
    text = "\n".join(blocks(page, "sh"))
    text += "\n".join(re.findall(r"(?m)^    (.*)$", page.read_text(encoding="utf-8")))
    lines = text.replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        for piece in line.split("#")[0].split("|"):
            for program in PARSERS:
                if piece.strip().startswith(program):
                    found.append(piece.strip())
    return found


COMMANDS = [(page.name, command) for page in PAGES for command in commands(page)]


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_of_the_pages_parses(page: str, command: str) -> None:
    program = next(program for program in PARSERS if command.startswith(program))
    words = shlex.split(command[len(program) :].split("<")[0])
    words = [word for word in words if word not in (">", "events.jsonl")]
    try:
        PARSERS[program]().parse_args(words)
    except SystemExit as end:
        pytest.fail(f"{page}: {command}: exit code {end.code}")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8192


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_what_is_derived_from_the_code_is_as_the_code(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_schemas.py", "--check"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_events_and_manifest_are_as_their_schemas(bundle: Bundle, sentence: Int16) -> None:
    events = json.loads((ROOT / "docs" / "events.schema.json").read_text(encoding="utf-8"))
    stream = EmotionStream(bundle)
    found = [*stream.feed(sentence), *stream.finish(), stream.health()]
    assert len(found) > 5
    for event in found:
        jsonschema.validate(json.loads(json.dumps(to_dict(event))), events)
    manifest = json.loads((ROOT / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))
    default = ROOT / "edge_runtime" / "models" / "default" / "manifest.json"
    content = json.loads(default.read_text(encoding="utf-8"))
    properties = manifest["$defs"]["Manifest"]["properties"].keys()
    optional = {"speaker", "attention", "text", "audio", "reference", "pretrained", "phrases"}
    optional |= {"targets", "form", "runtime", "files", "dimensions", "pretrained_reference"}
    optional |= {"familiarity"}
    assert properties <= content.keys() | optional


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, scene: Int16, sentence: Int16) -> Path:
    """A folder with the files that the README names, and its commands on the path."""
    folder = tmp_path_factory.mktemp("desk")
    soundfile.write(folder / "interview.wav", sentence, SAMPLE_RATE)
    soundfile.write(folder / "talk.flac", scene, SAMPLE_RATE)
    binaries = folder / "bin"
    binaries.mkdir()
    start = f'#!/bin/sh\nexec "{sys.executable}" -m edge_runtime.cli "$@"\n'
    (binaries / "edge-emotion").write_text(start)
    (binaries / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for program in binaries.iterdir():
        program.chmod(0o755)
    return folder


def shell(desk: Path, environment: dict[str, str], line: str) -> subprocess.CompletedProcess[str]:
    path = f"{desk / 'bin'}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        ["sh", "-c", line],
        cwd=desk,
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


RUN = (
    "edge-emotion run interview.wav",
    "edge-emotion run --out jsonl talk.flac",
    "edge-emotion doctor",
    "edge-emotion bench",
)


@pytest.mark.parametrize("line", RUN)
def test_the_readme_s_commands_run(desk: Path, environment: dict[str, str], line: str) -> None:
    assert line in (ROOT / "README.md").read_text(encoding="utf-8")
    done = shell(desk, environment, line)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_what_the_readme_pipes_in_is_heard(desk: Path, environment: dict[str, str]) -> None:
    for content in ("cat interview.wav | edge-emotion run -",):
        done = shell(desk, environment, content)
        assert done.returncode == 0, done.stderr
        assert '"final": true' in done.stdout


def test_the_readme_s_python_runs(desk: Path, environment: dict[str, str]) -> None:
    (snippet,) = blocks(ROOT / "README.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=desk,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "SpeechStartEvent" in done.stdout


def voices(folder: Path, name: str, speakers: int, seed: int) -> Path:
    """A manifest of made-up clips: two classes that differ in pitch and loudness."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(1.2 * SAMPLE_RATE)) / SAMPLE_RATE
    rows = ["path,label,speaker"]
    for number in range(12 * speakers):
        label = ("calm", "lively")[number % 2]
        pitch = (110, 260)[number % 2] * rng.uniform(0.9, 1.1)
        sound = sum(np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6)) / k for k in range(1, 20))
        beat = 0.5 + 0.5 * np.sin(2 * np.pi * (3, 6)[number % 2] * t)
        sound = 0.1 * sound * beat + 0.002 * rng.standard_normal(t.size)
        path = folder / f"{name}{number}.wav"
        soundfile.write(path, sound.astype(np.float32), SAMPLE_RATE)
        rows.append(f"{path.name},{label},s{number // 12}")
    manifest = folder / f"{name}.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest


def test_training_one_s_own_in_six_lines(desk: Path, environment: dict[str, str]) -> None:
    """The README's lines, with a schedule of seconds behind `fit`."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Train your own")[1]
    lines = [line.split("#")[0].strip() for line in section.split("```")[1].splitlines()[1:]]
    voices(desk, "clips", 4, 0)
    voices(desk, "held_out", 1, 1)
    quick = " --filters 4 --hidden 8 --epochs 2 --qat-epochs 2 --epoch-steps 8 --no-augment"
    ran = 0
    for line in lines:
        if line.startswith("python -m"):
            done = shell(desk, environment, line + (quick if " fit " in line else ""))
            assert done.returncode == 0, f"{line}: {done.stderr}"
            ran += 1
    done = shell(desk, environment, "edge-emotion run --bundle bundles/mine talk.flac")
    assert done.returncode == 0, done.stderr
    assert ran == 4


def test_classes_of_ones_own_from_a_manifest_to_a_bundle(
    desk: Path, environment: dict[str, str]
) -> None:
    """The page's commands between the recording, which has tests of its own, and the Pi."""
    (lines, *_) = blocks(ROOT / "docs" / "your-own-data.md", "sh")
    (desk / "kitchen").mkdir()
    voices(desk / "kitchen", "manifest", 3, 0)
    ran = 0
    for line in lines.splitlines():
        if line.startswith("python -m"):
            done = shell(desk, environment, line.replace("mine", "own"))
            assert done.returncode == 0, f"{line}: {done.stderr}"
            ran += 1
    assert ran == 4
    done = shell(desk, environment, "edge-emotion run --bundle bundles/own kitchen/manifest0.wav")
    assert done.returncode == 0, done.stderr
    assert "calm" in done.stdout


EXAMPLES = ROOT / "examples"


def example(
    environment: dict[str, str], name: str, *arguments: object, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_example_judges_a_clip(environment: dict[str, str], clips: list[Path]) -> None:
    done = example(environment, "judge_clip.py", clips[3])
    assert done.returncode == 0, done.stderr
    label, *scores = done.stdout.splitlines()
    assert scores[0].split()[0] == label
    assert sum(float(line.split()[1]) for line in scores) == pytest.approx(1, abs=0.03)


def test_the_example_takes_words_of_one_s_own(
    environment: dict[str, str], clips: list[Path]
) -> None:
    done = example(environment, "own_words.py", clips[0], "this", "is", "wonderful")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["audio", "audio+text", "text"]


def test_the_example_reacts_once(environment: dict[str, str]) -> None:
    angry = {"type": "emotion", "final": True, "label": "angry", "confidence": 0.9}
    lines = [
        json.dumps({**angry, "t": 1.0}),
        json.dumps({**angry, "t": 2.0}),
        "no JSON",
        json.dumps({**angry, "t": 9.0, "confidence": 0.5}),
        json.dumps({**angry, "t": 10.0}),
    ]
    done = example(environment, "react.py", stdin="\n".join(lines) + "\n")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1.0", "10.0"]


def test_the_example_that_listens_says_what_is_wrong_without_a_microphone(
    environment: dict[str, str],
) -> None:
    """With one it is run in tests/device."""
    done = example(environment, "listen.py", "no such microphone")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("listen: ")


def test_the_example_with_a_corpus_of_one_s_own(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    manifest = voices(tmp_path, "mine", 4, 2)
    quick = ["--filters", "4", "--hidden", "8", "--epochs", "2", "--qat-epochs", "2"]
    quick += ["--epoch-steps", "8", "--no-augment"]
    done = subprocess.run(
        ["sh", EXAMPLES / "own_corpus.sh", manifest, tmp_path / "out", *quick],
        env={**environment, "PYTHON": sys.executable},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "bundle" / "manifest.json").exists()
