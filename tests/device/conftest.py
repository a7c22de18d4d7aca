"""A sound server, and `edge-emotion` by either way to PortAudio."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import Run, Running
from sound_server import INSTALL, IS_HERE, PATIENCE, SYSTEM_ALSA, Finish, Pulse, Start

from edge_runtime import portaudio


@pytest.fixture(params=list(portaudio.BINDINGS))
def binding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways to PortAudio, alone."""
    name = str(request.param)
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"pip install {portaudio.BINDINGS[name]}")
    monkeypatch.setattr(portaudio, "BINDINGS", {name: portaudio.BINDINGS[name]})
    return name


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


@pytest.fixture
def run(
    command: list[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    """Start `edge-emotion run --out jsonl ARGUMENTS`; what still runs at the end is killed."""
    for name in ("PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, environment[name])
    started: list[Running] = []

    def begin(*arguments: str) -> Running:
        started.append(Running(command, arguments))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def broken_bundle(bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle whose hashes are right, and whose head is no graph: to load it is not enough."""
    folder = Path(shutil.copytree(bundle_path, tmp_path / "broken"))
    (folder / "head.tflite").write_bytes(b"no graph")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["graphs"]["head"]["sha256"] = hashlib.sha256(b"no graph").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a disk of so many MB, as root; where it is."""
    place = tmp_path / "disk"

    def mount(megabytes: int) -> Path:
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}M", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no disk can be mounted here")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)
