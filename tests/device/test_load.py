"""What it takes in silence, and what becomes of audio where others take all that there is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("websockets")
pytest.importorskip("paho")

from mosquitto import Mosquitto, wait_until
from ports import free_port
from soak import Page, children
from sound_server import PATIENCE, Pulse, wait_for_capture

from edge_runtime.audio.file import read_file

STARVED = 30.0  # seconds
HOGS = 6  # processes for each core
SILENT = 6.0  # seconds
MOST_SHARE = 0.02  # of a core
# As a capture program does: what finds no room is lost. What it lost, and when it began, is told.
PROGRAM = """
import os, sys, time
data = open(sys.argv[1], "rb").read()
piece = 3200
os.set_blocking(1, False)
begin, lost = time.monotonic(), 0
for number, at in enumerate(range(0, len(data), piece), 1):
    time.sleep(max(0.0, begin + number / 10 - time.monotonic()))
    try:
        lost += len(data[at : at + piece]) - os.write(1, data[at : at + piece])
    except BlockingIOError:
        lost += piece
    with open(sys.argv[2] + ".new", "w") as told:
        told.write(f"{begin} {lost}")
    os.replace(sys.argv[2] + ".new", sys.argv[2])  # whoever reads it, or ends this, at any time
time.sleep(60)
"""


class Run:
    """A command that listens, and each of its events with the second of the clock when it came."""

    def __init__(self, *command: str, paths: str) -> None:
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self.events: list[tuple[float, dict[str, Any]]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def starve(self, core: int) -> None:
        """Have every thread of it give way to whatever else wants that core."""
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})
            os.setpriority(os.PRIO_PROCESS, int(thread.name), 19)

    def processor_seconds(self) -> float:
        """That it and what it started have taken so far."""
        pids = [self.process.pid, *children(self.process.pid)]
        return sum(map(_processor_seconds, pids))

    def verdicts(self) -> list[tuple[float, dict[str, Any]]]:
        """Those of its events."""
        return [(at, event) for at, event in self.events if event["type"] == "emotion"]

    def end(self) -> dict[str, Any]:
        """Interrupt it; the health of its end."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return self.events[-1][1]

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append((time.monotonic(), json.loads(line)))


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.alone
def test_silence_costs_two_hundredths_of_a_core_with_all_that_can_be_open(
    pulse: Pulse,
    command: list[str],
    environment: dict[str, str],
    mosquitto: Mosquitto,
    tmp_path: Path,
) -> None:
    mosquitto.start()
    port = free_port()
    broker = ("--mqtt", f"mqtt://127.0.0.1:{mosquitto.port}", "--mqtt-buffer", str(tmp_path / "b"))
    page = ("--web", "--web-port", str(port))
    listen = [*command, "run", "--mic", "--text", "keywords", "--out", "jsonl"]
    with Run(*listen, *broker, *page, paths=environment["PYTHONPATH"]) as run:
        wait_for_capture()
        shares = []
        for opened in (False, True):
            if opened:
                Page(port)
            time.sleep(2)  # what a start takes is over
            before, begin = run.processor_seconds(), time.monotonic()
            time.sleep(SILENT)
            shares.append((run.processor_seconds() - before) / (time.monotonic() - begin))
        assert run.end()["dropped_ms"] == 0
    assert max(shares) < MOST_SHARE


@pytest.fixture
def hogs() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.alone
def test_starved_for_half_a_minute_nothing_is_dropped_and_what_is_late_says_so(
    pulse: Pulse,
    command: list[str],
    environment: dict[str, str],
    hogs: list[subprocess.Popen[bytes]],
    tmp_path: Path,
    scene_path: Path,
) -> None:
    scene = np.tile(read_file(scene_path), 3)
    file, told, program = (tmp_path / name for name in ("scene.raw", "told", "program.py"))
    file.write_bytes(scene.tobytes())
    program.write_text(PROGRAM)
    writes = f"{sys.executable} {program} {file} {told}"
    listen, paths = [*command, "run", "--out", "jsonl"], environment["PYTHONPATH"]
    with Run(*listen, "--mic", paths=paths) as microphone:
        wait_for_capture()
        with Run(*listen, "--mic-command", writes, paths=paths) as piped:
            runs = (microphone, piped)
            hogs.append(pulse.play(scene))
            wait_until(lambda: all(run.verdicts() for run in runs))
            cores = sorted(os.sched_getaffinity(0))
            for core in cores * HOGS:
                hogs.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
                os.sched_setaffinity(hogs[-1].pid, {core})
            for run in runs:
                run.starve(cores[0])
            time.sleep(STARVED)
            for hog in hogs[1:]:
                hog.kill()
            wait_until(lambda: all(not run.verdicts()[-1][1]["late"] for run in runs))
            healths = [run.end() for run in runs]
    begin, lost = map(float, told.read_text().split())
    assert (lost, [health["dropped_ms"] for health in healths]) == (0, [0, 0])
    assert any(verdict["late"] for _, verdict in microphone.verdicts())
    # What it had not heard when it said something: the clock, less what it had heard by then.
    waiting = [(at - begin - said["t"], said["late"]) for at, said in piped.verdicts()]
    assert max(waiting)[0] > 2, "it was not starved"
    # A starved process may wait for seconds between a verdict and the line that tells it.
    assert all(late for seconds, late in waiting if seconds > 5)
    assert not any(late for seconds, late in waiting if seconds < 0.5)
