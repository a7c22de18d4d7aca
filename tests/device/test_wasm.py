"""The page of target wasm in a real browser, with a clip played as its microphone."""

from __future__ import annotations

import base64
import functools
import gzip
import http.server
import json
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from c99_library import GCC, Compiled
from chromium import BINARY, INSTALL, Browser, Page
from clips import REPOSITORY

from conversion.__main__ import main
from edge_runtime import EmotionStream
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.stream import classify

pytestmark = pytest.mark.skipif(BINARY is None, reason=f"no Chromium: {INSTALL}")
_QUIET = 1.5  # seconds of near silence around a clip
_PATIENCE = 60.0  # seconds until a page hangs
Int16 = npt.NDArray[np.int16]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, as the command builds them."""
    pytest.importorskip("ziglang", reason="no compiler: pip install ziglang")
    out = tmp_path_factory.mktemp("site") / "page"
    assert main(["build", "default", "--out", str(out), "--target", "wasm"]) == 0
    return out


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """A plain web server of the standard library."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def as_microphone(samples: Int16, path: Path) -> None:
    """A WAV file that Chromium plays over and over: the clip in a room that is not quite silent."""
    rng = np.random.default_rng(0)
    around = (3 * rng.standard_normal(int(_QUIET * SAMPLE_RATE))).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.concatenate([around, samples, around]).tobytes())


def opened(browser: Browser, address: str) -> Page:
    page = browser.page()
    page.go(address)
    page.until("document.getElementById('connection').textContent === 'not listening'")
    return page


@pytest.mark.alone
@pytest.mark.parametrize(
    "clip", ["ravdess/Actor_01/03-01-05-02-01-01-01.flac", "emodb/wav/03a01Fa.flac"]
)
def test_the_page_says_what_the_device_says(
    clip: str, corpora: Path, bundle: Bundle, address: str, tmp_path: Path
) -> None:
    samples = read_file(corpora / clip)
    # As the page is calibrated: it does not tell how familiar a sound is.
    plain = bundle.plain()
    stream = EmotionStream(plain, segment=plain.manifest.segment.whole(), adapt=False)
    expected = classify(stream, samples)
    as_microphone(samples, tmp_path / "microphone.wav")
    browser = Browser(
        tmp_path,
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={tmp_path / 'microphone.wav'}",
        "--autoplay-policy=no-user-gesture-required",
    )
    try:
        page = opened(browser, address)
        page.evaluate("document.getElementById('listen').click()")
        page.until("document.querySelectorAll('#list li').length >= 2", _PATIENCE)
        # The newest is first; the file may have begun in its middle for the oldest.
        label = page.evaluate("document.querySelector('#list .chip').textContent")
        share = page.evaluate("document.querySelector('#list .figure').textContent")
        assert label == expected.label
        # The browser resamples, and the level alone says where speech begins and ends.
        assert abs(int(share.split()[0]) / 100 - expected.confidence) < 0.2
        page.evaluate("document.getElementById('listen').click()")
        page.until("document.getElementById('connection').textContent === 'not listening'")
        assert all(url.startswith(address) for url in page.requests())
        assert not page.complaints()
    finally:
        browser.close()


# Int16 samples in, scores out, by the module itself.
_HEAR = """
(async (encoded) => {
  const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const samples = new Int16Array(bytes.buffer);
  const answer = await fetch("edge_emotion.wasm");
  const code = (await WebAssembly.instantiate(await answer.arrayBuffer(), {})).instance.exports;
  code.begin();
  for (let at = 0; at < samples.length; at += code.room()) {
    const part = samples.subarray(at, at + code.room());
    new Int16Array(code.memory.buffer, code.samples(), part.length).set(part);
    code.feed(part.length);
  }
  const scores = new Float32Array(code.memory.buffer, code.scores(), edge.model.labels.length);
  return code.end() ? [...scores] : null;
})(%s)
"""


def test_the_module_computes_what_the_library_computes(
    recordings: list[Int16], bundle: Bundle, address: str, tmp_path: Path
) -> None:
    if GCC is None:
        pytest.skip("no gcc: apt-get install gcc libc6-dev")
    (tmp_path / "c99").mkdir()
    library = Compiled(bundle, tmp_path / "c99")
    browser = Browser(tmp_path)
    try:
        page = opened(browser, address)
        for samples in recordings:
            encoded = json.dumps(base64.b64encode(samples.tobytes()).decode())
            found = page.evaluate(_HEAR % encoded)
            np.testing.assert_array_equal(np.float32(found), library.scores(samples))
        assert page.evaluate(_HEAR % json.dumps("")) is None
    finally:
        browser.close()


def test_without_a_microphone_the_page_says_why(address: str, tmp_path: Path) -> None:
    browser = Browser(tmp_path)  # which asks nobody, and so allows nothing
    try:
        page = opened(browser, address)
        page.evaluate("document.getElementById('listen').click()")
        page.until("document.getElementById('connection').textContent.includes('microphone')")
        assert page.evaluate("document.getElementById('connection').className") == "connection bad"
    finally:
        browser.close()


# A tone of a rate at 16 kHz: its error, and what is left of one beyond half of 16 kHz.
_RESAMPLE = """
((rate) => {
  const tone = (hertz) => {
    const resampler = new edge.Resampler(rate);
    const found = [];
    const sample = (i) => 0.5 * Math.sin((2 * Math.PI * hertz * i) / rate);
    for (let at = 0; at < 20000; at += 1000) {
      const piece = Float32Array.from({ length: 1000 }, (_, i) => sample(at + i));
      found.push(...resampler.feed(piece));
    }
    return found;
  };
  return [tone(1000), tone(10000)];
})(%d)
"""


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000, 96_000])
def test_sound_of_any_rate_comes_to_16_khz(rate: int, address: str, tmp_path: Path) -> None:
    browser = Browser(tmp_path)
    try:
        low, high = opened(browser, address).evaluate(_RESAMPLE % rate)
    finally:
        browser.close()
    inner = np.array(low[100:-100])
    times = np.arange(100, 100 + len(inner)) / SAMPLE_RATE
    error = inner - 0.5 * np.sin(2 * np.pi * 1000 * times)
    assert abs(len(low) - 20_000 * SAMPLE_RATE / rate) < 50  # half a filter is held back
    assert np.abs(error).max() < 0.005  # -40 dB
    if rate > 20_000:  # else there is no such tone
        assert np.abs(high[100:-100]).max() < 0.005


def test_nothing_of_the_page_comes_from_elsewhere(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "connect-src 'self'" in page
    assert "default-src 'none'" in page
    for file in site.glob("*.js"):
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
    looks = (site / "style.css").read_bytes()
    assert looks == (REPOSITORY / "edge_runtime" / "web" / "assets" / "style.css").read_bytes()
    packed = len(gzip.compress((site / "edge_emotion.wasm").read_bytes()))
    assert packed < 1_500_000


def test_without_the_compiler_the_command_is_named(
    python_module: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "page"
    arguments = ("build", "default", "--target", "wasm", "--out", out)
    done = python_module("conversion", *arguments, missing="ziglang")
    assert done.returncode == 2
    assert "needs a compiler for WebAssembly, the package ziglang, which is not" in done.stderr
    assert "pip install -e '.[wasm]'" in done.stderr
    assert not out.exists()
