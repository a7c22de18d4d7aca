"""The password of a broker of words: where it may stand, and that nobody is shown it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.commands.settings import RunSettings
from edge_runtime.commands.words import words_source
from edge_runtime.errors import SettingError
from edge_runtime.events import TextEvent
from edge_runtime.settings import Secret
from edge_runtime.text import without_password
from edge_runtime.text.engines import unknown
from edge_runtime.text.given import open_given

pytest.importorskip("paho")
PATIENCE = 60.0  # seconds until something hangs
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Port of a real broker that lets in `anna` with the password `p@ss/word` alone."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    program, keeper = (shutil.which(name, path=path) for name in ("mosquitto", "mosquitto_passwd"))
    if program is None or keeper is None:
        pytest.skip("no mosquitto: apt-get install mosquitto")
    users = tmp_path / "users"
    subprocess.run([keeper, "-c", "-b", users, "anna", "p@ss/word"], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    config = tmp_path / "mosquitto.conf"
    lines = ("user root", f"listener {number} 127.0.0.1", f"password_file {users}", "")
    config.write_text("\n".join(lines))
    with subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", number)).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield number
        process.kill()


def is_heard(port: int, url: str) -> bool:
    """Whether words that are published there arrive by `url`."""
    publish = pytest.importorskip("paho.mqtt.publish")
    stream = open_given(url)
    try:
        stream.begin(0.0)
        stream.feed(np.zeros(16_000, np.int16))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            publish.single(
                "home/words",
                '{"text": "so happy"}',
                hostname="127.0.0.1",
                port=port,
                auth={"username": "anna", "password": "p@ss/word"},
            )
            events = stream.poll()
            if any(isinstance(event, TextEvent) for event in events):
                return True
            if any("refuses" in event.reason for event in events):  # type: ignore[union-attr]
                return False
            time.sleep(0.05)
        raise AssertionError("nothing came, and nothing was refused")
    finally:
        stream.close()


def source(**settings: Any) -> str:
    """The source of words that `run` opens with these settings."""
    return words_source(RunSettings(**settings))


def test_the_password_comes_from_a_secret_or_a_file(port: int, tmp_path: Path) -> None:
    url = f"mqtt://anna@127.0.0.1:{port}/home/words"
    file = tmp_path / "password"
    file.write_text("p@ss/word\n")
    assert not is_heard(port, source(text=url))
    assert not is_heard(port, source(text=url, text_password=Secret("p@ss")))
    assert is_heard(port, source(text=url, text_password=Secret("p@ss/word")))
    assert is_heard(port, source(text=url, text_password_file=file))


def test_a_password_in_the_address_works_and_its_risk_is_told_without_it(
    port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"mqtt://anna:p%40ss%2Fword@127.0.0.1:{port}/home/words"
    assert is_heard(port, source(text=url))
    told = capsys.readouterr().err
    assert "whoever lists the processes reads the password" in told
    assert "EDGE_EMOTION_TEXT_PASSWORD" in told
    assert "p%40ss" not in told
    assert told.count("\n") == 1


def test_a_file_of_a_password_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"absent: No such file") as refused:
        source(text="mqtt://anna@host/words", text_password_file=tmp_path / "absent")
    assert "\n" not in str(refused.value)


def test_a_password_goes_to_the_user_of_a_broker_alone() -> None:
    assert source(text="jsonl:words", text_password=Secret("x")) == "jsonl:words"
    assert source(text="mqtt://host/a@b", text_password=Secret("x")) == "mqtt://host/a@b"


def test_the_command_shows_no_password(
    edge_emotion: Command, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(environment, "EDGE_EMOTION_TEXT_PASSWORD", "hunter2")
    on = ("--on", "sad", "https://me:hunter2@host/x")
    shown = edge_emotion("config", "--text", "mqtt://me:hunter2@host/t", *on)
    assert shown.returncode == 0
    assert "hunter2" not in shown.stdout + shown.stderr
    assert "mqtt://***@host/t" in shown.stdout
    assert 'text_password = "***"' in shown.stdout
    unknown = edge_emotion("run", "--text", "mqqt://me:hunter2@host/t", "a.wav")
    assert unknown.returncode == 2
    assert "hunter2" not in unknown.stdout + unknown.stderr


@pytest.mark.parametrize(
    "name", ["mqtt://me:secret@host/words", "mqqt://me:sec@ret/secret@host:1/words", "x://secret@"]
)
def test_no_name_of_a_source_shows_a_password(name: str) -> None:
    assert "secret" not in without_password(name)
    assert "secret" not in str(unknown(name))
    assert without_password("jsonl:me@home/words") == "jsonl:me@home/words"
