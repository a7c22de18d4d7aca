"""Which microphone is meant; two seconds of a source, and what is said of them."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.audio.capture import Device
from edge_runtime.audio.command import CommandSource
from edge_runtime.audio.microphone import find
from edge_runtime.audio.raw import RawFormat
from edge_runtime.devices import Heard, hear
from edge_runtime.errors import AudioError
from edge_runtime.pcm import SAMPLE_RATE, Int16


def heard(samples: npt.NDArray[np.float64] | Int16, folder: Path, channels: int = 1) -> Heard:
    """As it is heard from a program that writes them."""
    file = folder / "samples"
    file.write_bytes(samples.astype("<i2").tobytes())
    raw = RawFormat("s16le", SAMPLE_RATE, channels)
    return hear(CommandSource(f"cat {shlex.quote(str(file))}; sleep 60", raw))


def test_speech_has_nothing_wrong(tmp_path: Path, sentence: Int16) -> None:
    found = heard(sentence[14_000:], tmp_path)
    assert (found.wrong, found.deaf) == ({}, False)
    assert -40 < found.loudest.rms_db < found.loudest.peak_db < 0
    assert str(found).endswith(" dB: no clipping, offset, hum or dead channel")
    assert ", 16 kHz, 1 channel: -" in str(found)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("clipping", "clipped: turn its gain down"),
        ("offset", "an offset (DC) of +9 % of full scale"),
        ("hum", "hum of the mains, 50 Hz: use another power supply"),
        ("quiet", "turn its gain up, come nearer, or choose another device"),
        ("muted", "nothing comes but digital silence: unmute it"),
        ("dead_channel", "nothing comes on channel 2"),
    ],
)
def test_what_is_wrong_is_said_with_what_helps(
    tmp_path: Path, sentence: Int16, what: str, words: str
) -> None:
    speech = sentence[14_000 : 14_000 + 4 * SAMPLE_RATE].astype(float)
    t = np.arange(speech.size) / SAMPLE_RATE
    samples = {
        "clipping": np.clip(100 * speech, -32768, 32767),
        "offset": 0.5 * speech + 3000,
        "hum": 10_000 * sum(np.sin(2 * np.pi * 50 * k * t) / k for k in (1, 2, 3)),
        "quiet": 0.005 * speech + np.random.default_rng(0).normal(0, 2, speech.size),
        "muted": 0 * speech,
        "dead_channel": np.stack([speech, 0 * speech], axis=1),
    }[what]
    found = heard(samples, tmp_path, 2 if what == "dead_channel" else 1)
    assert list(found.wrong) == [what]
    assert words in str(found)
    assert found.deaf == (what == "muted")


def test_a_source_that_ends_or_gives_nothing_is_said() -> None:
    ended = hear(CommandSource("head -c 3200 /dev/zero; echo unplugged >&2; exit 1"), 1.0)
    assert ended.deaf
    assert "unplugged" in str(ended)
    silent = hear(CommandSource("sleep 60"), 1.0)
    assert "no sound came in 7 s" in str(silent)


def microphones(*names: str) -> list[Device]:
    return [Device(index, name, 48_000.0, index == 1) for index, name in enumerate(names)]


@pytest.mark.parametrize(
    ("wanted", "there", "meant"),
    [
        # What setup has written, and what was once open by --device usb: another card by now.
        ("USB Audio: - (hw:1,0)", ("USB Audio Pro: - (hw:0,0)", "USB Audio: - (hw:2,0)"), 1),
        ("USB Audio: - (hw:1,0)", ("USB Audio: - (hw:2,0)", "USB Audio: - (hw:1,0)"), 1),
        ("usb audio: -", ("A USB Audio: -: - (hw:0,0)", "USB Audio: - (hw:2,0)"), 1),
        ("hw:1,0", ("Other: - (hw:2,0)", "USB Audio: - (hw:1,0)"), 1),
        ("", ("Other: - (hw:0,0)", "the default"), 1),
    ],
)
def test_a_microphone_is_found_whatever_card_it_is_now(
    wanted: str, there: tuple[str, ...], meant: int
) -> None:
    assert find(microphones(*there), wanted).index == meant


def test_another_microphone_is_not_taken_for_one_that_is_away() -> None:
    for there in ("A USB Audio: - (hw:2,0)", "Other: - (hw:1,0)"):
        with pytest.raises(AudioError, match="no microphone"):
            find(microphones(there), "USB Audio: - (hw:1,0)")
