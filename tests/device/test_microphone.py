"""The microphone path against a real PulseAudio: what is played into a null sink is heard."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from sound_server import PATIENCE, SYSTEM_ALSA, Finish, Pulse, Start, wait_for_capture
from voices import adapting_run, build_adapting

from edge_runtime import EmotionStream, load_bundle, portaudio
from edge_runtime.audio import BLOCK, BLOCK_SECONDS, microphone
from edge_runtime.audio.file import FileSource
from edge_runtime.bundle import Bundle
from edge_runtime.errors import AudioError
from edge_runtime.events import EmotionEvent, Event
from edge_runtime.listening import listen
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.profile import load_profile
from edge_runtime.sinks import Outputs

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("binding")]

REPOSITORY = Path(__file__).parents[2]
SCENE = REPOSITORY / "edge_runtime" / "demo" / "scene.flac"
CORPORA = Path(os.environ.get("CORPORA") or REPOSITORY.parent / "shared" / "data")
REAL_CLIP = CORPORA / "ravdess" / "Actor_01" / "03-01-05-02-01-01-01.flac"

CARDS = Path("/proc/asound/cards")
# Who is enrolled does not depend on the way to PortAudio.
one_binding = pytest.mark.parametrize("binding", ["sounddevice"], indirect=True)
without_cards = pytest.mark.skipif(
    CARDS.exists() and "[" in CARDS.read_text(), reason="this machine has a sound card"
)


def finals(events: list[Event]) -> list[EmotionEvent]:
    return [event for event in events if isinstance(event, EmotionEvent) and event.final]


def clear_utterance() -> np.ndarray:
    """The utterance of the scene with the most confident verdict."""
    scene, _ = soundfile.read(SCENE, dtype="int16")
    stream = EmotionStream(load_bundle())
    verdict = max(finals(stream.feed(scene) + stream.finish()), key=lambda e: e.confidence)
    return np.asarray(scene[int(verdict.start * SAMPLE_RATE) : int(verdict.end * SAMPLE_RATE)])


BINDINGS_AND_CLIPS = [(name, "scene") for name in portaudio.BINDINGS]
if REAL_CLIP.exists():
    BINDINGS_AND_CLIPS += [("sounddevice", "ravdess")]


@pytest.mark.parametrize(("binding", "name"), BINDINGS_AND_CLIPS, indirect=["binding"])
def test_microphone_says_what_the_file_says(pulse: Pulse, tmp_path: Path, name: str) -> None:
    clip = clear_utterance() if name == "scene" else soundfile.read(REAL_CLIP, dtype="int16")[0]
    silence = np.zeros(2 * SAMPLE_RATE, np.int16)  # ends the utterance
    played = np.concatenate([silence[:SAMPLE_RATE], clip, silence])
    file = tmp_path / "played.wav"
    soundfile.write(file, played, SAMPLE_RATE)
    stream = EmotionStream(load_bundle())
    (expected,) = finals(
        [event for block in FileSource(file).blocks() for event in stream.feed(block.samples)]
        + stream.finish()
    )

    source = microphone.MicrophoneSource()
    stream = EmotionStream(load_bundle())
    events: list[Event] = []
    blocks = source.blocks()
    next(blocks)  # capture has begun
    player = pulse.play(played)
    deadline = time.monotonic() + PATIENCE
    while not finals(events) and time.monotonic() < deadline:
        events += stream.feed(next(blocks).samples)
    blocks.close()
    player.wait(PATIENCE)
    events += stream.finish()

    (heard,) = finals(events)
    assert heard.label == expected.label
    # The server begins to play at any sample, so the voice activity detector's frames fall
    # elsewhere on the same sound. Shifting a clip in a file by 0 to 30 ms moves these by as much
    # as 0.2 (a boundary by whole frames, a score with it).
    assert heard.end - heard.start == pytest.approx(expected.end - expected.start, abs=0.25)
    assert heard.scores == pytest.approx(expected.scores, abs=0.25)


class Slow(EmotionStream):
    """Takes far too long over its first block, and notes in which order it was told what."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.told: list[str | int] = []

    def feed(self, samples: npt.ArrayLike) -> list[Event]:
        if not np.size(samples):  # nothing came yet
            return super().feed(samples)
        if self.told.count("heard") == 20:
            raise AudioError("enough")
        self.told.append("heard")
        if len(self.told) == 1:
            time.sleep(2.0)
        return super().feed(samples)

    def skip(self, samples: int) -> list[Event]:
        self.told.append(samples)
        return super().skip(samples)


def test_lost_audio_is_told_where_it_was_lost(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = 5  # blocks that the queue holds
    monkeypatch.setattr(microphone, "QUEUE_SECONDS", waiting * BLOCK_SECONDS)
    stream = Slow(load_bundle())
    with pytest.raises(AudioError, match="enough"):
        listen(microphone.MicrophoneSource(), stream, Outputs({}))
    losses = [told for told in stream.told if isinstance(told, int)]
    # What was in the queue before the loss is heard before it, with what the resampler held.
    assert stream.told.index(losses[0]) == 1 + waiting + 1
    assert losses[0] >= BLOCK
    health = stream.health()
    assert health.dropped_ms == pytest.approx(1000 * sum(losses) / SAMPLE_RATE)
    assert stream.time >= sum(losses) / SAMPLE_RATE


def test_a_device_that_disappears_is_waited_for(pulse: Pulse, start: Start) -> None:
    with start("run", "--mic", "--out", "jsonl") as process:
        try:
            wait_for_capture()
            time.sleep(3)  # a monitor's first samples need two
            pulse.kill()
            time.sleep(4)
            assert process.poll() is None
            pulse.start()
            wait_for_capture()
            time.sleep(3)
            process.terminate()
            told, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    events = [json.loads(line) for line in told.splitlines()]
    changes = [event for event in events if event.get("what") == "lost"]
    assert [event["active"] for event in changes] in ([True, False], [True, True, False])
    assert "unplugged" in changes[0]["message"]
    assert events[-1]["dropped_ms"] > 2000


@pytest.fixture(scope="module")
def adapting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle that adapts to a speaker."""
    folder = tmp_path_factory.mktemp("adapting")
    run, _ = adapting_run(folder)
    return build_adapting(folder, run)


@one_binding
def test_who_speaks_is_enrolled_and_judged_by_it(
    pulse: Pulse, start: Start, finish: Finish, adapting: Path, tmp_path: Path
) -> None:
    scene, _ = soundfile.read(SCENE, dtype="int16")
    bundle = ("--bundle", str(adapting))
    with start("enroll", "anna", *bundle) as process:
        try:
            wait_for_capture()
            player = pulse.play(np.concatenate([scene, scene]))
            told, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    player.kill()
    player.wait()
    assert process.returncode == 0, errors
    assert "anna: 10." in told
    file = tmp_path / "data" / "edge-emotion" / "speakers" / "anna.json"
    profile = load_profile(file)
    assert profile.seconds >= 10
    assert file.stat().st_size < 20_000

    scores = []
    for speaker in ((), ("--speaker", "anna")):
        with start("run", "--mic", "--out", "jsonl", *bundle, *speaker) as process:
            try:
                wait_for_capture()
                player = pulse.play(scene[: 6 * SAMPLE_RATE])
                time.sleep(8)
                process.terminate()
                told, errors = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        player.wait(PATIENCE)
        events = [json.loads(line) for line in told.splitlines()]
        found = [event for event in events if event["type"] == "emotion" and event["final"]]
        assert found, errors
        scores.append(np.array(list(found[0]["scores"].values())))
    # The same sound, shifted by a part of a frame at most: it is the profile that makes this.
    assert np.abs(scores[0] - scores[1]).max() > 0.05

    assert finish("enroll", "anna", "--delete").returncode == 0
    assert not file.exists()


@one_binding
def test_silence_enrolls_nobody(pulse: Pulse, finish: Finish, adapting: Path) -> None:
    done = finish("enroll", "nobody", "--bundle", str(adapting), "--seconds", "5")
    assert done.returncode == 2
    assert "hold no speech" in done.stderr.splitlines()[-1]


def test_unknown_device_is_one_line(pulse: Pulse, finish: Finish) -> None:
    result = finish("run", "--mic", "--device", "no-such-thing")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "no microphone 'no-such-thing'" in line
    assert "edge-emotion devices" in line


def test_the_device_can_be_named(pulse: Pulse) -> None:
    source = microphone.MicrophoneSource("DEFAULT")
    assert "default" in source.name
    blocks = source.blocks()
    assert next(blocks).samples.dtype == np.int16
    blocks.close()


def test_an_index_is_no_part_of_a_name(pulse: Pulse, alsa: Path) -> None:
    """The second microphone is called 7 and has another index."""
    with alsa.open("a") as config:
        config.write("pcm.seat7 { type pulse hint { show on description seat7 } }\n")
    devices = {device.name: device for device in microphone.list_microphones()}
    seat = devices["seat7"]
    assert seat.index != 7
    assert max(device.index for device in devices.values()) < 7
    with pytest.raises(AudioError, match="no microphone '7'"):
        microphone.MicrophoneSource("7")
    for wanted in (str(seat.index), "seat7"):
        source = microphone.MicrophoneSource(wanted)
        assert source.name == "microphone seat7"
        with closing(source.blocks()) as blocks:
            # Before the first sound there may be blocks without any.
            assert any(block.samples.size > 0 for block in islice(blocks, 100))


def test_devices_lists_the_default(pulse: Pulse, finish: Finish) -> None:
    result = finish("devices")
    assert result.returncode == 0
    assert result.stderr == ""
    assert any(line.startswith("*") and "default" in line for line in result.stdout.splitlines())


def test_doctor_has_looked_for_the_microphone(pulse: Pulse, finish: Finish) -> None:
    result = finish("doctor")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "\nok    microphone      default (" in result.stdout
    # Nobody plays anything there, and nobody wants to listen.
    assert "\n-     sound           default, " in result.stdout


def test_a_silent_microphone_that_is_wanted_is_a_fault(
    pulse: Pulse, finish: Finish, tmp_path: Path
) -> None:
    settings = tmp_path / "mic.toml"
    settings.write_text("mic = true\n")
    result = finish("doctor", "--config", str(settings))
    assert result.returncode == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("FAULT")]
    assert line.startswith("FAULT sound           default")
    assert "nothing comes but digital silence: unmute it" in line


@without_cards
def test_doctor_and_demo_say_that_there_is_none(alsa: Path, finish: Finish) -> None:
    alsa.write_text(SYSTEM_ALSA)
    for command in ("doctor", "demo"):
        result = finish(command)
        assert result.returncode == 0
        assert result.stderr == ""
        (line,) = [line for line in result.stdout.splitlines() if "microphone" in line]
        assert line.startswith(("-     microphone      none found", "microphone: none found"))


@without_cards
def test_no_sound_server_is_one_line(alsa: Path, finish: Finish) -> None:
    """The ALSA default points at a server that is not running."""
    result = finish("run", "--mic")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "microphone" in line


@without_cards
def test_no_device_at_all_is_one_line(alsa: Path, finish: Finish) -> None:
    alsa.write_text(SYSTEM_ALSA)
    with pytest.raises(AudioError, match="there is no microphone"):
        microphone.MicrophoneSource()
    result = finish("run", "--mic")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "there is no microphone" in line
