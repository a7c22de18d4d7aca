"""Words beside a live stream: nothing that happens to an engine holds up the audio."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import MissingPackageError, TextError
from edge_runtime.events import TextEvent, TextStatusEvent, to_dict
from edge_runtime.pcm import Int16
from edge_runtime.text import supervisor
from edge_runtime.text.engine_process import EngineProcess
from edge_runtime.text.supervisor import Patience, TextStream, TextStreamEvent

pytest.importorskip("pocketsphinx")

BLOCK = 1600
in_time = pytest.mark.realtime  # an engine has 2 s to answer
SHORT = Patience(stall_seconds=2.0, behind_seconds=1.0, retry_seconds=0.2, start_seconds=120.0)


@pytest.fixture
def open_stream(door_list: Path) -> Iterator[Callable[..., TextStream]]:
    opened: list[TextStream] = []

    def open_one(name: str = "", **options: object) -> TextStream:
        stream = TextStream(name or f"keywords:{door_list}", **options)  # type: ignore[arg-type]
        opened.append(stream)
        return stream

    yield open_one
    for stream in opened:
        stream.close()


@pytest.fixture(params=["asr", "faster-whisper"])
def better(request: pytest.FixtureRequest) -> str:
    """An engine that hears every word."""
    if request.param == "asr":
        return "asr"
    return f"{request.param}:{request.getfixturevalue('tiny_en')}"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long the stream waited for an engine, each time, s: a live one never does."""
    told: list[float] = []
    real = EngineProcess._await

    def awaited(self: EngineProcess, seconds: float) -> None:
        told.append(seconds)
        real(self, seconds)

    monkeypatch.setattr(EngineProcess, "_await", awaited)
    return told


def say(stream: TextStream, samples: Int16, t: float, realtime: bool = False) -> None:
    """One utterance."""
    stream.begin(t)
    for start in range(0, len(samples), BLOCK):
        stream.feed(samples[start : start + BLOCK])
        if realtime:
            time.sleep(BLOCK / 16_000)
    stream.end(t + len(samples) / 16_000)


def poll_until(
    stream: TextStream, enough: Callable[[list[TextStreamEvent]], bool], seconds: float = 120.0
) -> list[TextStreamEvent]:
    events: list[TextStreamEvent] = []
    deadline = time.monotonic() + seconds
    while not enough(events):
        assert time.monotonic() < deadline, events
        events += stream.poll()
        time.sleep(0.02)
    return events


def finals(events: list[TextStreamEvent]) -> list[TextEvent]:
    return [e for e in events if isinstance(e, TextEvent) and e.final]


def statuses(events: list[TextStreamEvent]) -> list[TextStatusEvent]:
    return [e for e in events if isinstance(e, TextStatusEvent)]


def came_back(events: list[TextStreamEvent]) -> bool:
    return any(s.reason == "it is back" for s in statuses(events))


def test_words_arrive_with_their_utterance_even_while_the_engine_loads(
    open_stream: Callable[..., TextStream], kids: Int16
) -> None:
    stream = open_stream()
    say(stream, kids, 1.0)
    say(stream, kids, 5.0)
    events = poll_until(stream, lambda e: len(finals(e)) == 2)
    assert [(e.start, e.text) for e in finals(events)] == [
        (1.0, "kids talking by the door"),
        (5.0, "kids talking by the door"),
    ]
    partial = next(e for e in events if isinstance(e, TextEvent))
    assert not partial.final
    shown = to_dict(finals(events)[1])
    assert shown["words"][0]["text"] == "kids"
    assert 5.0 < shown["words"][0]["start"] < shown["words"][0]["end"]
    assert stream.rss_mb > 10
    assert 0 < stream.real_time_factor < 10


def test_where_no_process_can_begin_words_are_missing_and_the_audio_goes_on(
    open_stream: Callable[..., TextStream], kids: Int16, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = open_stream(patience=SHORT)
    stream.wait_ready(120)
    assert stream.pid is not None

    def none_left(*_: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patch:
        patch.setattr(supervisor, "EngineProcess", none_left)
        os.kill(stream.pid, signal.SIGKILL)
        events = poll_until(stream, lambda e: len(statuses(e)) >= 3)
        say(stream, kids, 0.0)
        with pytest.raises(TextError, match="cannot be started: Resource temporarily"):
            open_stream()
    (_, *later) = [s.reason for s in statuses(events) if s.source == "off"]
    assert all("does not come back" in why and "cannot be started" in why for why in later)
    poll_until(stream, came_back)
    say(stream, kids, 10.0)
    poll_until(stream, lambda e: len(finals(e)) == 1)


def test_files_wait_for_their_words(open_stream: Callable[..., TextStream], kids: Int16) -> None:
    stream = open_stream(live=False, patience=Patience(keep_seconds=1.0))
    say(stream, kids, 0.0)
    assert stream.wait(120)
    assert [e.text for e in finals(stream.poll())] == ["kids talking by the door"]
    assert stream.dropped_samples == 0


@in_time
@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engine_killed_or_stopped_in_mid_utterance_comes_back(
    harm: signal.Signals,
    open_stream: Callable[..., TextStream],
    kids: Int16,
    waits: list[float],
) -> None:
    stream = open_stream(patience=SHORT)
    stream.wait_ready(120)
    waits.clear()
    stream.begin(0.0)
    stream.feed(kids[:8000])
    assert stream.pid is not None
    os.kill(stream.pid, harm)
    events: list[TextStreamEvent] = []
    for start in range(8000, len(kids), BLOCK):
        stream.feed(kids[start : start + BLOCK])
        events += stream.poll()
        time.sleep(0.05)
    stream.end(4.0)
    events += poll_until(stream, lambda later: came_back(events + later))
    down = next(s for s in statuses(events) if s.source == "off")
    assert "failed" in down.reason
    assert stream.dropped_samples > 0
    say(stream, kids, 10.0)
    assert finals(poll_until(stream, lambda e: len(finals(e)) == 1))[0].start == 10.0
    assert waits == []


@in_time
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (signal.SIGKILL, "its process was killed by signal 9"),
        (signal.SIGSTOP, "it has not answered for 2 s"),
    ],
)
def test_a_fallback_hears_the_utterance_again_and_the_better_engine_returns(
    harm: signal.Signals,
    reason: str,
    better: str,
    open_stream: Callable[..., TextStream],
    kids: Int16,
    door_list: Path,
) -> None:
    stream = open_stream(better, keywords=door_list, patience=SHORT)
    stream.wait_ready(120)
    assert statuses(stream.poll())[0].source == better
    stream.begin(0.0)
    stream.feed(kids[:8000])
    assert stream.pid is not None
    os.kill(stream.pid, harm)
    stream.feed(kids[8000:])
    stream.end(3.0)
    events = poll_until(stream, lambda e: bool(finals(e)))
    (down,) = (s for s in statuses(events) if s.source == "keywords")
    assert down.wanted == better
    assert down.reason == f"{better} failed: {reason}"
    assert finals(events)[0].text == "kids talking by the door"
    assert finals(events)[0].source == "keywords"
    if not came_back(events):
        poll_until(stream, came_back)
    assert stream.source == better
    say(stream, kids, 10.0)
    again = finals(poll_until(stream, lambda e: len(finals(e)) == 1))[0]
    assert better.startswith(again.source)
    assert "talking" in again.text


@contextmanager
def slowed(pid: int | None) -> Iterator[None]:
    """The process runs a tenth of the time."""
    assert pid is not None
    over = threading.Event()

    def slow_down() -> None:
        while not over.is_set():
            try:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.18)
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.02)
            except ProcessLookupError:
                return

    brake = threading.Thread(target=slow_down)
    brake.start()
    try:
        yield
    finally:
        over.set()
        brake.join()


@in_time
def test_ten_times_slower_than_needed_is_behind(
    open_stream: Callable[..., TextStream], kids: Int16, door_list: Path, waits: list[float]
) -> None:
    stream = open_stream("asr", keywords=door_list, patience=SHORT)
    stream.wait_ready(120)
    # The beginning of the first utterance is heard in one go, which may pass for silence.
    say(stream, kids, 0.0)
    poll_until(stream, lambda events: bool(finals(events)))
    events: list[TextStreamEvent] = []
    waits.clear()
    with slowed(stream.pid):
        for n in range(20):
            say(stream, np.tile(kids, 2), 10.0 + 10.0 * n, realtime=True)
            events += stream.poll()
            if any(s.source == "keywords" for s in statuses(events)):
                break
    down = next(s for s in statuses(events) if s.source == "keywords")
    assert "behind and hears 0." in down.reason
    assert waits == []


@in_time
def test_whisper_ten_times_slower_is_heard_late_or_replaced_and_loses_nothing(
    tiny_en: Path,
    open_stream: Callable[..., TextStream],
    kids: Int16,
    door_list: Path,
    waits: list[float],
) -> None:
    """An idle machine hears it fast enough even so; a busy one falls back."""
    stream = open_stream(f"faster-whisper:{tiny_en}", keywords=door_list, patience=SHORT)
    stream.wait_ready(120)
    waits.clear()
    with slowed(stream.pid):
        for n in range(3):
            say(stream, kids, 5.0 * n, realtime=True)
        events = poll_until(stream, lambda e: len(finals(e)) == 3)
    assert [e.start for e in finals(events)] == [0.0, 5.0, 10.0]
    assert all("talking by the door" in e.text for e in finals(events))
    assert stream.dropped_samples == 0
    assert waits == []


def test_nothing_left_to_fall_back_to_is_off_and_audio_goes_on(
    open_stream: Callable[..., TextStream], kids: Int16
) -> None:
    stream = open_stream(patience=Patience(retry_seconds=1000.0))
    stream.wait_ready(120)
    stream.begin(0.0)
    assert stream.pid is not None
    os.kill(stream.pid, signal.SIGKILL)
    events = poll_until(stream, lambda e: any(s.source == "off" for s in statuses(e)))
    assert finals(events) == []
    assert stream.source == "off"
    say(stream, kids, 5.0)
    assert stream.wait(1.0)
    assert stream.poll() == []


def test_points_that_overlap_and_audio_outside_an_utterance(
    open_stream: Callable[..., TextStream], kids: Int16
) -> None:
    stream = open_stream()
    stream.feed(kids)
    stream.end(1.0)
    stream.begin(2.0)
    stream.feed(kids)
    stream.begin(4.0)  # without an end
    stream.end(4.5)
    stream.end(4.6)
    events = poll_until(stream, lambda e: len(finals(e)) == 2)
    assert [(e.start, e.text) for e in finals(events)] == [
        (2.0, "kids talking by the door"),
        (4.0, ""),
    ]


def test_more_than_can_be_kept_is_dropped_and_counted(
    open_stream: Callable[..., TextStream], kids: Int16
) -> None:
    stream = open_stream(patience=Patience(keep_seconds=1.0))
    say(stream, kids, 0.0)  # while it loads
    assert stream.dropped_samples > 0
    assert stream.lag_seconds <= 1.0 + BLOCK / 16_000
    poll_until(stream, lambda e: len(finals(e)) == 1)


def test_what_cannot_work_is_refused_before_any_audio(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="unknown text source 'nonsense'"):
        TextStream("nonsense")
    with pytest.raises(TextError, match="there is no file"):
        TextStream(f"keywords:{tmp_path / 'absent.txt'}")
    bad = tmp_path / "bad.txt"
    bad.write_text("zzyzx\n")
    stream = TextStream(f"keywords:{bad}")
    try:
        with pytest.raises(TextError, match="dictionary lacks zzyzx"):
            stream.wait_ready(120)
    finally:
        stream.close()


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edge-emotion\[asr\]'"):
        TextStream("asr")
