"""Pipes heard as they come, heads as recorders leave them, frames of MPEG found one by one."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import soundfile

from edge_runtime.audio.file import FileSource, read_file
from edge_runtime.audio.mpeg import frame_bytes
from edge_runtime.audio.raw import RawFormat
from edge_runtime.audio.stdin import PipeSource
from edge_runtime.errors import AudioError
from edge_runtime.pcm import SAMPLE_RATE, Int16

Command = Callable[..., "CompletedProcess[str]"]


def heard(source: PipeSource | FileSource) -> Int16:
    blocks = [block.samples for block in source.blocks()]
    return np.concatenate(blocks) if blocks else np.empty(0, np.int16)


def format_chunk(code: int = 1) -> bytes:
    return b"fmt " + struct.pack("<IHHIIHH", 16, code, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)


def wav(samples: Int16, *, data: int, before: bytes = b"") -> bytes:
    head = b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + format_chunk() + before
    return head + b"data" + struct.pack("<I", data) + samples.tobytes()


def rf64(samples: Int16) -> bytes:
    """As ffmpeg writes it to a pipe."""
    head = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", 28) + bytes(28)
    return head + format_chunk() + b"data\xff\xff\xff\xff" + samples.tobytes()


def w64(samples: Int16) -> bytes:
    guid = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    head = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000") + struct.pack("<q", -1)
    head += b"wave" + guid + b"fmt " + guid + struct.pack("<q", 40) + format_chunk()[8:]
    return head + b"data" + guid + struct.pack("<q", -1) + samples.tobytes()


def aiff(samples: Int16) -> bytes:
    rate = struct.pack(">HQ", 16383 + 13, SAMPLE_RATE << 50)  # 2**13 <= 16,000 < 2**14
    head = b"FORM" + bytes(4) + b"AIFFCOMM" + struct.pack(">IHIH", 18, 1, 0, 16) + rate
    return head + b"SSND" + bytes(12) + samples.astype(">i2").tobytes()


def au(samples: Int16) -> bytes:
    head = b".snd" + struct.pack(">5I", 24, 0xFFFFFFFF, 3, SAMPLE_RATE, 1)
    return head + samples.astype(">i2").tobytes()


def caf(samples: Int16) -> bytes:
    desc = struct.pack(">d4s5I", SAMPLE_RATE, b"lpcm", 2, 2, 1, 1, 16)
    head = b"caff\0\1\0\0desc" + struct.pack(">q", len(desc)) + desc
    return head + b"data" + struct.pack(">qI", -1, 0) + samples.tobytes()


UNFILLED: dict[str, Callable[[Int16], bytes]] = {
    "GStreamer's 0x7fff0000": lambda s: wav(s, data=0x7FFF0000),
    "a picture before the samples": lambda s: wav(
        s, data=0xFFFFFFFF, before=b"JUNK" + struct.pack("<I", 100_000) + bytes(100_000)
    ),
    "RF64": rf64,
    "W64": w64,
    "AIFF": aiff,
    "AU": au,
    "CAF": caf,
}


@pytest.mark.parametrize("kind", UNFILLED)
def test_every_sample_behind_an_unfilled_head_is_heard_of_a_file_and_of_a_pipe(
    tmp_path: Path, sentence: Int16, kind: str
) -> None:
    path = tmp_path / "recording"
    path.write_bytes(UNFILLED[kind](sentence))
    file, pipe = FileSource(path), PipeSource(io.BytesIO(path.read_bytes()))
    assert file.seconds == pytest.approx(sentence.size / SAMPLE_RATE)
    assert np.array_equal(heard(file), sentence)
    assert np.array_equal(heard(pipe), sentence)
    assert file.warnings == pipe.warnings == []


@pytest.mark.parametrize("length", [0, 6, 14, 16])
def test_a_format_chunk_that_is_too_short_is_the_files_own_fault(
    tmp_path: Path, sentence: Int16, length: int
) -> None:
    path = tmp_path / "a.wav"
    chunk = b"fmt " + struct.pack("<I", length) + format_chunk(code=0x4242)[8 : 8 + length]
    body = b"WAVE" + chunk + b"data" + struct.pack("<I", 2 * sentence.size) + sentence.tobytes()
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(AudioError, match=r"a\.wav"):
        read_file(path)


class Endless(io.RawIOBase):
    """A recording, over and over; fails the test where it is read far ahead of what is heard."""

    def __init__(self, beginning: bytes, again: bytes) -> None:
        self._data, self._again = beginning, again
        self.brought = 0

    def read1(self, size: int) -> bytes:
        while len(self._data) < size:
            self._data += self._again
        data, self._data = self._data[:size], self._data[size:]
        self.brought += len(data)
        assert self.brought < 1 << 20, "all of it is waited for"
        return data


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU", "MP3", "OGG", "FLAC"])
def test_a_container_in_a_pipe_is_heard_before_the_pipe_ends(
    sentence: Int16, container: str
) -> None:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", SAMPLE_RATE, 1, format=container) as out:
        for _ in range(20):  # libsndfile's Vorbis encoder overflows the stack with all at once
            for piece in np.array_split(sentence, 10):
                out.write(piece)
    endless = Endless(file.getvalue()[: 1 << 17], bytes(4096))
    source = PipeSource(endless)  # type: ignore[arg-type]
    blocks = source.blocks()
    samples = 0
    while samples < SAMPLE_RATE:
        samples += next(blocks).samples.size
    blocks.close()  # type: ignore[attr-defined]
    assert 0 < endless.brought < 1 << 18  # what is heard, and what a decoder reads ahead


def test_raw_samples_that_look_like_one_frame_of_mp3_are_raw_samples(sentence: Int16) -> None:
    # 0xff 0xfb 0x90 0x64 begins most MP3s of the world; 0xff 0xf1 0x50 0x80 most streams of AAC.
    for begin in (b"\xff\xfb\x90\x64", b"\xff\xf1\x50\x80"):
        samples = np.concatenate([np.frombuffer(begin, "<i2"), sentence])
        assert np.array_equal(heard(PipeSource(io.BytesIO(samples.tobytes()))), samples)


def mp3(samples: Int16, **options: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples / 32768, SAMPLE_RATE, format="MP3", **options)
    return file.getvalue()


def test_an_mp3_is_what_libsndfile_makes_of_it(tmp_path: Path, sentence: Int16) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3(sentence))
    expected, _ = soundfile.read(path, dtype="float32")
    found = read_file(path)
    assert found.size == expected.size
    # Half a step of rounding to int16.
    assert np.abs(found - expected * 32768).max() <= 0.51


def test_a_part_of_an_mp3_is_that_part_of_all(tmp_path: Path, sentence: Int16) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3(sentence))
    assert np.array_equal(read_file(path, 2.5, 4.0), read_file(path)[40_000:64_000])


def test_mp3s_that_were_joined_are_heard_both(tmp_path: Path, sentence: Int16) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3(sentence) * 2)  # the header of the first still promises one
    assert read_file(path).size >= 2 * sentence.size


def test_what_lies_behind_damage_in_an_mp3_is_heard_and_the_damage_told(
    tmp_path: Path, sentence: Int16
) -> None:
    path = tmp_path / "a.mp3"
    content = mp3(sentence)
    half = len(content) // 2
    path.write_bytes(content[:half] + b"junk" * 5000 + content[half:])
    source = FileSource(path)
    # At most the two frames around it are lost.
    assert heard(source).size >= sentence.size - 4 * 1152
    assert any("damaged" in warning for warning in source.warnings)


def test_a_pipe_that_ends_before_its_header_says_is_told(sentence: Int16) -> None:
    content = wav(sentence[:-SAMPLE_RATE], data=2 * sentence.size)
    source = PipeSource(io.BytesIO(content))
    assert np.array_equal(heard(source), sentence[:-SAMPLE_RATE])
    (warning,) = source.warnings
    assert "ended 1.00 s before its header says" in warning


class Pulled(io.BytesIO):
    """A file on a stick that is pulled out when so many bytes of it are read."""

    def __init__(self, content: bytes, most: int) -> None:
        super().__init__(content)
        self.most = most

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.most:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


@pytest.mark.parametrize("kind", ["MP3", "WAV"])
def test_a_file_that_is_gone_while_it_is_read_is_its_own_fault(kind: str, sentence: Int16) -> None:
    content = mp3(sentence) if kind == "MP3" else wav(sentence, data=0xFFFFFFFF)
    source = FileSource("stick.audio", stream=Pulled(content, len(content) // 2))
    heard: list[Int16] = []
    with pytest.raises(AudioError, match=r"^stick.audio cannot be read: Input/output error$"):
        heard.extend(block.samples for block in source.blocks())
    assert sum(map(len, heard)) > SAMPLE_RATE
    tag = b"ID3\4\0\0\0\0\x27\x08" + bytes(5000)
    for at in (0, 4096):  # its head, and what a decoder looks at
        with pytest.raises(AudioError, match=r"^stick.audio cannot be read: Input/output error$"):
            FileSource("stick.audio", stream=Pulled(tag + mp3(sentence), at))


def test_an_mp3_without_a_length_that_is_gone_while_it_is_counted(sentence: Int16) -> None:
    frames = mp3(sentence)
    frames = frames[frame_bytes(frames[:4]) :]  # but for the one that says how many there are
    stick = Pulled(frames, len(frames))
    source = FileSource("stick.mp3", stream=stick)
    stick.most = len(frames) // 2
    with pytest.raises(AudioError, match=r"^stick.mp3 cannot be read: Input/output error$"):
        assert source.seconds


NOT_READ = {
    "AAC": b"\xff\xf1\x50\x80\x01\x7f\xfc" + bytes(4) + b"\xff\xf1\x50\x80\x01\x7f\xfc" + bytes(4),
    "AC-3": b"\x0b\x77\0\0\x14\x40" + bytes(100),
    "AMR": b"#!AMR\n" + bytes(100),
    "AVI": b"RIFF\0\0\0\0AVI LIST" + bytes(100),
    "MPEG-TS": (b"\x47" + bytes(187)) * 8,
    "WebM": b"\x1a\x45\xdf\xa3" + bytes(100),
    "M4A": b"\0\0\0\x20ftypM4A " + bytes(100),
}


@pytest.mark.parametrize("kind", NOT_READ)
def test_what_only_ffmpeg_reads_is_named_with_the_next_step(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "my clip"
    path.write_bytes(NOT_READ[kind])
    with pytest.raises(AudioError, match=f"{kind}.*ffmpeg -i '.*my clip' -f wav -"):
        read_file(path)
    with pytest.raises(AudioError, match=f"{kind}.*ffmpeg -i FILE -f wav -"):
        heard(PipeSource(io.BytesIO(NOT_READ[kind])))


NO_AUDIO = {
    "text": b"these are words\n" * 100,
    "a zip archive": b"PK\3\4" + bytes(100),
    "a picture": b"\x89PNG\r\n" + bytes(100),
}


@pytest.mark.parametrize("what", NO_AUDIO)
def test_what_is_no_audio_gets_no_verdict(what: str) -> None:
    with pytest.raises(AudioError, match=f"carries no audio: it is {what}"):
        heard(PipeSource(io.BytesIO(NO_AUDIO[what])))


def test_a_container_is_not_read_as_raw_samples(sentence: Int16) -> None:
    with pytest.raises(AudioError, match="MP3, which says its own"):
        heard(PipeSource(io.BytesIO(mp3(sentence)), RawFormat("s16le", 44_100)))


def test_raw_files_are_heard_where_it_is_said_what_they_hold(
    tmp_path: Path, edge_emotion: Command, sentence: Int16
) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(sentence.astype(">i2").tobytes())
    done = edge_emotion("run", "--out", "jsonl", "--format", "s16be", path)
    assert done.returncode == 0
    finals = [e for e in map(json.loads, done.stdout.splitlines()) if e.get("final")]
    assert len(finals) == 1


def test_antiphase_behind_silence_is_not_mixed_to_nothing(sentence: Int16) -> None:
    quiet = np.zeros(10 * SAMPLE_RATE, np.int16)
    left = np.concatenate([quiet, sentence])
    raw = np.stack([left, -left], axis=1).tobytes()
    source = PipeSource(io.BytesIO(raw), RawFormat("s16le", SAMPLE_RATE, 2))
    assert np.array_equal(np.abs(heard(source)), np.abs(left))
    assert len(source.warnings) == 1


def test_how_a_pipe_brings_its_bytes_changes_no_sample(sentence: Int16) -> None:
    class Few(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            return self.read(min(size or 1, 777))

    raw = np.stack([sentence, np.roll(sentence, 9)], axis=1).tobytes()
    form = RawFormat("s16le", 44_100, 2)
    at_once, bit_by_bit = (heard(PipeSource(kind(raw), form)) for kind in (io.BytesIO, Few))
    assert np.array_equal(at_once, bit_by_bit)


def test_numbers_beyond_single_precision_are_counted_and_not_printed(
    recwarn: pytest.WarningsRecorder,
) -> None:
    raw = np.full(SAMPLE_RATE, 1e300).tobytes()
    source = PipeSource(io.BytesIO(raw), RawFormat("f64le"))
    assert not heard(source).any()
    assert f"{SAMPLE_RATE} samples were NaN or infinite" in source.warnings[0]
    assert not recwarn.list


def test_samples_that_are_no_numbers_are_counted_by_health(
    tmp_path: Path, edge_emotion: Command, sentence: Int16
) -> None:
    samples = np.stack([sentence, sentence], axis=1).astype(np.float32) / 32768
    samples[1000:1007, 0], samples[2000:2003] = np.nan, np.inf
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")
    done = edge_emotion("run", "--out", "jsonl", path)
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])["invalid_samples"] == 10
