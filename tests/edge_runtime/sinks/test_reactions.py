"""Commands and webhooks on an emotion: what they get, how often, and what they cannot do."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.commands.settings import RunSettings
from edge_runtime.config import read_environment
from edge_runtime.errors import SettingError
from edge_runtime.events import RevisedEvent, SourceEvent
from edge_runtime.settings import options
from edge_runtime.sinks import Context
from edge_runtime.sinks.reactions import ReactionSettings, ReactionSink, open_reactions
from edge_runtime.sinks.webhook import masked

Make = Callable[..., Any]
Say = Callable[..., ReactionSink]


@pytest.fixture
def on(context: Context) -> Iterator[Say]:
    """Opens a sink with these rules."""
    made = []

    def open_rules(*rules: tuple[str, str], **fields: Any) -> ReactionSink:
        sink = open_reactions(ReactionSettings(rules, **{"every": 0.0, **fields}), context)
        assert sink is not None
        made.append(sink)
        return sink

    yield open_rules
    for sink in made:
        sink.close()


class Web:
    """A server on loopback that keeps what it gets, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, dict[str, str], bytes]] = []
        self.status, self.headers = 200, {}  # type: int, dict[str, str]
        web = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                web.got.append((self.command, self.path, dict(self.headers), body))
                self.send_response(web.status)
                for name, value in web.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A web server; whatever proxy this machine has is not asked."""
    monkeypatch.setenv("no_proxy", "*")
    made = Web()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_nothing_is_done_unless_asked_for(context: Context) -> None:
    assert open_reactions(ReactionSettings(), context) is None


# Commands


def test_a_command_gets_the_event_and_its_main_values(
    on: Say, verdict: Make, tmp_path: Path, eventually: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_EMOTION_MQTT_PASSWORD", "hidden")
    out, done = tmp_path / "out", tmp_path / "done"
    sink = on(("angry:0.8", f"cd {tmp_path}; env > env; cat > out; touch done"))
    sink.write(verdict(confidence=0.91234, text="leave me\nalone, grüße"))
    eventually(done.exists)
    event = json.loads(out.read_text(encoding="utf-8"))
    assert (event["type"], event["label"], event["text"]) == (
        "emotion",
        "angry",
        "leave me\nalone, grüße",
    )
    assert event["time"].endswith("Z")
    environment = (tmp_path / "env").read_text(encoding="utf-8")
    assert "EMOTION_LABEL=angry\n" in environment
    assert "EMOTION_CONFIDENCE=0.9123\n" in environment
    assert "EMOTION_TEXT=leave me\nalone, grüße\n" in environment
    assert "hidden" not in environment
    # None of them is a setting for an edge-emotion that the command starts.
    told = dict(line.partition("=")[::2] for line in environment.splitlines())
    assert read_environment(told, {o.key: o for o in options(RunSettings)}) == {}


@pytest.mark.parametrize(
    "text",
    [
        "$(touch owned); touch owned; `touch owned`",
        "'; touch owned; '",
        '"; touch owned #',
        "\n touch owned \n",
        "a\0touch owned",
        "\ud83d half a pair",
        "word " * 100_000,
    ],
    # Not the texts: pytest names the running test in the environment, which has its limit.
    ids=range(7),
)
def test_no_words_are_ever_run(
    on: Say, verdict: Make, tmp_path: Path, eventually: Make, text: str
) -> None:
    sink = on(("any", f'cd {tmp_path}; printf %s "$EMOTION_TEXT" > said; cat > out; mv out all'))
    sink.write(verdict(text=text))
    eventually((tmp_path / "all").exists)
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert said == text[:4000].replace("\0", " ").replace("\ud83d", "?")
    assert json.loads((tmp_path / "all").read_bytes())["text"] == text
    assert not (tmp_path / "owned").exists()
    assert sink.failed == 0


def counting(path: Path) -> str:
    return f'echo "$EMOTION_LABEL" >> {path}'


def test_final_verdicts_alone_of_the_label_and_confidence(
    on: Say, verdict: Make, tmp_path: Path, words: Make, health: Make
) -> None:
    files = {
        name: tmp_path / str(n) for n, name in enumerate(("angry:0.8", "sad", "unsure", "any"))
    }
    sink = on(*((name, counting(file)) for name, file in files.items()))
    for event in (
        verdict("angry", 0.9),
        verdict("angry", 0.79),
        verdict("angry", 0.95, final=False),
        verdict("sad", 0.4),
        verdict("unsure", 0.3),
        words(),
        health(),
    ):
        sink.write(event)
    sink.close()
    got = {name: file.read_text().split() for name, file in files.items()}
    assert got == {
        "angry:0.8": ["angry"],
        "sad": ["sad"],
        "unsure": ["unsure"],
        "any": ["angry", "angry", "sad", "unsure"],
    }


def test_a_revised_verdict_counts_where_it_says_something_new(
    on: Say, verdict: Make, tmp_path: Path
) -> None:
    angry, sad = tmp_path / "angry", tmp_path / "sad"
    sink = on(("angry", counting(angry)), ("sad", counting(sad)))
    sink.write(verdict("angry"))
    sink.write(verdict("angry", kind=RevisedEvent))
    sink.write(verdict("sad", kind=RevisedEvent))
    sink.write(verdict("angry"))  # another recording, whose first utterance begins at that second
    sink.close()
    assert angry.read_text().split() == ["angry", "angry"]
    assert sad.read_text().split() == ["sad"]


def test_a_rule_reacts_once_to_an_utterance_whatever_is_said_between(
    on: Say, verdict: Make, tmp_path: Path
) -> None:
    angry = tmp_path / "angry"
    sink = on(("angry", counting(angry)))
    for start in (1.0, 4.0):
        sink.write(verdict("angry", start=start))
    for label in ("angry", "sad", "angry"):
        sink.write(verdict(label, start=1.0, kind=RevisedEvent))
    sink.write(verdict("sad", start=7.0))
    sink.write(verdict("angry", start=7.0, kind=RevisedEvent))
    sink.write(SourceEvent(0.0, "another.wav"))
    sink.write(verdict("sad", start=1.0))
    sink.write(verdict("angry", start=1.0, kind=RevisedEvent))
    sink.close()
    assert angry.read_text().split() == ["angry"] * 4


def test_a_rule_reacts_once_in_its_time_and_rules_do_not_share_it(
    on: Say, verdict: Make, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    sink = on(("angry", counting(one)), ("any", counting(two)), every=3600.0)
    for label in ("sad", "angry", "angry", "angry"):
        sink.write(verdict(label))
    sink.close()
    assert (one.read_text().split(), two.read_text().split()) == (["angry"], ["sad"])
    assert (sink.limited, sink.dropped) == (2 + 3, 0)


def test_what_a_slow_command_leaves_waiting_is_bounded_and_delays_nobody(
    on: Say, verdict: Make, eventually: Make
) -> None:
    sink = on(("any", "sleep 1000"), timeout=3600.0)
    began = time.monotonic()
    sink.write(verdict())
    eventually(lambda: sink.queued == 1 and not sink._outbox._items)
    for _ in range(100):
        sink.write(verdict())
    assert (sink.queued, sink.dropped) == (17, 84)
    sink.close()  # nobody waits for the command
    assert time.monotonic() - began < 60
    assert (sink.queued, sink.dropped) == (0, 100)


def alive(pid: int) -> bool:
    """Whether it runs; who is dead and not yet buried does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


@pytest.mark.parametrize("stubborn", ["", "trap '' TERM; "])
def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(
    on: Say, verdict: Make, tmp_path: Path, eventually: Make, stubborn: str
) -> None:
    pids = tmp_path / "pids"
    script = f"{stubborn}sleep 1000 & echo $! $$ > {pids}; while true; do sleep 0.1; done"
    sink = on(("any", script), timeout=0.5)
    sink.write(verdict())
    eventually(lambda: sink.failed == 1)
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    eventually(lambda: not any(map(alive, started)))


def test_ending_the_program_ends_its_command(
    on: Say, verdict: Make, tmp_path: Path, eventually: Make
) -> None:
    pids = tmp_path / "pids"
    sink = on(("any", f"sleep 1000 & echo $! > {pids}; wait"), timeout=3600.0)
    sink.write(verdict())
    eventually(lambda: pids.exists() and pids.read_text().strip())
    sink.close()
    eventually(lambda: not alive(int(pids.read_text())))


def test_what_fails_is_counted_and_told_when_it_changes(
    on: Say, verdict: Make, tmp_path: Path, eventually: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "code"
    sink = on(("angry:0.8", f"echo loud; echo at {code} >&2; exit $(cat {code})"))
    for number in (1, 1, 3, 0, 0, 1):
        code.write_text(str(number))
        sink.write(verdict())
        eventually(lambda: not sink.queued)
    assert sink.failed == 4
    caught = capsys.readouterr()
    assert caught.out == ""
    begin = "edge-emotion: --on angry:0.8: "
    assert caught.err.splitlines() == [
        f"{begin}the command ended with exit code 1: at {code}",
        f"{begin}the command ended with exit code 3: at {code}",
        f"{begin}works again",
        f"{begin}the command ended with exit code 1: at {code}",
    ]


def test_a_command_that_talks_without_end_and_reads_nothing_is_no_trouble(
    on: Say, verdict: Make
) -> None:
    sink = on(("any", "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 0"))
    sink.write(verdict(text="word " * 50_000))
    sink.close()
    assert (sink.failed, sink.dropped) == (0, 0)


# Webhooks


def test_an_event_is_posted(on: Say, verdict: Make, web: Web) -> None:
    sink = on(("any", f"http://us%40er:p%3Aw@{web.place}/hook/secret?key=1#part"))
    sink.write(verdict(text="grüße"))
    sink.close()
    ((method, path, headers, body),) = web.got
    assert (method, path) == ("POST", "/hook/secret?key=1")
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == "edge-emotion/1.0"
    assert headers["Host"] == web.place
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"us@er:p:w"
    assert json.loads(body)["text"] == "grüße"
    assert sink.failed == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("leads_to", ["http://{place}/other", "file:///etc/passwd", "ftp://x/"])
def test_no_redirect_is_followed(
    on: Say,
    verdict: Make,
    web: Web,
    status: int,
    leads_to: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    web.status, web.headers = status, {"Location": leads_to.format(place=web.place)}
    sink = on(("any", f"http://{web.place}/hook"))
    sink.write(verdict())
    sink.close()
    assert len(web.got) == 1
    assert sink.failed == 1
    assert f"answers with HTTP status {status}: name the address" in capsys.readouterr().err


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """A port that gives this answer to whoever comes, or none ever."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            try:
                while True:
                    connection, _ = listening.accept()
                    held.append(connection)
                    if answer is not None:
                        connection.recv(1 << 16)
                        connection.sendall(answer)
                        connection.close()
            except OSError:
                return

        held: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "timed out"),
        (b"", "cannot be reached|does not speak HTTP|does not answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 500 Oh\r\n\r\n", "answers with HTTP status 500"),
    ],
)
def test_a_server_that_is_none_is_told_in_one_line_without_secrets(
    on: Say,
    verdict: Make,
    answer: bytes | None,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with answering(answer) as port:
        sink = on(("any", f"http://hush:hush@127.0.0.1:{port}/hush?hush=hush"), timeout=0.3)
        for _ in range(2):
            sink.write(verdict())
        sink.close()
    assert sink.failed == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "hush" not in said
    assert __import__("re").search(expected, said)
    assert f"http://***@127.0.0.1:{port}/…" in said


def test_a_server_that_is_not_there_is_told(
    on: Say, verdict: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    sink = on(("any", "http://127.0.0.1:1/"), ("any", "https://no-such-host.invalid/x"))
    sink.write(verdict())
    sink.close()
    said = capsys.readouterr().err
    assert "http://127.0.0.1:1/ cannot be reached: Connection refused" in said
    assert "https://no-such-host.invalid/… cannot be reached: " in said


# What is refused


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            ("angy", "true"),
            "no 'angy'; it has angry, happy, neutral, sad; and there is unsure and any",
        ),
        (("angy:0.8", "true"), "no 'angy'; it has angry"),
        (("", "true"), "no ''; it has"),
        (("angry:", "true"), "confidence must be a number from 0 to 1, not ''"),
        (("angry:80", "true"), "confidence must be a number from 0 to 1, not '80'"),
        (("angry:nan", "true"), "not 'nan'"),
        (("angry", " "), "expected a command"),
        (("angry", "ftp://host/x"), "not ftp://"),
        (("angry", "file:///etc/passwd"), "not file://"),
        (("angry", "http://"), "http://HOST/..."),
        (("angry", "http:///path"), "http://HOST/..."),
        (("angry", "http://host:99999/"), "http://HOST/..."),
        (("angry", "http://[::1/"), "http://HOST/..."),
        (("angry", "http://host/a b"), "as %XX"),
        (("angry", "http://host/\u00fc"), "as %XX"),
        (("angry", "http://host/\r\nX: y"), "as %XX"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_in_one_line(
    context: Context, rule: tuple[str, str], expected: str
) -> None:
    with pytest.raises(SettingError) as caught:
        open_reactions(ReactionSettings((rule,)), context)
    assert expected in str(caught.value)
    assert str(caught.value).isprintable()


@given(st.text(max_size=12), st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_rule_is_taken_or_refused(left: str, right: str) -> None:
    context = Context("", "", "", ("angry", "sad"))
    for rule in ((left, "true"), ("angry", f"https://{right}"), (f"angry:{left}", "true")):
        with suppress(SettingError):
            sink = open_reactions(ReactionSettings((rule,)), context)
            assert sink is not None
            sink.close()


@given(
    *(st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=9, max_size=12) for _ in range(4))
)
@settings(deadline=None)
def test_nothing_that_may_be_a_secret_is_shown(
    user: str, password: str, path: str, query: str
) -> None:
    shown = masked(f"https://{user}:{password}@h:8123/{path}?k={query}")
    assert shown == "https://***@h:8123/…"
