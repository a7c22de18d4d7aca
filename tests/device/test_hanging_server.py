"""A sound server that hangs (SIGSTOP) holds nothing up: a real PulseAudio is stopped."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from running import Run, Running, until
from sound_server import PATIENCE, Finish, Pulse, Start, wait_for_capture

pytestmark = pytest.mark.realtime
pytest.importorskip("sounddevice", reason="pip install 'edge-emotion[mic]'")

HANGS = "the sound server, or a driver, does not answer"


@pytest.fixture
def hanging(pulse: Pulse) -> Iterator[Pulse]:
    """The server, stopped."""
    pulse.process.send_signal(signal.SIGSTOP)
    yield pulse
    pulse.process.send_signal(signal.SIGCONT)


def children(process: subprocess.Popen[str]) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{process.pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def is_there(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def lost(one: Running, active: bool) -> int:
    return one.count(what="lost", active=active)


def test_what_a_hanging_server_loses_is_told_where_it_was_lost(
    pulse: Pulse, run: Run, sentence: np.ndarray
) -> None:
    one = run("--mic")
    wait_for_capture()
    pulse.play(sentence).wait(PATIENCE)
    until(lambda: len(one.finals()) == 1)
    away = 0.0
    for replaced in (False, True):
        stopped = time.monotonic()
        told, back = lost(one, True), lost(one, False)
        pulse.process.send_signal(signal.SIGSTOP)
        # The second time, a look for the device hangs as well.
        until(lambda before=told: lost(one, True) == before + 2)
        assert one.process.poll() is None
        if replaced:
            pulse.kill()
            pulse.start()
        else:
            pulse.process.send_signal(signal.SIGCONT)
        continued = time.monotonic()
        until(lambda before=back: lost(one, False) > before)
        assert time.monotonic() - continued < 5
        away += time.monotonic() - stopped
    pulse.play(sentence).wait(PATIENCE)
    until(lambda: len(one.finals()) == 2)
    one.stop()
    changes = [e["message"] for e in one.events if e.get("what") == "lost" and e["active"]]
    assert ["gives no more audio" in m for m in changes] == [True, False, True, False]
    assert [HANGS in m for m in changes] == [False, True, False, True]
    # What was lost is what the clock says, but for the blocks that were under way.
    assert one.events[-1]["dropped_ms"] / 1000 == pytest.approx(away, abs=2 * 0.75)
    # It was lost between the utterances: neither is cut, and both stand where they were spoken.
    first, second = one.finals()
    assert second["end"] - second["start"] == pytest.approx(first["end"] - first["start"], abs=1)
    apart = second["heard_at"] - first["heard_at"]
    assert second["end"] - first["end"] == pytest.approx(apart, abs=1.0)


def test_a_crash_of_portaudio_is_survived(pulse: Pulse, run: Run) -> None:
    one = run("--mic")
    wait_for_capture()
    (worker,) = children(one.process)
    os.kill(worker, signal.SIGSEGV)
    event = one.wait_for(what="lost", active=True)
    assert "PortAudio was killed by SIGSEGV" in event["message"]
    one.wait_for(what="lost", active=False)
    one.stop()
    assert one.process.returncode == 0


@pytest.mark.parametrize(
    ("binding", "number"),
    [("sounddevice", signal.SIGTERM), ("pyaudio", signal.SIGKILL)],
    indirect=["binding"],
)
def test_an_end_while_the_server_hangs_leaves_nobody(
    number: signal.Signals, pulse: Pulse, start: Start
) -> None:
    with start("run", "--mic", "--out", "jsonl") as process:
        try:
            wait_for_capture()
            pulse.process.send_signal(signal.SIGSTOP)
            assert process.stdout is not None
            for line in process.stdout:
                if HANGS in line:  # a process looks for it now, and will not come back
                    break
            (worker,) = children(process)
            ended = time.monotonic()
            process.send_signal(number)
            process.communicate(timeout=PATIENCE)
            until(lambda: not is_there(worker))
            assert time.monotonic() - ended < 3
        finally:
            process.kill()
    assert process.returncode == (0 if number == signal.SIGTERM else -number)


@pytest.mark.parametrize("binding", ["sounddevice"], indirect=True)
def test_who_looks_for_a_device_says_that_the_server_hangs(hanging: Pulse, finish: Finish) -> None:
    done = finish("devices")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"edge-emotion: {HANGS}")


@pytest.mark.parametrize("binding", ["sounddevice"], indirect=True)
def test_a_server_at_which_too_many_wait_hangs(hanging: Pulse, finish: Finish) -> None:
    path = os.environ["PULSE_SERVER"].removeprefix("unix:")
    waiting = []
    refused = False
    while not refused:
        waiting.append(socket.socket(socket.AF_UNIX))
        waiting[-1].setblocking(False)
        refused = waiting[-1].connect_ex(path) == errno.EAGAIN
    for arguments in (["devices", "--meter"], ["run", "--mic"]):
        done = finish(*arguments)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"edge-emotion: {HANGS}")
    done = finish("doctor")
    assert done.returncode == 0
    assert f"-     microphone      {HANGS}" in done.stdout
    for one in waiting:
        one.close()
