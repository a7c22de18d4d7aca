"""`record` listens to what `run` listens to, by the same options."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_output import Start
from ports import free_port

from edge_runtime.audio.file import read_file
from edge_runtime.pcm import SAMPLE_RATE, Int16

Run = Callable[..., subprocess.CompletedProcess[str]]
PATIENCE = 30.0  # seconds until something that should have happened counts as a hang
ASKED = ("--label", "angry,neutral", "--who", "anna", "--count", "2", "--consent")


@pytest.fixture
def raw(tmp_path: Path, scene: Int16) -> Path:
    """The scene as raw samples: six utterances."""
    path = tmp_path / "scene.raw"
    scene.astype("<i2").tofile(path)
    return path


def labels_of(folder: Path) -> list[str]:
    """Of the clips there, each of which holds what its row says."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        start, end = float(row["start"]), float(row["end"])
        length = len(read_file(folder / row["path"], start, end)) / SAMPLE_RATE
        assert length == pytest.approx(end - start, abs=0.01)
        assert length > 0.4
    return [row["label"] for row in rows]


def test_what_a_program_writes(edge_emotion: Run, tmp_path: Path, raw: Path) -> None:
    folder = tmp_path / "mine"
    done = edge_emotion("record", folder, *ASKED, "--mic-command", f"cat {raw}")
    assert done.returncode == 0, done.stderr
    assert labels_of(folder) == ["angry", "neutral"] * 2
    about = json.loads((folder / "about.json").read_text())
    assert about["sessions"][0]["source"] == f"command cat {raw}"


def test_the_settings_file_of_run_says_where_from(
    edge_emotion: Run, tmp_path: Path, raw: Path, scene: Int16
) -> None:
    stereo, settings = tmp_path / "stereo.raw", tmp_path / "config.toml"
    scene.repeat(2).astype("<i2").tofile(stereo)
    settings.write_text(f'mic_command = "cat {stereo}"\nchannels = 2\n')
    done = edge_emotion("record", tmp_path / "mine", *ASKED, "--config", settings)
    assert done.returncode == 0, done.stderr
    assert labels_of(tmp_path / "mine") == ["angry", "neutral"] * 2
    # The command line counts before it.
    other = tmp_path / "other"
    given = ("--config", settings, "--channels", "1", "--stdin")
    done = edge_emotion("record", other, *ASKED, *given, stdin=raw.read_bytes())
    assert done.returncode == 0, done.stderr
    assert (
        json.loads((other / "about.json").read_text())["sessions"][0]["source"] == "standard input"
    )
    # What it says of the samples of its program is not said of another source.
    other = tmp_path / "third"
    given = ("--config", settings, "--stdin")
    done = edge_emotion("record", other, *ASKED, *given, stdin=raw.read_bytes())
    assert done.returncode == 0, done.stderr
    assert labels_of(other) == ["angry", "neutral"] * 2
    given = ("--config", settings, "--mic", "--device", "none-such")
    done = edge_emotion("record", tmp_path / "none", *ASKED, *given)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "no microphone 'none-such'" in done.stderr or "sounddevice" in done.stderr


def wait_for(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_socket_whose_sender_leaves_has_said_all(
    start: Start, tmp_path: Path, scene: Int16
) -> None:
    folder, path = tmp_path / "mine", tmp_path / "audio.socket"
    process = start("record", folder, *ASKED, "--listen", f"unix:{path}")
    try:
        wait_for(process, path.exists)
        for number in (1, 2):
            with socket.socket(socket.AF_UNIX) as sender:
                sender.connect(str(path))
                # It ends within the first utterance (0.7 to 4.9 s), with no silence behind.
                sender.sendall(scene[: 3 * SAMPLE_RATE].tobytes())
            wait_for(process, lambda n=number: len(list(folder.glob("clips/*.wav"))) == n)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert b"2 clips recorded" in out, err
    assert labels_of(folder) == ["angry", "neutral"]


def test_a_wyoming_satellite(start: Start, tmp_path: Path, scene: Int16) -> None:
    pytest.importorskip("wyoming")
    from wyoming_client import client, send

    folder, port = tmp_path / "mine", free_port()

    async def say() -> None:
        async with client(port) as satellite:
            await send(satellite, scene[: 3 * SAMPLE_RATE], rate=22_050, channels=2)

    def listens() -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    process = start("record", folder, *ASKED, "--wyoming", str(port))
    try:
        wait_for(process, listens)
        for number in range(1, 5):
            asyncio.run(say())
            if number < 4:  # at the fourth it ends
                wait_for(process, lambda n=number: len(list(folder.glob("clips/*.wav"))) == n)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert b"4 clips recorded" in out
    assert labels_of(folder) == ["angry", "neutral"] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mic", "--stdin"), "--mic and --stdin: one at a time"),
        (("--mic", "--rate", "8000"), "--rate, --format and --channels are for raw samples"),
        (("--rate", "8000"), "--rate, --format and --channels are for raw samples"),
        (("--listen", "udp:5"), "expected unix:PATH or tcp:PORT"),
        (("--mic-command", "exit 3"), "ended with exit code 3"),
    ],
)
def test_a_mistake_is_one_line_and_stores_nothing(
    edge_emotion: Run, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = edge_emotion("record", tmp_path / "mine", *ASKED, *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "mine").exists()


def test_who_pipes_sound_in_is_told_what_leaves_the_keyboard_free(
    edge_emotion: Run, tmp_path: Path
) -> None:
    done = edge_emotion("record", tmp_path / "mine", "--label", "a,b", "--stdin")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--consent; --mic-command leaves the keyboard to you" in done.stderr
