"""One start does all: a settings file, audio in, and file, broker, page and command have events."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from mosquitto import ANYBODY, Listener, Mosquitto, wait_until
from ports import free_port

from edge_runtime.audio.file import FileSource

pytest.importorskip("paho")
pytest.importorskip("websockets")
pytest.importorskip("prometheus_client")

SCENE = Path(__file__).parents[2] / "edge_runtime" / "demo" / "scene.flac"
PATIENCE = 60  # seconds until something that should have happened counts as a hang


def test_one_start_does_all(
    command: list[str], environment: dict[str, str], mosquitto: Mosquitto, tmp_path: Path
) -> None:
    mosquitto.start(*ANYBODY)
    page, figures = free_port(), free_port()
    audio, kept, done = (tmp_path / name for name in ("audio.sock", "events.jsonl", "done"))
    file = tmp_path / "config.toml"
    file.write_text(
        f"""listen = "unix:{audio}"
out = "none"
name = "Desk"

[file]
path = "{kept}"

[mqtt]
broker = "mqtt://127.0.0.1:{mosquitto.port}"
buffer = "{tmp_path / "buffer"}"

[web]
on = true
port = {page}

[prometheus]
port = {figures}

[on]
rules = [["any", "touch {done}"]]
""",
        encoding="utf-8",
    )
    heard = Listener(mosquitto.port, "edge-emotion/#", "homeassistant/#")
    start = [*command, "run", "--config", str(file)]
    with subprocess.Popen(
        start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            wait_until(audio.exists, PATIENCE)
            with socket.socket(socket.AF_UNIX) as sender:
                sender.connect(str(audio))
                for block in FileSource(str(SCENE)).blocks():
                    sender.sendall(block.samples.tobytes())
            final = "edge-emotion/desk/event/emotion"
            wait_until(lambda: len(heard.payloads(final)) > 2 and done.exists(), PATIENCE)
            with urllib.request.urlopen(f"http://127.0.0.1:{page}/", timeout=PATIENCE) as answer:
                assert b"<title>" in answer.read()
            with urllib.request.urlopen(
                f"http://127.0.0.1:{figures}/metrics", timeout=PATIENCE
            ) as answer:
                assert b"edge_emotion" in answer.read()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, b"")
    assert f"events, with the words, are kept in {kept}" in err.decode()
    stored = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    verdicts = [event for event in stored if event["type"] == "emotion"]
    deadline = time.monotonic() + PATIENCE
    while len(heard.payloads(final)) < len(verdicts):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sent = [json.loads(payload) for payload in heard.payloads(final)]
    assert [event["label"] for event in sent] == [event["label"] for event in verdicts]
    # What is kept is told to everybody who gets events.
    for told in (
        [event for event in stored if event["type"] == "storage"],
        [json.loads(payload) for payload in heard.payloads("edge-emotion/desk/event/storage")],
    ):
        assert [(event["what"], event["words"]) for event in told] == [
            ("events", True),
            ("messages", False),
        ]
        assert [event["place"] for event in told] == [str(kept), str(tmp_path / "buffer")]
    # Words leave the device where that is asked for alone.
    assert all(not event["text"] for event in sent)
    (described,) = set(heard.payloads("homeassistant/device/desk/config"))
    assert json.loads(described)["device"]["name"] == "Desk"
    assert heard.payloads("edge-emotion/desk/availability")[-1] in ("offline", b"offline")
    heard.close()
