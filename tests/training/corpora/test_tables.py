"""Manifests as people and spreadsheets write them: read, or refused with the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.corpora import Utterance, manifest
from training.errors import TrainingError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips, in a folder of their own."""
    (tmp_path / "clips").mkdir()
    for name in ("a.wav", "b.wav"):
        samples = np.random.default_rng(ord(name[0])).normal(0, 0.1, 1600)
        soundfile.write(tmp_path / "clips" / name, samples, 16_000)
    return tmp_path


def read(folder: Path, text: str | bytes) -> list[Utterance]:
    path = folder / "m.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return manifest.load(path).utterances


PLAIN = "path,label,text\nclips/a.wav,happy,schön\nclips/b.wav,sad,so\n"


@pytest.mark.parametrize(
    "written",
    [
        PLAIN.replace("path,label,text", "Path,LABEL,Text"),
        PLAIN.replace(",", " , "),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        "sep=;\r\n" + PLAIN.replace(",", ";"),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-16-be"),
        PLAIN.encode("latin-1"),
        PLAIN.replace("happy", "Happy").replace("sad", "SAD"),
        PLAIN.replace("clips/", "clips\\"),
        "# my clips\n\n" + PLAIN.replace("\nclips/b", "\n# the rest\n,,\n\nclips/b"),
        PLAIN.replace("clips/a.wav", '"clips/a.wav"').replace("schön", '"schön"'),
        PLAIN.replace("path,", "note,path,").replace("clips/", "x,clips/"),
    ],
    ids=[
        *("case", "spaces", "semicolon", "tab", "windows", "mac", "excel", "mark", "utf-16"),
        *("utf-16-le", "utf-16-be", "latin-1", "classes", "backslash", "comments", "quotes"),
        "more columns",
    ],
)
def test_a_table_in_any_of_its_forms_is_read(folder: Path, written: str | bytes) -> None:
    happy, sad = read(folder, written)
    assert (happy.label, sad.label) == ("happy", "sad")
    assert (happy.path, happy.text) == (folder / "clips/a.wav", "schön")
    assert (sad.path, sad.text) == (folder / "clips/b.wav", "so")


def test_a_path_from_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "clips"))
    (utterance,) = read(folder, "path,label\n~/a.wav,happy\n")
    assert utterance.path == folder / "clips/a.wav"


def test_times_of_a_spreadsheet_that_writes_a_decimal_comma(folder: Path) -> None:
    (utterance,) = read(folder, "path;label;start;end\nclips/a.wav;happy;0,02;0,05\n")
    assert (utterance.start, utterance.end) == (0.02, 0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clips/a.wav,happy\n", "no column path or label; .* found clips/a.wav,happy"),
        ("path,label,path\nclips/a.wav,happy,x\n", "the header names path more than once"),
        (
            "path,label,text\n\nclips/a.wav,happy,oh, yes\n",
            "line 3: 4 cells, .* names 3; .* quotes",
        ),
        ('path,label,text\nclips/a.wav,happy,"oh\nclips/b.wav,sad,no\n', "line 2: .*quote"),
        ('path,label,text\nclips/a.wav,happy,"oh" yes\n', "line 2: .*quote"),
        (
            "path,label\nclips/a.wav,Bored\nclips/b.wav,bored\n",
            "line 3: label 'bored' and 'Bored' ",
        ),
        ("path,label,speaker\nclips/a.wav,sad,Ann\nclips/b.wav,sad,ann\n", "line 3: speaker 'ann'"),
        ("path,label\nclips/a.wav,nan\n", "line 2: label is 'nan'; expected a class"),
        ("path,label\nclips/a.wav,sad\nclips/a.wav,happy\n", "happy here and sad in line 2"),
        (
            "path,label,speaker\nclips/a.wav,sad,ann\nclips/a.wav,sad,\n",
            "speaker unknown here and ann in line 2",
        ),
        ("path,label,end\nclips/a.wav,happy,NaN\n", "line 2: end 'NaN' is not a time"),
        ("path,label,start,end\nclips/a.wav,happy,2,1\n", "line 2: end 1.0 is not after start 2.0"),
        ("path,label,end\nclips/a.wav,happy,0:01\n", "line 2: end '0:01' .* such as 1.5"),
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00", "not a text file; save a spreadsheet as CSV"),
        (b"", "no column path or label; .* found nothing"),
    ],
)
def test_what_cannot_be_read_is_one_line(folder: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(TrainingError, match=f"^manifest .*m.csv.*{message}") as error:
        read(folder, text)
    assert "\n" not in str(error.value)


def test_rows_that_repeat_another_are_left_out_and_told(folder: Path) -> None:
    path = folder / "m.csv"
    path.write_text("path,label\nclips/a.wav,sad\nclips/b.wav,sad\nclips/a.wav,Sad\n")
    found = manifest.load(path)
    assert len(found.utterances) == 2
    assert found.left_out == {"second copy": 1}
    assert found.notes == ("rows that repeat another are left out: 4",)


def test_a_column_that_is_not_read_is_told(folder: Path) -> None:
    path = folder / "m.csv"
    path.write_text("path,label,speakr\nclips/a.wav,sad,ann\n")
    assert manifest.load(path).notes == ("columns that are not read: speakr",)


def test_a_file_that_is_missing_is_told_with_its_line(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(folder, "path,label\nclips/a.wav,sad\nC:\\mine\\b.wav,sad\nclips,sad\n")
    (record,) = caplog.records
    assert "m.csv, line 3: C:\\mine\\b.wav is no file (looked for " in record.getMessage()
    assert "nor are those of 1 more rows" in record.getMessage()


def test_unknown_speakers_stay_unknown(folder: Path) -> None:
    assert [u.speaker for u in read(folder, PLAIN)] == [None, None]
    text = "path,label,speaker\nclips/a.wav,sad,nan\nclips/b.wav,sad,ann\n"
    assert [u.speaker for u in read(folder, text)] == [None, "ann"]
    manifest.write(folder / "copy.csv", read(folder, text))
    assert [u.speaker for u in manifest.load(folder / "copy.csv").utterances] == [None, "ann"]


def test_a_quoted_cell_may_hold_lines_and_later_lines_are_counted_on(folder: Path) -> None:
    from training.corpora.tables import read_table

    path = folder / "t.csv"
    path.write_text('a,b\n"one\ntwo",x\nthree,y\n')
    table = read_table(path, "table", ("a", "b"))
    assert [(row.line, row.values["a"]) for row in table.rows] == [(2, "one\ntwo"), (4, "three")]
