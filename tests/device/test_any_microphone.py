"""Microphones of any rate and channels, and what happens to them, against a real PulseAudio."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soxr
from running import Run, until
from sound_server import PATIENCE, SINK, Pulse, wait_for_capture

from edge_runtime import EmotionStream
from edge_runtime.bundle import Bundle
from edge_runtime.events import EmotionEvent
from edge_runtime.pcm import SAMPLE_RATE

pytestmark = pytest.mark.realtime
if importlib.util.find_spec("sounddevice") is None:
    pytest.skip("pip install 'edge-emotion[mic]'", allow_module_level=True)

SINKS = {"low": (16_000, 1), "disc": (44_100, 1), "left": (48_000, 2), "right": (44_100, 2)}
"""Name: rate and channels. Of `left` and `right` the other channel is dead."""


@contextmanager
def server(folder: Path, sinks: dict[str, tuple[int, int]] | None = None) -> Iterator[Pulse]:
    pulse = Pulse(folder / "pulseaudio.log", sinks)
    try:
        yield pulse
    finally:
        pulse.kill()


def speech(scene: np.ndarray, bundle: Bundle, count: int) -> tuple[np.ndarray, list[EmotionEvent]]:
    """The utterances of the scene with the clearest verdicts, a second apart; and the verdicts."""
    stream = EmotionStream(bundle)
    found = finals_of(stream, scene)
    clear = sorted(found, key=lambda event: -event.confidence)[:count]
    silence = np.zeros(SAMPLE_RATE, np.int16)
    pieces = [silence]
    for event in clear:
        pieces += [scene[int(event.start * SAMPLE_RATE) : int(event.end * SAMPLE_RATE)], silence]
    played = np.concatenate(pieces)
    return played, finals_of(EmotionStream(bundle), played)


def finals_of(stream: EmotionStream, samples: np.ndarray) -> list[EmotionEvent]:
    events = [*stream.feed(samples), *stream.finish()]
    return [event for event in events if isinstance(event, EmotionEvent) and event.final]


def at_rate(samples: np.ndarray, rate: int, channels: int, channel: int) -> np.ndarray:
    """The same sound at another rate, on one of the channels alone."""
    wanted = soxr.resample(samples, SAMPLE_RATE, rate) if rate != SAMPLE_RATE else samples
    if channels == 1:
        return np.asarray(wanted)
    out = np.zeros((len(wanted), channels), np.int16)
    out[:, channel] = wanted
    return out


def test_every_rate_and_channel_count_says_what_the_file_says(
    alsa: Path, tmp_path: Path, run: Run, scene: np.ndarray, bundle: Bundle
) -> None:
    played, expected = speech(scene, bundle, 2)
    with server(tmp_path, SINKS) as pulse:
        heard = {name: run("--mic", "--device", f"{name}.monitor") for name in SINKS}
        wait_for_capture(len(SINKS))
        players = [
            pulse.play(at_rate(played, rate, channels, int(name == "right")), rate, name)
            for name, (rate, channels) in SINKS.items()
        ]
        for player in players:
            player.wait(PATIENCE)
        time.sleep(2)
        for one in heard.values():
            assert one.stop() == ""
    for name, one in heard.items():
        found = one.finals()
        assert [e["label"] for e in found] == [e.label for e in expected], name
        for event, file in zip(found, expected, strict=True):
            # As for the shift of the detector's frames in test_microphone.
            assert event["scores"] == pytest.approx(file.scores, abs=0.25), name
        dead = [e for e in one.events if e.get("what") == "dead_channel"]
        silent = {"left": "channel 2", "right": "channel 1"}
        assert all(silent[name] in e["message"] for e in dead), name
        assert bool(dead) == (name in silent), name


def test_a_server_that_is_killed_three_times_is_heard_again(
    alsa: Path, tmp_path: Path, run: Run, sentence: np.ndarray
) -> None:
    with server(tmp_path) as pulse:
        one = run("--mic")
        wait_for_capture()
        away = 0.0
        for time_of_it in range(1, 4):
            time.sleep(3 if time_of_it == 1 else 1)  # a monitor's first samples need two
            pulse.kill()
            killed = time.monotonic()
            until(lambda n=time_of_it: one.count(what="lost", active=True) >= n)
            time.sleep(1.0)
            pulse.start()
            back = time.monotonic()
            until(lambda n=time_of_it: one.count(what="lost", active=False) >= n)
            regained = [e for e in one.events if e.get("what") == "lost"][-1]["heard_at"]
            assert regained - back < 5
            away += regained - killed
        pulse.play(sentence).wait(PATIENCE)
        one.wait_for(type="emotion", final=True)
        # The clock of the stream began with the first frame, some time after the device was opened.
        first = next(e for e in one.events if e.get("what") == "lost")
        began = first["heard_at"] - first["t"]
        heard = time.monotonic() - began
        said = one.stop()
    health = next(e for e in reversed(one.events) if e["type"] == "health")
    # What was lost is what the clock says, but for the blocks that were under way.
    assert health["dropped_ms"] / 1000 == pytest.approx(away, abs=3 * 0.5)
    assert health["t"] == pytest.approx(heard, abs=1.5)
    assert one.process.returncode == 0, said
    # The utterance after all of it stands where it was spoken.
    assert one.finals()[-1]["start"] > away


def test_a_muted_microphone_is_said(
    alsa: Path, tmp_path: Path, run: Run, sentence: np.ndarray
) -> None:
    source = f"{SINK}.monitor"
    with server(tmp_path) as pulse:
        one = run("--mic")
        wait_for_capture()
        player = pulse.play(np.tile(sentence // 4, 20))
        one.wait_for(type="speech_start")
        pulse.control("set-source-mute", source, "1")
        muted = one.wait_for(what="muted", active=True)
        assert f"pactl set-source-mute {source} 0" in muted["message"]
        time.sleep(2)
        assert one.count(what="muted") == 1
        pulse.control("set-source-mute", source, "0")
        one.wait_for(what="muted", active=False)
        player.kill()
        player.wait()
        one.stop()


def on_a_terminal(command: list[str], *arguments: str) -> tuple[subprocess.Popen[bytes], Screen]:
    """Start a command on a terminal of its own, 100 columns wide."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [*command, *arguments],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(inside)
    return process, Screen(outside)


class Screen:
    """All that was ever drawn, without colors."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._drawn = b""
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while data := os.read(self._descriptor, 65536):
                self._drawn += data
        except OSError:
            pass  # the command has ended
        os.close(self._descriptor)

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._drawn.decode(errors="replace"))


def test_the_first_minute_on_a_terminal(
    alsa: Path, tmp_path: Path, run: Run, command: list[str], sentence: np.ndarray
) -> None:
    with server(tmp_path, {"stereo": (48_000, 2)}) as pulse:
        process, screen = on_a_terminal(command, "run", "--mic", "--device", "stereo.monitor")
        try:
            wait_for_capture()
            # At once; the monitor of a null sink needs two seconds for its first sample.
            until(lambda: "speak now  48 kHz, 2 channels" in screen.text, 2)
            assert "microphone stereo.monitor" in screen.text
            until(lambda: "nothing but digital silence: it is muted" in screen.text, 20)
            pulse.play(sentence, sink="stereo").wait(PATIENCE)
            until(lambda: "█" in screen.text)
            until(lambda: " ms" in screen.text)  # of a verdict
            time.sleep(1.0)
            before = screen.text
            time.sleep(1.5)
            assert "speak now" not in screen.text[len(before) :]
            process.terminate()
            process.wait(PATIENCE)
            assert process.returncode == 0, screen.text
        finally:
            process.kill()
            process.wait()


def test_devices_say_their_form_and_what_they_are(
    alsa: Path, tmp_path: Path, run: Run, command: list[str], sentence: np.ndarray
) -> None:
    with server(tmp_path, {"disc": (44_100, 2)}) as pulse:
        pulse.control("set-source-volume", "disc.monitor", "40%")
        listed = subprocess.run([*command, "devices"], capture_output=True, text=True)
        lines = listed.stdout.splitlines()
        (disc,) = [line for line in lines if "disc.monitor" in line]
        assert "44.1 kHz  2 channels" in disc
        assert "no microphone, at 40 %" in disc
        assert any(line.startswith("*") and " default " in line for line in lines)
        assert any(line.startswith("*") and f"{SINK}.monitor" in line for line in lines)
        player = pulse.play(np.tile(sentence, 2))
        metered = [*command, "devices", "--meter", "--device", f"{SINK}.mon", "--seconds", "4"]
        done = subprocess.run(metered, capture_output=True, text=True, timeout=PATIENCE)
        player.kill()
        player.wait()
    assert done.returncode == 0, done.stderr
    head, *levels = done.stdout.splitlines()
    assert head == f"microphone {SINK}.monitor, 16 kHz, 1 channel; Ctrl-C ends it"
    assert any("[####" in line for line in levels), levels
