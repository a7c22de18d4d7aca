"""Audio as people have it: unfilled headers, pipes, codecs that cannot seek, odd channels."""

from __future__ import annotations

import argparse
import csv
import json
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import soundfile
import soxr
from command_output import finals

from edge_runtime.audio.file import FileSource, read_file
from edge_runtime.audio.raw import ENCODINGS, RawFormat
from edge_runtime.commands.common import asked_source
from edge_runtime.commands.settings import RunSettings
from edge_runtime.config import effective
from edge_runtime.errors import AudioError
from edge_runtime.events import EmotionEvent
from edge_runtime.pcm import SAMPLE_RATE, Int16

Command = Callable[..., "CompletedProcess[str]"]


def wav(samples: Int16, data_size: int, riff_size: int, rate: int = SAMPLE_RATE) -> bytes:
    """A WAV whose sizes are what its recorder left there."""
    return (
        b"RIFF"
        + struct.pack("<I", riff_size)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
        + b"data"
        + struct.pack("<I", data_size)
        + samples.tobytes()
    )


# What arecord, sox, GStreamer, ffmpeg and Python's wave write to a pipe.
UNFILLED = {
    "0 and 0": (0, 0),
    "0 and 36": (0, 36),
    "0x80000000": (0x80000000, 0x80000024),
    "0x7ffff000": (0x7FFFF000, 0x7FFFF024),
    "0x7fffffff": (0x7FFFFFFF, 0x7FFFFFFF),
    "0xffffffff": (0xFFFFFFFF, 0xFFFFFFFF),
}


@pytest.mark.parametrize("sizes", UNFILLED)
def test_every_sample_of_a_wav_with_an_unfilled_header_is_heard(
    tmp_path: Path, sentence: Int16, sizes: str
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(sentence, *UNFILLED[sizes]))
    source = FileSource(path)
    assert source.seconds == pytest.approx(sentence.size / SAMPLE_RATE)
    assert np.array_equal(source.read(), sentence)
    assert source.warnings == []


def test_a_flac_of_unknown_length_is_heard_whole(tmp_path: Path, sentence: Int16) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, sentence, SAMPLE_RATE)
    content = bytearray(path.read_bytes())
    # Total samples: the last 36 bits of the 8 bytes from the 10th of STREAMINFO on.
    word = int.from_bytes(content[18:26], "big") >> 36 << 36
    content[18:26] = word.to_bytes(8, "big")
    path.write_bytes(content)
    source = FileSource(path)
    assert source.seconds == pytest.approx(sentence.size / SAMPLE_RATE)
    assert np.array_equal(source.read(), sentence)
    assert source.warnings == []


def test_an_mp3_from_a_pipe_is_no_shorter_and_no_warning(tmp_path: Path, sentence: Int16) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, sentence, SAMPLE_RATE)
    content = path.read_bytes()
    # A pipe cannot go back: the first frame, with the length, is never filled in.
    assert b"Xing" in content[:200] or b"Info" in content[:200]
    path.write_bytes(content[content.index(content[:2], 2) :])
    source = FileSource(path)
    heard = source.read()
    assert heard.size >= sentence.size
    assert source.warnings == []


def test_what_a_header_promises_and_the_file_lacks_is_told_in_finite_numbers(
    tmp_path: Path, sentence: Int16
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(sentence[:-SAMPLE_RATE], 2 * sentence.size, 2 * sentence.size + 36))
    source = FileSource(path)
    assert np.array_equal(source.read(), sentence[:-SAMPLE_RATE])
    (warning,) = source.warnings
    assert "the last 1.00 s cannot be read" in warning


def test_the_resampler_gives_back_its_last_samples(tmp_path: Path, sentence: Int16) -> None:
    path = tmp_path / "a.wav"
    slow = soxr.resample(sentence, SAMPLE_RATE, 44_100)
    content = wav(slow, 0xFFFFFFFF, 0xFFFFFFFF, 44_100)
    path.write_bytes(content)
    heard = read_file(path)
    assert abs(heard.size - sentence.size) <= 2


UNSEEKABLE = {
    "GSM 6.10": ("a.wav", {"format": "WAV", "subtype": "GSM610"}),
    "G.721": ("a.wav", {"format": "WAV", "subtype": "G721_32"}),
    "NMS ADPCM": ("a.wav", {"format": "WAV", "subtype": "NMS_ADPCM_16"}),
    "VOX": ("a.au", {"format": "AU", "subtype": "G721_32"}),
    "IMA ADPCM": ("a.wav", {"format": "WAV", "subtype": "IMA_ADPCM"}),
}


@pytest.mark.parametrize("codec", UNSEEKABLE)
def test_codecs_that_cannot_seek_are_heard_from_their_beginning(
    tmp_path: Path, sentence: Int16, codec: str
) -> None:
    name, options = UNSEEKABLE[codec]
    path = tmp_path / name
    soundfile.write(path, soxr.resample(sentence, SAMPLE_RATE, 8000), 8000, **options)
    whole = read_file(path)
    assert abs(whole.size - sentence.size) < SAMPLE_RATE // 10  # codecs fill up their last block
    part = read_file(path, start=0.5, end=1.5)
    assert abs(part.size - SAMPLE_RATE) <= 2


def test_one_odd_file_is_its_own_fault_alone(
    tmp_path: Path, edge_emotion: Command, sentence: Int16
) -> None:
    (tmp_path / "a.raw").write_bytes(sentence.tobytes())
    (tmp_path / "b.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    soundfile.write(tmp_path / "c.wav", sentence, SAMPLE_RATE)
    done = edge_emotion("run", *(tmp_path / n for n in ("a.raw", "b.m4a", "c.wav")))
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert "a.raw" in lines[0]
    assert "--format" in lines[0]
    assert "b.m4a" in lines[1]
    assert "ffmpeg -i" in lines[1]
    assert done.stdout.count('"final": true') == 1


def test_accuracy_counts_a_clip_that_cannot_be_read_and_judges_the_rest(
    tmp_path: Path, bundle: object, sentence: Int16
) -> None:
    from benchmarks.accuracy import accuracy

    (tmp_path / "a.raw").write_bytes(sentence.tobytes())
    soundfile.write(tmp_path / "b.wav", sentence, SAMPLE_RATE)
    with (tmp_path / "m.csv").open("w") as file:
        csv.writer(file).writerows([("path", "label"), ("a.raw", "angry"), ("b.wav", "happy")])
    from training.corpora.manifest import load

    result = accuracy(bundle, load(tmp_path / "m.csv").utterances)
    assert result.skipped == 1
    assert [u.path.name for u in result.judged] == ["b.wav"]


CONTAINERS = ("WAV", "AIFF", "FLAC", "OGG", "MP3", "AU", "W64", "CAF")


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_on_standard_input_is_heard_as_the_file(
    tmp_path: Path, edge_emotion: Command, sentence: Int16, container: str
) -> None:
    path = tmp_path / f"a.{container.lower()}"
    soundfile.write(path, sentence, SAMPLE_RATE, format=container)
    named = edge_emotion("run", "--out", "jsonl", path)
    piped = edge_emotion("run", "--out", "jsonl", "--stdin", stdin=path.read_bytes())
    assert piped.returncode == 0
    verdicts = [
        [
            (e["start"], e["end"], e["scores"])
            for e in map(json.loads, done.stdout.splitlines())
            if e["type"] == "emotion" and e["final"]
        ]
        for done in (named, piped)
    ]
    assert len(verdicts[0]) == 1
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_raw_samples_of_every_encoding_are_read_as_libsndfile_writes_them(
    tmp_path: Path, sentence: Int16, encoding: str
) -> None:
    subtype = {
        "s16": "PCM_16",
        "s24": "PCM_24",
        "s32": "PCM_32",
        "f32": "FLOAT",
        "f64": "DOUBLE",
        "s8": "PCM_S8",
        "u8": "PCM_U8",
        "mulaw": "ULAW",
        "alaw": "ALAW",
    }[encoding[:-2] if encoding[-2:] in ("le", "be") else encoding]
    endian = "BIG" if encoding.endswith("be") else "LITTLE"
    path = tmp_path / "a.raw"
    stereo = np.stack([sentence, sentence[::-1]], axis=1)
    soundfile.write(path, stereo, SAMPLE_RATE, format="RAW", subtype=subtype, endian=endian)
    expected, _ = soundfile.read(
        path,
        samplerate=SAMPLE_RATE,
        channels=2,
        format="RAW",
        subtype=subtype,
        endian=endian,
        dtype="float32",
    )
    found = RawFormat(encoding, SAMPLE_RATE, 2).frames(path.read_bytes())
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-6


def test_raw_samples_of_another_form_are_heard_where_it_is_said(
    edge_emotion: Command, sentence: Int16
) -> None:
    fast = soxr.resample(sentence / 32768, SAMPLE_RATE, 44_100)
    raw = np.stack([fast, fast], axis=1).astype(">f4").tobytes()
    options = ("--rate", "44100", "--format", "f32be", "--channels", "2")
    done = edge_emotion("run", "--stdin", *options, stdin=raw)
    assert done.returncode == 0
    assert done.stdout.count('"final": true') == 1


def test_a_form_counts_for_the_source_of_its_place_or_of_a_farther_one(
    edge_emotion: Command, tmp_path: Path, sentence: Int16
) -> None:
    settings = tmp_path / "config.toml"
    settings.write_text('mic_command = "cat nothing"\nrate = 48000\nformat = "s16be"\n')
    file = tmp_path / "sentence.wav"
    soundfile.write(file, sentence, SAMPLE_RATE)
    given = ("--config", settings, "--out", "jsonl")
    pcm = sentence.astype("<i2").tobytes()
    heard = [edge_emotion("run", file, *given), edge_emotion("run", "-", *given, stdin=pcm)]
    other = ("--format", "s16be")
    heard.append(edge_emotion("run", "-", *given, *other, stdin=sentence.astype(">i2").tobytes()))
    assert [done.returncode for done in heard] == [0, 0, 0], heard
    ends = [[final["end"] for final in finals(done.stdout)] for done in heard]
    assert ends[0] == ends[1] == ends[2]
    assert len(ends[0]) == 1
    done = edge_emotion("run", "--mic", "--device", "none-such", *given)
    assert "raw samples" not in done.stderr
    # A nearer place says it of the source of a farther one.
    nearer = effective(RunSettings, argparse.Namespace(rate=8000), settings)
    assert asked_source(nearer)[1].raw == RawFormat("s16be", 8000)


def test_a_named_pipe_is_heard(tmp_path: Path, edge_emotion: Command, sentence: Int16) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = wav(sentence, 0xFFFFFFFF, 0xFFFFFFFF)
    writer = threading.Thread(target=lambda: pipe.write_bytes(content), daemon=True)
    writer.start()
    done = edge_emotion("run", pipe)
    writer.join(10)
    assert done.returncode == 0
    assert done.stdout.count('"final": true') == 1


@pytest.mark.parametrize("rate", [1, 2_000_000])
def test_a_rate_that_cannot_be_meant_is_refused(tmp_path: Path, sentence: Int16, rate: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(sentence, 2 * sentence.size, 2 * sentence.size + 36, rate))
    with pytest.raises(AudioError, match=f"{rate} Hz"):
        FileSource(path)


def test_antiphase_stereo_is_not_mixed_to_nothing(tmp_path: Path, sentence: Int16) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([sentence, -sentence], axis=1), SAMPLE_RATE)
    source = FileSource(path)
    assert np.array_equal(np.abs(source.read()), np.abs(sentence))
    (warning,) = source.warnings
    assert "cancel" in warning


def test_ordinary_stereo_is_still_the_mean(tmp_path: Path, sentence: Int16) -> None:
    path = tmp_path / "a.wav"
    other = np.roll(sentence, 40) // 2 * 2
    soundfile.write(path, np.stack([sentence // 2 * 2, other], axis=1), SAMPLE_RATE)
    source = FileSource(path)
    mean = (sentence.astype(int) // 2 * 2 + other) // 2
    assert np.array_equal(source.read(), mean)
    assert source.warnings == []


def test_audio_above_full_scale_is_told_once(tmp_path: Path, sentence: Int16) -> None:
    path = tmp_path / "a.wav"
    loud = np.float32(30.0 / 32768) * sentence
    soundfile.write(path, loud, SAMPLE_RATE, subtype="FLOAT")
    source = FileSource(path)
    source.read()
    (warning,) = source.warnings
    assert f"{np.count_nonzero(np.abs(loud) > 1)} samples above full scale" in warning


def test_the_mp3_decoder_says_nothing_to_the_terminal(
    tmp_path: Path, edge_emotion: Command, sentence: Int16
) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, sentence, SAMPLE_RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])  # its header promises more
    done = edge_emotion("run", path)
    assert done.returncode == 0
    assert all(line.startswith("edge-emotion: ") for line in done.stderr.splitlines())


def test_verdicts_of_a_file_do_not_depend_on_the_one_before(
    tmp_path: Path, edge_emotion: Command, clips: list[Path]
) -> None:
    alone = edge_emotion("run", "--out", "jsonl", clips[1])
    after = edge_emotion("run", "--out", "jsonl", clips[0], clips[1])

    def told(text: str) -> list[str]:
        return [t.split('"latency_ms"')[0] for t in text.splitlines() if '"final": true' in t]

    assert told(after.stdout)[-len(told(alone.stdout)) :] == told(alone.stdout)
    assert EmotionEvent.type in alone.stdout
