"""Whatever is in a file, a pipe or a message: it is read, or refused in the project's own words.

A reader is a line in `READERS`. FUZZ_CASES in the environment is how many contents each of them
gets, and how many bundles are mutated; `scripts/fuzz 10000` sets it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.arrays import packed, read_npy, unpacked
from edge_runtime.audio.file import FileSource
from edge_runtime.audio.raw import ENCODINGS, RawFormat
from edge_runtime.audio.stdin import PipeSource
from edge_runtime.bundle import DEFAULT, MODELS
from edge_runtime.commands.settings import RunSettings
from edge_runtime.config import described, effective, read_environment, template, variable
from edge_runtime.errors import EdgeError
from edge_runtime.events import HealthEvent, SpeechStartEvent, TextEvent, to_dict
from edge_runtime.graph_check import check_graph
from edge_runtime.profile import Profile, load_profile
from edge_runtime.settings import options
from edge_runtime.sinks.file import FileSettings, FileSink
from edge_runtime.sinks.lines import json_line
from edge_runtime.sinks.spool import Record, Spool, pack
from edge_runtime.text.given import GivenStream
from edge_runtime.text.phrases import read_keywords
from edge_runtime.tokenizer import EXPRESSION, FIRST_WORD, Tokenizer, words
from edge_runtime.untrusted import parse_json
from edge_runtime.wyoming.protocol import EventReader, event_bytes

CASES = int(os.environ.get("FUZZ_CASES", "400"))
BUNDLES = int(os.environ.get("FUZZ_CASES", "140"))
Read = Callable[[bytes, Path], object]


@dataclass(frozen=True)
class Reader:
    """What reads contents of somebody else's making."""

    name: str
    seeds: Callable[[], list[bytes]]
    """Contents that it reads, or nearly: what is tried is made of them."""
    read: Read
    """Reads one; a folder is for files."""
    refuses: tuple[type[Exception], ...] = (EdgeError,)
    """How; ValueError for a part whose callers say it in their words."""


def sounds(*kinds: tuple[str, str]) -> list[bytes]:
    """A twentieth of a second in these formats and subtypes of libsndfile."""
    noise = np.random.default_rng(0).normal(0, 0.1, (800, 2))
    return [_sound(noise[:, : 1 + index % 2], *kind) for index, kind in enumerate(kinds)]


def _sound(noise: Any, kind: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise, 16_000, subtype, format=kind)
    return file.getvalue()


def plain_sounds() -> list[bytes]:
    made = sounds(
        *(("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16")),
        *(("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "ULAW"), ("CAF", "PCM_16")),
    )
    # A rate that is no number.
    caf = made[-1]
    made.append(caf[:20] + struct.pack(">d", float("nan")) + caf[28:])
    # As a pipe gets it: how much it is was not filled in.
    size = made[0].index(b"data") + 4
    unfilled = made[0][:size] + b"\xff" * 4 + made[0][size + 4 :]
    # And of so many channels, that often a second, that no memory holds a tenth of one.
    many = struct.pack("<HI", 0xFFFF, 768_000)
    return [*made, unfilled, unfilled[:22] + many + unfilled[28:32] + b"\xfe\xff" + unfilled[34:]]


def packed_sounds() -> list[bytes]:
    return sounds(
        *(("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "IMA_ADPCM")),
        *(("OGG", "OPUS"), ("VOC", "PCM_16"), ("SVX", "PCM_16")),
    )


def read_file(content: bytes, folder: Path) -> None:
    path = folder / "sound"
    path.write_bytes(content)
    source = FileSource(path)
    assert source.seconds >= 0
    assert source.read().dtype == np.int16


def read_pipe(content: bytes, folder: Path, raw: RawFormat | None = None) -> None:
    reader, writer = os.pipe()
    os.write(writer, content[:60_000])
    os.close(writer)
    for block in PipeSource(open(reader, "rb"), raw).blocks():  # noqa: SIM115  # closes it
        assert block.samples.dtype == np.int16


class _Handed:
    """A feed of words that are all there."""

    waits, repeats = True, False

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    def start(
        self,
        line: Callable[[bytes], None],
        end: Callable[[str], None],
        tell: Callable[[bool, str], None],
    ) -> None:
        for content in self._lines[:100]:
            line(content)
        end("it is over")

    def stop(self) -> None:
        pass


def read_words(content: bytes, folder: Path) -> None:
    stream = GivenStream("fuzz", _Handed(content.split(b"\n")))
    for second in range(3):
        stream.begin(float(second))
        stream.feed(np.zeros(12_000, np.int16))
        events = stream.poll()
        stream.end(second + 0.75)
        for event in events:
            json.dumps(to_dict(event), allow_nan=False)
            if isinstance(event, TextEvent):
                assert event.text.isprintable()
                assert all(word.start <= word.end for word in event.words)
    stream.close()


def read_text(content: bytes, folder: Path) -> None:
    text = content.decode("utf-8", "replace")
    tokenizer = Tokenizer([*EXPRESSION, ".", "so", "happy"], 16, punctuation=True)
    tokens = tokenizer.encode(text)
    assert tokens.ids.size <= 16
    assert all(0 <= row < FIRST_WORD + 9 for row in tokens.ids)
    assert tokens.cut + tokens.ids.size == len(words(text, True, True))


def read_wyoming(content: bytes, folder: Path) -> None:
    """In pieces, as a socket brings them; what comes out can be sent again."""
    reader, whole = EventReader(), EventReader()
    events = []
    for at in range(0, len(content), 37):
        events += reader.take(content[at : at + 37])
    assert [vars(event) for event in events] == [vars(event) for event in whole.take(content)]
    assert reader.amid == whole.amid
    for event in events:
        (again,) = EventReader().take(event_bytes(event))
        assert again.type == event.type
        assert again.payload == event.payload


def read_settings(path: Path) -> None:
    found = effective(RunSettings, argparse.Namespace(), path)
    # What it says can be read again, and says the same.
    shown = "\n".join(described(found))
    path.write_text(template(RunSettings, found.values), encoding="utf-8")
    again = effective(RunSettings, argparse.Namespace(), path)
    assert again.settings == found.settings
    assert "\n".join(described(again)) == shown


def read_variables(content: bytes, folder: Path) -> None:
    """Its lines are the values of variables, one after the other."""
    known = {option.key: option for option in options(RunSettings)}
    lines = content.decode("utf-8", "surrogateescape").replace("\0", "").split("\n")
    names = map(variable, itertools.cycle(known.values()))
    read_environment(dict(zip(names, lines[: 2 * len(known)], strict=False)), known)


def read_buffer(content: bytes, folder: Path) -> None:
    """A folder that an earlier process left: what is done, then messages; one more is added."""
    shutil.rmtree(folder / "buffer", ignore_errors=True)
    (folder / "buffer").mkdir()
    done, _, messages = content.partition(b"|")
    (folder / "buffer" / "done").write_bytes(done)
    (folder / "buffer" / f"{1:016d}.seg").write_bytes(messages)
    spool = Spool(folder / "buffer", 1.0, 1.0)
    spool.append("last", b"{}")
    waiting = spool.queued
    taken = []
    while (record := spool.take()) is not None:
        taken.append(record)
        spool.done(record.number)
    assert len(taken) == waiting
    assert taken[-1][1:] == ("last", b"{}")
    assert [record.number for record in taken] == sorted({record.number for record in taken})
    assert spool.queued == 0
    assert spool.trouble == ""
    spool.close()


def read_kept(content: bytes, folder: Path) -> None:
    """A file of events that is there already, and a rotated one beside it; one event is added."""
    path = folder / "events.jsonl"
    path.write_bytes(content)
    path.with_name("events.000001.jsonl").write_bytes(content)
    with contextlib.redirect_stderr(io.StringIO()):
        sink = FileSink(FileSettings(), path)
        sink.write(SpeechStartEvent(1.5))
        sink.close()
    assert sink.dropped == 0
    kept = path.read_bytes()
    assert json.loads(kept.splitlines()[-1])["t"] == 1.5
    assert kept.endswith(b"\n")


def in_file(read: Callable[[Path], object]) -> Read:
    def reader(content: bytes, folder: Path) -> None:
        (folder / "file").write_bytes(content)
        read(folder / "file")

    return reader


def given_lines() -> list[bytes]:
    lines: list[dict[str, Any]] = [
        {"text": "so happy", "start": 0.1, "end": 0.6, "confidence": 0.5, "final": True},
        {"words": [{"text": "No", "start": 1.2}, {"text": "way", "start": 1.3, "end": 1.5}]},
        {"text": "later \ud800\x1b[2J", "start": 99, "confidence": 1e300},
    ]
    return [b"\n".join(json.dumps(line).encode() for line in lines), b'{"text": "' + b"a " * 50]


def wyoming_events() -> list[bytes]:
    event = pytest.importorskip("wyoming.event").Event
    start = {"rate": 16_000, "width": 2, "channels": 1}
    events = [
        event("describe"),
        event("audio-start", start),
        event("audio-chunk", {**start, "timestamp": 0}, bytes(64)),
        event("transcript", {"text": "Küche \u2028 so happy", "more": [1.5, None, {"a": []}]}),
    ]
    deep = b'{"type": "x", "data": ' + b"[" * 60_000 + b"\n"
    long = b'{"type": "audio-chunk", "payload_length": ' + b"9" * 5000 + b"}\n"
    return [b"".join(map(event_bytes, events)), deep, long]


def settings_files() -> list[bytes]:
    values = {"gain_db": 3.0, "mqtt.broker": "mqtt://a:b@c", "on.rules": (("any", "true"),)}
    odd = ("gain_db = " + "9" * 400, "threads = " + "9" * 400, "rate = " + "9" * 5000)
    nested = ("[on]\nrules = " + "[" * 5000, "[mqtt.web]\non = 1979-05-27", "mqtt = 3")
    texts = (template(RunSettings, values)[:6000], "mic = true\n[web]\non = true\nport = 1", *odd)
    return [text.encode() for text in (*texts, *nested)]


def variables() -> list[bytes]:
    known = list(options(RunSettings))
    values = ["" if o.default is None else str(o.default).lower() for o in known]
    odd = ["9" * 5000, "[" * 5000, "9" * 400, '"""', "1\r", "inf", "[[1]]"]
    return ["\n".join(values).encode(), *(f"{value}\n".encode() * len(known) for value in odd)]


def buffers() -> list[bytes]:
    records = [Record(n, f"a/event/{n}", b'{"t": 1.5}' * n) for n in range(3, 8)]
    messages = b"".join(map(pack, records))
    highest = pack(Record(2**64 - 1, "a", b"{}"))
    return [
        *(cursor(number) + b"|" + messages for number in (1, 5, 8, 2**64 - 1)),
        b"|" + messages + highest,
        b"|" + pack(Record(10**15, "a", b"{}")),
    ]


def cursor(number: int) -> bytes:
    """As the file `done` of a buffer holds it."""
    mark = struct.pack(">Q", number)
    return mark + struct.pack(">I", zlib.crc32(mark))


def kept_events() -> list[bytes]:
    health = HealthEvent(60.0, 0.0, 0, 0.01, 70.0)
    lines = b"".join(map(json_line, (SpeechStartEvent(0.5), health)))
    odd = (b'{"time": "' + b"9" * 50, b'{"time": "", "a": ' + b"[" * 100_000 + b"\n", lines[:-20])
    return [lines, *odd]


def profiles() -> list[bytes]:
    profile = Profile("0" * 64, "2026-01-01T00:00:00", 10.0, 3.0, np.ones(12, np.float32))
    raw = {"kind": "edge-emotion speaker profile", "version": 1, **vars(profile)}
    return [json.dumps({**raw, "mean": "ADwAPAA8"}).encode()]


def bundle_file(*names: str) -> Callable[[], list[bytes]]:
    return lambda: [(MODELS / DEFAULT / name).read_bytes() for name in names]


def some_arrays() -> list[bytes]:
    return [packed({"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float16)})]


def an_array() -> list[bytes]:
    file = io.BytesIO()
    np.save(file, np.ones((2, 3), np.float32))
    return [file.getvalue()]


READERS = [
    Reader("audio files, plain", plain_sounds, read_file),
    Reader("audio files, packed", packed_sounds, read_file),
    Reader("audio in a pipe", lambda: plain_sounds() + packed_sounds()[:3], read_pipe),
    *(
        Reader(f"raw {encoding}", plain_sounds, partial(read_pipe, raw=RawFormat(encoding, 8000)))
        for encoding in sorted(ENCODINGS)[:: max(1, len(ENCODINGS) // 4)]
    ),
    Reader("words of somebody else", given_lines, read_words),
    Reader("Wyoming", wyoming_events, read_wyoming),
    Reader("settings files", settings_files, in_file(read_settings)),
    Reader("variables", variables, read_variables),
    Reader("messages that wait", buffers, read_buffer, ()),
    Reader("kept events", kept_events, read_kept),
    Reader("text", lambda: ["I'm SOOO happy!!! … don't?!".encode(), b"."], read_text),
    Reader("key phrases", bundle_file("keywords.txt"), in_file(read_keywords)),
    Reader("profiles", profiles, in_file(load_profile)),
    Reader("JSON", profiles, lambda content, _: parse_json(content), (ValueError,)),
    Reader("an array", an_array, lambda content, _: read_npy(content), (ValueError,)),
    Reader(
        "arrays", some_arrays, lambda content, _: unpacked(content, "ab", "fuzz"), (ValueError,)
    ),
    Reader(
        "graphs",
        bundle_file("attention.tflite"),
        lambda content, _: check_graph(content, "tflite"),
        (ValueError,),
    ),
]

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_EDIT = st.tuples(
    st.sampled_from(["flip", "number", "cut", "double", "drop", "put"]),
    st.integers(0, 200_000),
    st.integers(0, 255),
    st.sampled_from(_NUMBERS),
    st.binary(max_size=8),
)


def edited(content: bytes, edits: list[tuple[str, int, int, int, bytes]]) -> bytes:
    """`content` with its bits, numbers and stretches changed; half of it in the first bytes."""
    data = bytearray(content)
    for kind, place, amount, number, put in edits:
        at = place % max(1, min(len(data), 80 if place % 2 else len(data)))
        if kind == "flip" and data:
            data[at] ^= 1 << amount % 8
        elif kind == "number":
            size = (1, 2, 4, 8)[amount % 4]
            order = "big" if amount & 4 else "little"
            data[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
        elif kind == "cut":
            del data[max(at, 8) :]
        elif kind == "double":
            data[at:at] = data[at : at + amount]
        elif kind == "drop":
            del data[at : at + amount]
        else:
            data[at:at] = put
    return bytes(data)


@pytest.mark.filterwarnings("ignore")  # of libraries, about what is damaged
@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_whatever_is_in_it_is_read_or_refused_in_words(reader: Reader, tmp_path: Path) -> None:
    seeds = reader.seeds()
    contents = st.builds(edited, st.sampled_from(seeds), st.lists(_EDIT, max_size=6))
    read, refusals = 0, []

    @settings(
        max_examples=CASES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(contents | st.binary(max_size=200))
    def check(content: bytes) -> None:
        nonlocal read
        try:
            reader.read(content, tmp_path)
            read += 1
        except reader.refuses as error:
            refusals.append(str(error))

    check()
    assert read > 0
    assert [line for line in refusals if not line.isprintable() or len(line) > 2000] == []


def test_mutated_bundles_are_refused_in_words_or_work(tmp_path: Path) -> None:
    """In processes of their own: LiteRT is C++, and some graphs have hashes that are right."""
    script = Path(__file__).parent.parent / "fuzz_bundles.py"
    done = subprocess.run(
        [sys.executable, script, "--cases", str(BUNDLES)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{BUNDLES} cases, 0 findings" in done.stdout
    assert "works" in done.stdout
    assert "BundleError" in done.stdout
