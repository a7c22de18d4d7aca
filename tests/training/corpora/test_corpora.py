"""What a user sees of a corpus folder: the right clips, or one clear error."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.__main__ import main
from training.corpora import load_corpora
from training.corpora.manifest import load as load_manifest
from training.corpora.manifest import write as write_manifest
from training.errors import TrainingError


def tone(path: Path, seconds: float = 0.5, rate: int = 16_000) -> Path:
    """A clip whose sound is that of its file name, in whatever folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * rate)) / rate
    pitch = 200 + zlib.crc32(path.name.encode()) % 1000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * t), rate)
    return path


def test_shared_ravdess_is_counted_as_its_readme_says(corpora: Path) -> None:
    found = load_corpora([f"ravdess={corpora / 'ravdess'}"])["ravdess"]
    assert len(found.utterances) == 560
    assert len({u.speaker for u in found.utterances}) == 20
    labels = [u.label for u in found.utterances]
    assert {label: labels.count(label) for label in set(labels)} == {
        "neutral": 80,
        "happy": 160,
        "sad": 160,
        "angry": 160,
    }


def test_shared_emodb_keeps_its_four_classes_and_counts_the_rest(corpora: Path) -> None:
    found = load_corpora([f"emodb={corpora / 'emodb'}"])["emodb"]
    assert len(found.utterances) == 266
    assert set(found.left_out) <= {"A", "E", "L"}  # classes that a copy of four may not have
    assert len({u.speaker for u in found.utterances}) == 8


def test_official_wav_layout_of_ravdess_is_read(tmp_path: Path) -> None:
    tone(tmp_path / "Actor_12" / "03-01-06-01-02-01-12.wav")  # fearful
    tone(tmp_path / "Actor_12" / "03-01-05-02-02-01-12.wav", rate=48_000)
    tone(tmp_path / "Actor_12" / "03-02-05-02-02-01-12.wav")
    tone(tmp_path / "Actor_12" / "01-01-05-02-02-01-12.wav")
    found = load_corpora([f"ravdess={tmp_path}"])["ravdess"]
    (utterance,) = found.utterances
    assert (utterance.label, utterance.speaker) == ("angry", "ravdess-12")
    assert utterance.text == "dogs are sitting by the door"
    assert found.left_out == {"06": 1, "song": 1, "with video": 1}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nosuch=/tmp", "expected NAME=PATH with NAME one of .*ravdess"),
        ("ravdess", "expected NAME=PATH"),
        ("ravdess=/does/not/exist", "there is no /does/not/exist"),
    ],
)
def test_a_wrong_argument_says_what_was_expected(argument: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        load_corpora([argument])


def test_an_empty_folder_and_a_wrong_folder_name_the_layout(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no \.wav or \.flac under .* expected Actor_NN/"):
        load_corpora([f"ravdess={tmp_path}"])
    tone(tmp_path / "hello.wav")
    with pytest.raises(TrainingError, match="holds no file of that corpus; expected a wav/ folder"):
        load_corpora([f"emodb={tmp_path}"])


def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["corpora", "ravdess=/does/not/exist"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "training: ravdess: there is no /does/not/exist\n"


def test_the_corpora_table_shows_clips_speakers_and_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    for name in ("03a01Fa", "03a01Wa", "08a02Tb", "08a02Lb"):
        tone(tmp_path / "wav" / f"{name}.wav")
    (tmp_path / "wav" / "08a05Na.wav").write_bytes(b"not audio")
    assert main(["corpora", f"emodb={tmp_path}"]) == 0
    table = capsys.readouterr().out
    for expected in ("emodb", "happy 1", "angry 1", "sad 1", "neutral 1", "L (boredom) 1"):
        assert expected in table
    lines = table.splitlines()
    header = next(line for line in lines if "speakers" in line).replace("┃", "│")
    row = next(line for line in lines if "emodb" in line)
    names, cells = ([cell.strip() for cell in line.split("│")] for line in (header, row))
    shown = dict(zip(names, cells, strict=True))
    assert shown["speakers"] == "2"
    assert shown["unreadable"] == "1"


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    audio = tone(tmp_path / "a.wav")
    csv = tmp_path / "m.csv"
    csv.write_text(f"path,label,speaker,start,end,text\n{audio.name},happy,ann,0.1,0.4,so happy\n")
    (utterance,) = load_manifest(csv).utterances
    assert utterance.path == audio
    assert (utterance.start, utterance.end, utterance.text) == (0.1, 0.4, "so happy")
    copy = tmp_path / "elsewhere" / "copy.csv"
    copy.parent.mkdir()
    write_manifest(copy, [utterance])
    assert load_manifest(copy).utterances == [utterance]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.wav,happy\n", "no column path"),
        ("path,label\na.wav,\n", "line 2: label is empty"),
        ("path,label,start\na.wav,happy,soon\n", "'soon' is not a time"),
        ("path,label,start\na.wav,happy,nan\n", "'nan' is not a time"),
        ("path,label,start,end\na.wav,happy,2,1\n", "end 1.0 is not after start 2.0"),
        ("path,label\n", "lists no clip"),
    ],
)
def test_a_wrong_manifest_names_line_and_reason(tmp_path: Path, text: str, message: str) -> None:
    csv = tmp_path / "m.csv"
    csv.write_text(text)
    with pytest.raises(TrainingError, match=message):
        load_manifest(csv)


def test_a_binary_file_is_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xff\xfe\x00\x80" * 10)
    with pytest.raises(TrainingError, match="no column path or label"):
        load_manifest(path)
