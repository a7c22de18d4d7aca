"""A sound server, and `edge-emotion` by either way to PortAudio."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sound_server import INSTALL, IS_HERE, PATIENCE, SYSTEM_ALSA, Finish, Pulse, Start

from edge_runtime.audio import portaudio


@pytest.fixture(params=list(portaudio.BINDINGS))
def binding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each of the two ways to PortAudio, alone."""
    name = str(request.param)
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"pip install {portaudio.BINDINGS[name]}")
    monkeypatch.setattr(portaudio, "BINDINGS", {name: portaudio.BINDINGS[name]})
    yield name
    # Both share the library, which sounddevice keeps initialized, with the devices of this test.
    sounddevice = sys.modules.get("sounddevice")
    while sounddevice and sounddevice._initialized:
        sounddevice._terminate()


@pytest.fixture
def start(
    binding: str, command_without: Callable[[str], list[str]], environment: dict[str, str]
) -> Start:
    """Start `edge-emotion ARGUMENTS` in this environment, where `binding` alone is installed."""
    (other,) = {"sounddevice", "pyaudio"} - {binding}

    def run(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command_without(other), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": environment["PYTHONPATH"]},
        )

    return run


@pytest.fixture
def finish(start: Start) -> Finish:
    """The same, to its end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        process = start(*arguments)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run


@pytest.fixture
def alsa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ALSA configuration and a home of our own: the machine's devices stay out of it."""
    if not IS_HERE:
        pytest.skip(f"PulseAudio is not installed: {INSTALL}")
    config = tmp_path / "asound.conf"
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    for name, value in {
        "ALSA_CONFIG_PATH": config,
        "HOME": tmp_path,
        "XDG_RUNTIME_DIR": runtime,
        "XDG_CONFIG_HOME": tmp_path / "config",
        "XDG_DATA_HOME": tmp_path / "data",
        "PULSE_SERVER": f"unix:{runtime / 'pulse.socket'}",
    }.items():
        monkeypatch.setenv(name, str(value))
    config.write_text(SYSTEM_ALSA + "pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    return config


@pytest.fixture
def pulse(alsa: Path, tmp_path: Path) -> Iterator[Pulse]:
    """A running sound server."""
    server = Pulse(tmp_path / "pulseaudio.log")
    yield server
    server.kill()
