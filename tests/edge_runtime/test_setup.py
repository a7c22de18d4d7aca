"""`edge-emotion setup` as somebody new meets it: on a terminal, against a real broker."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mosquitto import Mosquitto
from on_a_terminal import OnATerminal

from edge_runtime.commands.settings import RunSettings
from edge_runtime.config import effective

pytestmark = pytest.mark.usefixtures("bundle_path")

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Asked = Callable[..., OnATerminal]


@pytest.fixture
def home(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment of somebody without settings, sound server or sound card of ALSA."""
    alsa = tmp_path / "asound.conf"
    alsa.write_text("</usr/share/alsa/alsa.conf>\n")
    return {
        **environment,
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "ALSA_CONFIG_PATH": str(alsa),
        "PULSE_SERVER": f"unix:{tmp_path / 'none'}",
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the settings go."""
    return tmp_path / "config" / "edge-emotion" / "config.toml"


@pytest.fixture
def asked(command: list[str], home: dict[str, str]) -> Iterator[Asked]:
    """Start setup on a terminal."""
    started: list[OnATerminal] = []

    def run(*arguments: str, **more: str) -> OnATerminal:
        started.append(OnATerminal([*command, "setup", *arguments], {**home, **more}))
        return started[-1]

    yield run
    for one in started:
        one.close()


def settings(file: Path) -> RunSettings:
    """What a settings file says."""
    return effective(RunSettings, argparse.Namespace(), file).settings


def test_enter_alone_is_a_microphone_and_nothing_that_is_sent(asked: Asked, file: Path) -> None:
    setup = asked()
    setup.answer("What hears them [off]:")
    setup.answer("Send what is felt to a broker [y/N]:")
    setup.answer("Show a page to browsers of this machine [y/N]:")
    assert not file.exists()
    setup.answer("Start it by systemd from now on [y/N]:")
    setup.wait_for("It stands for these commands")
    assert setup.end() == 0
    found = settings(file)
    assert (found.source.mic, found.text) == (True, "off")
    assert (found.mqtt.broker, found.web.on, found.file.path) == (None, False, None)
    commands = [line.strip() for line in setup.shown.splitlines() if "  edge-emotion " in line]
    assert commands == [
        "edge-emotion config init --mic",
        "edge-emotion doctor",
        "edge-emotion run",
        "edge-emotion service install",
        "edge-emotion service logs --follow",
    ]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_wrong_answers_are_asked_again_and_the_broker_is_tried(
    asked: Asked, file: Path, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    pytest.importorskip("paho")
    program = shutil.which("mosquitto_passwd")
    assert program
    users = tmp_path / "users"
    subprocess.run([program, "-b", "-c", str(users), "device", "right word"], check=True)
    mosquitto.start("allow_anonymous false", f"password_file {users}")
    place = f"127.0.0.1:{mosquitto.port}"

    setup = asked()
    setup.answer("What hears them [off]:", "keyword")
    assert "unknown text source 'keyword'; there is off, keywords" in setup.answer(
        "What hears them [off]:", "jsonl:words"
    )
    setup.answer("Send what is felt to a broker [y/N]:", "maybe")
    assert "expected y or n, not 'maybe'" in setup.answer("broker [y/N]:", "y")
    setup.answer("[homeassistant.local]:", place)
    setup.answer("With TLS [y/N]:", "y")
    setup.answer("(Enter: those of the system):", "nothing.pem")
    assert "there is no file nothing.pem" in setup.answer("(Enter: those of the system):")
    setup.answer("User (Enter: none):", "device")
    setup.answer("Password (not shown):", "swordfish")
    setup.answer(f"[{os.uname().nodename}]:", "Küche 1")
    setup.answer("Send the words, too [y/N]:")
    assert f"mqtts://{place}" in setup.answer("Answer these again [Y/n]:")
    setup.answer(f"[{place}]:")
    setup.answer("With TLS [Y/n]:", "n")
    setup.answer("User (-: none) [device]:")
    setup.answer("Password (not shown; Enter: as before):")
    setup.answer("[Küche 1]:")
    setup.answer("Send the words, too [y/N]:")
    assert "refuses user 'device' and the password" in setup.answer("Answer these again [Y/n]:")
    setup.answer(f"[{place}]:")
    setup.answer("With TLS [y/N]:")
    setup.answer("User (-: none) [device]:")
    setup.answer("Password (not shown; Enter: as before):", "right word")
    setup.answer("[Küche 1]:")
    setup.answer("Send the words, too [y/N]:")
    assert f"mqtt://{place} lets this device in" in setup.answer("Show a page")
    setup.answer("Start it by systemd from now on [y/N]:")
    assert setup.end() == 0, setup.shown

    secret = file.parent / "mqtt.password"
    assert secret.read_text() == "right word\n"
    for path in (file, secret):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for shown in (setup.shown, file.read_text()):
        assert "right word" not in shown
        assert "swordfish" not in shown
    found = settings(file)
    assert found.mqtt.broker == f"mqtt://{place}"
    assert (found.mqtt.user, found.mqtt.password_file) == ("device", secret)
    assert (found.name, found.text, found.mqtt.text) == ("Küche 1", "jsonl:words", False)
    assert (
        f"edge-emotion config init --name 'Küche 1' --text jsonl:words --mic --mqtt "
        f"mqtt://{place} --mqtt-user device --mqtt-password-file {secret}" in setup.shown
    )


@pytest.mark.parametrize(
    ("key", "code", "line"),
    [
        (b"\x03", 130, "edge-emotion: stopped"),
        (b"\x04", 2, "edge-emotion: the answers ended: nothing is written; without them: "),
    ],
    ids=["ctrl-c", "end of input"],
)
@pytest.mark.parametrize("question", ["Send what is felt to a broker", "Password (not shown):"])
def test_who_goes_away_leaves_nothing_behind(
    asked: Asked, file: Path, question: str, key: bytes, code: int, line: str
) -> None:
    setup = asked("--text", "off")
    if question.startswith("Password"):
        pytest.importorskip("paho")
        setup.answer("broker [y/N]:", "y")
        setup.answer("[homeassistant.local]:", "127.0.0.1:1")
        setup.answer("With TLS [y/N]:")
        setup.answer("User (Enter: none):", "device")
    setup.wait_for(question)
    setup.press(key)
    assert setup.end(key) == code
    assert line in setup.shown
    assert "Traceback" not in setup.shown
    assert not file.parent.exists()


def test_settings_that_are_there_are_defaults_and_never_lost_unasked(
    asked: Asked, file: Path
) -> None:
    file.parent.mkdir(parents=True)
    before = 'gain_db = 3.0\ntext = "jsonl:words"\n[mqtt]\npassword = "old"\nuser = "device"\n'
    file.write_text(before)
    setup = asked()
    setup.answer("is there; write over it, with what it says as defaults [y/N]:")
    assert setup.end() == 0
    assert file.read_text() == before
    setup = asked()
    setup.answer("as defaults [y/N]:", "y")
    setup.answer("What hears them [jsonl:words]:")
    setup.answer("broker [y/N]:")
    setup.answer("Show a page")
    setup.answer("systemd")
    assert setup.end() == 0
    found = settings(file)
    assert (found.source.gain_db, found.text, found.mqtt.password) == (3.0, "jsonl:words", None)
    assert (file.parent / "mqtt.password").read_text() == "old\n"


def test_a_hyphen_takes_back_what_enter_would_keep(
    asked: Asked, file: Path, mosquitto: Mosquitto
) -> None:
    pytest.importorskip("paho")
    mosquitto.start("allow_anonymous true")
    place = f"127.0.0.1:{mosquitto.port}"
    file.parent.mkdir(parents=True)
    file.write_text(f'[mqtt]\nbroker = "mqtt://{place}"\nuser = "device"\n')
    setup = asked("--force", "--listen", "tcp:4000", "--text", "off", "--no-service")
    setup.answer("broker [Y/n]:")
    setup.answer(f"[{place}]:")
    setup.answer("With TLS [y/N]:")
    setup.answer("User (-: none) [device]:", "-")
    setup.answer(f"[{os.uname().nodename}]:")
    setup.answer("Show a page")
    assert setup.end() == 0, setup.shown
    assert settings(file).mqtt.user is None


def test_a_port_that_is_taken_is_asked_for_again(asked: Asked, file: Path) -> None:
    pytest.importorskip("websockets")
    with socket.socket() as taken, socket.socket() as other:
        for one in (taken, other):
            one.bind(("127.0.0.1", 0))
        taken.listen()
        number, free = taken.getsockname()[1], other.getsockname()[1]
        other.close()
        file.parent.mkdir(parents=True)
        file.write_text(f"[web]\nport = {number}\n")
        setup = asked("--force", "--listen", "tcp:4000", "--text", "off", "--no-service")
        setup.answer("broker [y/N]:")
        setup.answer("browsers of this machine [y/N]:", "y")
        said = setup.answer("Another port (Enter: leave it):", "many")
        assert f"port {number} of 127.0.0.1 is taken" in said
        assert "from 1 to 65535, not 'many'" in setup.answer("(Enter: leave it):", str(free))
        assert setup.end() == 0
        assert f"port {free} of 127.0.0.1 is free" in setup.shown
    assert (settings(file).web.on, settings(file).web.port) == (True, free)


def test_a_service_that_cannot_be_is_told_and_the_settings_stay(asked: Asked, file: Path) -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd is here")
    setup = asked("--yes", "--service")
    assert setup.end() == 1
    assert "the service is not installed: " in setup.shown
    assert "edge-emotion service install" in setup.shown
    assert settings(file).source.mic


def test_without_a_terminal_all_is_answered_in_advance(
    command: list[str], home: dict[str, str], tmp_path: Path
) -> None:
    def setup(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "setup", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**home, "EDGE_EMOTION_MQTT_PASSWORD": "hidden"},
            timeout=60,
        )

    done = setup()
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == (
        "edge-emotion: questions need a terminal; without them: edge-emotion setup --yes "
        "(see --help)"
    )
    file = tmp_path / "own" / "device.toml"
    scripted = ["--yes", "--config", str(file), "--mqtt", "mqtt://127.0.0.1:1"]
    scripted += ["--mqtt-user", "device", "--listen", "tcp:4000"]
    done = setup(*scripted)
    assert done.returncode == 0, done.stderr
    assert "it listens to what --listen says" in done.stdout
    assert "hidden" not in done.stdout + file.read_text()
    found = settings(file)
    assert (found.source.listen, found.source.mic) == ("tcp:4000", False)
    assert found.mqtt.password_file == file.parent / "mqtt.password"
    assert found.mqtt.password_file.read_text() == "hidden\n"
    assert found.mqtt.password is None  # the file alone has it
    again = setup(*scripted)
    assert again.returncode == 2
    assert again.stderr.endswith("is there already; --force writes over it\n")
    assert setup(*scripted, "--force").returncode == 0
