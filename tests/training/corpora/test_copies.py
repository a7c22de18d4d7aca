"""Two corpora of a kind, corpora that are there twice, and links: every clip counts once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.__main__ import main
from training.corpora import load_corpora
from training.errors import TrainingError

NAMES = ("03a01Fa", "03a01Wa", "08a02Tb", "08a02Na", "08a02Lb")  # the last is left out: boredom


def emodb(root: Path, *names: str) -> Path:
    """A clip a name, each of a sound of its own."""
    root.mkdir(parents=True, exist_ok=True)
    for name in names or NAMES:
        noise = np.random.default_rng([ord(c) for c in name]).normal(0, 0.1, 3200)
        soundfile.write(root / f"{name}.wav", noise, 16_000)
    return root


def listed(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["path,label,speaker", *rows]) + "\n")
    return path


def test_two_corpora_of_a_kind_are_both_taken(tmp_path: Path) -> None:
    emodb(tmp_path)
    one = listed(tmp_path / "a.csv", "03a01Fa.wav,happy,ann", "03a01Wa.wav,angry,ann")
    other = listed(tmp_path / "b.csv", "08a02Tb.wav,sad,bob")
    found = load_corpora([f"manifest={one}", f"manifest={other}"])
    assert {name: len(f.utterances) for name, f in found.items()} == {
        "manifest": 2,
        "manifest@2": 1,
    }
    for name, corpus in found.items():
        assert {u.corpus for u in corpus.utterances} == {name}


def test_two_folders_of_one_corpus_are_both_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    emodb(tmp_path / "a", "03a01Fa", "03a01Wa")
    emodb(tmp_path / "b", "08a02Tb")
    assert main(["corpora", f"emodb={tmp_path / 'a'}", f"emodb@more={tmp_path / 'b'}"]) == 0
    rows = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if "│" in line]
    shown = {name.strip(): count.strip() for name, count in rows}
    assert shown == {"emodb": "2", "emodb@more": "1"}


@pytest.mark.parametrize("argument", ["emodb@=x", "emodb@a b=x", "@a=x", "nosuch@a=x"])
def test_a_name_of_another_form_is_refused(argument: str) -> None:
    with pytest.raises(TrainingError, match=r"expected NAME=PATH .* or NAME@LABEL=PATH"):
        load_corpora([argument])


def test_a_label_given_twice_is_refused(tmp_path: Path) -> None:
    emodb(tmp_path)
    with pytest.raises(TrainingError, match="emodb@a is named already; choose another LABEL"):
        load_corpora([f"emodb@a={tmp_path}", f"emodb@a={tmp_path}"])


def test_a_corpus_nested_in_itself_counts_once(tmp_path: Path) -> None:
    emodb(tmp_path / "wav")
    shutil.copytree(tmp_path / "wav", tmp_path / "EmoDB" / "wav")
    found = load_corpora([f"emodb={tmp_path}"])["emodb"]
    assert sorted(u.audio.stem for u in found.utterances) == sorted(NAMES[:4])
    assert found.left_out == {"L": 1, "second copy": 5}


def test_a_clip_that_a_corpus_has_under_two_names_stays(tmp_path: Path) -> None:
    """RAVDESS has a take twice, as two repetitions: so do its published counts."""
    (tmp_path / "Actor_07").mkdir()
    wav = emodb(tmp_path / "other", "x") / "x.wav"
    for name in ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"):
        shutil.copy(wav, tmp_path / "Actor_07" / f"{name}.wav")
    assert len(load_corpora([f"ravdess={tmp_path}"])["ravdess"].utterances) == 2


def test_a_clip_in_two_corpora_counts_once(tmp_path: Path) -> None:
    emodb(tmp_path / "wav")
    shutil.copy(tmp_path / "wav" / "03a01Fa.wav", tmp_path / "mine.wav")
    emodb(tmp_path, "new")
    csv = listed(tmp_path / "m.csv", "mine.wav,happy,", "new.wav,sad,ann")
    found = load_corpora([f"emodb={tmp_path / 'wav'}", f"manifest={csv}", f"emodb={tmp_path}/wav"])
    assert [u.audio.name for u in found["manifest"].utterances] == ["new.wav"]
    assert found["manifest"].left_out == {"second copy": 1}
    assert found["emodb@2"].utterances == []


def test_segments_of_one_file_are_different_clips(tmp_path: Path) -> None:
    emodb(tmp_path, "long")
    csv = tmp_path / "m.csv"
    csv.write_text("path,label,start,end\nlong.wav,sad,0,0.1\nlong.wav,sad,0.1,0.2\n")
    assert len(load_corpora([f"manifest={csv}"])["manifest"].utterances) == 2


def test_one_sound_under_two_labels_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    emodb(tmp_path, "one")
    shutil.copy(tmp_path / "one.wav", tmp_path / "two.wav")
    csv = listed(tmp_path / "m.csv", "one.wav,sad,ann", "two.wav,happy,ann")
    assert len(load_corpora([f"manifest={csv}"])["manifest"].utterances) == 2
    (record,) = caplog.records
    assert "one.wav (sad, ann) and " in record.getMessage()
    assert "two.wav (happy, ann)" in record.getMessage()


def test_folders_that_are_links_are_read_once(tmp_path: Path) -> None:
    real = emodb(tmp_path / "elsewhere")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "wav").symlink_to(real)
    (corpus / "again").symlink_to(real)
    (real / "up").symlink_to(corpus)  # a cycle
    found = load_corpora([f"emodb={corpus}"])["emodb"]
    assert sorted(u.audio.stem for u in found.utterances) == sorted(NAMES[:4])
    assert found.left_out == {"L": 1}


def test_a_clip_in_two_formats_side_by_side_counts_once(tmp_path: Path) -> None:
    emodb(tmp_path)
    samples, rate = soundfile.read(tmp_path / "03a01Fa.wav")
    soundfile.write(tmp_path / "03a01Fa.flac", samples, rate)
    assert len(load_corpora([f"emodb={tmp_path}"])["emodb"].utterances) == 4


def test_a_path_from_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    emodb(tmp_path / "data")
    assert len(load_corpora(["emodb=~/data"])["emodb"].utterances) == 4


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (
            "two.wav,bored,ann",
            "label 'bored' and 'Bored' of manifest differ only in case or spaces",
        ),
        ("two.wav,Bo red,ann", "label 'Bo red' and 'Bored' of manifest differ only in case"),
        ("two.wav,Bored,Ann", "speaker 'Ann' and 'ann' of manifest differ only in case"),
    ],
)
def test_words_of_two_corpora_that_differ_in_case_or_spaces_are_refused(
    row: str, why: str, tmp_path: Path
) -> None:
    emodb(tmp_path, "one", "two")
    a = listed(tmp_path / "a.csv", "one.wav,Bored,ann")
    b = listed(tmp_path / "b.csv", row)
    with pytest.raises(TrainingError, match=why):
        load_corpora([f"manifest={a}", f"manifest={b}"])
