"""Long clips become a manifest of their utterances, which trains."""

from __future__ import annotations

import csv
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime import EmotionStream
from edge_runtime.bundle import Bundle
from edge_runtime.events import EmotionEvent
from edge_runtime.pcm import SAMPLE_RATE, Int16
from training.__main__ import main

COLUMNS = ("path", "label", "speaker", "session", "text", "split", "start", "end")


@pytest.fixture(scope="module")
def long(scene: Int16) -> Int16:
    """The spoken scene twice: 45 s, twelve utterances."""
    return np.concatenate([scene, scene])


@pytest.fixture
def manifest(tmp_path: Path, long: Int16, scene: Int16) -> Path:
    """A long clip, a part of one that is long, a short one, one of silence, and words alone."""
    for name, samples in {
        "long": long,
        "part": long,
        "short": scene[: 5 * SAMPLE_RATE],
        "silent": np.zeros(31 * SAMPLE_RATE, np.int16),
    }.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, SAMPLE_RATE)
    rows = [
        ("long.wav", "calm", "anna", "1", "so it goes", "train", "", ""),
        ("part.wav", "tired", "ben", "2", "", "", "10.5", "44"),
        ("short.wav", "tired", "ben", "2", "hello", "", "0.5", "4"),
        ("silent.wav", "calm", "anna", "1", "", "", "", ""),
        ("gone.wav", "calm", "anna", "1", "", "", "", ""),
    ]
    return written(tmp_path / "clips.csv", rows)


def written(path: Path, rows: Sequence[tuple[str, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS[: len(rows[0])], *rows])
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def stretches(bundle: Bundle, samples: Int16) -> list[tuple[float, float]]:
    """Where the device says that utterances lie, s."""
    stream = EmotionStream(bundle, partial_seconds=0)
    events = [*stream.feed(samples), *stream.finish()]
    stream.close()
    return [(e.start, e.end) for e in events if isinstance(e, EmotionEvent) and e.final]


def test_a_long_clip_is_cut_where_the_device_cuts_it(
    manifest: Path,
    bundle: Bundle,
    long: Int16,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = manifest.parent / "cut.csv"
    command = ["segment", f"manifest={manifest}", "--out", str(out), "--jobs", "1"]
    with caplog.at_level(logging.WARNING):
        assert main(command) == 0
    by_file: dict[str, list[dict[str, str]]] = {}
    for row in rows_of(out):
        by_file.setdefault(Path(row["path"]).name, []).append(row)
    assert by_file.keys() == {"long.wav", "part.wav", "short.wav"}

    def times(name: str) -> np.ndarray:
        return np.array([(float(row["start"]), float(row["end"])) for row in by_file[name]])

    said = np.array([s for s in stretches(bundle, long) if s[1] - s[0] >= 0.4])
    np.testing.assert_allclose(times("long.wav"), said, atol=0.002)
    assert len(said) >= 10
    part = long[round(10.5 * SAMPLE_RATE) : 44 * SAMPLE_RATE]
    shifted = 10.5 + np.array([s for s in stretches(bundle, part) if s[1] - s[0] >= 0.4])
    np.testing.assert_allclose(times("part.wav"), shifted, atol=0.002)
    # Of a clip all but its words is each utterance's; a short clip stays as it was.
    kept = {tuple(row[c] for c in COLUMNS[1:6]) for row in by_file["long.wav"]}
    assert kept == {("calm", "anna", "1", "", "train")}
    (short,) = by_file["short.wav"]
    assert [short[c] for c in ("label", "speaker", "text")] == ["tired", "ben", "hello"]
    assert [float(short[c]) for c in ("start", "end")] == [0.5, 4.0]
    told = capsys.readouterr().out
    assert f"{len(said) + len(shifted)} utterances of 3 long clips" in told
    assert "1 clip as before" in told
    assert "each utterance has the label of its clip" in told
    assert f"next: python -m training adapt manifest={out}" in told
    assert f"no speech in 1 clip: {manifest.parent / 'silent.wav'}" in caplog.text
    assert f"left out 1 clip: {manifest.parent / 'gone.wav'}" in caplog.text


def test_what_was_written_is_not_replaced(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = manifest.parent / "cut.csv"
    out.write_text("mine\n")
    assert main(["segment", f"manifest={manifest}", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{out} is there already" in line
    assert out.read_text() == "mine\n"


def test_clips_without_speech_leave_nothing(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = written(manifest.parent / "s.csv", [("silent.wav", "calm"), ("gone.wav", "calm")])
    out = manifest.parent / "cut.csv"
    assert main(["segment", f"manifest={silent}", "--out", str(out), "--jobs", "1"]) == 2
    assert "nobody speaks in them" in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()


def test_adapt_names_the_command_that_cuts_and_what_it_wrote_trains(
    tmp_path: Path,
    long: Int16,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = []
    for number, (label, speaker) in enumerate(
        [("calm", "anna"), ("tired", "anna"), ("calm", "ben"), ("tired", "ben")]
    ):
        # Louder, and an octave lower or not: no file is another's copy.
        samples = (long // (1 + number)).astype(np.int16)
        rate = SAMPLE_RATE if label == "calm" else SAMPLE_RATE // 2
        soundfile.write(tmp_path / f"{number}.wav", samples[: 32 * rate], rate)
        rows.append((f"{number}.wav", label, speaker))
    my_clips = written(tmp_path / "my clips.csv", rows)
    (tmp_path / "my clips-cut.csv").touch()  # a name that is taken

    adapting = ["--out", str(tmp_path / "run"), "--jobs", "1"]
    assert main(["adapt", f"manifest={my_clips}", *adapting]) == 2
    (line,) = [said for said in capsys.readouterr().err.splitlines() if said.strip()]
    what, _, named = line.partition("; cut to utterances: ")
    assert what == f"training: {tmp_path / '0.wav'} is longer than 30 s, and so are 3 more"
    python, flag, module, *command = shlex.split(named)
    assert (python, flag, module) == ("python", "-m", "training")
    assert main(command) == 0
    assert command[-1] == str(tmp_path / "my clips-2.csv")
    assert main(["adapt", f"manifest={command[-1]}", *adapting]) == 0
    assert "2 speaker-independent folds" in capsys.readouterr().out
