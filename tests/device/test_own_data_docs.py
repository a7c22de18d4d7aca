"""docs/your-own-data.md as a new user would follow it: each of its commands, from first to last."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from own_sshd import OwnSshd
from sound_server import SINK, Pulse, wait_for_capture
from terminal import Terminal
from test_docs import ROOT, typed

from edge_runtime.audio.file import read_file
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.segment import speech_of

pytest.importorskip("sounddevice")

PAGE = ROOT / "docs" / "your-own-data.md"
PATIENCE = 300.0  # seconds until a command hangs
CLASSES = {
    "calm": "01-01",
    "stressed": "05-02",
    "tired": "04-02",
}  # of RAVDESS: neutral, angry, sad
COUNT = 2
SECONDS = 1.1  # of each clip that is said
CLIPS = tuple((name, sentence) for sentence in ("01", "02") for name in CLASSES)


class Desk:
    """Where somebody types: this checkout, a microphone, and a device that is reached by ssh."""

    def __init__(self, folder: Path, pulse: Pulse, sshd: OwnSshd) -> None:
        self.folder, self._pulse = folder, pulse
        self.device = sshd.home
        programs = folder / "programs"
        programs.mkdir()
        # `ssh` finds the device by its own name, and nothing of the user's settings.
        port, *options = sshd.options()[1:]
        for name, command in {
            "edge-emotion": [sys.executable, "-m", "edge_runtime.cli"],
            "python": [sys.executable],
            "scp": [str(shutil.which("scp")), "-F", "/dev/null", "-P", port, *options],
        }.items():
            path = programs / name
            path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            path.chmod(0o755)
        self.variables = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        # What of the page is another here: how much is recorded, and where the device is.
        self._instead = {
            "--count 20": f"--count {COUNT}",
            "pi@raspberrypi.local:": f"127.0.0.1:{sshd.home}/",
        }

    def typed(self, line: str) -> str:
        """A line of the page, as it is typed here."""
        for theirs, ours in self._instead.items():
            line = line.replace(theirs, ours)
        return line

    def run(self, line: str, folder: Path | None = None) -> str:
        """Type a command that asks nothing; what it says."""
        done = subprocess.run(
            ["sh", "-c", self.typed(line)],
            cwd=folder or self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def say(self, samples: Int16) -> None:
        """Say it where the microphone is that is listened to by now, to the end."""
        wait_for_capture()
        time.sleep(0.5)  # of quiet: the noise floor
        self._pulse.play(samples).wait(PATIENCE)


@pytest.fixture
def desk(
    pulse: Pulse, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    """All of it; the microphone is the default one."""
    for name in ("PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, environment[name])
    source = ("module-remap-source", f"master={SINK}.monitor", "source_name=desk")
    pulse.control("load-module", *source)
    pulse.control("set-default-source", "desk")
    sshd = OwnSshd(tmp_path / "pi", Path(sys.executable))
    place = tmp_path / "checkout"
    place.mkdir()
    try:
        yield Desk(place, pulse, sshd)
    finally:
        sshd.close()


@pytest.fixture
def terminal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal at the desk."""
    monkeypatch.setenv("PATH", desk.variables["PATH"])
    monkeypatch.chdir(desk.folder)
    shown = Terminal(desk.folder.parent)
    yield shown
    shown.close()


def clips_of(corpora: Path, actor: int) -> list[Int16]:
    """What an actor says, class by class, in the order in which `record` asks; pauses between."""
    pause, clips = np.zeros(round(0.8 * SAMPLE_RATE), np.int16), []
    for name, sentence in CLIPS:
        emotion = CLASSES[name]
        clip = f"ravdess/Actor_{actor:02d}/03-01-{emotion}-{sentence}-01-{actor:02d}.flac"
        speech = speech_of(read_file(corpora / clip))[: round(SECONDS * SAMPLE_RATE)]
        # As loud as somebody near a microphone: RAVDESS is soft.
        louder = speech.astype(np.float32) * (12_000 / np.abs(speech).max())
        clips.append(np.concatenate([louder.astype(np.int16), pause]))
    return clips


@pytest.mark.realtime
def test_eight_commands_lead_from_a_microphone_to_a_model_on_the_device(
    desk: Desk, terminal: Terminal, corpora: Path, scene_path: Path
) -> None:
    first, again, look, adapt, build, parity, copy, listen = typed(PAGE, 0)

    # Two people record; the second by the same labels, until a key ends it.
    terminal.run("sh", "-c", desk.typed(first))
    answer_consent(terminal)
    desk.say(np.concatenate(clips_of(corpora, 1)))
    terminal.wait_for("ended with 0")
    terminal.run("sh", "-c", desk.typed(again))
    answer_consent(terminal)
    desk.say(np.concatenate(clips_of(corpora, 12)))
    terminal.wait_for(f"-{len(CLIPS):04d}.wav ")
    terminal.type("q")
    terminal.wait_for("ended with 0")
    with (desk.folder / "kitchen" / "manifest.csv").open(encoding="utf-8") as file:
        rows = [(row["label"], row["speaker"]) for row in csv.DictReader(file)]
    assert sorted(rows) == sorted((name, who) for who in ("anna", "ben") for name, _ in CLIPS)
    assert "calm 4  stressed 4  tired 4" in " ".join(desk.run(look).split("\n")).replace("│", "")

    # What a device was in doubt about is corrected into the same manifest (docs/recording.md).
    desk.run(f"edge-emotion run {scene_path} --out none --keep-audio kept --file heard.jsonl")
    review = "edge-emotion review heard.jsonl --audio kept --manifest kitchen/manifest.csv"
    labels = ("--label", ",".join(CLASSES), "--who", "carl", "--play-command", "true")
    terminal.run(*shlex.split(review), *labels)
    for number, key in enumerate("123", 1):
        terminal.wait_for(f"{number} of ")
        terminal.type(key)
    terminal.wait_for("4 of ")
    terminal.type("q")
    terminal.wait_for("ended with 0")

    # Both train.
    said = desk.run(adapt)
    assert f"of {2 * len(CLIPS) + 3} clips by heads that did not learn from them" in said
    assert "3 speakers" in said
    assert "bundles/mine" in desk.run(build)
    print(desk.run(parity))
    desk.run(copy)
    there = desk.device / "mine"
    names = {path.name for path in (desk.folder / "bundles" / "mine").iterdir()}
    assert {path.name for path in there.iterdir()} == names

    terminal.run("cd", desk.device)
    terminal.run("sh", "-c", desk.typed(listen))
    terminal.wait_for("speak now")
    desk.say(clips_of(corpora, 1)[1])
    seen = terminal.wait_for("stressed")
    terminal.press("C-c")  # which ends the shell's list as well
    terminal.wait_for("real-time factor")
    print(seen)


def answer_consent(terminal: Terminal) -> None:
    terminal.wait_for("agree? [y/N]:")
    terminal.type("yes")
    terminal.press("Enter")
    terminal.wait_for("say something: ")
