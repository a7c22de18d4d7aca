"""What engines hear, what spoken words change, what faults cost: measured with the real parts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.faults import HARMS, harm_engine
from benchmarks.hearing import phrases_of, spot_in_sentences, spot_in_speech, word_errors
from benchmarks.spoken import PROSODY, Sentence, sentences_of
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.segment import speech_of
from training.corpora import Utterance

pytest.importorskip("pocketsphinx")
needs_flite = pytest.mark.skipif(
    not shutil.which("flite"), reason="no flite: apt-get install flite"
)
TEXTS = [
    Utterance(None, label, "a", "m", text=text, split="dev")
    for label, text in (
        ("angry", "Leave me alone right now!"),
        ("happy", "Thank you so much for this."),
        ("neutral", "The table is in the kitchen."),
        ("sad", "I am so sorry for your loss."),
    )
]


@needs_flite
def test_each_sentence_is_spoken_in_its_class_and_in_another() -> None:
    sentences = sentences_of(TEXTS, 4)
    assert len(sentences) == 8
    for own, other in zip(sentences[::2], sentences[1::2], strict=True):
        assert own.text == other.text == own.text.lower()
        assert own.words == own.voice == other.words != other.voice
        assert own.speaker == other.speaker
    with pytest.raises(BenchmarkError, match="angry: 1 sentences to speak, 2 are asked for"):
        sentences_of(TEXTS, 8)


@needs_flite
def test_prosody_is_in_the_sound() -> None:
    def spoken(voice: str) -> tuple[int, float]:
        samples = Sentence("the table is in the kitchen", "neutral", voice, "slt").speak()
        return len(speech_of(samples)), float(np.abs(samples.astype(np.float64)).max())

    length, peak = zip(*(spoken(voice) for voice in ("angry", "neutral", "sad")), strict=True)
    assert length[0] < length[1] < length[2]
    for found, voice in zip(peak, ("angry", "neutral", "sad"), strict=True):
        assert found == pytest.approx(32767 * 10 ** (PROSODY[voice].level_db / 20), abs=1)


@needs_flite
def test_the_spoken_table_has_every_mode_and_the_engine_that_is_named(
    tmp_path: Path, tiny_en: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv, out = tmp_path / "texts.csv", tmp_path / "spoken.json"
    rows = [f',{u.label},"{u.text}",{u.split}' for u in TEXTS]
    rows += [f',{u.label},"{u.text}",train' for u in TEXTS]
    csv.write_text("\n".join(["path,label,text,split", *rows]) + "\n")
    named = f"faster-whisper:{tiny_en}"
    asked = ["text", f"manifest={csv}", "--spoken", "4", "--json", str(out)]
    assert main([*asked, "--engine", named]) == 0
    found = {row["mode"]: row for row in json.loads(out.read_text())["rows"]}
    assert list(found) == ["off", "keywords", "asr", "transcript", named]
    assert (found["off"]["heard"], found["transcript"]["heard"]) == (0, 8)
    assert (found["off"]["word_error_rate"], found["transcript"]["word_error_rate"]) == (1, 0)
    assert found[named]["heard"] == 8
    assert found[named]["word_error_rate"] < 0.2
    for row in found.values():
        assert row["agreeing"]["n"] == sum(row["conflicts"].values()) == 4
        tables = [r["agreeing"]["confusion"] for r in (found["off"], row)]
        right = [sum(line[i] for i, line in enumerate(table)) for table in tables]
        assert right[1] - right[0] == row["helped"] - row["harmed"]
        assert 0 < row["chance"] <= 1
    assert found["off"]["chance"] == 1  # held against itself, nothing changed
    assert "synthetic speech" in capsys.readouterr().out


@needs_flite
def test_key_phrases_are_found_where_they_were_said(bundle: Bundle) -> None:
    phrases = phrases_of(bundle)
    telling = ("It was depressing and horrible.", "What an amazing and beautiful evening.")
    texts = [replace(TEXTS[0], text=text) for text in (*telling, TEXTS[2].text)]
    found = spot_in_sentences(phrases, texts)
    assert found.said >= found.hits >= 2
    assert 0 < found.hours < 0.01
    with pytest.raises(BenchmarkError, match="no text has one of the key phrases"):
        spot_in_sentences(phrases, [TEXTS[2]])


def test_speech_without_key_phrases_has_false_alarms_only(
    bundle: Bundle, clips: list[Path]
) -> None:
    spoken = [Utterance(clip, "sad", "a", "m") for clip in clips[:3]]
    found = spot_in_speech(phrases_of(bundle), spoken)
    assert (found.said, found.hits, found.clips) == (0, 0, 3)
    assert found.hourly == found.alarms / found.hours


def test_word_errors_are_those_of_the_english_clips(corpora: Path) -> None:
    english = Utterance(
        corpora / "ravdess/Actor_02/03-01-01-01-01-01-02.flac",
        "neutral",
        "2",
        "ravdess",
        text="Kids are talking by the door.",
    )
    german = Utterance(
        corpora / "emodb/wav/03a01Nc.flac", "neutral", "3", "emodb", text="der lappen"
    )
    found = word_errors([english, german])
    assert found.words == 6
    assert found.right["kids"] == 1
    with pytest.raises(BenchmarkError, match="no clip with words"):
        word_errors([german])


def test_an_engine_that_cannot_be_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["text", "manifest=nowhere.csv", "--faults", "3", "--engine", "telepathy"]
    assert main(asked) == 2
    assert "unknown text source 'telepathy'" in capsys.readouterr().err


@pytest.mark.parametrize("harm", [HARMS[0], HARMS[1]])
def test_every_clip_has_its_verdict_whatever_happens_to_the_engine(
    bundle: Bundle, clips: list[Path], harm: str
) -> None:
    found = harm_engine(bundle, [read_file(clip) for clip in clips[:4]], harm, "keywords")
    assert found.verdicts == found.utterances == 4
    assert any("killed by signal 9" in told for told in found.told) == (harm == "killed")
