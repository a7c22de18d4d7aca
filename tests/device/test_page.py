"""The page in a real browser: what a person sees of it, and that nobody disturbs the audio."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import BINARY, INSTALL, PATIENCE, Browser, Page
from page_events import CONTEXT, LABELS, revised, verdict

from edge_runtime import EmotionStream
from edge_runtime.audio.levels import Level
from edge_runtime.bundle import Bundle
from edge_runtime.events import (
    AudioStatusEvent,
    EmotionEvent,
    HealthEvent,
    SourceEvent,
    SpeechStartEvent,
    StorageEvent,
    TextEvent,
    TextStatusEvent,
    to_json,
)
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.settings import Secret
from edge_runtime.sinks import Context
from edge_runtime.web import WebSettings
from edge_runtime.web.sink import WebSink

pytestmark = pytest.mark.skipif(BINARY is None, reason=f"no Chromium: {INSTALL}")

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "edge_runtime" / "web" / "assets" / "index.html"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"  # which is on the path of root alone
MANY = (
    *LABELS,
    *("fear", "disgust", "surprise", "calm", "bored", "proud", "ashamed", "curious", "confused"),
    *("tired", "amused", "relieved", "anxious", "jealous", "hopeful", "contemptuous"),
)
SCHEMES = ("light", "dark")
SHOWN_MS = 200.0  # an utterance after its event
TRIES = 3  # of what other programs of this machine may slow down


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab, whose console has nothing to complain of unless the test takes that away."""
    found = browser.page()
    yield found
    complaints = found.complaints()
    found.close()
    assert complaints == []


Served = Callable[..., WebSink]


@pytest.fixture
def serve() -> Iterator[Served]:
    """A sink that serves the page."""
    sinks: list[WebSink] = []

    def start(labels: tuple[str, ...] = LABELS, **settings: Any) -> WebSink:
        context = Context(CONTEXT.name, CONTEXT.version, CONTEXT.bundle, labels)
        sinks.append(WebSink(WebSettings(on=True, **{"port": 0, **settings}), context))
        return sinks[-1]

    yield start
    for sink in sinks:
        sink.close()


CONNECTED = "document.querySelector('#connection').textContent === 'connected'"


def text(page: Page, selector: str) -> str:
    return str(page.evaluate(f"document.querySelector({selector!r}).textContent"))


def talk(sink: WebSink, labels: tuple[str, ...] = LABELS, count: int = 15) -> None:
    """Utterances of every label, sure and unsure, and all that can be wrong."""
    rng = np.random.default_rng(0)
    sink.write(SourceEvent(0, "USB PnP Sound Device"))
    for number in range(count):
        shares = rng.dirichlet(np.full(len(labels), 0.3)).tolist()
        scores = dict(zip(labels, shares, strict=True))
        top = max(scores, key=lambda label: scores[label])
        label = top if number % 4 else "unsure"
        words = "a sentence of some length and a Donaudampfschifffahrtsgesellschaft " * (number % 3)
        t = 4.0 * number
        sink.write(SpeechStartEvent(t))
        sink.write(EmotionEvent(t + 3, True, t, t + 2.8, label, scores[top], scores, words))
    for what in ("lost", "quiet"):
        sink.write(AudioStatusEvent(99, "usb", what, True, "it is gone (unplugged?): plug it in"))
    sink.write(HealthEvent(100, 120, 0, 0.021, 88.0, "keywords", 1.2, 3, 140))
    sink.hear(100, "48 kHz, 2 channels", Level(-20, -9))


def test_what_is_heard_is_seen(serve: Served, page: Page) -> None:
    sink = serve()
    page.go(sink.url)
    page.until(CONNECTED)
    assert text(page, "#name") == "living room"
    page.until("document.querySelector('#state').textContent === 'listening'")
    sink.write(SpeechStartEvent(5))
    sink.write(TextEvent(5.5, "no more", False, "asr", 5))
    sink.write(verdict(6, final=False, start=5))
    page.until("document.querySelector('#words').textContent === 'no more'")
    assert text(page, "#state") == "speaking"
    page.until("document.querySelector('#label').textContent === 'angry'")
    sink.write(verdict(7, start=5, text="no more of it"))
    page.until("document.querySelector('#list .said')")
    assert text(page, "#list .said") == "no more of it"
    assert text(page, "#list .chip") == "angry"
    assert text(page, "#said") == "angry, 70 %: no more of it"
    sink.write(revised(8, 5, "nor more of it"))
    page.until("document.querySelector('#list .said').textContent === 'nor more of it'")
    assert page.evaluate("document.querySelectorAll('#list li').length") == 1
    sink.hear(8, "48 kHz, 1 channel", Level(-30, -20))
    page.until("document.querySelector('#meter').getAttribute('aria-valuenow') === '-30'")
    sink.write(AudioStatusEvent(9, "usb", "muted", True, "unmute it"))
    page.until("!document.querySelector('#warnings').hidden")
    assert text(page, "#warnings") == "Microphone muted unmute it"
    assert text(page, "#state") == "microphone muted"
    sink.write(AudioStatusEvent(10, "usb", "muted", False, "no longer muted"))
    page.until("document.querySelector('#warnings').hidden")
    sink.write(HealthEvent(60, 1500, 0, 0.0213, 88.4))
    page.until("document.querySelector('#health').textContent.includes('0.021')")
    assert "88 MB" in text(page, "#health")
    assert text(page, "#total") == "1 utterance"
    assert page.evaluate("document.querySelector('#shares li .figure').textContent") == "100 %"
    hosts = {url.split("/")[2] for url in page.requests() if not url.startswith("about:")}
    assert hosts == {sink.url.split("/")[2]}


ROWS = """[...document.querySelectorAll('#list li')].map((e) => [e.querySelector('.chip'),
    e.querySelector('.said'), e.querySelector('.notes')].map((part) => part.textContent))"""


def test_a_page_that_is_opened_again_shows_the_same(serve: Served, page: Page) -> None:
    sink = serve()
    page.go(sink.url)
    page.until(CONNECTED)
    late = revised(9, 5, "read late")
    for event in (
        SpeechStartEvent(1),
        TextEvent(2, "heard in time", True, "asr", 1),
        verdict(3, start=1),
        verdict(7, start=5, text="read"),
        replace(late, label="unsure", text="rea"),
        replace(late, label="happy", scores=late.scores | {"happy": 0.7, "angry": 0.1}),
        verdict(12, start=10),
        TextEvent(13, "heard late", True, "asr", 10),
    ):
        sink.write(event)
    shown = [
        ["angry", "heard late", "2 s"],
        ["happy", "read late", "2 s · with words · revised, was angry"],
        ["angry", "heard in time", "2 s"],
    ]
    page.until("document.querySelector('#list')?.innerText.includes('heard late')")
    assert page.evaluate(ROWS) == shown
    unsure = "document.querySelectorAll('#list .chip.unsure').length"
    assert page.evaluate(unsure) == 0
    page.go(f"{sink.url}?again")
    page.until("document.querySelectorAll('#list li').length === 3")
    assert page.evaluate(ROWS) == shown
    assert page.evaluate(unsure) == 0


def test_what_is_turned_off_is_shown_no_more(serve: Served, page: Page) -> None:
    sink = serve()
    page.go(sink.url)
    page.until(CONNECTED)
    kept = StorageEvent(0, "events", True, "/kept", 10, 30, "events are kept in /kept")
    shown = "document.querySelector('#health').textContent.includes('/kept')"
    sink.write(kept)
    sink.write(TextStatusEvent(0, "off", "asr", "asr failed"))
    page.until(shown)
    page.until("!document.querySelector('#warnings').hidden")
    sink.write(replace(kept, megabytes=0, days=0, message=""))
    sink.write(TextStatusEvent(1, "off", "off", "words are turned off"))
    page.until(f"!{shown}")
    page.until("document.querySelector('#warnings').hidden")


def test_a_revised_verdict_alone_is_an_utterance_of_a_recording(page: Page, tmp_path: Path) -> None:
    """The line of the first verdict may have been rotated away."""
    recording = tmp_path / "kept.jsonl"
    recording.write_text(to_json(revised(8, 5, "alone")) + "\n")
    page.go(INDEX.as_uri())
    page.choose_files("#file", recording)
    page.until("document.querySelectorAll('#list li').length === 1")
    assert page.evaluate(ROWS) == [["angry", "alone", "2 s · with words"]]


def test_words_and_names_stay_words(serve: Served, page: Page) -> None:
    evil = "<img src=x onerror=document.title='caught'><script>1</script>"
    sink = serve(labels=(evil, "b"))
    page.go(sink.url)
    page.until(CONNECTED)
    sink.write(SourceEvent(0, evil))
    scores = {evil: 0.6, "b": 0.4}
    sink.write(EmotionEvent(3, True, 1, 2.9, evil, 0.6, scores, evil))
    sink.write(AudioStatusEvent(3, evil, evil, True, evil))
    page.until("document.querySelector('#list .said')")
    assert text(page, "#list .said") == evil
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert "caught" not in page.evaluate("document.title")


@pytest.mark.alone
def test_an_utterance_is_shown_within_200_ms_of_its_event(serve: Served, page: Page) -> None:
    sink = serve()
    page.go(sink.url)
    page.until(CONNECTED)
    # After the frame in which it was drawn, by the same clock that the event bears.
    page.evaluate(
        """window.delays = []; new MutationObserver((changes) => {
        for (const change of changes) for (const row of change.addedNodes)
          requestAnimationFrame(() => setTimeout(() => delays.push(
            Date.now() - Date.parse(row.querySelector('time').dateTime))));
        }).observe(document.getElementById('list'), {childList: true}); 0"""
    )
    second = 0.0
    for _ in range(TRIES):
        page.evaluate("delays.length = 0")
        for _ in range(20):
            second += 3
            sink.write(SpeechStartEvent(second - 2))
            sink.write(verdict(second, final=False, start=second - 2))
            sink.write(verdict(second, start=second - 2, text="words"))
            time.sleep(0.15)
        page.until("delays.length === 20")
        delays = page.evaluate("delays")
        print(f"shown after {statistics.median(delays):.0f} ms (median), {max(delays):.0f} at most")
        if max(delays) < SHOWN_MS:
            break
    assert statistics.median(delays) < SHOWN_MS
    assert max(delays) < SHOWN_MS, f"in none of {TRIES} tries"


# Reads all that comes to so many pages, in a process of its own as browsers are.
READERS = """
import asyncio, json, sys
from websockets.asyncio.client import connect
async def read(url, ready):
    finals = 0
    async with connect(url, proxy=None) as page:
        await page.recv()
        ready()
        try:
            async for line in page:
                message = json.loads(line)
                finals += message["type"] == "emotion" and message["final"]
                assert message["type"] != "missed"
        except Exception as error:
            if "ended" not in str(error):
                raise
    return finals
async def main(url, count):
    waiting = count
    def ready():
        nonlocal waiting
        waiting -= 1
        if not waiting:
            print("ready", flush=True)
    print(json.dumps(await asyncio.gather(*(read(url, ready) for _ in range(count)))))
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""
CLIENTS = 20
SPEED = 6  # times that of speech


def stream_scene(bundle: Bundle, scene: Int16, sink: WebSink) -> tuple[float, int, list[float]]:
    """Latency of the verdicts (p95, ms), the final ones, and how long each write took, s."""
    latencies, writes, finals = [], [], 0
    block = SAMPLE_RATE // 10
    begin = time.monotonic()
    with EmotionStream(bundle) as stream:
        for place in range(0, len(scene), block):
            events = stream.feed(scene[place : place + block])
            if place + block >= len(scene):
                events += stream.finish()
            for event in events:
                before = time.perf_counter()
                sink.write(event)
                writes.append(time.perf_counter() - before)
                if isinstance(event, EmotionEvent):
                    latencies.append(event.latency_ms["total"])
                    finals += event.final
            due = begin + (place + block) / SAMPLE_RATE / SPEED
            time.sleep(max(0.0, due - time.monotonic()))
    return float(np.percentile(latencies, 95)), finals, writes


@pytest.mark.alone
def test_twenty_pages_and_a_slow_one_change_no_verdict_s_latency(
    serve: Served, page: Page, bundle: Bundle, scene: Int16, environment: dict[str, str]
) -> None:
    stream_scene(bundle, scene[: 3 * SAMPLE_RATE], serve())  # warm
    for _ in range(TRIES):
        alone, expected, _ = stream_scene(bundle, scene, serve())
        sink = serve()
        page.go(sink.url)
        page.until(CONNECTED)
        readers = subprocess.Popen(
            [sys.executable, "-c", READERS, f"ws{sink.url[4:]}events", str(CLIENTS - 1)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert readers.stdout is not None
        assert readers.stdout.readline() == "ready\n"
        slow = socket.create_connection(("127.0.0.1", int(sink.url.split(":")[2][:-1])))
        slow.sendall(
            b"GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        watched, finals, writes = stream_scene(bundle, scene, sink)
        page.until(f"document.querySelectorAll('#list li').length === {finals}")
        assert sink._server.dropped == 0
        sink.close()
        slow.close()
        got = json.loads(readers.communicate(timeout=60)[0])
        assert got == [finals] * (CLIENTS - 1)
        assert finals == expected > 3
        page.events.clear()  # it complains, rightly, that the server is gone
        print(
            f"p95 of {finals} utterances' verdicts: {alone:.2f} ms alone, {watched:.2f} ms with "
            f"{CLIENTS} pages and a slow one; write: p95 {1e3 * np.percentile(writes, 95):.3f} ms, "
            f"longest {1e3 * max(writes):.2f} ms"
        )
        page.go("about:blank")
        page.events.clear()
        # Verdicts of a millisecond, on two cores that others use: a page that held them up would
        # cost the 20 s after which a slow one is closed.
        if watched <= 2 * alone + 5 and np.percentile(writes, 95) < 0.02:
            return
    pytest.fail("slower with pages in every try")


def test_it_comes_back_by_itself(serve: Served, page: Page) -> None:
    sink = serve()
    page.go(sink.url)
    page.until(CONNECTED)
    sink.write(verdict(3, text="before"))
    page.until("document.querySelector('#list li')")
    port = int(sink.url.split(":")[2][:-1])
    sink.close()
    page.until("document.querySelector('#connection').textContent.startsWith('disconnected')")
    assert "the program has ended" in text(page, "#connection")
    page.until("document.querySelector('#state').textContent === 'disconnected'")
    assert text(page, "#list .said") == "before"
    deadline = time.monotonic() + PATIENCE
    while not any("CONNECTION_REFUSED" in line for line in page.complaints()):
        assert time.monotonic() < deadline, "it does not try again"
        page.evaluate("0")
        time.sleep(0.05)
    again = serve(port=port)
    again.write(verdict(3, text="after"))
    page.until(CONNECTED)
    page.until("document.querySelector('#list .said')?.textContent === 'after'")
    assert page.evaluate("document.querySelectorAll('#list li').length") == 1
    assert all("CONNECTION_REFUSED" in line for line in page.complaints())
    page.events.clear()


def test_the_token_comes_from_the_address_or_is_asked_for(serve: Served, page: Page) -> None:
    token = "correct-horse-battery"
    sink = serve(token=Secret(token))
    page.go(sink.url)
    page.until("!document.querySelector('#ask').hidden")
    page.evaluate("document.querySelector('#token').value = 'wrong'")
    page.evaluate("document.querySelector('#ask button').click()")
    page.until("document.querySelector('#ask-failed').textContent")
    page.evaluate(f"document.querySelector('#token').value = {token!r}")
    page.evaluate("document.querySelector('#ask button').click()")
    page.until(CONNECTED)
    assert page.evaluate("document.querySelector('#ask').hidden")
    assert token not in page.evaluate("location.href")
    page.evaluate("localStorage.clear()")
    assert all("401" in line or "Authentication" in line for line in page.complaints())
    page.events.clear()
    page.go(f"{sink.url}?again#token={token}")
    page.until(CONNECTED)
    assert token not in page.evaluate("location.href")
    assert not any(token in url for url in page.requests())
    page.evaluate("localStorage.clear()")


@contextlib.contextmanager
def nginx(folder: Path, port: int, page: int) -> Iterator[None]:
    """Debian's nginx with the block of docs/page.md, at a port of loopback."""
    kind = ["-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    files = ["-keyout", str(folder / "ear.key"), "-out", str(folder / "ear.pem")]
    command = ["openssl", "req", *kind, "-subj", "/CN=ear.example", *files]
    subprocess.run(command, check=True, capture_output=True)
    text = (ROOT / "docs" / "page.md").read_text(encoding="utf-8")
    block = text.partition("```nginx\n")[2].partition("```")[0]
    for ours, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/", f"{folder}/"),
        ("127.0.0.1:8765", f"127.0.0.1:{page}"),
    ):
        assert ours in block
        block = block.replace(ours, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    main = f"daemon off; pid {folder}/pid; error_log {folder}/errors; events {{}}"
    configuration = folder / "nginx.conf"
    configuration.write_text(f"{main}\nhttp {{ access_log off; {paths}\n{block}}}\n")
    run = [NGINX, "-e", str(folder / "errors"), "-c", str(configuration)]
    with subprocess.Popen(run) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert process.poll() is None, (folder / "errors").read_text()
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


@pytest.mark.skipif(not Path(NGINX).exists(), reason="no nginx: apt-get install nginx-light")
def test_nginx_with_tls_brings_it_elsewhere(serve: Served, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    public = f"ear.example:{port}"
    token = "correct-horse-battery"
    sink = serve(public=public, token=Secret(token))
    found = Browser(
        tmp_path, "--host-resolver-rules=MAP ear.example 127.0.0.1", "--ignore-certificate-errors"
    )
    with nginx(tmp_path, port, int(sink.url.split(":")[2][:-1])), contextlib.closing(found):
        page = found.page()
        page.go(f"https://{public}/#token={token}")
        page.until(CONNECTED)
        sink.write(verdict(3, text="from afar"))
        page.until("document.querySelector('#list')?.innerText.includes('from afar')")
        assert page.evaluate("location.origin") == f"https://{public}"
        assert page.complaints() == []


RECORDING = """{"type": "source", "t": 0.0, "name": "interview.wav"}
{"type": "emotion", "t": 3.1, "final": true, "start": 1.0, "end": 3.0, "label": "sad", "confidence": 0.8, "scores": {"happy": 0.2, "sad": 0.8}, "text": "she is gone"}
{"type": "emotion", "t": 9, "final": true, "start": 7, "end": 8.5, "label": "unsure", "confidence": 0.5, "scores": {"happy": 0.5, "sad": 0.5}, "text": ""}
{"type": "emo
not JSON
[1, 2]
{"type": "emotion", "t": 9, "final": true, "start": "7", "end": 8.5, "label": "sad", "confidence": 0.5, "scores": {"sad": 0.5}}
{"type": "emotion", "t": 9, "final": true, "start": 7, "end": 8.5, "label": "sad", "confidence": 7, "scores": null}
{"type": "of another version", "t": 9.5}

{"type": "source", "t": 0.0, "name": "second.wav"}
{"type": "emotion", "t": 3, "final": true, "start": 1.0, "end": 2.0, "label": "happy", "confidence": 0.9, "scores": {"happy": 0.9, "sad": 0.1}, "text": "we won"}
{"type": "health", "t": 3, "dropped_ms": 0.0, "invalid_samples": 0, "real_time_factor": 0.02, "rss_mb": 80.0}
"""  # noqa: E501


def recorded(page: Page) -> None:
    page.until("document.querySelectorAll('#list li').length === 3")
    told = text(page, "#connection")
    assert told == "events.jsonl: 7 events, 5 damaged lines left out"
    rows = page.evaluate(
        "[...document.querySelectorAll('#list li')].map((row) => [row.querySelector('time'), "
        "row.querySelector('.chip'), row.querySelector('.said')].map((e) => e.textContent))"
    )
    assert rows == [
        ["00:11", "happy", "we won"],  # the second recording begins where the first ended
        ["00:07", "unsure", "perhaps happy"],
        ["00:01", "sad", "she is gone"],
    ]
    assert text(page, "#state") == "recording"
    assert text(page, "#sum") == "5 s of speech, 33 % of the verdicts unsure"


def test_a_recording_is_opened_without_any_server(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(RECORDING, encoding="utf-8")
    page.go(INDEX.as_uri())
    page.until("!document.querySelector('#welcome').hidden")
    page.choose_files("#file", file)
    recorded(page)
    assert all(url.startswith(("file:", "about:", "data:")) for url in page.requests())


def test_a_recording_is_dropped_on_a_served_page_which_goes_back_to_live(
    serve: Served, page: Page
) -> None:
    sink = serve()
    page.go(sink.url)
    page.until(CONNECTED)
    page.evaluate(
        f"""{{ const data = new DataTransfer();
        data.items.add(new File([{json.dumps(RECORDING)}], "events.jsonl"));
        document.body.dispatchEvent(
          new DragEvent("drop", {{dataTransfer: data, bubbles: true}})); }}"""
    )
    recorded(page)
    sink.write(verdict(3, text="meanwhile"))
    time.sleep(0.3)
    recorded(page)
    page.evaluate("document.querySelector('#back').click()")
    page.until("document.querySelector('#list .said')?.textContent === 'meanwhile'")
    assert page.evaluate(CONNECTED)


def test_what_the_command_writes_can_be_opened(
    page: Page, tmp_path: Path, python_module: Any, scene_path: Path
) -> None:
    done = python_module("edge_runtime.cli", "run", "--out", "jsonl", scene_path)
    file = tmp_path / "events.jsonl"
    file.write_text(done.stdout, encoding="utf-8")
    finals = [e for e in map(json.loads, done.stdout.splitlines()) if e.get("final")]
    page.go(INDEX.as_uri())
    page.choose_files("#file", file)
    page.until(f"document.querySelectorAll('#list li').length === {len(finals)}")
    assert "damaged" not in text(page, "#connection")
    labels = page.evaluate("[...document.querySelectorAll('.chip')].map((e) => e.textContent)")
    assert labels == [event["label"] for event in reversed(finals)]


def show_talk(
    serve: Served, page: Page, labels: tuple[str, ...], width: int, height: int, scheme: str
) -> None:
    """Have a page of that size show many utterances."""
    sink = serve(labels=labels)
    talk(sink, labels)
    page.look(width, height, scheme)
    page.go(sink.url)
    page.until("document.querySelectorAll('#list li').length > 5")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("labels", [LABELS, MANY], ids=["4", "20"])
def test_it_fits_a_small_phone(
    serve: Served, page: Page, scheme: str, labels: tuple[str, ...]
) -> None:
    show_talk(serve, page, labels, 360, 740, scheme)
    page.evaluate("document.querySelector('details').open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    too_wide = page.evaluate(
        "[...document.querySelectorAll('body *:not(.skip):not(.unseen):not(svg *)')].filter((e) => "
        "e.getBoundingClientRect().right > 360.5).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert too_wide == []


# Contrast of every text with what is behind it (WCAG 2.1, 1.4.3): those below 4.5.
PALE = """(() => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = (color) => { context.clearRect(0, 0, 1, 1); context.fillStyle = color;
    context.fillRect(0, 0, 1, 1); return [...context.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = (c) => (c /= 255) <= .04045 ? c / 12.92 :
    ((c + .055) / 1.055) ** 2.4; return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e)
    .backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let checked = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("title"))
      continue;
    const style = getComputedStyle(element);
    const color = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(rgba(color)), light(behind(element))].sort((x, y) => y - x);
    checked++;
    if ((a + .05) / (b + .05) < 4.5) found.push([element.outerHTML.slice(0, 90), (a + .05) / (b + .05)]);
  }
  return [checked, found];
})()"""  # noqa: E501


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_can_be_read_and_colors_told_apart(serve: Served, page: Page, scheme: str) -> None:
    show_talk(serve, page, MANY, 1280, 900, scheme)
    page.until("document.querySelector('#state').textContent === 'microphone lost'")
    checked, pale = page.evaluate(PALE)
    assert checked > 100
    assert pale == []
    colors = page.evaluate(
        """(() => {
        const c = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
        return [...document.querySelectorAll("#timeline rect[width='4']")].map((e) => {
          c.fillStyle = e.getAttribute("fill"); c.fillRect(0, 0, 1, 1);
          return [...c.getImageData(0, 0, 1, 1).data].slice(0, 3); }); })()"""
    )
    assert len(colors) == len(MANY)
    apart = [
        np.linalg.norm(np.subtract(one, other))
        for number, one in enumerate(colors)
        for other in colors[:number]
    ]
    print(f"{scheme}: nearest colors of 20 are {min(apart):.0f} of 441 apart")
    assert min(apart) > 20
    card = {"light": 1.0, "dark": 0.0117}[scheme]
    for color in colors:
        share = np.divide(color, 255)
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        shine = float(np.dot([0.2126, 0.7152, 0.0722], linear))
        ratio = (max(shine, card) + 0.05) / (min(shine, card) + 0.05)
        assert ratio >= 3, f"{color}: WCAG 1.4.11 wants 3 of graphics, not {ratio:.2f}"
    # The same class, the same color, whatever else there is.
    few = page.evaluate(f"edge.colorsOf(['sad', 'angry'], {scheme!r}).get('sad')")
    assert few == page.evaluate(f"edge.colorsOf({list(MANY)}, {scheme!r}).get('sad')")


def test_a_screen_reader_finds_its_way(serve: Served, page: Page) -> None:
    sink = serve()
    talk(sink)
    page.go(sink.url)
    page.until("document.querySelectorAll('#list li').length > 5")
    time.sleep(0.2)  # longer than between two levels
    sink.hear(101, "48 kHz, 2 channels", Level(-20, -9))
    page.until("!document.querySelector('#level').hidden")
    nodes = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in page.call("Accessibility.getFullAXTree")["nodes"]
        if not node["ignored"] and "role" in node
    ]
    roles = {role for role, _ in nodes}
    assert {"banner", "main", "contentinfo", "status", "meter", "list", "alert"} <= roles
    headings = {name for role, name in nodes if role == "heading"}
    assert {"living room", "Utterances", "The last hour", "Device"} <= headings
    for role, name in nodes:
        if role in ("button", "link", "textbox", "meter", "region", "image", "DisclosureTriangle"):
            assert name.strip(), f"a {role} without a name"
    assert any(role in ("img", "image") and "utterances from" in name for role, name in nodes)
    regions = {name for role, name in nodes if role == "region"}
    assert {"Warnings", "Utterances", "The last hour", "Device"} <= regions
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("document.querySelector('#said').getAttribute('aria-live')") == "polite"
    page.evaluate("document.querySelector('details').open = true")
    page.until("document.querySelectorAll('tbody tr').length === 15")
    cells = page.evaluate("[...document.querySelectorAll('tbody tr:last-child td')].length")
    assert cells == 4


def test_the_keyboard_reaches_everything_and_nothing_moves_for_who_wants_that(
    serve: Served, page: Page
) -> None:
    sink = serve()
    talk(sink, count=30)
    page.go(sink.url)
    page.until("!document.querySelector('#more').hidden")
    visited = []
    for _ in range(6):
        for kind in ("keyDown", "keyUp"):
            page.call(
                "Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9
            )
        visited.append(page.evaluate("document.activeElement.textContent.trim()"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid" or document_end(page)
    for name in ("Skip to the utterances", "As a table", "Show more", "Open a recording"):
        assert name in visited
    page.evaluate("document.querySelector('#more').click()")
    page.until("document.querySelectorAll('#list li').length === 30")
    moving = "getComputedStyle(document.querySelector('#meter i')).transitionDuration"
    assert page.evaluate(moving) != "0s"
    page.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-reduced-motion", "value": "reduce"}],
    )
    assert page.evaluate(moving) == "0s"


def document_end(page: Page) -> bool:
    """Whether the focus has left the page for the browser."""
    return bool(page.evaluate("document.activeElement === document.body"))
