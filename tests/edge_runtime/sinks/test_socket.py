"""Events from a Unix socket, to readers that come, go, stop reading, and are many."""

from __future__ import annotations

import json
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import EdgeError
from edge_runtime.sinks import Context
from edge_runtime.sinks.socket import SocketSettings, SocketSink, open_socket

Make = Callable[..., Any]


@pytest.fixture
def path() -> Iterator[Path]:
    """A path short enough for a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder) / "events.sock"


@pytest.fixture
def sink(path: Path, context: Context) -> Iterator[SocketSink]:
    made = open_socket(SocketSettings(path), context)
    assert made is not None
    yield made
    made.close()


@pytest.fixture
def connect(
    sink: SocketSink, path: Path, eventually: Make
) -> Iterator[Callable[[], socket.socket]]:
    """A reader more, once the sink knows it."""
    with ExitStack() as closing:

        def one() -> socket.socket:
            before = sink.readers
            reader = closing.enter_context(socket.socket(socket.AF_UNIX))
            reader.settimeout(60)
            reader.connect(str(path))
            eventually(lambda: sink.readers > before)
            return reader

        yield one


def lines(reader: socket.socket, count: int) -> list[dict[str, Any]]:
    """The next `count` lines."""
    with reader.makefile("rb") as file:
        return [json.loads(file.readline()) for _ in range(count)]


def test_nothing_is_served_unless_asked_for(context: Context) -> None:
    assert open_socket(SocketSettings(), context) is None


def test_all_readers_get_what_happens_from_then_on(
    sink: SocketSink, connect: Make, verdict: Make
) -> None:
    sink.write(verdict(start=1.0))
    one = connect()
    sink.write(verdict(start=2.0, text="grüße"))
    assert [(e["start"], e["text"]) for e in lines(one, 1)] == [(2.0, "grüße")]  # it is served
    two = connect()
    sink.write(verdict(start=3.0, final=False))
    (later,) = lines(two, 1)
    assert (later["start"], later["final"]) == (3.0, False)
    assert later["time"].endswith("Z")


def test_verdicts_on_what_is_still_spoken_can_be_left_out(
    path: Path, context: Context, verdict: Make, eventually: Make
) -> None:
    sink = open_socket(SocketSettings(path, partial=False), context)
    assert sink is not None
    with socket.socket(socket.AF_UNIX) as reader:
        reader.settimeout(60)
        reader.connect(str(path))
        eventually(lambda: sink.readers)
        sink.write(verdict(final=False))
        sink.write(verdict(start=5.0))
        assert lines(reader, 1)[0]["start"] == 5.0
        sink.close()


def test_it_is_for_its_owner_alone_and_gone_afterwards(sink: SocketSink, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sink.close()
    assert not path.exists()


def test_readers_come_and_go(
    sink: SocketSink, connect: Make, verdict: Make, eventually: Make
) -> None:
    stays = connect()
    for number in range(20):
        reader = connect()
        sink.write(verdict(start=float(number)))
        reader.close()
        eventually(lambda: sink.readers == 1)  # before anything more is sent
    assert [event["start"] for event in lines(stays, 20)] == list(range(20))
    assert sink.dropped == 0


def test_who_only_ends_his_own_side_reads_on(
    sink: SocketSink, connect: Make, verdict: Make
) -> None:
    reader = connect()
    reader.sendall(b"hello, is this HTTP?\r\n\r\n")
    reader.shutdown(socket.SHUT_WR)
    time.sleep(0.1)
    for number in range(3):
        sink.write(verdict(start=float(number)))
    assert [event["start"] for event in lines(reader, 3)] == [0, 1, 2]


def test_a_slow_reader_loses_the_oldest_and_delays_nobody(
    sink: SocketSink, connect: Make, verdict: Make, eventually: Make
) -> None:
    slow, fast = connect(), connect()
    count, text = 3000, "word " * 100
    began = time.monotonic()
    with fast.makefile("rb") as file:
        for number in range(count):
            sink.write(verdict(start=float(number), text=text))
            assert json.loads(file.readline())["start"] == number
    assert time.monotonic() - began < 60
    eventually(lambda: sink.dropped)
    waiting, dropped = sink.queued, sink.dropped
    assert 500 <= waiting <= 502  # the newest, and what is being sent
    starts = [event["start"] for event in lines(slow, count - dropped)]
    assert starts[-1] == count - 1
    assert starts == sorted(set(starts))  # whole lines, in order
    assert starts[-500:] == list(range(count - 500, count))
    assert starts[0] == 0  # what the system had taken before


def test_more_readers_than_make_sense_are_turned_away(
    sink: SocketSink, path: Path, connect: Make, verdict: Make
) -> None:
    readers = [connect() for _ in range(64)]
    with socket.socket(socket.AF_UNIX) as one_more:
        one_more.settimeout(60)
        one_more.connect(str(path))
        assert one_more.recv(10) == b""
    sink.write(verdict(start=7.0))
    assert all(lines(reader, 1)[0]["start"] == 7.0 for reader in readers)


def test_closing_gives_readers_what_waits_and_waits_for_none(
    path: Path, sink: SocketSink, connect: Make, verdict: Make
) -> None:
    fast, stuck = connect(), connect()
    for number in range(400):
        sink.write(verdict(start=float(number), text="word " * 200))
    began = time.monotonic()
    sink.close()
    assert time.monotonic() - began < 30
    got = stuck.recv(1 << 20)
    assert got.startswith(b'{"time"')
    assert lines(fast, 1)[0]["start"] == 0.0
    sink.write(verdict())
    assert sink.readers == 0


def test_a_socket_that_nobody_listens_to_is_replaced(path: Path, context: Context) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    sink = open_socket(SocketSettings(path), context)
    assert sink is not None
    with pytest.raises(EdgeError, match="in use") as caught:
        open_socket(SocketSettings(path), context)
    assert "\n" not in str(caught.value)
    path.unlink()
    path.write_text("somebody else's by now")
    sink.close()
    assert path.exists()


def test_what_is_no_socket_stays_and_is_refused(tmp_path: Path, context: Context) -> None:
    diary = tmp_path / "diary"
    diary.write_text("dear diary")
    for path, expected in (
        (diary, "in use"),
        (tmp_path, "in use"),
        (tmp_path / "none" / "events.sock", "No such file"),
        (tmp_path / ("x" * 200), "too long"),
        (Path("a\0b"), "Invalid"),
    ):
        with pytest.raises(EdgeError, match=expected) as caught:
            open_socket(SocketSettings(path), context)
        assert "\n" not in str(caught.value)
    assert diary.read_text() == "dear diary"


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_descriptors_are_given_back(path: Path, context: Context, eventually: Make) -> None:
    before = descriptors()
    for _ in range(3):
        sink = open_socket(SocketSettings(path), context)
        assert sink is not None
        with socket.socket(socket.AF_UNIX) as reader:
            reader.connect(str(path))
            eventually(lambda sink=sink: sink.readers)
            sink.close()
    assert descriptors() == before
