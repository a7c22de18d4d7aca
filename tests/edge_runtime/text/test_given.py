"""Words that somebody else hears: lines of a file, a pipe, a real MQTT broker."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mosquitto import Mosquitto

from edge_runtime.errors import TextError
from edge_runtime.events import TextEvent, TextStatusEvent
from edge_runtime.text.given import GivenEvent, GivenStream, open_given, parse

SECOND = np.zeros(16_000, np.int16)


def poll_until(
    stream: GivenStream, enough: Callable[[list[GivenEvent]], bool], seconds: float = 30.0
) -> list[GivenEvent]:
    events: list[GivenEvent] = []
    deadline = time.monotonic() + seconds
    while not enough(events):
        assert time.monotonic() < deadline, events
        events += stream.poll()
        time.sleep(0.01)
    return events


def ended(events: list[GivenEvent]) -> bool:
    return any(isinstance(e, TextStatusEvent) and e.source == "off" for e in events)


def told(events: list[GivenEvent]) -> list[tuple[bool, str]]:
    """Of each status whether words come, and why."""
    return [(e.source != "off", e.reason) for e in events if isinstance(e, TextStatusEvent)]


def texts(events: list[GivenEvent]) -> list[tuple[float, str, bool]]:
    return [(e.start, e.text, e.final) for e in events if isinstance(e, TextEvent)]


def test_a_line_in_both_forms() -> None:
    spread = parse('{"text": "So happy", "start": 1.0, "end": 2.0, "confidence": 0.5}')
    assert [(w.text, w.start, w.end, w.confidence) for w in spread.words] == [
        ("so", 1.0, 1.5, 0.5),
        ("happy", 1.5, 2.0, 0.5),
    ]
    assert not spread.final
    single = parse('{"words": [{"text": "No", "start": 3}], "final": true}')
    assert [(w.text, w.start, w.end, w.confidence) for w in single.words] == [("no", 3, 3, None)]
    assert single.final
    assert not parse('{"text": "when"}').timed


def test_words_of_a_file_wait_for_their_utterance(tmp_path: Path) -> None:
    path = tmp_path / "words.jsonl"
    lines = [
        {"text": "hello there", "start": 1.1, "end": 1.9},
        {"text": "between", "start": 3.0, "end": 3.2},
        {"text": "later", "start": 5.5, "end": 5.8, "final": True},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\nnot json\n[]\n")
    stream = open_given(f"jsonl:{path}")
    events = poll_until(stream, ended)
    (bad,) = (e for e in events if isinstance(e, TextStatusEvent) and e.source != "off")
    assert "cannot be read: 'not json'" in bad.reason
    assert stream.invalid_lines == 2
    assert texts(events) == []
    stream.begin(1.0)
    for _ in range(2):
        stream.feed(SECOND)
    assert texts(stream.poll(2.0)) == [(1.0, "hello there", False)]
    stream.end(2.0)
    # The source has ended, so nothing more can come.
    assert texts(stream.poll(4.9)) == [(1.0, "hello there", True)]
    assert texts(stream.poll(4.9)) == []
    stream.begin(5.0)
    assert texts(stream.poll(6.0)) == [(5.0, "later", True)]
    stream.close()


def test_late_and_untimed_words_of_a_pipe_find_their_utterance(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)  # so that neither side waits for the other to open
    stream = open_given(f"jsonl:{pipe}")

    def write(**line: object) -> None:
        os.write(writer, json.dumps(line).encode() + b"\n")

    stream.begin(1.0)
    stream.feed(SECOND)
    stream.end(2.0)
    stream.begin(3.0)
    write(text="late", start=1.5, end=1.7, final=True)
    write(text="now")
    events = poll_until(stream, lambda e: len(texts(e)) == 2)
    assert texts(events) == [(1.0, "late", True), (3.0, "now", False)]
    stream.end(4.0)
    write(text="", final=True)
    assert texts(poll_until(stream, lambda e: bool(texts(e)))) == [(3.0, "now", True)]
    os.close(writer)
    events = poll_until(stream, ended)
    assert stream.source == "off"
    stream.begin(9.0)
    stream.feed(SECOND)
    assert stream.poll() == []


def test_no_word_of_a_pipe_is_lost_where_another_stream_takes_over(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    first, second = (open_given(f"jsonl:{pipe}") for _ in range(2))
    for stream in (first, second):
        stream.begin(0.0)

    def heard(stream: GivenStream, *words: str) -> None:
        for word in words:
            os.write(writer, json.dumps({"text": word}).encode() + b"\n")
        said = [text for _, text, _ in texts(poll_until(stream, lambda e: says(e, words[-1])))]
        assert said[-1] == " ".join(words)

    heard(first, *"abcdefgh")
    first.close()
    heard(second, *"ijklmnop")
    second.close()
    third = open_given(f"jsonl:{pipe}")
    third.begin(0.0)
    heard(third, *"qrstuv")
    os.close(writer)
    poll_until(third, ended)


def says(events: list[GivenEvent], word: str) -> bool:
    return any(text.split()[-1:] == [word] for _, text, _ in texts(events))


def test_words_of_another_clock_do_not_hold_up_those_of_this_one() -> None:
    lines: list[Callable[[bytes], None]] = []

    class Broker:
        """A feed that does not wait, as MQTT."""

        repeats = waits = False

        def start(self, line: Callable[[bytes], None], *_: object) -> None:
            lines.append(line)

        def stop(self) -> None:
            """Nothing runs."""

    stream = GivenStream("mqtt", Broker())
    stream.begin(1.0)
    for number in range(300):
        lines[0](json.dumps({"text": "far", "start": 1.7e9 + number}).encode())
        told(stream.poll())
    assert stream.invalid_lines == 300
    for number in range(300):  # ahead, as a recognizer may be
        lines[0](json.dumps({"text": "ahead", "start": 30.0 + number / 100}).encode())
        stream.poll()
    assert stream.lost_lines == 100
    lines[0](b'{"text": "now"}')
    assert texts(stream.poll()) == [(1.0, "now", False)]


def test_a_file_of_words_may_be_in_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "words.jsonl").write_text('{"text": "so happy"}\n')
    stream = open_given("jsonl:~/words.jsonl")
    stream.begin(0.0)
    assert [text for _, text, _ in texts(poll_until(stream, texts))] == ["so happy"]
    stream.close()
    with pytest.raises(TextError, match="there is no file ~nobody-at-all"):
        open_given("jsonl:~nobody-at-all/words.jsonl")


def test_what_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="there is no file"):
        open_given(f"jsonl:{tmp_path / 'absent'}")
    with pytest.raises(TextError, match="name a file of words, or -"):
        open_given("jsonl:")
    pytest.importorskip("paho")
    for url in (
        *("mqtt:", "mqtt://", "mqtt://host", "mqtt:///topic", "mqtt://host:port/topic"),
        *("mqtt://me:secret@[fe80::1/topic", "mqtt://a\u2100b/topic", "mqtt://host/\udcff"),
    ):
        with pytest.raises(TextError, match=r"expected mqtt://HOST\[:PORT\]/TOPIC") as caught:
            open_given(url)
        assert "secret" not in str(caught.value)
    with pytest.raises(TextError, match=r"mqtt://a\.\.b:1883: "):
        open_given("mqtt://a..b/topic")
    for topic in ("home/#", "#", "home/+/words"):
        with pytest.raises(TextError, match=r"# and \+ stand for several topics") as refused:
            open_given(f"mqtt://me:secret@host/{topic}")
        assert str(refused.value).startswith(f"mqtt://host/{topic}: ")
    with pytest.raises(TextError, match=r"mqtt://127.0.0.1:9: .*refused"):
        open_given("mqtt://127.0.0.1:9/words")


def test_words_come_from_a_real_broker_also_after_it_was_killed(
    mosquitto: Mosquitto,
) -> None:
    publish = pytest.importorskip("paho.mqtt.publish")
    mosquitto.start()
    port = mosquitto.port
    stream = open_given(f"mqtt://127.0.0.1:{port}/home/words")
    stream.begin(1.0)
    stream.feed(SECOND)

    def say_until_heard(text: str) -> list[GivenEvent]:
        line = json.dumps({"text": text, "start": 1.2, "end": 1.4})

        def heard(events: list[GivenEvent]) -> bool:
            if any(text in t for _, t, _ in texts(events)):
                return True
            try:
                publish.single("home/words", line, hostname="127.0.0.1", port=port)
            except OSError:
                time.sleep(0.1)
            return False

        return poll_until(stream, heard, 60)

    assert not told(say_until_heard("hello"))
    mosquitto.kill()
    lost = (False, "the connection to the broker is lost; it is tried again")
    assert told(poll_until(stream, lambda events: bool(told(events)))) == [lost]
    assert stream.source == "off"
    mosquitto.start()
    assert told(say_until_heard("again")) == [(True, "it is back")]
    assert stream.source == stream.wanted
    publish.single("home/words", "no JSON", hostname="127.0.0.1", port=port)
    ((_, reason),) = told(poll_until(stream, lambda events: bool(told(events))))
    assert "a line that cannot be read" in reason
    assert stream.invalid_lines == 1
    stream.close()
    assert told(stream.poll()) == []


def test_what_a_real_broker_refuses_is_told_once_with_its_reason(mosquitto: Mosquitto) -> None:
    pytest.importorskip("paho")
    mosquitto.start("allow_anonymous false")
    port = mosquitto.port
    stream = open_given(f"mqtt://somebody:wrong@127.0.0.1:{port}/home/words")
    events = poll_until(stream, lambda events: bool(told(events)))
    time.sleep(2.5)  # it has tried again by then
    events += stream.poll()
    ((heard, reason),) = told(events)
    assert not heard
    assert reason.startswith("the broker refuses: ")
    stream.close()


def test_words_of_somebody_else_steer_no_terminal_and_break_no_json() -> None:
    (word, other) = parse(r'{"text": "\u001b[2Jhi\u0007 \ud800you\u202e"}').words
    assert (word.text, other.text) == ("[2jhi", "you")
    (word,) = parse(r'{"words": [{"text": "a\nb\u0000"}]}').words
    assert word.text == "a b"
    for confidence in ("NaN", "Infinity", "1e999"):
        with pytest.raises(ValueError, match="a confidence is no number"):
            parse(f'{{"text": "a", "confidence": {confidence}}}')


def test_a_line_that_does_not_end_is_refused_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "words.jsonl"
    path.write_bytes(b'{"text": "' + b"a" * 300_000 + b'"}\n{"text": "after"}\n')
    stream = open_given(f"jsonl:{path}")
    stream.begin(0.0)
    events = poll_until(stream, ended)
    assert stream.invalid_lines == 5  # pieces of 64 KiB
    assert [text for _, text, _ in texts(events)] == ["after"]
    assert any("longer than 65,536 bytes" in reason for _, reason in told(events))
    stream.close()


def test_a_flood_of_words_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "words.jsonl"
    line = json.dumps({"text": "so " * 400}) + "\n"
    path.write_text(line * 50)
    stream = open_given(f"jsonl:{path}")
    stream.begin(0.0)
    longest = max(len(text.split()) for _, text, _ in texts(poll_until(stream, ended)))
    assert longest == 1000
    stream.close()
