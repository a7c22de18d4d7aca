"""Words from Wyoming servers, made with the protocol's own package: real words, and every fault."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ports import free_port
from wyoming.asr import (
    Transcribe,
    Transcript,
    TranscriptChunk,
    TranscriptStart,
    TranscriptStop,
)
from wyoming.audio import AudioStart, AudioStop
from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
from wyoming.server import AsyncEventHandler
from wyoming_client import HOST, PATIENCE, Answer, served
from zeroconf import ServiceInfo, Zeroconf

from edge_runtime.bundle import Bundle
from edge_runtime.errors import EdgeError, MissingPackageError, TextError
from edge_runtime.events import EmotionEvent, TextEvent, TextStatusEvent
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.stream import EmotionStream
from edge_runtime.text.engines import check_source, source_named
from edge_runtime.text.engines import wyoming as engine
from edge_runtime.text.supervisor import Patience, TextStream
from edge_runtime.wyoming import discovery
from edge_runtime.wyoming.discovery import SERVICE

BLOCK = SAMPLE_RATE // 10
QUICK = Patience(stall_seconds=1.0, retry_seconds=0.5)


def info(name: str = "sphinx", installed: bool = True) -> Event:
    told = {
        "attribution": Attribution("CMU", "https://cmusphinx.github.io"),
        "installed": installed,
        "description": None,
        "version": None,
    }
    model = AsrModel(name="en", languages=["en"], **told)
    return Info(asr=[AsrProgram(name=name, models=[model], **told)]).event()


def says(*events: Event, name: str = "sphinx", installed: bool = True) -> Answer:
    """A server that has these to say at the end, whatever is said to it."""

    async def answer(handler: AsyncEventHandler, event: Event, audio: bytes) -> bool:
        if Describe.is_type(event.type):
            await handler.write_event(info(name, installed))
        if AudioStop.is_type(event.type):
            for one in events:
                await handler.write_event(one)
            return False
        return True

    return answer


def pocketsphinx() -> Answer:
    """A server that hears words, as those that people run do."""
    ear = source_named("asr")

    async def answer(handler: AsyncEventHandler, event: Event, audio: bytes) -> bool:
        if Describe.is_type(event.type):
            await handler.write_event(info())
        elif AudioStop.is_type(event.type):
            ear.restart()
            ear.begin(0.0)
            ear.feed(np.frombuffer(audio, np.int16))
            await handler.write_event(Transcript(ear.end().text).event())
            return False
        return True

    return answer


def hear(port: int, samples: Int16, t: float = 0.0) -> list:
    ear = source_named(f"wyoming:{HOST}:{port}")
    ear.begin(t)
    said = [ear.feed(samples[at : at + BLOCK]) for at in range(0, len(samples), BLOCK)]
    return [*(one for one in said if one is not None), ear.end()]


def test_words_of_a_server_are_those_that_it_hears(kids: Int16) -> None:
    with served(pocketsphinx()) as port:
        (final,) = hear(port, kids, 10.0)
    here = source_named("asr")
    here.begin(0.0)
    here.feed(kids)
    assert final.text == here.end().text
    assert "door" in final.text
    assert (final.final, final.start, final.source) == (True, 10.0, "wyoming")
    assert {word.start for word in final.words} == {10.0}


def test_half_a_surrogate_pair_of_a_server_is_no_words(kids: Int16) -> None:
    async def answer(handler: AsyncEventHandler, event: Event, audio: bytes) -> bool:
        if Describe.is_type(event.type):
            await handler.write_event(info())
        if AudioStop.is_type(event.type):
            handler.writer.write(
                b'{"type":"transcript","data":{"text":"so \\ud83dhappy \\ud83d"}}\n'
            )
            return False
        return True

    with served(answer) as port:
        (final,) = hear(port, kids)
    assert final.text.encode().decode() == "so happy"


def test_a_name_that_is_none_is_one_line() -> None:
    with pytest.raises(TextError, match=r"wyoming: a\.\.b:1 does not answer"):
        source_named("wyoming:a..b:1")


def test_they_enter_the_verdicts(bundle: Bundle, sentence: Int16) -> None:
    with (
        served(says(Transcript("We won, I'm so HAPPY!").event())) as port,
        EmotionStream(bundle, f"wyoming:{HOST}:{port}", live=False) as stream,
    ):
        stream.wait_ready()
        events = [*stream.feed(sentence), *stream.finish(), *stream.settle(PATIENCE)]
    (final,) = [e for e in events if isinstance(e, EmotionEvent) and e.final]
    assert final.text == "we won i'm so happy"
    assert final.modality == "audio+text"


def test_faster_whisper_behind_a_server(tiny_en: Path, kids: Int16) -> None:
    ear = source_named(f"faster-whisper:{tiny_en}")

    async def answer(handler: AsyncEventHandler, event: Event, audio: bytes) -> bool:
        if Describe.is_type(event.type):
            await handler.write_event(info("faster-whisper"))
        if AudioStop.is_type(event.type):
            ear.begin(0.0)
            ear.feed(np.frombuffer(audio, np.int16))
            await handler.write_event(Transcript(ear.end().text).event())
        return True

    with served(answer) as port:
        assert hear(port, kids)[-1].text == "kids are talking by the door"


def test_a_server_is_sent_what_it_can_take(kids: Int16) -> None:
    """Home Assistant's order, and every sample once."""
    got: list[Event] = []

    async def answer(handler: AsyncEventHandler, event: Event, audio: bytes) -> bool:
        got.append(event)
        return await says(Transcript("").event())(handler, event, audio)

    with served(answer) as port:
        (final,) = hear(port, kids)
    assert final.words == ()
    kinds = [event.type for event in got]
    chunks = kinds.count("audio-chunk")
    start = ["transcribe", "audio-start"]
    assert kinds == ["describe", *start, *["audio-chunk"] * chunks, "audio-stop"]
    assert Transcribe.from_event(got[1]).language is None
    assert AudioStart.from_event(got[2]) == AudioStart(SAMPLE_RATE, 2, 1)
    assert b"".join(event.payload or b"" for event in got) == kids.tobytes()


def test_words_come_while_people_speak_where_the_server_streams(kids: Int16) -> None:
    async def answer(handler: AsyncEventHandler, event: Event, audio: bytes) -> bool:
        if Describe.is_type(event.type):
            await handler.write_event(info())
        elif event.type == "audio-chunk" and len(audio) == 2 * BLOCK:
            await handler.write_event(TranscriptStart().event())
            await handler.write_event(TranscriptChunk("Kids are ").event())
        elif AudioStop.is_type(event.type):
            await handler.write_event(TranscriptChunk("talking.").event())
            await handler.write_event(TranscriptStop().event())
        return True

    with served(answer) as port:
        ear = source_named(f"wyoming:{HOST}:{port}")
        ear.begin(0.0)
        partial = None
        deadline = time.monotonic() + PATIENCE
        while partial is None:
            assert time.monotonic() < deadline
            partial = ear.feed(kids[:BLOCK])
            time.sleep(0.01)
        assert (partial.text, partial.final) == ("kids are", False)
        assert ear.end().text == "kids are talking"


def test_a_server_that_finds_the_end_by_itself_has_said_it(kids: Int16) -> None:
    async def answer(handler: AsyncEventHandler, event: Event, audio: bytes) -> bool:
        if Describe.is_type(event.type):
            await handler.write_event(info())
        if event.type == "audio-chunk":
            await handler.write_event(Transcript("kids").event())
            return False
        return True

    with served(answer) as port:
        ear = source_named(f"wyoming:{HOST}:{port}")
        ear.begin(0.0)
        ear.feed(kids[:BLOCK])
        time.sleep(0.3)
        ear.feed(np.zeros(0, np.int16))
        for _ in range(20):
            ear.feed(kids[:BLOCK])
        assert ear.end().text == "kids"


# What goes wrong.


@pytest.mark.parametrize(
    "name", ["wyoming:", "wyoming:host", "wyoming:host:", "wyoming::80", "wyoming:host:99999"]
)
def test_what_is_no_server_is_refused_without_asking(name: str) -> None:
    if name == "wyoming:":
        check_source(name)
        return
    with pytest.raises(TextError, match="expected HOST:PORT"):
        check_source(name)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edge-emotion\[wyoming\]'"):
        check_source("wyoming")


def refusal(port: int) -> str:
    with pytest.raises(EdgeError) as caught:
        source_named(f"wyoming:{HOST}:{port}")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_a_server_that_is_not_there_or_hears_no_words_is_one_line() -> None:
    assert "does not answer: Connection refused" in refusal(free_port())
    with served(says(installed=False)) as port:
        assert "hears no words" in refusal(port)


@contextmanager
def answering(data: bytes, close: bool = True) -> Iterator[int]:
    """A server of something else: it says `data` at once."""
    with socket.create_server((HOST, 0)) as listening:
        kept = []

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    connection.sendall(data)
                    connection.close() if close else kept.append(connection)

        threading.Thread(target=run, daemon=True).start()
        yield listening.getsockname()[1]
        for connection in kept:
            connection.close()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "sends what is no Wyoming"),
        (b"\0" * 200_000, "sends what is no Wyoming"),
        (b'{"type": "info", "data_length": 999999999}\n', "sends what is no Wyoming"),
        (b'{"type": "info", "data": {"asr": {"a": 1}}}\n', "hears no words"),
        (b'{"type": "info", "data": {"asr": [1, {"installed": false}]}}\n', "hears no words"),
        (b"", "closed the connection|Connection reset"),
    ],
)
def test_a_server_of_something_else_is_one_line(data: bytes, message: str) -> None:
    with answering(data, close=not data) as port:
        assert re.search(message, refusal(port))


def test_a_server_that_says_nothing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_INFO_SECONDS", 0.2)
    with answering(b"", close=False) as port:
        assert "does not say what it is within 0.2 s" in refusal(port)


async def torn(handler: AsyncEventHandler, event: Event, audio: bytes) -> bool:
    """Closes the connection in the middle of an utterance."""
    if Describe.is_type(event.type):
        await handler.write_event(info())
    return event.type != "audio-chunk"


async def slow(handler: AsyncEventHandler, event: Event, audio: bytes) -> bool:
    """Never says what it has heard."""
    if Describe.is_type(event.type):
        await handler.write_event(info())
    return True


async def garbage(handler: AsyncEventHandler, event: Event, audio: bytes) -> bool:
    """Sends what is no Wyoming."""
    if Describe.is_type(event.type):
        await handler.write_event(info())
    if AudioStop.is_type(event.type):
        handler.writer.write(b"\xff\0garbage\n")
        await handler.writer.drain()
    return True


FAULTS = {
    "closed the connection|Connection reset|Broken pipe": torn,
    "it has not answered": slow,
    "sends what is no Wyoming": garbage,
    "the server says 'out of memory'": says(Event("error", {"text": "out of memory"})),
    "text 5": says(Event("transcript", {"text": 5})),
}


def collect(stream: TextStream, condition: Callable[[list], bool]) -> list:
    events: list = []
    deadline = time.monotonic() + PATIENCE
    while not condition(events):
        assert time.monotonic() < deadline, events
        events += stream.poll()
        time.sleep(0.02)
    return events


def say(stream: TextStream, samples: Int16, t: float) -> None:
    stream.begin(t)
    for at in range(0, len(samples), BLOCK):
        stream.feed(samples[at : at + BLOCK])
    stream.end(t + len(samples) / SAMPLE_RATE)


def statuses(events: list) -> list[TextStatusEvent]:
    return [e for e in events if isinstance(e, TextStatusEvent)]


@pytest.mark.parametrize("reason", FAULTS)
def test_a_fault_falls_back_to_the_list_which_hears_the_utterance_again(
    reason: str, kids: Int16, door_list: Path
) -> None:
    with served(FAULTS[reason]) as port:
        stream = TextStream(f"wyoming:{HOST}:{port}", door_list, patience=QUICK)
        try:
            stream.wait_ready(PATIENCE)
            say(stream, kids, 3.0)
            events = collect(stream, lambda e: any(isinstance(x, TextEvent) and x.final for x in e))
        finally:
            stream.close()
    (final,) = [e for e in events if isinstance(e, TextEvent) and e.final]
    assert (final.source, final.start) == ("keywords", 3.0)
    assert "by the door" in final.text
    assert any(re.search(reason, status.reason) for status in statuses(events))


def test_a_server_that_went_comes_back(kids: Int16, door_list: Path) -> None:
    port = free_port()
    answer = says(Transcript("kids are talking").event())
    with served(answer, port):
        stream = TextStream(f"wyoming:{HOST}:{port}", door_list, patience=QUICK)
        stream.wait_ready(PATIENCE)
    try:
        say(stream, kids, 0.0)
        events = collect(stream, lambda e: any(isinstance(x, TextEvent) and x.final for x in e))
        assert any("Connection refused" in status.reason for status in statuses(events))
        with served(answer, port):
            collect(stream, lambda e: any("it is back" in x.reason for x in statuses(e)))
            say(stream, kids, 9.0)
            events = collect(stream, lambda e: any(isinstance(x, TextEvent) and x.final for x in e))
    finally:
        stream.close()
    words = [e for e in events if isinstance(e, TextEvent)][-1]
    assert (words.source, words.text) == ("wyoming", "kids are talking")


# Found by zeroconf, for real, over the loopback interface. Alone: all hear whoever announces.


@contextmanager
def announced(**services: int) -> Iterator[None]:
    """Services of these names and ports."""
    responder = Zeroconf(interfaces=[HOST])
    try:
        for name, port in services.items():
            info = ServiceInfo(SERVICE, f"{name}.{SERVICE}", parsed_addresses=[HOST], port=port)
            # Nobody is asked whether the name is free.
            responder.register_service(info, cooperating_responders=True)
        yield
    finally:
        responder.unregister_all_services()
        responder.close()


@pytest.mark.realtime
@pytest.mark.xdist_group("zeroconf")
def test_a_server_of_words_is_found_among_others_and_told(
    kids: Int16, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not what is announced around the machine of the test.
    here = partial(discovery.find_services, interfaces=[HOST])
    monkeypatch.setattr(engine, "find_services", here)
    with (
        served(says(Transcript("kids").event())) as able,
        served(says(installed=False)) as unable,
        served(says(name="edge-emotion")) as another,
        answering(b"nonsense\n") as broken,
        announced(aa=unable, bb=another, cc=broken, dd=free_port(), kitchen=able, living_room=able),
    ):
        ear = source_named("wyoming")
        assert ear.notes == (f"sphinx at {HOST}:{able} (kitchen) hears; 1 more could",)
        ear.begin(0.0)
        ear.feed(kids)
        assert ear.end().text == "kids"


@pytest.mark.realtime
@pytest.mark.xdist_group("zeroconf")
def test_where_none_is_found_it_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_services", lambda: discovery.find_services(0.3, [HOST]))
    with pytest.raises(TextError, match="--text wyoming:HOST:PORT"):
        source_named("wyoming:")
    name = "a.kitchen." + "x" * 80  # dots and length would end it

    async def found() -> list[discovery.Found]:
        ours = discovery.Announcement(name, 10_305, [HOST], [HOST])
        await ours.renew()
        await ours.renew()  # which changes nothing
        there = await asyncio.to_thread(discovery.find_services, 2.5, [HOST])
        await ours.withdraw()
        assert await asyncio.to_thread(discovery.find_services, 1.0, [HOST]) == []
        return there

    (one,) = asyncio.run(found())
    assert (one.host, one.port) == (HOST, 10_305)
    assert one.name.startswith("a-kitchen-xxx")


@pytest.mark.realtime
@pytest.mark.xdist_group("zeroconf")
def test_it_is_announced_as_soon_as_there_is_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[str] = []
    monkeypatch.setattr(discovery, "own_addresses", lambda: list(there))

    async def found() -> list[discovery.Found]:
        ours = discovery.Announcement("kitchen", 10_305, interfaces=[HOST])
        with pytest.raises(OSError, match="no address"):
            await ours.renew()
        for address in ("192.0.2.1", "192.0.2.2"):
            there[:] = [address]
            await ours.renew()
        seen = await asyncio.to_thread(discovery.find_services, 2.5, [HOST])
        await ours.withdraw()
        return seen

    (one,) = asyncio.run(found())
    assert (one.name, one.host) == ("kitchen", "192.0.2.2")
