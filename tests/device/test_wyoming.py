"""A device that Wyoming clients talk to, as Home Assistant and its satellites do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_output import Command, finals
from ports import free_port
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming_client import HOST, PATIENCE, client, send, transcribed, until
from wyoming_client import finals as told

from edge_runtime.pcm import Int16
from edge_runtime.wyoming.discovery import own_addresses

NAME = f"kitchen of {os.getpid()}"
RUN = ("run", "--out", "jsonl", "--name", NAME)


class Device:
    """`edge-emotion run --wyoming ADDRESS`, its output in a file: a pipe that is not read fills."""

    def __init__(self, command: list[str], folder: Path, address: str, *options: str) -> None:
        self._out = folder / f"out-{address.rpartition(':')[2]}"
        with self._out.open("w") as out:
            # Where the tests run in the background, Ctrl-C is ignored by all that they start.
            self.process = subprocess.Popen(
                [*command, *RUN, "--wyoming", address, *options],
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        deadline = time.monotonic() + PATIENCE
        while '"source"' not in self._out.read_text():
            assert time.monotonic() < deadline
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)

    def end(self, number: int = signal.SIGTERM) -> tuple[str, str]:
        """Standard output and error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0
        return self._out.read_text(), errors


Start = Callable[..., Device]


@pytest.fixture
def start(
    command: list[str],
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Start]:
    """Start a device at an address."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    started: list[Device] = []

    def run(*arguments: str) -> Device:
        started.append(Device(command, tmp_path, *arguments))
        return started[-1]

    yield run
    for device in started:
        device.process.kill()
        device.process.communicate()


@pytest.fixture(scope="module")
def labels(edge_emotion: Command, scene_path: Path) -> list[dict]:
    """The verdicts on the scene as a file."""
    return finals(edge_emotion("run", "--out", "jsonl", scene_path).stdout)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (22_050, 1), (44_100, 2)])
def test_a_client_gets_the_verdicts_that_a_file_gets(
    rate: int, channels: int, start: Start, scene: Int16, labels: list[dict]
) -> None:
    port = free_port()
    device = start(str(port))
    events = asyncio.run(transcribed(port, scene, rate, channels))
    out, errors = device.end()
    got = told(events)
    assert len(got) == len(labels) >= 5
    for one, other in zip(got, labels, strict=True):
        assert one["label"] == other["label"]
        # The utterances begin within a frame of the detector where the rate was converted.
        assert one["start"] == pytest.approx(other["start"], abs=0.1)
        if rate == 16_000:
            assert one["scores"] == other["scores"]
    assert [e.type for e in events].count("edge-speech_start") == len(labels)
    assert [e["label"] for e in events[-1].data["emotions"]] == [e["label"] for e in labels]
    # The same went to the outputs, with nothing lost; and nobody did anything wrong.
    assert [e["label"] for e in finals(out)] == [e["label"] for e in labels]
    assert json.loads(out.splitlines()[-1])["dropped_ms"] == 0
    assert errors == ""


def test_home_assistant_gets_words_and_what_they_sound_like(start: Start, sentence: Int16) -> None:
    """Its own order: describe; then a connection for each command, closed with the transcript."""
    port = free_port()

    async def described() -> Info:
        async with client(port) as to:
            await to.write_event(Describe().event())
            return Info.from_event((await until(to, "info"))[-1])

    start(str(port), "--text", "asr")
    deadline = time.monotonic() + PATIENCE
    while not asyncio.run(described()).asr[0].installed:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first = asyncio.run(transcribed(port, sentence))
    second = asyncio.run(transcribed(port, sentence))
    for events in (first, second):
        transcript = events[-1].data
        assert "meeting" in transcript["text"]
        (verdict,) = transcript["emotions"]
        assert verdict["modality"] == "audio+text"
        assert verdict["text"] == transcript["text"]
        assert sum(verdict["scores"].values()) == pytest.approx(1)
        assert {e.type for e in events} >= {"edge-speech_start", "edge-emotion", "edge-text"}


def test_two_satellites_and_one_that_is_cut_off(start: Start, sentence: Int16) -> None:
    port = free_port()

    async def all_at_once() -> list[list[Event]]:
        async with client(port) as idle:
            cut = socket.create_connection((HOST, port))
            cut.sendall(b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels"')
            cut.close()
            answers = await asyncio.gather(
                transcribed(port, sentence), transcribed(port, sentence, 48_000, 2)
            )
            await send(idle, sentence)  # without asking for a transcript
            answers.append(await until(idle, "edge-emotion"))
            return answers

    device = start(str(port))
    *answers, unasked = asyncio.run(all_at_once())
    out, errors = device.end(signal.SIGINT)
    assert [len(told(events)) for events in answers] == [1, 1]
    assert not [e for e in unasked if e.type == "transcript"]
    assert len(finals(out)) == 3
    (line,) = errors.splitlines()
    assert "wyoming: 127.0.0.1 is dropped: it left in the middle of an event" in line


@pytest.mark.realtime
@pytest.mark.xdist_group("zeroconf")
def test_beyond_loopback_it_is_announced_and_on_it_it_is_not(start: Start) -> None:
    import zeroconf

    addresses = own_addresses()
    if not addresses:
        pytest.skip("this machine has no address beyond loopback")
    inside, outside = free_port(), free_port()
    service = "_wyoming._tcp.local."
    start(str(inside))
    device = start(f"0.0.0.0:{outside}")
    asking = zeroconf.Zeroconf()
    found: dict[str, tuple[int | None, set[str]]] = {}
    gone: set[str] = set()

    def heard(name: str, state_change: zeroconf.ServiceStateChange, **_: object) -> None:
        if state_change is zeroconf.ServiceStateChange.Removed:
            gone.add(name)
        elif (info := asking.get_service_info(service, name, 3000)) is not None:
            found[name] = info.port, set(info.parsed_addresses())

    browser = zeroconf.ServiceBrowser(asking, service, handlers=[heard])
    name = f"{NAME}.{service}"
    deadline = time.monotonic() + PATIENCE
    while name not in found:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    _, errors = device.end()
    while name not in gone:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    browser.cancel()
    asking.close()
    assert found[name] == (outside, set(addresses))
    assert inside not in [port for port, _ in found.values()]
    assert errors.endswith("no speech found\n")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("missing", "address", "package"),
    [("wyoming", "10305", "wyoming"), ("zeroconf", "0.0.0.0:10305", "zeroconf")],
)
def test_a_missing_package_is_one_line(
    missing: str, address: str, package: str, edge_emotion: Command
) -> None:
    done = edge_emotion("run", "--wyoming", address, missing=missing)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"needs {package}, which is not installed: pip install 'edge-emotion[wyoming]'" in line


def test_the_form_of_raw_samples_is_refused_in_one_line(edge_emotion: Command) -> None:
    done = edge_emotion("run", "--wyoming", "10305", "--rate", "8000")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--wyoming has its own" in line
