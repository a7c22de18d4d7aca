"""The loop of `run`: its outputs, new settings by SIGHUP, and what it tells a service manager."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from edge_runtime import listening
from edge_runtime.audio import Block
from edge_runtime.audio.file import FileSource
from edge_runtime.bundle import Bundle
from edge_runtime.errors import EdgeError, TextError
from edge_runtime.events import EmotionEvent, Event, SpeechStartEvent
from edge_runtime.listening import listen
from edge_runtime.segment import Segmenter, SegmentParams
from edge_runtime.sinks import Outputs, Part
from edge_runtime.stream import EmotionStream

SCENE = Path(__file__).parents[2] / "edge_runtime" / "demo" / "scene.flac"
PATIENCE = 60  # seconds until something that should have happened counts as a hang


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.closed = 0

    def write(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1


def refused() -> Kept:
    raise EdgeError("no room")


def test_outputs_are_opened_changed_and_closed_by_their_settings() -> None:
    same, old, new = Kept(), Kept(), Kept()
    off = Part(0, lambda: None)
    outputs = Outputs({"a": Part(1, lambda: same), "b": Part(1, lambda: old), "off": off})
    outputs.write(SpeechStartEvent(1.0))
    told = outputs.change(
        {"a": Part(1, refused), "b": Part(2, lambda: new), "c": Part(1, refused), "off": off}
    )
    assert told == ["c: no room"]
    assert (same.closed, old.closed, new.closed) == (0, 1, 0)
    outputs.write(SpeechStartEvent(2.0))
    outputs.close()
    assert [len(kept.events) for kept in (same, old, new)] == [2, 1, 1]
    assert (same.closed, old.closed, new.closed) == (1, 1, 1)


def test_an_output_that_cannot_be_opened_anew_goes_on_as_it_was() -> None:
    opened: list[Kept] = []

    def start() -> Kept:
        opened.append(Kept())
        return opened[-1]

    def gone() -> Kept:
        if opened:
            raise EdgeError("somebody took it")
        return start()

    last = Kept()
    outputs = Outputs({"lost": Part(1, gone), "a": Part(1, start), "z": Part(1, lambda: last)})
    told = outputs.change(
        {name: Part(2, refused) for name in ("lost", "a")} | {"z": Part(1, start)}
    )
    assert told == ["lost: no room", "a: no room", "lost: somebody took it"]
    assert [kept.closed for kept in (*opened, last)] == [1, 1, 0, 0]
    assert outputs.sinks == [opened[-1], last], "in their order"
    # It is as it was: the same settings again change nothing.
    outputs.change({"a": Part(1, refused), "z": Part(1, refused)})
    assert outputs.sinks == [opened[-1], last]
    outputs.close()


def test_what_is_open_is_closed_where_one_cannot_be_opened() -> None:
    first = Kept()
    with pytest.raises(EdgeError, match="no room"):
        Outputs({"a": Part(1, lambda: first), "b": Part(1, refused)})
    assert first.closed == 1


def scene() -> np.ndarray:
    return np.concatenate([block.samples for block in FileSource(str(SCENE)).blocks()])


def verdicts(events: list[Event]) -> list[EmotionEvent]:
    return [event for event in events if isinstance(event, EmotionEvent) and event.final]


def test_a_stream_that_follows_goes_on_where_the_other_stands(bundle: Bundle) -> None:
    samples = scene()
    with EmotionStream(bundle) as whole:
        expected = verdicts([*whole.feed(samples), *whole.finish()])
    first, second = EmotionStream(bundle), EmotionStream(bundle)
    heard: list[Event] = []
    for begin in range(0, len(samples), 1600):
        stream = first if len(verdicts(heard)) < 2 else second
        if stream is second and second.time == 0:
            assert not first.speaking
            heard += first.finish()
            second.follow(first)
            assert second.time == first.time
        heard += stream.feed(samples[begin : begin + 1600])
    heard += second.finish()
    # What begins anew knows nothing of the noise before: of what it hears first a bit may differ.
    assert [event.end for event in verdicts(heard)] == pytest.approx(
        [event.end for event in expected], abs=0.25
    )
    assert second.health().t == pytest.approx(len(samples) / 16_000)


class Refused(EmotionStream):
    """Its words cannot be had, which shows late."""

    closed = 0

    def wait_ready(self) -> None:
        raise TextError("no words today")

    def close(self) -> None:
        Refused.closed += 1
        super().close()


class Called:
    """A source in which SIGHUP comes, twice, and that goes on until both were seen to."""

    name = "called"

    def __init__(self, opened: list[EmotionStream]) -> None:
        self.warnings: list[str] = []
        self._opened = opened

    def blocks(self) -> Iterator[Block]:
        deadline = time.monotonic() + PATIENCE
        for wanted in (1, 2):
            os.kill(os.getpid(), signal.SIGHUP)
            while len(self._opened) < wanted or Refused.closed < wanted:
                assert time.monotonic() < deadline
                time.sleep(0.01)
                yield Block(np.zeros(160, np.int16))

    def close(self) -> None:
        """Nothing is held."""


def test_a_stream_that_cannot_be_had_is_closed_and_nothing_changes(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[EmotionStream] = []

    def again() -> tuple[EmotionStream, dict[str, Part]]:
        opened.append(Refused(bundle))
        return opened[-1], {}

    kept = Kept()
    with EmotionStream(bundle) as stream:
        listen(Called(opened), stream, Outputs({"kept": Part(1, lambda: kept)}), again=again)
    assert (len(opened), Refused.closed, kept.closed) == (2, 2, 0)
    assert capsys.readouterr().err.count("the settings stay as they are: no words today") == 2


class Late(EmotionStream):
    """Its words are there when somebody has let them."""

    let, closed = threading.Event(), threading.Event()

    def wait_ready(self) -> None:
        assert Late.let.wait(PATIENCE)

    def close(self) -> None:
        Late.closed.set()
        super().close()


def test_who_stops_while_settings_are_read_again_need_not_wait_for_them(bundle: Bundle) -> None:
    class Once(Called):
        def blocks(self) -> Iterator[Block]:
            os.kill(os.getpid(), signal.SIGHUP)
            while not self._opened:
                yield Block(np.zeros(160, np.int16))

    opened: list[EmotionStream] = []

    def again() -> tuple[EmotionStream, dict[str, Part]]:
        opened.append(Late(bundle))
        return opened[-1], {}

    begin = time.monotonic()
    with EmotionStream(bundle) as stream:
        listen(Once(opened), stream, Outputs({}), again=again)
    assert time.monotonic() - begin < 10
    assert not Late.closed.is_set()
    Late.let.set()
    assert Late.closed.wait(PATIENCE)  # nobody else would


def test_a_hangup_never_waits_for_the_loop_that_it_interrupts(bundle: Bundle) -> None:
    """One comes at every line of it, also while it holds a lock."""
    ours = {str(Path(module.__file__)) for module in (listening, threading)}

    def call(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in ours:
            return None
        if event == "line":
            signal.raise_signal(signal.SIGHUP)
        return call

    def hang(*_: object) -> None:
        raise TimeoutError

    class Traced(Called):
        def blocks(self) -> Iterator[Block]:
            outer = sys._getframe(2)  # the loop that was begun before it is traced
            assert outer.f_code.co_name == "_run"
            outer.f_trace = call
            sys.settrace(call)
            for _ in range(20):
                yield Block(np.empty(0, np.int16))
            sys.settrace(None)

    def again() -> tuple[EmotionStream, dict[str, Part]]:
        raise EdgeError("not now")

    before, traced = signal.signal(signal.SIGALRM, hang), sys.gettrace()
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        with EmotionStream(bundle) as stream:
            assert listen(Traced([]), stream, Outputs({}), again=again)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.settrace(traced)


def test_a_threshold_of_ones_own_decides_what_is_unsure(bundle: Bundle) -> None:
    samples = scene()
    for threshold, unsure in ((0.0, False), (1.0, True)):
        with EmotionStream(bundle, threshold=threshold) as stream:
            found = verdicts([*stream.feed(samples), *stream.finish()])
        assert len(found) > 2
        assert {event.label == "unsure" for event in found} == {unsure}


def test_sensitivity_moves_how_soft_speech_may_be() -> None:
    params = SegmentParams()
    assert params.sensitive("normal") == params
    samples = (scene() * 0.02).astype(np.int16)
    noise = np.random.default_rng(0).normal(0, 20, len(samples))
    voiced = {}
    for name in ("low", "normal", "high"):
        segmenter = Segmenter(params.sensitive(name))
        found = segmenter.feed((samples + noise).astype(np.int16)) + segmenter.finish()
        voiced[name] = sum(getattr(item, "samples", np.empty(0)).size for item in found)
    assert voiced["low"] <= voiced["normal"] <= voiced["high"]
    assert voiced["low"] < voiced["high"]


def started(
    command: list[str], environment: dict[str, str], *arguments: str | Path
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*command, "run", *map(str, arguments)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # no terminal, as of a service
        # Where the tests run under nohup, what they start would ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL) and None,
    )


def receive(manager: socket.socket, wanted: str) -> list[str]:
    """Messages to a service manager up to the one that has `wanted`."""
    manager.settimeout(PATIENCE)
    deadline = time.monotonic() + PATIENCE  # signs of life come all the time
    messages: list[str] = []
    while not messages or wanted not in messages[-1]:
        assert time.monotonic() < deadline, f"no {wanted}"
        messages.append(manager.recv(4096).decode())
    return messages


def connected(path: Path) -> socket.socket:
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            sender.connect(str(path))
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return sender


def test_settings_are_read_again_while_audio_comes_and_none_of_it_is_lost(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    audio, told, kept = (tmp_path / name for name in ("audio.sock", "told.sock", "kept.jsonl"))
    file = tmp_path / "config.toml"
    before = f'listen = "unix:{audio}"\nout = "jsonl"\n'
    file.write_text(before)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(told))
    watched = {**environment, "NOTIFY_SOCKET": str(told), "WATCHDOG_USEC": "500000"}
    samples = scene()
    half = len(samples) // 2
    with started(command, watched, "--config", file) as process:
        try:
            assert "READY=1" in receive(manager, "READY=1")[-1]
            sender = connected(audio)
            sender.sendall(samples[:half].tobytes())
            receive(manager, "WATCHDOG=1")  # the loop has come round
            # A mistake changes nothing, and is said.
            file.write_text("thresold = 1\n")
            os.kill(process.pid, signal.SIGHUP)
            messages = receive(manager, "READY=1")
            assert any("RELOADING=1" in message for message in messages)
            file.write_text(f'{before}threshold = 1.0\n[file]\npath = "{kept}"\n')
            os.kill(process.pid, signal.SIGHUP)
            receive(manager, "READY=1")
            sender.sendall(samples[half:].tobytes())
            sender.close()
            deadline = time.monotonic() + PATIENCE
            while '"final": true' not in (kept.read_text() if kept.exists() else ""):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert "there is no setting 'thresold'; 'threshold'?" in err.decode()
    assert "the settings were read again" in err.decode()
    events = [json.loads(line) for line in out.decode().splitlines()]
    final = [event for event in events if event["type"] == "emotion" and event["final"]]
    stored = [json.loads(line) for line in kept.read_text().splitlines()]
    later = [event for event in stored if event["type"] == "emotion" and event["final"]]
    assert {event["label"] for event in later} == {"unsure"}
    assert [event["start"] for event in final[-len(later) :]] == [e["start"] for e in later]
    assert {event["label"] for event in final[-len(later) :]} == {"unsure"}
    assert {event["label"] for event in final[: len(final) - len(later)]} != {"unsure"}
    health = [event for event in events if event["type"] == "health"][-1]
    assert health["dropped_ms"] == 0
    assert health["t"] == pytest.approx(len(samples) / 16_000, abs=0.1)
    assert [event["time"] for event in later] == sorted(event["time"] for event in later)


def test_a_hangup_ends_what_was_started_without_a_settings_file(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    audio = tmp_path / "audio.sock"
    with started(command, environment, "--listen", f"unix:{audio}", "--out", "jsonl") as process:
        try:
            connected(audio).close()
            process.send_signal(signal.SIGHUP)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
