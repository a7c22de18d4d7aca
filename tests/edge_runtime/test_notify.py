"""What the service manager is told, on a real socket; and lines on standard error that go to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.notify import Notifier


class Clock:
    """A clock that the test sets, s."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        receiving.setblocking(False)
        yield receiving


def environment(manager: socket.socket, **further: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **further}


def heard(manager: socket.socket) -> list[str]:
    """All that was told until now."""
    messages = []
    while True:
        try:
            messages.append(manager.recv(1 << 16).decode())
        except BlockingIOError:
            return messages


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready("it goes")
    notifier.alive()
    notifier.reloading()
    notifier.stopping()
    notifier.close()
    assert not notifier.open
    assert notifier.watchdog_seconds == 0


def test_no_child_inherits_the_manager(manager: socket.socket) -> None:
    given = environment(manager, WATCHDOG_USEC="1000000", WATCHDOG_PID=str(os.getpid()), PATH="x")
    notifier = Notifier(given)
    assert given == {"PATH": "x"}
    assert notifier.watchdog_seconds == 1.0


def test_life_is_told_at_most_twice_an_interval(manager: socket.socket) -> None:
    clock = Clock()
    notifier = Notifier(environment(manager, WATCHDOG_USEC="30000000"), clock)
    told = []
    for _ in range(1000):  # 20 ms a block: 20 s
        notifier.alive()
        clock.now += 0.02
        told += heard(manager)
    assert told == ["WATCHDOG=1"] * 2


def test_no_watchdog_no_signs_of_life(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager))
    notifier.alive()
    notifier.ready()
    assert heard(manager) == ["READY=1"]


@pytest.mark.parametrize(
    "variables",
    [
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "²"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_PID": str(os.getpid())},
    ],
)
def test_a_watchdog_that_is_not_ours_or_none(
    manager: socket.socket, variables: dict[str, str]
) -> None:
    notifier = Notifier(environment(manager, **variables))
    assert notifier.watchdog_seconds == 0
    notifier.alive()
    assert heard(manager) == []


def test_a_status_is_one_line(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager))
    notifier.status("device 'USB\nMAINPID=1'")
    notifier.stopping("a" * 100_000)
    first, second = heard(manager)
    assert first == "STATUS=device 'USB MAINPID=1'"
    assert second.startswith("STOPPING=1\nSTATUS=aaa")
    assert len(second) < 4096


def test_a_manager_that_does_not_read_holds_nothing_up_and_misses_no_state(
    manager: socket.socket,
) -> None:
    clock = Clock()
    notifier = Notifier(environment(manager, WATCHDOG_USEC="2000000"), clock)
    for _ in range(10_000):  # many more than a socket holds
        notifier.alive()
        clock.now += 1.0
    notifier.ready("at last")
    held = heard(manager)
    assert 0 < len(held) < 10_000
    assert set(held) == {"WATCHDOG=1"}
    notifier.alive()
    assert heard(manager) == ["READY=1\nSTATUS=at last", "WATCHDOG=1"]


@pytest.mark.parametrize("address", ["{folder}/nobody", "vsock:1:2", "{folder}/" + "x" * 200])
def test_a_manager_that_is_not_there_is_told_of_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], address: str
) -> None:
    given = {"NOTIFY_SOCKET": address.format(folder=tmp_path), "WATCHDOG_USEC": "1000000"}
    notifier = Notifier(given)
    notifier.ready("here")
    notifier.alive()
    notifier.stopping()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("edge-emotion: warning: ")


_NOTE = (
    "from edge_runtime.console import *; from edge_runtime.console import ERROR; "
    "note('a file\\x1b[31m\\nin two lines'); note('bad', ERROR)"
)


def said(err: int, stream: str | None) -> None:
    variables = {k: v for k, v in os.environ.items() if k != "JOURNAL_STREAM"}
    variables["PYTHONPATH"] = str(Path(__file__).parent.parent.parent)
    if stream is not None:
        variables["JOURNAL_STREAM"] = stream
    subprocess.run([sys.executable, "-c", _NOTE], stderr=err, env=variables, check=True)


@pytest.mark.parametrize("offset", [0, 1], ids=["journal", "redirected"])
def test_lines_for_the_journal_have_priorities(offset: int) -> None:
    """Where $JOURNAL_STREAM names another file, it is the terminal's that somebody inherited."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = os.fstat(theirs.fileno())
        said(theirs.fileno(), f"{found.st_dev}:{found.st_ino + offset}")
        theirs.shutdown(socket.SHUT_WR)
        lines = ours.makefile(encoding="utf-8").read().splitlines()
    if offset:
        assert lines == ["a file\x1b[31m", "in two lines", "bad"]
    else:
        assert lines == ["<4>a file?[31m", "<4>in two lines", "<3>bad"]


def test_an_error_of_the_command_has_its_priority(environment: dict[str, str]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = os.fstat(theirs.fileno())
        done = subprocess.run(
            [sys.executable, "-m", "edge_runtime.cli", "run", "nothing.wav"],
            stderr=theirs,
            env={**environment, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"},
        )
        theirs.shutdown(socket.SHUT_WR)
        said = ours.makefile(encoding="utf-8").read()
    assert done.returncode == 2
    assert "nothing.wav" in said
    assert all(line.startswith(("<3>", "<4>")) for line in said.splitlines())
