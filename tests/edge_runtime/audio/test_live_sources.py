"""Audio from programs and sockets: what breaks is told and tried again, and the command goes on."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
from command_output import Start, finals, read_until
from mosquitto import wait_until

from edge_runtime import EmotionStream
from edge_runtime.audio import Block, endless, pulse
from edge_runtime.audio.capture import CaptureProcess
from edge_runtime.audio.command import CommandSource, _Ahead
from edge_runtime.audio.raw import RawFormat
from edge_runtime.audio.sockets import SocketSource
from edge_runtime.bundle import Bundle
from edge_runtime.collect.collection import Collection, Session
from edge_runtime.errors import AudioError
from edge_runtime.listening import listen
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.sinks import Outputs, Part, Sink

Int16 = npt.NDArray[np.int16]
RUN = ("run", "--out", "jsonl")


@pytest.fixture
def raw(tmp_path: Path, sentence: Int16) -> Path:
    path = tmp_path / "sentence.raw"
    path.write_bytes(np.concatenate([sentence, np.zeros(SAMPLE_RATE, np.int16)]).tobytes())
    return path


def until(blocks: Iterator[Block], condition: Callable[[list[Block]], bool]) -> list[Block]:
    """Blocks up to the one that fulfils it."""
    taken: list[Block] = []
    deadline = time.monotonic() + 30
    while not condition(taken):
        assert time.monotonic() < deadline, taken
        taken.append(next(blocks))
    return taken


def changes(blocks: list[Block]) -> list[tuple[str, bool]]:
    return [(s.what, s.active) for block in blocks for s in block.status]


def test_a_program_that_ends_is_started_again(tmp_path: Path, raw: Path) -> None:
    runs = tmp_path / "runs"
    source = CommandSource(f"echo x >> {runs}; cat {raw}; echo worn out >&2; sleep 0.3; exit 3")
    begin = time.monotonic()
    blocks = source.blocks()
    taken = until(blocks, lambda t: changes(t).count(("lost", False)) == 2)
    blocks.close()
    elapsed = time.monotonic() - begin
    assert len(runs.read_text().split()) == 3
    events = [s for block in taken for s in block.status if s.what == "lost"]
    assert [e.active for e in events] == [True, False, True, False]
    assert "exit code 3: worn out" in events[0].message
    samples = np.concatenate([block.samples for block in taken])
    sent = np.fromfile(raw, np.int16)
    assert np.array_equal(samples[: sent.size], sent)
    # Away from the end of one to the beginning of the next; of what was heard none is missing.
    lost = sum(block.lost for block in taken) / SAMPLE_RATE
    assert 0.25 < lost < elapsed
    # Where it was lost: between what the first and the second said.
    at = 0
    for block in taken:
        if block.lost:
            assert at % sent.size == 0
        at += block.samples.size


def test_a_program_that_captures_does_not_wait_for_inference(tmp_path: Path) -> None:
    """Half a minute at 48 kHz stereo, five times what a pipe holds, and nobody takes any of it."""
    program, sent = tmp_path / "program.py", tmp_path / "sent"
    seconds, form = 29, RawFormat("s16le", 48_000, 2)
    program.write_text(
        f"""
import os, sys, time
os.set_blocking(1, False)
second, sent = bytes({48_000 * form.frame_bytes}), 0
for _ in range({seconds}):
    time.sleep(0.2)
    sent += os.write(1, second)
open(r"{sent}", "w").write(str(sent))
time.sleep(60)
"""
    )
    source = CommandSource(f"{sys.executable} {program}", form)
    wait_until(lambda: sent.exists() and sent.read_text() != "")
    begin = time.monotonic()
    blocks = source.blocks()
    taken = until(blocks, lambda t: sum(b.samples.size for b in t) > (seconds - 1) * SAMPLE_RATE)
    # All of it, and long before as much again is said.
    assert sent.read_text() == str(seconds * 48_000 * form.frame_bytes)
    assert time.monotonic() - begin < seconds / 2
    assert sum(block.lost for block in taken) == 0
    blocks.close()


@pytest.mark.parametrize("command", ["no-such-program-here", "exit 3", "true"])
def test_a_program_that_cannot_work_is_one_line(command: str, edge_emotion: Callable) -> None:
    done = edge_emotion("run", "--mic-command", command)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "ended with exit code" in line


def test_it_is_waited_for_where_that_is_asked(tmp_path: Path, raw: Path, start: Start) -> None:
    flag = tmp_path / "flag"
    command = f"test -e {flag} && cat {raw} && sleep 60"
    process = start(*RUN, "--wait", "--mic-command", command)
    try:
        read_until(process, b'"lost"')
        flag.touch()
        told = read_until(process, b'"final": true')
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert not subprocess.run(["pgrep", "-f", str(flag)], capture_output=True).stdout
    health = json.loads(rest.splitlines()[-1])
    assert health["dropped_ms"] == 0
    assert len(finals((told + rest).decode())) == 1


def test_a_program_that_says_another_thing_each_time_is_told_a_few_times(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endless, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(endless, "FIRST_PAUSE", 0.01)
    heard, tries = tmp_path / "heard", tmp_path / "tries"
    command = (
        f"test -e {heard} || {{ touch {heard}; cat {raw}; exit; }}; echo >> {tries}; "
        f"wc -l {tries} >&2; exit 1"
    )
    with closing(CommandSource(command)) as source:
        taken = until(source.blocks(), lambda _: tries.exists() and len(tries.read_text()) > 20)
    told = [status.message for block in taken for status in block.status]
    assert 2 < len([message for message in told if "trying again" in message]) <= 8


@contextmanager
def no_descriptor() -> Iterator[None]:
    """None can be had in here, but those that are given back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_program_that_cannot_be_started_now_is_tried_again(tmp_path: Path) -> None:
    blocks = CommandSource("head -c 3200 /dev/zero").blocks()
    with closing(blocks):  # type: ignore[type-var]  # a generator
        until(blocks, lambda taken: ("lost", True) in changes(taken))
        with no_descriptor():
            told = until(blocks, lambda taken: ("lost", True) in changes(taken))
            assert "cannot be started: Too many open files" in told[-1].status[-1].message
        until(blocks, lambda taken: ("lost", False) in changes(taken))


def test_the_microphone_that_cannot_be_looked_for_now_is_an_audio_error() -> None:
    pytest.importorskip("sounddevice")
    with no_descriptor():
        assert isinstance(pulse.surroundings(), tuple)
        with pytest.raises(AudioError, match="Too many open files"):
            CaptureProcess()


def test_a_sender_that_cannot_be_let_in_now_is_let_in_later(tmp_path: Path) -> None:
    address = tmp_path / "a.sock"
    blocks = SocketSource(f"unix:{address}").blocks()
    with closing(blocks), socket.socket(socket.AF_UNIX) as first:  # type: ignore[type-var]
        next(blocks)
        first.connect(str(address))
        with no_descriptor():
            told = until(blocks, lambda taken: ("lost", True) in changes(taken))
            assert "let anybody in: Too many open files" in told[-1].status[-1].message
        next(blocks)  # it listens again
        with connected(address) as second:
            second.sendall(bytes(3200))
            until(blocks, lambda taken: sum(block.samples.size for block in taken) == 1600)


def started(place: Path) -> int:
    """The number of a program that writes it there, once it has."""
    wait_until(lambda: place.exists() and place.read_text().endswith("\n"), 30)
    return int(place.read_text())


def is_gone(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_that_says_nothing_yet_ends_with_us(
    tmp_path: Path, start: Start, number: signal.Signals
) -> None:
    place = tmp_path / "number"
    with start(*RUN, "--mic-command", f"echo $$ > {place}; exec sleep 600") as process:
        program = started(place)
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    wait_until(lambda: is_gone(program), 10)


def test_a_program_ends_with_us_where_nobody_came_to_hear_it(
    tmp_path: Path, bundle: Bundle, edge_emotion: Callable
) -> None:
    place = tmp_path / "number"
    command = f"echo $$ > {place}; exec cat /dev/zero"

    def full(event: object) -> None:
        raise OSError("no room")

    sink = SimpleNamespace(write=full, close=lambda: None)
    outputs = Outputs({"full": Part(1, lambda: cast(Sink, sink))})
    with EmotionStream(bundle) as stream, pytest.raises(OSError, match="no room"):
        listen(CommandSource(command), stream, outputs)
    wait_until(lambda: is_gone(started(place)), 10)
    place.unlink()
    asked = ("--label", "a,b", "--count", "1", "--consent")
    with Collection(tmp_path / "mine" / "manifest.csv", (), Session.now("", "", "", ""), 1000):
        done = edge_emotion("record", tmp_path / "mine", *asked, "--mic-command", command)
    assert (done.returncode, "another record" in done.stderr) == (2, True)
    wait_until(lambda: is_gone(started(place)), 10)


def test_stereo_at_another_rate_can_be_said(tmp_path: Path, sentence: Int16) -> None:
    path = tmp_path / "stereo.raw"
    path.write_bytes(np.repeat(sentence, 2).tobytes())
    source = CommandSource(f"cat {path}; sleep 60", RawFormat("s16le", 32_000, 2), channel=2)
    blocks = source.blocks()
    half = sentence.size // 2 - SAMPLE_RATE // 10
    taken = until(blocks, lambda t: sum(block.samples.size for block in t) >= half)
    blocks.close()
    assert not changes(taken)


@pytest.mark.parametrize("rate", [SAMPLE_RATE, 48_000])
def test_samples_that_are_no_numbers_are_silence_and_counted(
    tmp_path: Path, bundle: Bundle, rate: int
) -> None:
    """At another rate a resampler would make a second of each."""
    samples = np.random.default_rng(1).normal(0, 0.1, (rate, 2)).astype("<f4")
    samples[1000:1007, 0], samples[2000:2003] = np.nan, np.inf
    path = tmp_path / "samples"
    samples.tofile(path)
    source = CommandSource(f"cat {path}; exec sleep 600", RawFormat("f32le", rate, 2))
    with closing(source), EmotionStream(bundle) as stream:
        taken = until(
            source.blocks(), lambda taken: sum(block.samples.size for block in taken) > 15_000
        )
        for block in taken:
            stream.count_invalid(block.invalid)
    assert stream.health().invalid_samples == 10
    heard = np.concatenate([block.samples for block in taken])
    assert np.count_nonzero(heard == 0) < 200


def test_a_channel_that_is_not_there_is_refused() -> None:
    with pytest.raises(AudioError, match="16 kHz, 1 channel, and --channel asks for number 2"):
        CommandSource("cat /dev/zero", channel=2)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_senders_come_and_go(kind: str, tmp_path: Path, raw: Path, start: Start) -> None:
    path = tmp_path / "audio.socket"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start(*RUN, "--listen", f"unix:{path}" if kind == "unix" else f"tcp:{port}")
    told = b""
    try:
        told += read_until(process, b'"source"')
        for _ in range(2):
            with connected(path if kind == "unix" else port) as sender:
                # Without the silence that would end it: the sender's leaving does.
                sender.sendall(raw.read_bytes()[: -2 * SAMPLE_RATE - 27_000])
            told += read_until(process, b'"final": true')
        if kind == "unix":
            assert path.stat().st_mode & 0o077 == 0
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    first, second = finals((told + rest).decode())
    assert first["scores"] == pytest.approx(second["scores"], abs=0.25)
    assert not path.exists()
    assert json.loads(rest.splitlines()[-1])["dropped_ms"] == 0


def connected(address: Path | int) -> socket.socket:
    family, where = (
        (socket.AF_INET, ("127.0.0.1", address))
        if isinstance(address, int)
        else (socket.AF_UNIX, str(address))
    )
    sender = socket.socket(family)
    sender.connect(where)
    return sender


def test_who_reads_goes_on_while_nobody_sends(tmp_path: Path) -> None:
    """The reader is what a service manager watches: it may wait for sound, but not stand still."""
    blocks = SocketSource(f"unix:{tmp_path / 'audio.sock'}").blocks()
    taken = [next(blocks) for _ in range(3)]
    blocks.close()
    assert [(b.samples.size, b.lost, b.ends, b.status) for b in taken] == [(0, 0, False, ())] * 3


@pytest.mark.parametrize(
    "address", ["tcp:0.0.0.0:4000", "tcp:70000", "udp:5", "unix:", "tcp:example.org:80"]
)
def test_only_loopback_is_listened_to(address: str) -> None:
    with pytest.raises(AudioError, match="expected unix:PATH or tcp:PORT"):
        SocketSource(address)


def test_a_socket_that_is_in_use_is_refused_and_a_stale_one_replaced(tmp_path: Path) -> None:
    path = tmp_path / "audio.socket"
    first = SocketSource(f"unix:{path}")
    with pytest.raises(AudioError, match="cannot listen at"):
        SocketSource(f"unix:{path}")
    first.blocks().close()  # not begun: closes nothing
    with socket.socket(socket.AF_UNIX) as stale:
        path.unlink()
        stale.bind(str(path))
    SocketSource(f"unix:{path}")
    path.unlink()
    path.write_text("a file of somebody's")
    with pytest.raises(AudioError, match="cannot listen at"):
        SocketSource(f"unix:{path}")
    assert path.read_text() == "a file of somebody's"


def test_a_wait_that_a_signal_broke_off_holds_up_no_close() -> None:
    """It may leave its place in the queue of those who wait, and would be woken for another."""
    with subprocess.Popen(
        ["cat", "/dev/zero"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        ahead = _Ahead(program.stdout.fileno(), program.stderr.fileno(), 32_000)
        while len(ahead._held) < ahead._most:
            time.sleep(0.01)
        left = threading.Lock()
        left.acquire()
        with ahead._changed:
            ahead._changed._waiters.appendleft(left)  # type: ignore[attr-defined]
        ending = threading.Thread(target=ahead.close, daemon=True)
        ending.start()
        ending.join(30)
        program.kill()
    assert not ending.is_alive()
