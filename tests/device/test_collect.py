"""`record` and `review` as somebody uses them: a terminal, keys, a sound server, and training."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from sound_server import SINK, Pulse, wait_for_capture
from terminal import PATIENCE, Terminal

from edge_runtime.audio.file import read_file
from edge_runtime.pcm import SAMPLE_RATE, Int16
from training.corpora import load_corpora

pytestmark = pytest.mark.realtime
if importlib.util.find_spec("sounddevice") is None:
    pytest.skip("pip install 'edge-emotion[mic]'", allow_module_level=True)

EDGE_EMOTION = (sys.executable, "-m", "edge_runtime.cli")


@pytest.fixture
def terminal(
    pulse: Pulse,
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Terminal]:
    """A terminal in which this checkout runs and hears this sound server."""
    for name in ("PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, environment[name])
    shown = Terminal(tmp_path)
    yield shown
    shown.close()


@pytest.fixture(scope="session")
def spoken(sentence: Int16) -> Int16:
    """Somebody says something short: the sentence's first second and a half of speech."""
    return sentence[14_000 + 9_000 : 14_000 + 40_000]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def labels_in_training(folder: Path) -> dict[str, str]:
    """What training's own loader finds there: label by file; every file holds speech."""
    found = load_corpora([f"manifest={folder / 'manifest.csv'}"])["manifest"]
    for utterance in found.utterances:
        assert len(read_file(utterance.audio, utterance.start, utterance.end)) > SAMPLE_RATE / 2
    return {utterance.audio.name: utterance.label for utterance in found.utterances}


def test_record_by_prompts_and_mend_it_with_keys(
    terminal: Terminal, pulse: Pulse, tmp_path: Path, spoken: Int16
) -> None:
    folder = tmp_path / "mine"
    command = (*EDGE_EMOTION, "record", folder, "--device", f"{SINK}.monitor")
    terminal.run(*command, "--label", "angry,neutral", "--who", "anna", "--count", "2")
    terminal.wait_for("agree? [y/N]:")
    assert not pulse.control("list", "short", "source-outputs")
    terminal.type("no")
    terminal.press("Enter")
    terminal.wait_for("nobody agreed, and nothing was stored")
    terminal.wait_for("ended with 2")
    assert not folder.exists()

    terminal.run(*command, "--label", "angry,neutral", "--who", "anna", "--count", "2")
    terminal.wait_for("agree? [y/N]:")
    terminal.type("yes")
    terminal.press("Enter")
    terminal.wait_for("say something: ANGRY   (1 of 2)")
    wait_for_capture()

    def say(number: int, label: str, times: int = 1) -> str:
        pulse.play(spoken).wait(PATIENCE)
        terminal.wait_for(f"-{number:04d}.wav {label}, ", times)
        return str(rows_of(folder)[-1]["path"])

    first = say(1, "angry")
    terminal.type("2")
    terminal.wait_for("-0001.wav is neutral")
    dropped = say(2, "angry")
    assert (folder / dropped).exists()
    terminal.type("d")
    terminal.wait_for("dropped: its file is deleted")
    assert not (folder / dropped).exists()
    assert [row["label"] for row in rows_of(folder)] == ["neutral"]
    second = say(2, "angry", 2)
    third = say(3, "angry")
    terminal.wait_for("say something: NEUTRAL   (2 of 2)")
    fourth = say(4, "neutral")
    screen = terminal.wait_for("ended with 0")
    assert "4 clips recorded;" in screen
    assert "2 angry, 2 neutral" in screen
    terminal.run("stty", "-a")
    assert " icanon" in terminal.wait_for("ended with 0")

    # From there: a long path would take the table's room.
    corpora = (sys.executable, "-m", "training", "corpora", "manifest=manifest.csv")
    terminal.run("env", "-C", folder, *corpora)
    assert "angry 2  neutral 2" in terminal.wait_for("ended with 0")
    names = [Path(path).name for path in (first, second, third, fourth)]
    assert labels_in_training(folder) == dict(
        zip(names, ("neutral", "angry", "angry", "neutral"), strict=True)
    )
    assert {row["speaker"] for row in rows_of(folder)} == {"anna"}
    sound, rate = soundfile.read(folder / first, dtype="int16")
    assert rate == SAMPLE_RATE
    assert abs(sound).max() > 1000
    about = json.loads((folder / "about.json").read_text())
    assert [s["consent"] for s in about["sessions"]] == ["yes (typed)"]


def test_a_microphone_that_goes_and_ctrl_c_leave_what_was_stored(
    terminal: Terminal, pulse: Pulse, tmp_path: Path, spoken: Int16
) -> None:
    folder = tmp_path / "mine"
    command = (*EDGE_EMOTION, "record", folder, "--device", f"{SINK}.monitor")
    terminal.run(*command, "--label", "angry,neutral", "--consent")
    terminal.wait_for("say something: ANGRY")
    wait_for_capture()
    pulse.play(spoken).wait(PATIENCE)
    terminal.wait_for("-0001.wav angry, ")
    playing = pulse.play(spoken)
    terminal.wait_for("NEUTRAL ... [")  # while somebody speaks
    pulse.kill()
    playing.wait(PATIENCE)
    terminal.wait_for("trying again until it is back")
    assert "cut off, not stored" in terminal.screen()
    terminal.press("C-c")
    assert "1 clip recorded" in terminal.wait_for("ended with 0")
    assert list(labels_in_training(folder).values()) == ["angry"]
    assert len(list((folder / "clips").iterdir())) == 1


def test_review_by_ear_into_the_same_manifest(
    terminal: Terminal, pulse: Pulse, tmp_path: Path, scene_path: Path
) -> None:
    events, kept, folder = (tmp_path / name for name in ("events.jsonl", "kept", "mine"))
    run = ("run", scene_path, "--out", "none", "--keep-audio", kept, "--file", events)
    terminal.run(*EDGE_EMOTION, *run)
    terminal.wait_for("ended with 0")
    finals = [json.loads(line) for line in events.read_text().splitlines()]
    finals = [event for event in finals if event["type"] == "emotion"]
    lowest = sorted(finals, key=lambda event: float(event["confidence"]))
    assert len(lowest) >= 5

    command = (
        *EDGE_EMOTION,
        "review",
        events,
        "--audio",
        kept,
        "--manifest",
        folder / "manifest.csv",
    )
    terminal.run(*command)
    terminal.wait_for(f"1 of {len(lowest)}: ")
    deadline = time.monotonic() + PATIENCE
    while not pulse.control("list", "short", "sink-inputs"):  # it is played
        assert time.monotonic() < deadline, terminal.screen()
        time.sleep(0.05)
    terminal.type("4")  # sad: angry, happy, neutral, sad are in this order
    terminal.wait_for(f"2 of {len(lowest)}: ")
    terminal.type("1")
    terminal.wait_for(f"3 of {len(lowest)}: ")
    terminal.type("u")
    terminal.wait_for(f"2 of {len(lowest)}: ", 2)
    assert [row["label"] for row in rows_of(folder)] == ["sad"]
    terminal.type("k")
    terminal.wait_for(f"3 of {len(lowest)}: ", 2)
    terminal.type("d")
    terminal.wait_for(f"4 of {len(lowest)}: ")
    terminal.type("s")
    terminal.wait_for(f"5 of {len(lowest)}: ")
    terminal.type("q")
    assert "2 clips labelled, 1 dropped, 1 skipped" in terminal.wait_for("ended with 0")
    best = max(lowest[1]["scores"], key=lowest[1]["scores"].get)
    assert labels_in_training(folder) == {lowest[0]["audio"]: "sad", lowest[1]["audio"]: best}
    assert not (kept / lowest[2]["audio"]).exists()
    assert (kept / lowest[0]["audio"]).exists()

    terminal.run(*command, "--play-command", "true")
    left = len(lowest) - 3
    screen = terminal.wait_for(f"1 of {left}: ")
    assert f"{left} to review; 2 were reviewed before" in screen.replace("\n", "")
    terminal.press("C-c")
    terminal.wait_for("ended with 130")
    assert len(rows_of(folder)) == 2
