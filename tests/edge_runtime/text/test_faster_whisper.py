"""A better ear for words: Whisper tiny.en by faster-whisper, on real clips."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_output import Command

from edge_runtime.audio.file import read_file
from edge_runtime.errors import TextError
from edge_runtime.events import Word
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.segment import speech_of
from edge_runtime.text import TextSource, Transcript
from edge_runtime.text.engines import check_source, pieces, source_named
from edge_runtime.text.engines.pieces import RehearingSource
from training.speech.synthesis import speak_with_flite
from training.words.asrnoise import confusions

BLOCK = SAMPLE_RATE // 10
SAID = "kids are talking by the door"
LONG = (
    "the old man walked slowly down to the river",
    "nobody knew why the train was late that morning",
    "she bought three apples and a loaf of bread",
    "my brother has never seen the ocean before",
    "please close the window because it is cold outside",
    "we are going to paint the kitchen yellow",
    "the doctor said that everything would be fine",
    "can you tell me where the station is",
    "they have lived in this house for twenty years",
    "it began to rain just as we left the office",
    "her favorite book was lying under the table",
    "i would like a cup of coffee with milk",
)
needs_flite = pytest.mark.skipif(
    not shutil.which("flite"), reason="no flite: apt-get install flite"
)


@pytest.fixture(scope="module")
def engine(tiny_en: Path) -> TextSource:
    return source_named(f"faster-whisper:{tiny_en}")


def hear(
    engine: TextSource, samples: Int16, t: float = 0.0, block: int = BLOCK
) -> list[Transcript]:
    """What the engine says of one utterance, partials first."""
    engine.begin(t)
    said = [engine.feed(samples[i : i + block]) for i in range(0, len(samples), block)]
    return [*(s for s in said if s is not None), engine.end()]


def test_words_of_a_real_clip_come_with_times_and_confidence(
    engine: TextSource, kids: Int16
) -> None:
    *partials, final = hear(engine, kids, 10.0)
    assert (final.text, final.final) == (SAID, True)
    assert (final.start, final.source) == (10.0, "faster-whisper")
    times = [t for word in final.words for t in (word.start, word.end)]
    assert times == sorted(times)
    assert times[0] >= 10.0
    assert times[-1] <= 10.0 + len(kids) / SAMPLE_RATE + 0.01
    assert all(w.confidence is not None and 0 < w.confidence <= 1 for w in final.words)
    # There are words while people speak, and nobody had said them all.
    assert partials
    assert not any(p.final for p in partials)
    assert partials[0].text.split()[0] == "kids"
    assert len(partials[0].words) < 6


def test_how_the_samples_are_cut_does_not_matter(engine: TextSource, kids: Int16) -> None:
    fine, coarse = (hear(engine, kids, 0.0, block)[-1] for block in (377, 16_000))
    assert fine == coarse


def test_half_the_words_that_pocketsphinx_gets_wrong(engine: TextSource, corpora: Path) -> None:
    """Two speakers of RAVDESS, happy and angry, both sentences."""
    clips = [
        (
            said,
            corpora / f"ravdess/Actor_{actor:02d}/03-01-{emotion}-01-{number}-01-{actor:02d}.flac",
        )
        for actor in (1, 12)
        for emotion in ("03", "05")
        for number, said in (("01", SAID), ("02", "dogs are sitting by the door"))
    ]
    spoken = [(said, speech_of(read_file(path))) for said, path in clips if path.is_file()]
    assert len(spoken) >= 6
    rates = []
    for ear in (engine, source_named("asr")):
        heard = []
        for said, samples in spoken:
            ear.restart()
            heard.append((said, hear(ear, samples, block=len(samples))[-1].text))
        rates.append(confusions(heard).error_rate)
    assert rates[0] <= 0.5 * rates[1]
    assert rates[0] < 0.1


def test_nothing_said_and_nothing_fed_give_no_words(engine: TextSource) -> None:
    assert hear(engine, np.zeros(0, np.int16)) == [Transcript((), True, 0.0, "faster-whisper")]
    assert hear(engine, np.zeros(SAMPLE_RATE // 2, np.int16))[-1].words == ()
    assert hear(engine, np.zeros(10, np.int16))[-1].final


@needs_flite
def test_an_utterance_of_more_than_half_a_minute_is_heard_to_its_end(engine: TextSource) -> None:
    pause = np.zeros(2 * SAMPLE_RATE // 5, np.int16)
    spoken = [speak_with_flite(sentence, "slt") for sentence in LONG]
    samples = np.concatenate([part for sentence in spoken for part in (sentence, pause)])
    assert len(samples) > 31 * SAMPLE_RATE
    engine.begin(7.0)
    engine.feed(samples)
    final = engine.end()
    assert confusions([(" ".join(LONG), final.text)]).error_rate < 0.1
    assert final.words[-1].text == "milk"
    assert -1 < final.words[-1].end - 7 - len(samples) / SAMPLE_RATE <= 0.01
    assert [w.start for w in final.words] == sorted(w.start for w in final.words)


def test_sounds_that_are_no_speech_and_end_anywhere_are_no_error(engine: TextSource) -> None:
    rng = np.random.default_rng(0)
    for length in (1, 159, 161, 1000, 7000, 30 * SAMPLE_RATE + 1, 2 * 28 * SAMPLE_RATE + 25_600):
        engine.begin(0.0)
        engine.feed(rng.normal(0, 300, length).astype(np.int16))
        assert engine.end().final


def test_out_of_turn_is_an_error_and_an_utterance_left_open_is_dropped(engine: TextSource) -> None:
    engine.begin(0.0)
    engine.feed(np.zeros(1600, np.int16))
    engine.begin(5.0)
    assert engine.end().start == 5.0
    with pytest.raises(TextError, match="ended that had not begun"):
        engine.end()
    with pytest.raises(TextError, match="before an utterance began"):
        engine.feed(np.zeros(10, np.int16))


@needs_flite
def test_figures_are_words(engine: TextSource) -> None:
    found = hear(engine, speak_with_flite("it is twenty dollars an hour", "slt"))[-1]
    assert "twenty dollars an hour" in found.text


def test_words_are_heard_while_a_file_streams(
    edge_emotion: Command, tiny_en: Path, corpora: Path
) -> None:
    clip = corpora / "ravdess/Actor_01/03-01-01-01-01-02-01.flac"
    done = edge_emotion("run", clip, "--text", f"faster-whisper:{tiny_en}", "--out", "jsonl")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (final,) = (e for e in events if e["type"] == "emotion" and e["final"])
    assert (final["text"], final["modality"]) == (SAID, "audio+text")


def refusal(folder: Path, seen: bool) -> str:
    """What is said of `folder`; whether that is `seen` before anything is loaded."""
    name = f"faster-whisper:{folder}"
    if not seen:
        check_source(name)
    with pytest.raises(TextError) as caught:
        (check_source if seen else source_named)(name)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{folder} is no CTranslate2 model of Whisper" in message
    assert "expected model.bin, config.json, tokenizer.json and vocabulary.json or" in message
    return message


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        ("model.bin", "there is no model.bin"),
        ("config.json", "there is no config.json"),
        # faster-whisper would ask a server for it.
        ("tokenizer.json", "there is no tokenizer.json"),
        ("vocabulary.txt", "there is no vocabulary.json"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused_before_any_audio(
    lacking: str, why: str, tiny_en: Path, tmp_path: Path
) -> None:
    for path in tiny_en.iterdir():
        if path.name != lacking:
            (tmp_path / path.name).symlink_to(path)
    assert why in refusal(tmp_path, seen=True)


def test_an_empty_folder_and_a_file_are_refused_before_any_audio(
    tiny_en: Path, tmp_path: Path
) -> None:
    assert "there is no model.bin and no config.json" in refusal(tmp_path, seen=True)
    assert "it is no folder" in refusal(tiny_en / "model.bin", seen=True)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("model.bin", b"lmgg and more", "model.bin begins with"),
        ("model.bin", b"", "model.bin begins with ''"),
        ("model.bin", b"\6\0\0\0\20\0TransformerSpec\0", "begins with 'TransformerSpec' instead"),
        ("model.bin", 1_000_000, "model.bin"),
        ("config.json", b"{", "config.json"),
        ("tokenizer.json", b"{", "EOF"),
        ("vocabulary.txt", b"a\nb\n", "token was not found"),
    ],
)
def test_a_folder_with_a_file_of_another_kind_is_refused(
    name: str, content: bytes | int, why: str, tiny_en: Path, tmp_path: Path
) -> None:
    for path in tiny_en.iterdir():
        if path.name != name:
            (tmp_path / path.name).symlink_to(path)
    if isinstance(content, int):  # so much of it had come
        content = (tiny_en / name).read_bytes()[:content]
    (tmp_path / name).write_bytes(content)
    seen = name == "model.bin" and len(content) < 100
    assert why in refusal(tmp_path, seen)


def test_nothing_is_asked_of_the_network(tiny_en: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def refuse(*arguments: Any) -> None:
        asked.append(arguments)
        raise OSError("there is no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    hear(source_named(f"faster-whisper:{tiny_en}"), np.zeros(SAMPLE_RATE, np.int16))
    assert asked == []


class Slow(RehearingSource):
    """Hearing takes `cost` seconds of a clock of its own."""

    name = "slow"

    def __init__(self, cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.cost, self.now = cost, 0.0
        self.heard: list[float] = []
        monkeypatch.setattr(pieces, "monotonic", lambda: self.now)

    def _words(self, samples: Int16, start: float) -> tuple[Word, ...]:
        self.now += self.cost
        return ()

    def _words_so_far(self, samples: Int16, start: float) -> tuple[Word, ...]:
        self.now += self.cost
        self.heard.append(samples.size / SAMPLE_RATE)
        return (Word("word", start, start),)


@pytest.mark.parametrize("cost", [0.05, 2.0])
def test_partial_words_cost_a_third_of_the_time_at_most(
    cost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And come once in a second of speech, on a fast machine."""
    engine = Slow(cost, monkeypatch)
    utterance = np.zeros(15 * SAMPLE_RATE, np.int16)
    said = [part for t in (0.0, 20.0, 40.0) for part in hear(engine, utterance, t)]
    assert engine.cost * len(engine.heard) <= 45 / 3
    assert engine.heard[0] == pytest.approx(1.0)
    assert engine.heard[1] - engine.heard[0] == pytest.approx(max(1.0, 3 * cost))
    # The same words are not told again.
    assert [p.final for p in said] == [False, True] * 3


def test_a_hearing_that_was_held_up_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Slow(0.1, monkeypatch)
    utterance = np.zeros(2 * SAMPLE_RATE, np.int16)
    engine.begin(0.0)
    engine.cost = 600.0  # the machine slept
    assert engine.feed(utterance) is not None
    engine.cost = 0.1
    engine.end()
    assert len(hear(engine, utterance, 5.0)) == 2
