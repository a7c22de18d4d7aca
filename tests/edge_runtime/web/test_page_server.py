"""What a page receives, and that nobody who reads it holds up who speaks."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from page_events import CONTEXT, LABELS, Serve, Served, receive, receive_until, revised, verdict

from edge_runtime.audio.levels import Level
from edge_runtime.errors import EdgeError
from edge_runtime.events import (
    AudioStatusEvent,
    HealthEvent,
    SourceEvent,
    SpeechStartEvent,
    StorageEvent,
    TextEvent,
    TextStatusEvent,
    to_json,
)
from edge_runtime.sinks import LevelSink
from edge_runtime.web import WebSettings, client, open_page
from edge_runtime.web.history import MOST_VERDICTS, History
from edge_runtime.web.ports import check
from edge_runtime.web.server import MOST_HANDED_OVER
from edge_runtime.web.sink import WebSink

ASSETS = Path(__file__).parents[3] / "edge_runtime" / "web" / "assets"


def test_it_is_off_unless_asked_for() -> None:
    assert open_page(WebSettings(), CONTEXT) is None
    assert check(WebSettings(port=0)) == (True, "port 0 of 127.0.0.1 is free")


def test_the_page_is_small_and_asks_nobody_else(serve: Serve) -> None:
    page = serve()
    total = 0
    for file in ASSETS.iterdir():
        status, headers, body = page.get(f"/{file.name}")
        assert (status, body) == (200, file.read_bytes())
        assert headers["Content-Type"].split(";")[0] in (
            "text/html",
            "text/css",
            "text/javascript",
            "image/svg+xml",
        )
        total += len(body)
        addresses = body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in addresses
        assert "https://" not in addresses
        assert "innerHTML" not in addresses
        assert "style=" not in addresses
    assert total < 200_000
    assert page.get("/")[2] == (ASSETS / "index.html").read_bytes()


def test_a_page_is_greeted_and_told_of_each_event(serve: Serve) -> None:
    page = serve()
    connection = page.open()
    hello = receive(connection)
    assert hello["labels"] == list(LABELS)
    assert (hello["name"], hello["version"], hello["bundle"]) == ("living room", "0.1.0", "default")
    page.sink.write(SpeechStartEvent(1.0))
    page.sink.write(verdict(3.0, text="no more"))
    start, final = receive(connection), receive(connection)
    assert start["type"] == "speech_start"
    assert start["time"].endswith("Z")
    assert (final["label"], final["text"], final["scores"]["sad"]) == ("angry", "no more", 0.05)


def test_a_page_that_is_opened_later_learns_how_things_stand(serve: Serve) -> None:
    page = serve()
    health = HealthEvent(60, 0, 0, 0.02, 80)
    for event in (
        SourceEvent(0, "old"),
        AudioStatusEvent(0, "old", "hum", True, "a hum"),
        verdict(3, text="first"),
        SourceEvent(0, "usb"),
        verdict(5, text="second"),
        verdict(9, text="thrid"),
        revised(10, 7, "third"),
        AudioStatusEvent(10, "usb", "muted", True, "unmute it"),
        AudioStatusEvent(11, "usb", "quiet", True, "speak up"),
        AudioStatusEvent(12, "usb", "muted", False, "no longer muted"),
        TextStatusEvent(12, "off", "asr", "failed"),
        health,
        SpeechStartEvent(13),
        verdict(14, final=False, start=13),
        TextEvent(14.5, "hello", False, "asr", 13),
        verdict(15, final=False, start=13),
    ):
        page.sink.write(event)
    connection = page.open()
    messages = receive_until(connection, "history")
    told = [
        (e["type"], e.get("text") or e.get("what") or e.get("name") or e.get("t"))
        for e in messages[-1]["events"]
    ]
    assert told == [
        ("source", "usb"),
        ("text_status", 12),
        ("health", 60),
        ("emotion", "first"),
        ("emotion", "second"),
        ("emotion", "thrid"),
        ("revised", "third"),
        ("audio_status", "quiet"),
        ("speech_start", 13),
        ("emotion", 15),
        ("text", "hello"),
    ]
    page.sink.write(verdict(16, start=13))
    assert receive(connection)["t"] == 16


def test_what_no_utf8_has_holds_no_page_up(serve: Serve) -> None:
    """Half a surrogate pair, of words that somebody else sends."""
    page = serve()
    connection = page.open()
    receive(connection)
    page.sink.write(verdict(3.0, text="so \ud83d happy"))
    page.sink.hear(3.0, "\ud83d", Level(-20.0, -3.0))
    page.sink.write(verdict(6.0))
    assert receive(connection)["text"] == "so ? happy"
    assert {receive(connection)["t"] for _ in range(2)} == {3.0, 6.0}
    (told,) = receive_until(page.open(), "history")[-1]["events"][:1]
    assert told["text"] == "so ? happy"
    with closing(WebSink(WebSettings(on=True, port=0), replace(CONTEXT, name="\ud83d"))) as sink:
        other = Served(sink, sink._server.port, page.stack)
        assert receive(other.open())["name"] == "?"


def test_words_of_a_bundle_that_reads_none_are_told_to_a_later_page_too() -> None:
    history = History(3600)
    for event in (
        SpeechStartEvent(1),
        TextEvent(2, "before", True, "asr", 1),
        verdict(3, start=1),
        verdict(6, start=4),
        TextEvent(7, "aft", False, "asr", 4),
        TextEvent(8, "after", True, "asr", 4),
        TextEvent(8, "", True, "asr", 1),
        verdict(11, start=9, text="read"),
        TextEvent(12, "read", True, "asr", 9),
        TextEvent(13, "read late", True, "asr", 9),
        revised(13, 9, "read late"),
    ):
        history.take(event, to_json(event), 0)
    told = [
        (e["type"], e["start"], e["text"])
        for message in history.messages(0)
        for e in json.loads(message)["events"]
    ]
    assert told == [
        *(("emotion", 1, ""), ("text", 1, "before")),
        *(("emotion", 4, ""), ("text", 4, "after")),
        *(("emotion", 9, "read"), ("revised", 9, "read late")),
    ]


def test_what_is_kept_on_disk_no_more_is_told_to_no_later_page() -> None:
    history = History(3600)
    events = StorageEvent(0, "events", True, "/kept", 10, 30, "events are kept")
    for event in (
        events,
        replace(events, what="sound", message="sound is kept"),
        replace(events, megabytes=0, days=0, message=""),
    ):
        history.take(event, to_json(event), 0)
    ((told,),) = [json.loads(message)["events"] for message in history.messages(0)]
    assert told["message"] == "sound is kept"


def test_what_is_kept_for_new_pages_is_bounded() -> None:
    history = History(3600)
    for second in range(5000):
        history.take(verdict(second), json.dumps({"n": second}), second)
    kept = [e["n"] for m in history.messages(5000) for e in json.loads(m)["events"]]
    assert kept == list(range(5000 - MOST_VERDICTS, 5000))
    assert all(len(json.loads(message)["events"]) <= 100 for message in history.messages(5000))
    assert [e["n"] for m in history.messages(8590) for e in json.loads(m)["events"]] == list(
        range(4990, 5000)
    )
    assert history.messages(1e9) == []


def test_levels_come_ten_times_a_second_and_none_is_louder_than_what_is_shown(
    serve: Serve,
) -> None:
    page = serve()
    assert isinstance(page.sink, LevelSink)
    connection = page.open()
    receive(connection)
    begin = time.monotonic()
    count = 0
    while time.monotonic() - begin < 1.0:
        page.sink.hear(count / 100, "48 kHz, 1 channel", Level(-20.0 if count % 7 else -6.0, -3.0))
        count += 1
        time.sleep(0.005)
    took = time.monotonic() - begin
    page.sink.write(verdict(3))
    messages = receive_until(connection, "emotion")[:-1]
    assert 1 <= len(messages) <= 10 * took + 1
    assert {message["type"] for message in messages} == {"level"}
    assert messages[-1]["form"] == "48 kHz, 1 channel"
    assert max(message["rms_db"] for message in messages) == -6.0


def test_a_page_that_reads_nothing_holds_up_nobody(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "HOPELESS_SECONDS", 3.0)
    page = serve()
    slow = page.raw()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.sendall(
        b"GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    readers = [page.open() for _ in range(3)]
    for reader in readers:
        assert receive(reader)["type"] == "hello"
    clients = page.sink._server._clients
    assert len(clients) == 4
    longest = 0.0
    count = 4000
    got: list[list[float]] = [[] for _ in readers]

    def read(number: int) -> None:
        while len(got[number]) < count:
            message = receive(readers[number])
            assert message["type"] == "emotion", message
            got[number].append(message["t"])

    threads = [threading.Thread(target=read, args=(n,)) for n in range(len(readers))]
    for thread in threads:
        thread.start()
    missed = 0
    for second in range(1, count + 1):
        begin = time.perf_counter()
        page.sink.write(verdict(second, text="words " * 20))
        longest = max(longest, time.perf_counter() - begin)
        if second % 20 == 0:
            time.sleep(0.004)  # the readers are Python too
            missed = max([missed, *(one.missed for one in list(clients))])
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert got == [list(range(1, count + 1))] * len(readers)
    assert missed > 0, "the slow one loses its oldest"
    assert all(one.waiting <= client.MOST_WAITING for one in list(clients))
    print(f"longest write: {1000 * longest:.2f} ms; the slow one missed {missed} messages")
    deadline = time.monotonic() + 60
    while len(clients) > 3:
        assert time.monotonic() < deadline, "the slow one is closed in the end"
        time.sleep(0.05)


def test_who_was_slow_for_a_while_is_told_how_much_was_lost(serve: Serve) -> None:
    page = serve()
    connection = page.open(max_queue=1)
    receive(connection)
    for second in range(1, 3001):
        page.sink.write(verdict(second, text="words " * 20))
        if second % 20 == 0:
            time.sleep(0.002)
    told, numbers = [], []
    while 3000 not in numbers:
        message = receive(connection)
        if message["type"] == "missed":
            told.append(message["count"])
        else:
            numbers.append(int(message["t"]))
    assert numbers == sorted(numbers)
    assert told
    assert told[-1] == 3000 - len(numbers)


def test_what_the_server_cannot_take_is_dropped_and_counted(serve: Serve) -> None:
    page = serve()
    server: Any = page.sink._server
    blocked, go_on = threading.Event(), threading.Event()
    server._loop.call_soon_threadsafe(lambda: (blocked.set(), go_on.wait(60)))
    assert blocked.wait(30)
    begin = time.monotonic()
    for second in range(MOST_HANDED_OVER + 100):
        page.sink.write(verdict(second))
    assert time.monotonic() - begin < 30
    assert server.dropped == 100
    go_on.set()


def test_closing_delivers_what_was_said_and_waits_for_nobody(serve: Serve) -> None:
    page = serve()
    reader, stuck = page.open(), page.raw()
    stuck.sendall(b"GET / HTT")
    receive(reader)
    for second in range(50):
        page.sink.write(verdict(second))
    begin = time.monotonic()
    page.sink.close()
    assert time.monotonic() - begin < 20
    assert not page.sink._server._thread.is_alive()
    assert [receive(reader)["t"] for _ in range(50)] == list(range(50))
    page.sink.close()  # once more does no harm
    page.sink.write(verdict(60))


def test_nothing_is_left_behind(serve: Serve) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a count

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    serve().sink.close()
    before, threads = descriptors(), threading.active_count()
    for _ in range(5):
        page = serve()
        page.open().close()
        page.get("/")
        page.sink.close()
    assert descriptors() <= before
    assert threading.active_count() <= threads


def test_a_port_that_is_taken_is_said_in_one_line_with_who_has_it(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = WebSettings(on=True, port=port)
        with pytest.raises(EdgeError, match=f"port {port} is taken") as caught:
            WebSink(settings, CONTEXT)
        assert "--web-port" in str(caught.value)
        works, line = check(settings)
        assert not works
        if sys.platform == "linux":
            assert f"(process {os.getpid()})" in line
            assert f"(process {os.getpid()})" in str(caught.value)
    assert check(settings) == (True, f"port {port} of 127.0.0.1 is free")


@pytest.mark.parametrize("host", ["192.0.2.7", "no.such.host.invalid", "a..b", "a" * 64, "a\0b"])
def test_an_address_that_is_not_of_this_machine_is_said_in_one_line(host: str) -> None:
    settings = WebSettings(on=True, host=host, port=0)
    with pytest.raises(EdgeError, match="this machine has no address") as caught:
        WebSink(settings, CONTEXT)
    assert repr(host) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not check(settings)[0]


def test_without_its_package_the_extra_is_named(python_module: Any) -> None:
    done = python_module("edge_runtime.web.sink", missing="websockets")
    assert done.returncode != 0
    assert "pip install 'edge-emotion[web]'" in done.stderr
