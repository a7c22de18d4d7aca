"""Audio from Wyoming clients: what they send is heard or refused, and never more than that."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wyoming.event import Event as WyomingEvent
from wyoming.event import write_event
from wyoming.info import Describe, Info
from wyoming_client import (
    HOST,
    PATIENCE,
    client,
    converted,
    finals,
    send,
    transcribed,
    until,
)

from edge_runtime.audio import AnsweringSource, LiveSource, wyoming_server
from edge_runtime.audio.sources import LIVE, Asked
from edge_runtime.audio.wyoming import WyomingSource
from edge_runtime.bundle import Bundle
from edge_runtime.errors import AudioError
from edge_runtime.events import Event, TextEvent, TextStatusEvent
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.stream import EmotionStream
from edge_runtime.wyoming.protocol import (
    DATA_BYTES,
    HEADER_BYTES,
    PAYLOAD_BYTES,
    READ_BYTES,
    EventReader,
    ProtocolError,
    event_bytes,
)

START = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}


class Listening:
    """A source that is heard, as `edge-emotion run` hears it, on a thread."""

    def __init__(self, bundle: Bundle, channel: int | None = None) -> None:
        self.source = WyomingSource("0", "kitchen", channel)
        self.port = self.source.port
        self.samples: list[Int16] = []
        self.events: list[Event] = []
        self.extra: list[Event] = []  # to be told, as if the stream had said it
        self.hold = threading.Event()
        self._stream = EmotionStream(bundle, live=True)
        self._end = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        blocks = self.source.blocks()
        for block in blocks:
            events = self._stream.skip(block.lost) if block.lost or block.ends else []
            events += self._stream.feed(block.samples)
            while self.extra:
                events.append(self.extra.pop(0))
            self.samples.append(block.samples)
            self.events += events
            for event in [*events, *block.status]:
                self.source.answer(event)
            while self.hold.is_set() and not self._end:
                time.sleep(0.01)
            if self._end:
                break
        blocks.close()

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            assert self._thread.is_alive()
            time.sleep(0.01)

    def close(self) -> None:
        self._end = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._stream.close()


@contextmanager
def listening(bundle: Bundle, channel: int | None = None) -> Iterator[Listening]:
    one = Listening(bundle, channel)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def heard(bundle: Bundle) -> Iterator[Listening]:
    with listening(bundle) as one:
        yield one


def raw(*events: WyomingEvent) -> bytes:
    """As the package writes them."""
    out = io.BytesIO()
    for event in events:
        write_event(event, out)
    return out.getvalue()


def connected(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection((HOST, port), PATIENCE)
    connection.sendall(data)
    return connection


def rest(connection: socket.socket) -> list[dict]:
    """What comes until it is closed: the lines and data of events."""
    connection.settimeout(PATIENCE)
    data = b""
    while piece := connection.recv(READ_BYTES):
        data += piece
    return [{**e.data, "type": e.type} for e in EventReader().take(data)]


# The reader.


def wyoming_events() -> st.SearchStrategy[WyomingEvent]:
    data = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=20), max_size=4)
    payload = st.none() | st.binary(min_size=1, max_size=300)
    return st.builds(WyomingEvent, st.text(max_size=12), data, payload)


@given(st.lists(wyoming_events(), max_size=6), st.lists(st.integers(1, 50), min_size=1))
def test_what_the_package_writes_is_read_however_it_is_cut(
    events: list[WyomingEvent], cuts: list[int]
) -> None:
    data, reader, found = raw(*events), EventReader(), []
    assert b"".join(map(event_bytes, events)) == data
    while data:
        size = cuts[len(data) % len(cuts)]
        found += reader.take(data[:size])
        data = data[size:]
    assert found == events
    assert not reader.amid


def drained(data: bytes, size: int) -> int:
    """Events that are read from `data` until it is refused."""
    reader, count, refusal = EventReader(), 0, ""
    try:
        for at in range(0, len(data), size):
            count += len(reader.take(data[at : at + size]))
    except ProtocolError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert len(refusal) < 300
    return count


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=2000), st.integers(1, 500))
def test_any_bytes_are_events_or_one_kind_of_error(data: bytes, size: int) -> None:
    drained(data, size)
    drained(data + b"\n", size)


@settings(max_examples=500, deadline=None)
@given(st.data(), st.lists(wyoming_events(), min_size=1, max_size=4), st.integers(1, 100))
def test_damaged_events_are_refused_too(
    data: st.DataObject, events: list[WyomingEvent], size: int
) -> None:
    damaged = bytearray(raw(*events))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    drained(bytes(damaged), size)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "data", "data_length", "payload_length", "rate"]), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(json_values, st.binary(max_size=50))
def test_any_json_line_is_an_event_or_refused(value: object, after: bytes) -> None:
    drained(json.dumps(value).encode() + b"\n" + after, 64)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"type": "a", "payload_length": %d}\n' % (PAYLOAD_BYTES + 1), "payload_length 1048577"),
        (b'{"type": "a", "data_length": %d}\n' % (DATA_BYTES + 1), "data_length 1048577"),
        (b'{"type": "a", "payload_length": -1}\n', "payload_length -1"),
        (b'{"type": "a", "payload_length": true}\n', "payload_length True"),
        (b'{"type": "a", "payload_length": 1e3}\n', "payload_length 1000.0"),
        (b'{"type": "a", "data_length": ' + b"9" * 5000 + b"}\n", "no JSON"),
        (b"x" * (HEADER_BYTES + 1), "more than 65536"),
        (b"[" * 60_000 + b"\n", "no JSON"),
        (b'{"type": "a", "data": [1]}\n', "no object"),
        (b'{"type": "a", "data_length": 2}\n[]', "no JSON object"),
        (b'{"data": {}}\n', "without the type"),
        (b"GET / HTTP/1.1\r\n", "no JSON"),
        (b"\n", "no JSON"),
        (b"\xff\xfe\n", "no JSON"),
    ],
)
def test_what_is_too_much_or_nothing_is_refused_at_its_line(line: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        EventReader().take(line)


def test_words_that_are_no_text_can_be_sent() -> None:
    (event,) = EventReader().take(event_bytes(WyomingEvent("a", {"text": "so \ud800 happy"})))
    assert event.data["text"] == "so ? happy"


# The source.


def test_it_is_a_live_source_by_its_name_that_answers() -> None:
    source = LIVE["wyoming"](Asked("localhost:0", name="kitchen"))
    assert isinstance(source, LiveSource)
    assert isinstance(source, AnsweringSource)
    assert source.form == "16 kHz, 1 channel"
    blocks = source.blocks()
    next(blocks)
    blocks.close()


@pytest.mark.parametrize(
    "address",
    [
        *("", "x", "host:", "1:2:3", ":80", "80000", "-1", "nowhere.invalid:80", "²"),
        *("a..b:1", "a\0b:1"),
    ],
)
def test_an_address_that_is_none_is_one_line(address: str) -> None:
    with pytest.raises(AudioError) as caught:
        WyomingSource(address)
    assert "\n" not in str(caught.value)


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(AudioError, match=r"cannot listen at .*: Address already in use"):
            WyomingSource(str(taken.getsockname()[1]))


def test_what_it_is_can_be_read_by_the_package(heard: Listening) -> None:
    async def described() -> Info:
        async with client(heard.port) as to:
            await to.write_event(Describe().event())
            *_, event = await until(to, "info")
            return Info.from_event(event)

    (program,) = asyncio.run(described()).asr
    assert program.name == "edge-emotion"
    assert "kitchen" in (program.description or "")
    assert program.models[0].languages == ["en"]
    # An assistant is not offered a service that never hears a word.
    assert not program.installed
    heard.extra.append(TextStatusEvent(0.0, "asr", "asr", "it is ready"))
    heard.wait(lambda: asyncio.run(described()).asr[0].installed)


def test_every_sample_is_heard_however_fast_it_comes(heard: Listening, scene: Int16) -> None:
    """The stream is held up, so that the turn is full and the client has to wait."""
    heard.hold.set()
    sending = threading.Thread(target=lambda: asyncio.run(transcribed(heard.port, scene)))
    sending.start()
    time.sleep(0.3)
    heard.hold.clear()
    sending.join(PATIENCE)
    assert np.array_equal(np.concatenate(heard.samples), scene)


@pytest.mark.parametrize(
    ("width", "kind", "scale"), [(1, "u1", 2**7), (3, "", 2**23), (4, "<i4", 2**31)]
)
def test_samples_of_any_width_are_the_same_sound(
    heard: Listening, sentence: Int16, width: int, kind: str, scale: int
) -> None:
    values = sentence.astype(np.float64) / 2**15
    if width == 1:
        data = np.clip(np.rint(values * scale) + scale, 0, 255).astype(kind).tobytes()
    elif width == 3:
        four = (sentence.astype("<i4") << 8).view(np.uint8).reshape(-1, 4)
        data = np.ascontiguousarray(four[:, :3]).tobytes()
    else:
        data = (values * scale).astype(kind).tobytes()
    form = START | {"width": width}
    # Cut in the middle of samples, too.
    pieces = [data[at : at + 4999] for at in range(0, len(data), 4999)]
    events = [WyomingEvent("audio-start", form)]
    events += [WyomingEvent("audio-chunk", form, piece) for piece in pieces]
    with connected(heard.port, raw(*events, WyomingEvent("audio-stop"))):
        heard.wait(lambda: sum(map(len, heard.samples)) == len(sentence))
    difference = np.concatenate(heard.samples).astype(int) - sentence
    assert np.abs(difference).max() <= (129 if width == 1 else 1)


def test_chunks_without_a_beginning_are_heard(heard: Listening, sentence: Int16) -> None:
    chunks = [
        WyomingEvent("audio-chunk", START, sentence[at : at + 4096].tobytes())
        for at in range(0, len(sentence), 4096)
    ]
    with connected(heard.port, raw(*chunks)) as one:
        one.shutdown(socket.SHUT_WR)
        assert rest(one)[-1]["type"] == "edge-emotion"
    assert np.array_equal(np.concatenate(heard.samples), sentence)
    assert heard.source.dropped == 0


def test_one_channel_can_be_chosen(bundle: Bundle, sentence: Int16) -> None:
    both = np.stack([sentence, -sentence], axis=1)
    form = START | {"channels": 2}
    chunk = WyomingEvent("audio-chunk", form, both.tobytes())
    with listening(bundle, channel=2) as heard:
        connected(heard.port, raw(chunk)).close()
        heard.wait(lambda: sum(map(len, heard.samples)) == len(sentence))
        with connected(heard.port, raw(WyomingEvent("audio-chunk", START, b"\0\0"))) as mono:
            (refusal,) = rest(mono)
    assert "--channel asks for number 2" in refusal["text"]
    assert np.array_equal(np.concatenate(heard.samples), -sentence)


def test_two_clients_get_what_they_said_and_not_the_other(heard: Listening, scene: Int16) -> None:
    first, second = scene[: 9 * SAMPLE_RATE], scene[9 * SAMPLE_RATE :]

    async def both() -> list[list[WyomingEvent]]:
        return await asyncio.gather(
            transcribed(heard.port, first), transcribed(heard.port, second, 22_050, 2)
        )

    answers = asyncio.run(both())
    starts = [[final["start"] for final in finals(events)] for events in answers]
    assert len(starts[0]) >= 2
    assert len(starts[1]) >= 2
    said = sorted(e.start for e in heard.events if e.type == "emotion" and e.final)
    assert sorted(starts[0] + starts[1]) == pytest.approx(said, abs=1e-3)
    # One after the other: neither is within the other.
    assert max(starts[0]) < min(starts[1]) or max(starts[1]) < min(starts[0])
    for events in answers:
        verdicts = [e["start"] for e in events[-1].data["emotions"]]
        assert verdicts == [final["start"] for final in finals(events)]
        assert events[0].type == "edge-speech_start"


def test_whoever_waits_too_long_is_told(heard: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wyoming_server, "TURN_SECONDS", 0.2)
    start = raw(WyomingEvent("audio-start", START))
    with connected(heard.port, start), connected(heard.port, start) as waiting:
        (told,) = rest(waiting)
    assert (told["type"], told["code"]) == ("error", "busy")
    assert heard.source.dropped == 0


def test_more_clients_than_a_house_has_rooms_are_told(heard: Listening) -> None:
    open_ = [connected(heard.port) for _ in range(wyoming_server.MOST_CLIENTS)]
    ping = raw(WyomingEvent("ping", {"text": "x"}))
    for one in open_:
        one.sendall(ping)
        assert one.recv(READ_BYTES)
    with connected(heard.port) as further:
        (told,) = rest(further)
    assert (told["type"], told["code"]) == ("error", "busy")
    for one in open_:
        one.close()


def test_a_transcript_waits_for_the_words(heard: Listening, sentence: Int16) -> None:
    heard.extra.append(TextStatusEvent(0.0, "asr", "asr", "it is ready"))
    answer: list[list[WyomingEvent]] = []
    sending = threading.Thread(
        target=lambda: answer.append(asyncio.run(transcribed(heard.port, sentence)))
    )
    sending.start()
    heard.wait(lambda: any(e.type == "emotion" and e.final for e in heard.events))
    start = next(e.t for e in heard.events if e.type == "speech_start")
    time.sleep(0.5)
    assert not answer
    heard.extra.append(TextEvent(9.0, "the meeting", False, "asr", start))
    heard.extra.append(TextEvent(9.0, "the meeting is moved", True, "asr", start))
    sending.join(PATIENCE)
    assert answer[0][-1].data["text"] == "the meeting is moved"


def test_a_transcript_of_nothing_is_empty(heard: Listening) -> None:
    async def asked(*events: str) -> WyomingEvent:
        async with client(heard.port) as to:
            for kind in events:
                data = START if kind == "audio-start" else {}
                await to.write_event(WyomingEvent(kind, dict(data)))
            return (await until(to, "transcript"))[-1]

    for events in (("transcribe", "audio-start", "audio-stop"), ("transcribe", "audio-stop")):
        assert asyncio.run(asked(*events)).data == {"text": "", "emotions": []}


def test_whoever_ends_their_side_gets_the_answer_still(heard: Listening, sentence: Int16) -> None:
    chunk = WyomingEvent("audio-chunk", START, sentence.tobytes())
    with connected(heard.port, raw(WyomingEvent("transcribe"), chunk)) as one:
        one.shutdown(socket.SHUT_WR)
        told = rest(one)
    assert told[-1]["type"] == "transcript"
    assert len(told[-1]["emotions"]) == 1


# What goes wrong.


def test_a_client_that_vanishes_in_a_chunk_ends_its_turn_and_the_next_is_heard(
    heard: Listening, sentence: Int16, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = raw(WyomingEvent("audio-chunk", START, sentence.tobytes()))
    for _ in range(3):
        begun = raw(WyomingEvent("audio-start", START)) + whole + whole[: len(whole) // 2]
        connected(heard.port, begun).close()
    heard.wait(lambda: heard.source.dropped == 3)
    events = asyncio.run(transcribed(heard.port, sentence))
    assert len(finals(events)) == 1
    finished = [e for e in heard.events if e.type == "emotion" and e.final]
    assert len(finished) == 4
    heard.close()
    assert heard.source.dropped == 3
    assert heard.source.warnings == ["wyoming 0: 3 connections were dropped"]
    told = [line for line in capsys.readouterr().err.splitlines() if "dropped" in line]
    assert len(told) == 1
    assert told[0].startswith("edge-emotion: wyoming: 127.0.0.1 is dropped: ")
    assert told[0].endswith("; others will be counted")


@pytest.mark.parametrize(
    "begun",
    [
        raw(WyomingEvent("audio-start", START)),
        b'{"type": "audio-',
        b'{"type": "audio-chunk", "payload_length": 100000}\n' + b"\0" * 500,
    ],
)
def test_a_client_that_stalls_is_told_and_left(
    begun: bytes, heard: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wyoming_server, "STALL_SECONDS", 0.3)
    with connected(heard.port, begun) as stalled:
        (told,) = rest(stalled)
    assert told["code"] == "invalid"
    assert "nothing came for 0.3 s" in told["text"]


def test_a_byte_now_and_then_is_no_reason_to_wait(
    heard: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wyoming_server, "STALL_SECONDS", 0.5)
    with connected(heard.port, b'{"type": "') as slow:
        dripping = threading.Thread(target=drip, args=(slow,), daemon=True)
        dripping.start()
        dripping.join(PATIENCE)
        assert not dripping.is_alive()
    heard.wait(lambda: heard.source.dropped == 1)


def drip(slow: socket.socket) -> None:
    """A byte every 0.1 s, until it is closed."""
    with contextlib.suppress(OSError):
        while True:
            slow.sendall(b"x")
            time.sleep(0.1)


@pytest.mark.parametrize(
    "form",
    [
        {"rate": 100},
        {"rate": 10**9},
        {"rate": "16000"},
        {"width": 0},
        {"width": 5},
        {"channels": 0},
        {"channels": 1000},
        {"rate": None},
    ],
)
def test_audio_of_no_form_is_refused_in_one_line(form: dict, heard: Listening) -> None:
    (name,) = form
    event = raw(WyomingEvent("audio-start", START | form))
    with connected(heard.port, event) as one:
        (told,) = rest(one)
    assert told["code"] == "invalid"
    assert told["text"].startswith(name)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=400)
    | st.lists(
        st.builds(
            WyomingEvent,
            st.sampled_from(
                ["audio-start", "audio-chunk", "audio-stop", "transcribe", "describe", "ping"]
            ),
            st.fixed_dictionaries(
                {},
                optional={
                    "rate": st.integers(3_999, 50_000) | st.text(max_size=3),
                    "width": st.integers(0, 5),
                    "channels": st.integers(0, 65),
                    "text": json_values,
                },
            ),
            st.none() | st.binary(max_size=300),
        ),
        max_size=6,
    ).map(lambda events: raw(*events))
)
def test_anything_at_all_can_be_sent(fuzzed: Listening, data: bytes) -> None:
    with connected(fuzzed.port, data) as one:
        one.shutdown(socket.SHUT_WR)
        rest(one)
    with connected(fuzzed.port, raw(WyomingEvent("ping", {"text": "there?"}))) as one:
        one.shutdown(socket.SHUT_WR)
        assert rest(one) == [{"type": "pong", "text": "there?"}]


@pytest.fixture(scope="module")
def fuzzed(bundle: Bundle) -> Iterator[Listening]:
    with listening(bundle) as one:
        yield one


def test_a_client_that_never_reads_costs_bounded_memory_and_nobody_else(
    heard: Listening, sentence: Int16, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wyoming_server, "_WAITING", 20)
    deaf = connected(heard.port, raw(WyomingEvent("audio-chunk", START, sentence.tobytes())))
    ping = raw(WyomingEvent("ping", {"text": "x" * 50_000}))
    deaf.settimeout(0.2)
    server = heard.source._clients._server
    assert server is not None
    for _ in range(400):  # 20 MB of answers: more than any buffer of the system
        deaf.sendall(ping)
    heard.wait(lambda: any(c.dropped for c in server._clients))
    assert all(len(c._waiting) <= 20 for c in server._clients)
    deaf.close()
    assert len(finals(asyncio.run(transcribed(heard.port, sentence)))) == 1


def test_it_closes_at_once_whatever_clients_do(heard: Listening, scene: Int16) -> None:
    server = heard.source._clients._server
    assert server is not None

    async def many() -> list[WyomingEvent]:
        async with client(heard.port) as one, client(heard.port) as other:
            await send(one, scene[: 3 * SAMPLE_RATE])
            await other.write_event(WyomingEvent("audio-start", dict(START)))
            await until(one, "edge-speech_start")
            begin = time.monotonic()
            await asyncio.to_thread(heard.close)
            assert time.monotonic() - begin < PATIENCE / 4
            return [e async for e in everything(one)]

    assert {e.type for e in asyncio.run(many())} <= {"edge-emotion"}
    assert not server.alive
    with pytest.raises(ConnectionRefusedError):
        connected(heard.port)


async def everything(one):  # type: ignore[no-untyped-def]
    while (event := await one.read_event()) is not None:
        yield event


def test_other_rates_need_soxr_and_say_so(
    heard: Listening, sentence: Int16, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    form = {"rate": 44_100, "width": 2, "channels": 1}
    frames = converted(sentence[:1000], SAMPLE_RATE, 1).tobytes()
    with connected(heard.port, raw(WyomingEvent("audio-chunk", form, frames))) as one:
        (told,) = rest(one)
    assert "needs soxr" in told["text"]
