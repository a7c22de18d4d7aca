"""Hours of audio: memory stays what it was after minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from edge_runtime.pcm import SAMPLE_RATE

Int16 = npt.NDArray[np.int16]

# What the system says of the command's peak memory at its end, in kB, on standard error.
_MEASURED = """
import sys
from edge_runtime.cli import main
code = main(sys.argv[1:])
with open("/proc/self/status") as file:
    print(*(line.split()[1] for line in file if line.startswith("VmHWM:")), file=sys.stderr)
sys.exit(code)
"""

pytestmark = [
    pytest.mark.usefixtures("bundle_path"),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]


def write(path: Path, spoken: Int16, minutes: int, rate: int) -> Path:
    """A sentence every fourth minute, and silence between; written in blocks."""
    minute = np.zeros(60 * rate, np.int16)
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        for index in range(minutes):
            block = minute.copy()
            if index % 4 == 0:
                block[rate : rate + spoken.size] = spoken
            file.write(block)
    return path


def run(environment: dict[str, str], path: Path, *options: str) -> tuple[list[Any], float]:
    """Events of the file, and the peak memory of the command in MB."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, "run", *options, str(path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
        check=True,
    )
    (kilobytes,) = done.stderr.split()
    return [json.loads(line) for line in done.stdout.splitlines()], int(kilobytes) * 1024 / 1e6


@pytest.mark.parametrize(
    ("suffix", "rate", "minutes"),
    [("flac", SAMPLE_RATE, 120), ("wav", 8000, 40)],
    ids=["two hours of FLAC", "40 minutes of resampled WAV"],
)
def test_a_long_file_needs_no_more_memory_than_four_minutes(
    tmp_path: Path,
    environment: dict[str, str],
    sentence: Int16,
    suffix: str,
    rate: int,
    minutes: int,
) -> None:
    spoken = sentence[:: SAMPLE_RATE // rate]
    short = write(tmp_path / f"short.{suffix}", spoken, 4, rate)
    long = write(tmp_path / f"long.{suffix}", spoken, minutes, rate)
    expected, before = run(environment, short)
    found, after = run(environment, long)
    assert found[-1]["t"] == pytest.approx(60 * minutes, abs=0.01)
    finals = [event for event in found if event["type"] == "emotion" and event["final"]]
    assert len(finals) == minutes // 4 * sum(
        e["type"] == "emotion" and e["final"] for e in expected
    )
    # 5 MB are 2 % of what the samples of two hours take, and 13 % of those of 40 minutes.
    assert after - before < 5


def test_twenty_minutes_taken_for_one_utterance_need_no_more_memory_than_one(
    tmp_path: Path, environment: dict[str, str], scene: Int16
) -> None:
    # Without a pause: all of it goes through features and model.
    short, long = tmp_path / "short.flac", tmp_path / "long.flac"
    for path, repeats in ((short, 3), (long, 60)):
        with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
            for _ in range(repeats):
                file.write(scene)
    _, before = run(environment, short, "--whole", "--partial-seconds", "0")
    found, after = run(environment, long, "--whole", "--partial-seconds", "0")
    assert [event["type"] for event in found[:3]] == ["source", "speech_start", "health"]
    (final,) = (event for event in found if event["type"] == "emotion")
    assert final["end"] - final["start"] > 60 * 20
    assert after - before < 5


def test_half_an_hour_of_talk_stays_within_the_memory_that_is_promised(
    tmp_path: Path, environment: dict[str, str], scene: Int16
) -> None:
    path = tmp_path / "talk.flac"
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        for _ in range(30 * 60 * SAMPLE_RATE // scene.size + 1):
            file.write(scene)
    found, peak = run(environment, path, "--out", "jsonl", "--partial-seconds", "0")
    resident = [event["rss_mb"] for event in found if event["type"] == "health"]
    assert found[-1]["t"] > 30 * 60
    assert len(resident) > 25
    # 75 here, of which 28 are of libraries' files, more or less by the system that maps them.
    assert peak <= 80
    assert resident[-1] - resident[0] < 1


def test_a_first_verdict_loads_nothing_that_it_does_not_need(
    environment: dict[str, str], scene_path: Path
) -> None:
    # What the workstation has installed and a file's JSON lines can do without.
    unneeded = {"torch", "rich", "onnxruntime", "soxr", "pyaudio", "scipy", "lightning", "asyncio"}
    code = (
        "import sys; from edge_runtime.cli import main; "
        f"main(['run', '--out', 'jsonl', {str(scene_path)!r}]); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert {"numpy", "ai_edge_litert", "soundfile"} <= loaded
    assert not loaded & unneeded
