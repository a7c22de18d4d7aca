"""Transcripts of a corpus by the engine of the device: complete, resumable, honest of failures."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import SettingError
from training.corpora import Utterance, manifest
from training.errors import TrainingError
from training.speech.settings import TranscribeSettings
from training.speech.transcribe import COLUMNS, transcribe, with_transcripts

pytest.importorskip("pocketsphinx")

ONE = TranscribeSettings(jobs=1)


@pytest.fixture
def spoken(corpora: Path) -> list[Utterance]:
    folder = corpora / "ravdess" / "Actor_02"
    names = ("03-01-01-01-01-01-02", "03-01-01-01-02-01-02")
    texts = ("kids are talking by the door", "dogs are sitting by the door")
    return [
        Utterance(folder / f"{name}.flac", "neutral", "ravdess-02", "ravdess", text=text)
        for name, text in zip(names, texts, strict=True)
    ]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_was_heard_is_a_manifest_and_goes_back_into_the_corpus(
    spoken: list[Utterance], tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "heard.csv"
    result = transcribe(spoken, out, ONE)
    assert (result.heard, result.kept, result.failed) == (2, 0, [])
    found = rows(out)
    assert [r["reference"] for r in found] == [u.text for u in spoken]
    for row in found:  # heard wrongly in part, by an engine whose word error rate is 24 % here
        right = set(row["text"].split()) & set(row["reference"].split())
        assert len(right) >= 3
    assert all(0 < float(r["confidence"]) <= 1 and r["engine"] == "asr" for r in found)
    loaded = manifest.load(out).utterances
    assert [u.text for u in loaded] == [r["text"] for r in found]
    read = Utterance(None, "happy", "x", "meld", text="only read")
    mixed = with_transcripts([read, *reversed(spoken)], out)
    assert [u.text for u in mixed] == ["only read", *(r["text"] for r in reversed(found))]
    assert [u.corpus for u in mixed] == ["meld", "ravdess", "ravdess"]


def test_every_clip_is_heard_as_if_it_were_the_first(
    spoken: list[Utterance], tmp_path: Path
) -> None:
    """An engine gets used to a voice; which clips a process heard before must not matter."""
    alone, after = tmp_path / "alone.csv", tmp_path / "after.csv"
    actor = spoken[1].audio.parent.parent / "Actor_01"
    loud = Utterance(actor / "03-01-05-02-01-01-01.flac", "angry", "ravdess-01", "ravdess")
    transcribe([spoken[1]], alone, ONE)
    transcribe([loud, spoken[0], spoken[1]], after, ONE)
    assert rows(after)[-1] == rows(alone)[-1]


def test_rows_are_kept_a_torn_one_is_heard_again(spoken: list[Utterance], tmp_path: Path) -> None:
    out = tmp_path / "heard.csv"
    transcribe(spoken[:1], out, ONE)
    kept = out.read_text().replace("by the door,neutral", "").splitlines()
    kept[1] = kept[1].replace(rows(out)[0]["text"], "kept as it was")
    torn = str(spoken[1].audio)[:20]
    out.write_text("\n".join(kept) + "\n" + torn)
    result = transcribe(list(reversed(spoken)), out, ONE)
    assert (result.heard, result.kept) == (1, 1)
    assert [r["path"] for r in rows(out)] == [str(u.audio) for u in reversed(spoken)]
    assert rows(out)[1]["text"] == "kept as it was"


def test_a_clip_that_fails_is_named_and_tried_again(
    spoken: list[Utterance], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF no sound")
    bad = Utterance(broken, "sad", "x", "manifest")
    out = tmp_path / "heard.csv"
    result = transcribe([bad, spoken[0]], out, ONE)
    assert result.heard == 1
    assert [u.path for u, _ in result.failed] == [broken]
    assert "broken.wav" in caplog.text
    with pytest.raises(TrainingError, match=r"lacks 1 of 2 clips, such as .*broken.wav"):
        with_transcripts([bad, spoken[0]], out)
    assert len(transcribe([bad, spoken[0]], out, ONE).failed) == 1


def test_mistakes_are_refused(spoken: list[Utterance], tmp_path: Path) -> None:
    out = tmp_path / "heard.csv"
    text_only = Utterance(None, "happy", "x", "meld", text="hello")
    with pytest.raises(TrainingError, match="no utterance has audio"):
        transcribe([text_only], out, ONE)
    out.write_text("path,label\nx.wav,happy\n")
    with pytest.raises(TrainingError, match="not what python -m training transcribe writes"):
        transcribe(spoken, out, ONE)
    row = ",".join([str(spoken[0].audio), "neutral", *[""] * (len(COLUMNS) - 3), "vosk:model"])
    out.write_text(",".join(COLUMNS) + f"\n{row}\n".replace(",,,,,,", ",,,,,0.0,", 1))
    with pytest.raises(TrainingError, match="holds what engine vosk:model heard"):
        transcribe(spoken, out, ONE)
    with pytest.raises(SettingError, match=r"jobs must be .*, not -1"):
        transcribe(spoken, out, TranscribeSettings(jobs=-1))


def test_interrupted_it_gives_up_the_clips_that_wait(
    spoken: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, not when somebody collects what is left of it."""
    given_up = []

    def hearing(clips: list[Utterance], _: TranscribeSettings) -> Iterator[tuple[Utterance, str]]:
        try:
            yield clips[0], "cannot be heard"
        finally:
            given_up.append(True)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.speech.transcribe._hear_all", hearing)
    monkeypatch.setattr("training.speech.transcribe.log.warning", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        transcribe(spoken, tmp_path / "heard.csv", ONE)
    assert caught.tb  # which keeps all that nobody closed
    assert given_up


def test_ctrl_c_keeps_what_was_heard(
    corpora: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    out = tmp_path / "heard.csv"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "training",
            "transcribe",
            f"ravdess={corpora / 'ravdess'}",
            "--jobs",
            "1",
            "--out",
            str(out),
        ],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, Ctrl-C is ignored by all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not (out.exists() and len(out.read_text().splitlines()) > 1):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().endswith("training: stopped")
    assert "Traceback" not in errors
    assert 1 <= len(rows(out)) < 560
