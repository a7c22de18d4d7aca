"""The wheel, and benchmarks beside it, on an emulated Raspberry Pi OS base: make test-arm64,
test-armhf."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import (
    CLIPS,
    CORPORA,
    REPOSITORY,
    SCENE_PARTS,
    clips,
    parts_of_the_scene,
    real_clips,
    tolerance,
)

from edge_runtime.bundle import load_bundle
from edge_runtime.pcm import SAMPLE_RATE

ROOT = os.environ["TEST_EMULATED_ROOT"]
FOLDER = os.environ["TEST_EMULATED_FOLDER"]
"""Where the root has the environments and the checkout, as seen from inside it."""
MACHINE = os.environ["TEST_EMULATED_MACHINE"]
IS_32_BIT = MACHINE == "armv7l"
ENCODER_APART = 0.03
"""Of a score: between the layers of an encoder all is float32, which rounds otherwise there."""
PER_CORPUS = 4 if IS_32_BIT else 10
"""Real clips whose events are held against this machine's."""
SIZE_MB = 120
"""Of the base and all that it needs, installed, at most."""
# Path, class, words that somebody might say with it: all four classes, with words and without.
JUDGED_CLIPS = (
    ("ravdess/Actor_01/03-01-01-01-01-01-01.flac", "neutral", ""),
    ("ravdess/Actor_01/03-01-05-02-01-01-01.flac", "angry", "stop it right now"),
    ("ravdess/Actor_12/03-01-03-02-01-01-12.flac", "happy", "this is wonderful"),
    ("ravdess/Actor_12/03-01-04-01-02-01-12.flac", "sad", ""),
    ("emodb/wav/03a01Fa.flac", "happy", ""),
    ("emodb/wav/03a01Wa.flac", "angry", ""),
)
SILENCE = np.zeros(SAMPLE_RATE, np.int16)  # lets an utterance at the end of a clip end by itself
needs_litert = pytest.mark.skipif(IS_32_BIT, reason="LiteRT and soundfile have no wheels there")
Events = list[dict[str, Any]]
TIMEOUT = 600  # seconds; an emulated interpreter takes long to start


def run(command: list[str], given: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command with a file as its standard input.

    A pipe gives what has arrived; on a busy machine it would decide when events come.
    """
    with (given or Path(os.devnull)).open("rb") as stdin:
        return subprocess.run(command, stdin=stdin, capture_output=True, timeout=TIMEOUT)


def enter(
    *command: str, given: Path | None = None, environment: str = "base", folder: str = "/"
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in the emulated root, away from our environment.

    `environment` is the wheel's alone ("base"), or that with the extra bench-device ("bench").
    """
    return run(
        [
            *("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"),
            # See scripts/test-emulated.
            *(() if IS_32_BIT else ("QEMU_CPU=cortex-a72",)),
            *("chroot", ROOT, "env", "-C", folder, f"{FOLDER}/{environment}/bin/{command[0]}"),
            *command[1:],
        ],
        given,
    )


def lines(output: bytes) -> Events:
    return [json.loads(line) for line in output.splitlines()]


def test_doctor_finds_nothing_wrong() -> None:
    result = enter("edge-emotion", "doctor")
    output = result.stdout.decode()
    print(output, result.stderr.decode())
    assert result.returncode == 0
    assert MACHINE in output


def test_it_is_small() -> None:
    """Without pip, which the environment was made with, and tests of others' that are installed."""
    found = sorted(Path(ROOT + FOLDER, "base").rglob("site-packages/*"))
    sizes = {
        path.name: sum(f.stat().st_size for f in (path, *path.rglob("*")) if f.is_file()) / 1e6
        for path in found
        if not path.name.startswith(("pip", "setuptools", "_distutils", "distutils"))
    }
    wheel = next(Path(ROOT + FOLDER).glob("edge_emotion-*.whl")).stat().st_size / 1e6
    print(f"\nwheel {wheel:.1f} MB; installed {sum(sizes.values()):.1f} MB:")
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:6]:
        print(f"  {name:32}{size:6.1f} MB")
    assert 1 < sum(sizes.values()) < SIZE_MB


def test_frames_do_not_depend_on_how_samples_are_cut() -> None:
    """OpenBLAS has other kernels there, which round in other places."""
    result = enter("python", "-", given=REPOSITORY / "tests" / "same_frames.py")
    assert result.returncode == 0, result.stderr.decode()


@pytest.fixture(scope="module")
def heard() -> list[tuple[str, Events, Events]]:
    """Of parts of the scene and of real clips: name, events here, events there."""
    inside = Path(ROOT + FOLDER, "pcm")
    inside.mkdir()
    for name, clip in (*parts_of_the_scene(), *real_clips(PER_CORPUS)):
        (inside / name).write_bytes(np.concatenate([clip, SILENCE]).astype("<i2").tobytes())
    script = REPOSITORY / "tests" / "device" / "stream_clips.py"
    # What there is in 32 bits cannot compute the encoder.
    here = run([sys.executable, str(script), str(inside), *(["alone"] if IS_32_BIT else [])])
    assert here.returncode == 0, here.stderr.decode()
    there = enter("python", "-", f"{FOLDER}/pcm", given=script)
    assert there.returncode == 0, there.stderr.decode()
    return [
        (ours["name"], ours["events"], theirs["events"])
        for ours, theirs in zip(lines(here.stdout), lines(there.stdout), strict=True)
        if ours["name"] == theirs["name"]
    ]


def decided(event: dict[str, Any]) -> bool:
    """Whether a verdict stands further from any other than float32 rounds an encoder apart."""
    best, second = sorted(event["scores"].values(), reverse=True)[:2]
    edge = min(best - second, 2 * abs(best - load_bundle().manifest.threshold("audio")))
    return IS_32_BIT or edge > 2 * ENCODER_APART


def test_real_clips_are_heard_as_on_this_machine(heard: list[tuple[str, Events, Events]]) -> None:
    finals = moved = 0
    furthest = 0.0
    for name, ours, theirs in heard:
        assert len(theirs) == len(ours), name
        for event, other in zip(ours, theirs, strict=True):
            # End-pointing is integer arithmetic: the utterances are the same to the sample.
            for exact in ("type", "t", "start", "end", "final"):
                assert other.get(exact) == event.get(exact), name
            if event["type"] != "emotion":
                continue
            off = max(abs(other["scores"][k] - v) for k, v in event["scores"].items())
            furthest = max(furthest, off)
            finals += event["final"]
            moved += event["final"] and event["label"] != other["label"] and decided(event)
    print(f"\n{len(heard)} clips, {finals} final verdicts, {moved} with another label; ", end="")
    print(f"a score moves by {furthest:.4f} at most (a step of every logit: {tolerance():.4f})")
    assert len(heard) >= SCENE_PARTS + PER_CORPUS * len(CLIPS)
    assert finals >= len(heard) - 5  # of some clips nothing is an utterance
    assert moved == 0
    assert furthest <= tolerance() + (0 if IS_32_BIT else ENCODER_APART)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The large bundle, built here, once more inside the root as FOLDER/large."""
    out = tmp_path_factory.mktemp("large") / "large"
    command = (sys.executable, "-m", "conversion", "build", "training/models/default")
    built = subprocess.run(
        [*command, "--tier", "large", "--out", out], cwd=REPOSITORY, capture_output=True
    )
    assert built.returncode == 0, built.stderr.decode()
    inside = Path(ROOT + FOLDER, "large")
    shutil.rmtree(inside, ignore_errors=True)
    shutil.copytree(out, inside)
    return out


@needs_litert
@pytest.mark.parametrize("clip", clips()[-2:])
def test_the_large_tier_agrees_with_this_machine(
    clip: np.ndarray, tmp_path: Path, large: Path
) -> None:
    agree(clip, tmp_path, ENCODER_APART, ("--bundle", str(large)), ("--bundle", f"{FOLDER}/large"))


def emotions(output: bytes) -> Events:
    return [event for event in lines(output) if event["type"] == "emotion"]


def agree(
    clip: np.ndarray,
    folder: Path,
    allowed: float,
    ours: tuple[str, ...] = (),
    theirs: tuple[str, ...] = (),
) -> None:
    """The events here and there are the same, scores within `allowed`; options of either side."""
    pcm = folder / "clip.pcm"
    pcm.write_bytes(np.concatenate([clip, SILENCE]).astype("<i2").tobytes())
    command = ("run", "--stdin", "--out", "jsonl")
    here = run([str(Path(sys.executable).with_name("edge-emotion")), *command, *ours], pcm)
    assert here.returncode == 0, here.stderr.decode()
    there = enter("edge-emotion", *command, *theirs, given=pcm)
    assert there.returncode == 0, there.stderr.decode()

    expected, found = emotions(here.stdout), emotions(there.stdout)
    assert any(event["final"] for event in expected)
    assert len(found) == len(expected)
    for event, other in zip(expected, found, strict=True):
        # End-pointing is integer arithmetic: the utterances are the same to the sample.
        for exact in ("t", "start", "end", "final"):
            assert other[exact] == event[exact]
        for label, score in event["scores"].items():
            assert other["scores"][label] == pytest.approx(score, abs=allowed)
        if event["final"]:
            assert other["label"] == event["label"]


def clips_to_judge(folder: Path) -> Path:
    """A manifest of real clips in `folder`, which it copies there; paths are relative to it."""
    lines = ["path,label,text"]
    for name, label, text in JUDGED_CLIPS:
        if not (CORPORA / name).exists():
            pytest.skip(f"there is no {name} in {CORPORA}; set CORPORA to where it is")
        shutil.copy(CORPORA / name, folder)
        lines.append(f"{Path(name).name},{label},{text}")
    manifest = folder / "clips.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


@needs_litert
def test_accuracy_is_that_of_this_machine(tmp_path: Path) -> None:
    manifest = clips_to_judge(tmp_path)
    inside = Path(ROOT + FOLDER, "clips")
    shutil.copytree(tmp_path, inside)
    command = ("python", "-m", "benchmarks", "accuracy", "--bundle", "default", "--manifest")
    here = run(
        [sys.executable, *command[1:], str(manifest), "--json", str(tmp_path / "accuracy.json")]
    )
    assert here.returncode == 0, here.stderr.decode()
    there = enter(
        *(*command, f"{FOLDER}/clips/clips.csv", "--json", f"{FOLDER}/clips/accuracy.json"),
        environment="bench",
        folder=f"{FOLDER}/checkout",
    )
    print(there.stdout.decode())
    assert there.returncode == 0, there.stderr.decode()
    expected = json.loads((tmp_path / "accuracy.json").read_text())
    assert expected["n"] == len(JUDGED_CLIPS)
    assert json.loads((inside / "accuracy.json").read_text()) == expected


@needs_litert
def test_latency_is_measured() -> None:
    there = enter(
        *("python", "-m", "benchmarks", "latency", "--utterances", "1"),
        *("--json", f"{FOLDER}/latency.json"),
        environment="bench",
        folder=f"{FOLDER}/checkout",
    )
    print(there.stdout.decode())
    assert there.returncode == 0, there.stderr.decode()
    figures = json.loads(Path(f"{ROOT}{FOLDER}/latency.json").read_text())
    assert figures["utterances"] == 1
    assert figures["final_verdict_ms"]["p50"] > 0
    assert figures["int8_rate"]["encoder_gmacs"] > 0
