"""docs/appliance.md as a new user would follow it: each of its commands, to Home Assistant."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from mosquitto import Listener, Mosquitto, wait_until
from on_a_terminal import OnATerminal
from own_systemd import ENVIRONMENT, HOME, PYTHON, OwnSystemd
from sound_server import INSTALL, IS_HERE, Pulse
from test_docs import ROOT, typed
from test_wheel import NOT_SOURCES

from edge_runtime.pcm import Int16

pytest.importorskip("paho")
pytest.importorskip("sounddevice")

PAGE = ROOT / "docs" / "appliance.md"
SOURCE, INSTALLED = "/run/source", "/run/emotion"
PATIENCE = 300.0  # seconds until pip hangs
SITE = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
CONFIG = "homeassistant/device/desk/config"


class Device:
    """A machine of its own: systemd, a home, a sound server with one microphone."""

    def __init__(self, systemd: OwnSystemd, pulse: Pulse, voice: Int16) -> None:
        self._systemd, self._pulse, self._voice = systemd, pulse, voice
        # The packages that ours asks for are there; what is installed is ours alone.
        made = self._start("sh", "-c", f"{PYTHON} -m venv {INSTALLED}")
        assert made.returncode == 0, made.stderr
        beside = systemd.path(f"{INSTALLED}/{SITE}/beside.pth")
        beside.write_text(f"{ENVIRONMENT}/{SITE}\n")

    def run(self, line: str) -> str:
        """Type a command while somebody speaks; what it says."""
        with self.speaking():
            done = self._start(*self._typed(line))
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    def terminal(self, line: str) -> OnATerminal:
        """Type a command that asks."""
        return OnATerminal(self._systemd.inside(*self._typed(line)), self._systemd.variables)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Somebody does, in here."""
        process = self._pulse.play(self._voice)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def _typed(self, line: str) -> list[str]:
        return ["sh", "-c", f"cd {SOURCE}; PATH={INSTALLED}/bin:$PATH; {line}"]

    def _start(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._systemd.inside(*command),
            capture_output=True,
            text=True,
            env=self._systemd.variables,
            timeout=PATIENCE,
        )


@pytest.fixture
def device(tmp_path: Path, scene: Int16, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """The machine, with a checkout on it."""
    if not IS_HERE:
        pytest.skip(f"PulseAudio is not installed: {INSTALL}")
    # How this machine reaches packages.
    for name, path in (("CONFIG_FILE", ".config/pip/pip.conf"), ("CACHE_DIR", ".cache/pip")):
        if (Path.home() / path).exists():
            monkeypatch.setenv(f"PIP_{name}", str(Path.home() / path))
    systemd = OwnSystemd(tmp_path / "systemd.log", checkout=False)
    pulse = None
    try:
        shutil.copytree(ROOT, systemd.path(SOURCE), ignore=shutil.ignore_patterns(*NOT_SOURCES))
        systemd.path(f"{HOME}/.asoundrc").write_text("pcm.!default { type pulse }\n")
        server = systemd.path("/run/user/0/pulse/native")
        server.parent.mkdir()
        monkeypatch.setenv("PULSE_SERVER", f"unix:{server}")
        pulse = Pulse(tmp_path / "pulseaudio.log")
        pulse.control(
            "load-module", "module-remap-source", "master=speaker.monitor", "source_name=desk"
        )
        pulse.control("set-default-source", "desk")
        yield Device(systemd, pulse, np.tile(scene, 10))
    finally:
        if pulse is not None:
            pulse.kill()
        systemd.close()


@pytest.mark.realtime
@pytest.mark.usefixtures("bundle_path")
def test_five_commands_lead_from_nothing_to_an_emotion_in_home_assistant(
    device: Device, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    users = tmp_path / "users"
    program = shutil.which("mosquitto_passwd")
    assert program
    subprocess.run([program, "-b", "-c", str(users), "edge", "a secret"], check=True)
    mosquitto.start("allow_anonymous true", f"password_file {users}")
    heard = Listener(mosquitto.port, "homeassistant/#", "edge-emotion/#")
    install, setup, doctor, start, status = typed(PAGE, 0)

    assert "Successfully installed edge-emotion" in device.run(install)

    with device.speaking():
        asked = device.terminal(setup)
        try:
            answer_all(asked, f"127.0.0.1:{mosquitto.port}")
            assert asked.end() == 0, asked.shown
        finally:
            asked.close()
    print(asked.shown)
    assert "edge-emotion service install" in asked.shown
    assert "a secret" not in asked.shown

    looked = device.run(doctor)
    print(looked)
    for what in ("sound", "broker", "buffer"):
        assert f"\nok    {what} " in looked
    assert "listening to microphone d" in device.run(start)
    assert "edge-emotion.service of this user: active (running)" in device.run(status)
    wait_until(lambda: heard.payloads(CONFIG), PATIENCE)
    described = json.loads(heard.payloads(CONFIG)[-1])
    assert described["device"]["name"] == "Desk"
    assert "emotion" in described["components"]

    def emotions() -> set[str]:
        states = [json.loads(payload) for payload in heard.payloads("edge-emotion/desk/state")]
        return {state["emotion"] for state in states} - {None}

    with device.speaking():
        wait_until(emotions, PATIENCE)
    assert emotions() <= set(described["components"]["emotion"]["options"])
    assert heard.payloads("edge-emotion/desk/event/emotion")

    (remove,) = typed(PAGE, 2)
    assert "has forgotten this device" in device.run(remove)
    wait_until(lambda: heard.payloads(CONFIG)[-1] == b"")
    heard.close()


def answer_all(asked: OnATerminal, place: str) -> None:
    """What somebody says who wants MQTT alone."""
    asked.answer("or * for the default [*]:", "a microphone that nobody has")
    assert "no microphone 'a microphone that nobody has'" in asked.answer("the default [*]:")
    said = asked.answer("What hears them [off]:")
    assert "no clipping, offset, hum or dead channel" in said
    asked.answer("Send what is felt to a broker [y/N]:", "y")
    asked.answer("[homeassistant.local]:", place)
    asked.answer("With TLS [y/N]:")
    asked.answer("User (Enter: none):", "edge")
    asked.answer("Password (not shown):", "a secret")
    asked.answer("What people call this device", "Desk")
    assert "lets this device in" in asked.answer("Show a page")
    asked.answer("Start it by systemd from now on [y/N]:")
