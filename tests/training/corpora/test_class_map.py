"""Which of a corpus's own labels train as which class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_corpora_layouts import clips, emodb, goemotions, iemocap, msppodcast

from training.__main__ import main
from training.commands.fit import classes_of
from training.corpora import Found, load_corpora
from training.corpora.class_map import (
    ALL,
    open_classes,
    own_labels,
    record_of,
    shipped,
)
from training.corpora.manifest import load as load_manifest
from training.corpora.manifest import write
from training.errors import TrainingError
from training.run import load

CLASSES = {
    "arousal": ["high", "low"],
    "eight": ["angry", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise"],
    "four": ["angry", "happy", "neutral", "sad"],
    "seven": ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"],
    "six": ["angry", "disgust", "fear", "happy", "neutral", "sad"],
    "valence": ["negative", "neutral", "positive"],
}


def mapped(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_maps_that_ship_are_read_and_have_their_classes() -> None:
    assert {name: sorted(open_classes(name).classes()) for name in shipped()} == CLASSES
    assert open_classes().name == "four"


@pytest.mark.parametrize("name", CLASSES)
def test_every_shipped_map_has_a_class_of_every_corpus(name: str) -> None:
    chosen = open_classes(name)
    for corpus, labels in own_labels().items():
        if (name, corpus) != ("arousal", "goemotions"):
            assert len(set(chosen.of(corpus).values())) > 1, corpus
        assert chosen.of(corpus).keys() <= labels.keys()


def test_all_labels_of_a_corpus_are_known_with_their_published_counts(tmp_path: Path) -> None:
    emodb(tmp_path)
    names = [f"03a01{letter}a.wav" for letter in "WLEAFTN"]
    clips(tmp_path / "wav", *names)
    found = load_corpora([f"emodb={tmp_path}"], classes=open_classes("seven"))["emodb"]
    assert found.expected is not None
    assert found.expected.labels.keys() == own_labels()["emodb"].keys()
    by_name = {u.audio.name: u.label for u in found.utterances}
    seen = [by_name.get(name) for name in names]
    assert seen == ["angry", None, "disgust", "fear", "happy", "sad", "neutral"]
    assert found.left_out["L"] >= 1


def test_a_file_maps_all_corpora_by_plain_names_and_one_by_its_own_labels(tmp_path: Path) -> None:
    text = '[all]\nboredom = "dull"\nneutral = "plain"\nexcited = "awake"\nangry = "awake"\n'
    chosen = open_classes(mapped(tmp_path / "mine.toml", text + '[emovo]\npau = "afraid"\n'))
    assert chosen.of("emodb") == {"L": "dull", "N": "plain", "W": "awake"}
    assert chosen.of("iemocap") == {"exc": "awake", "neu": "plain", "ang": "awake"}
    assert chosen.of("emovo") == {"pau": "afraid"}
    assert chosen.of("manifest") == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[foo]\na = "b"\n', r"\[foo\] is no corpus; expected all, manifest or one of ravdess"),
        ('a = "b"\n', r"\[a\] is no corpus"),
        ('[emodb]\nX = "b"\n', r"\[emodb\] has no label 'X'; expected W \(angry\), L \(boredom\)"),
        ('[all]\nrage = "b"\n', "no corpus has label 'rage'; expected neutral, calm"),
        ('[emodb]\nW = ""\n', r"\[emodb\] W = '' is no class"),
        ("[emodb]\nW = 3\n", r"\[emodb\] W = 3 is no class"),
        ('[emodb]\nW = " x"\n', "has no spaces around it"),
        ('[emodb]\nW = "Unsure"\n', "is not called unsure"),
        ('[emodb]\nW = "Hot"\n[emovo]\nrab = "hot"\n', "'Hot' and 'hot' differ only in case"),
        ("[emodb\n", "is no TOML"),
        ("", "maps no label"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused_in_one_line(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = mapped(tmp_path / "mine.toml", text)
    with pytest.raises(TrainingError, match=why) as error:
        open_classes(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"--classes {path}")
    assert main(["corpora", f"emodb={tmp_path}", "--classes", path]) != 0
    assert "Traceback" not in capsys.readouterr().err


def test_a_map_that_is_not_there_names_those_that_ship() -> None:
    with pytest.raises(TrainingError, match="TOML file or one of arousal, eight, four, seven"):
        open_classes("nine")


def test_a_corpus_without_a_clip_of_the_classes_says_what_there_is(tmp_path: Path) -> None:
    clips(tmp_path / "wav", "03a01La.wav")
    with pytest.raises(TrainingError, match="a label of the classes 'six': there are L 1"):
        load_corpora([f"emodb={tmp_path}"], classes=open_classes("six"))


def test_the_table_counts_the_classes_of_the_map_and_names_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips(tmp_path / "wav", *(f"03a01{letter}a.wav" for letter in "WLEAFTN"))
    assert main(["corpora", f"emodb={tmp_path}", "--classes", "six"]) == 0
    printed = capsys.readouterr().out
    assert "disgust 1  fear 1" in printed
    assert "L (boredom) 1" in printed
    assert "classes: six" in printed


def test_goemotions_are_grouped_as_by_its_authors(tmp_path: Path) -> None:
    goemotions(tmp_path)
    found = load_corpora([f"goemotions={tmp_path}"], classes=open_classes("seven"))["goemotions"]
    assert {u.text: u.label for u in found.utterances}["I wonder"] == "surprise"


def test_labels_of_a_manifest_are_mapped_where_the_map_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label,text\n,rage,a\n,Rest,b\n,odd,c\n,rage,d\n")
    arguments = [f"manifest={tmp_path / 'm.csv'}"]
    plain = load_corpora(arguments, classes=open_classes("seven"))["manifest"]
    assert [u.label for u in plain.utterances] == ["rage", "Rest", "odd", "rage"]
    path = mapped(tmp_path / "x.toml", '[manifest]\nrage = "angry"\nRest = "calm"\n')
    found = load_corpora(arguments, classes=open_classes(path))["manifest"]
    assert [u.label for u in found.utterances] == ["angry", "calm", "angry"]
    assert found.left_out == {"odd": 1}


def found_of(tmp_path: Path, name: str) -> dict[str, Found]:
    clips(tmp_path / "wav", *(f"03a01{letter}a.wav" for letter in "WLEAFTN"))
    return load_corpora([f"emodb@x={tmp_path}"], classes=open_classes(name))


def test_a_run_remembers_its_map_and_a_file_that_went_away(tmp_path: Path) -> None:
    path = mapped(tmp_path / "mine.toml", '[all]\nboredom = "dull"\nangry = "awake"\n')
    record = {"classes": record_of(found_of(tmp_path, path))}
    assert record["classes"] == {"map": path, "labels": {"emodb": {"L": "dull", "W": "awake"}}}
    Path(path).unlink()
    assert open_classes("", record).of("emodb") == {"L": "dull", "W": "awake"}
    assert open_classes("", record).of("emovo") == {}
    assert open_classes("six", record).name == "six"  # what is asked for wins
    assert open_classes("", {}).name == "four"
    for name, raw in (
        ("run.json", {"training": record}),
        ("crossval.json", record),
    ):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text(json.dumps(raw))
        assert classes_of(folder, "").of("emodb") == {"L": "dull", "W": "awake"}
        assert classes_of(folder, "seven").name == "seven"


def test_a_shipped_map_is_remembered_whole(tmp_path: Path) -> None:
    record = {"classes": record_of(found_of(tmp_path, "seven"))}
    assert open_classes("", record).of("emovo")["pau"] == "fear"
    assert ALL in open_classes("", record).sections


def test_a_run_has_the_classes_of_its_map_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "wav").mkdir()
    rng, time = np.random.default_rng(0), np.arange(12_000) / 16_000
    for speaker in ("03", "08"):
        for place, letter in enumerate("WLEAFTN"):
            tone = np.sin(2 * np.pi * (150 + 40 * place) * time) * (0.6 + 0.4 * np.sin(20 * time))
            sound = 0.3 * tone + 0.01 * rng.standard_normal(len(time))
            soundfile.write(tmp_path / f"wav/{speaker}a01{letter}a.wav", sound, 16_000)
    small = "--filters 4 --hidden 4 --epochs 1 --qat-epochs 1 --epoch-steps 1 --no-augment"
    arguments = [f"emodb={tmp_path / 'wav'}", "--classes", "six", "--watch", "0", *small.split()]
    assert main(["fit", *arguments, "--out", str(tmp_path / "run")]) == 0
    run = load(tmp_path / "run")
    assert list(run.config.labels) == CLASSES["six"]
    assert run.training["classes"] == {
        "map": "six",
        "labels": {"emodb": open_classes("six").of("emodb")},
    }
    assert run.training["corpora"]["emodb"]["classes"] == dict.fromkeys(CLASSES["six"], 2)
    assert classes_of(tmp_path / "run", "").name == "six"


def test_valence_and_arousal_are_read_on_one_scale(tmp_path: Path) -> None:
    iemocap(tmp_path / "iemocap")
    turns = load_corpora([f"iemocap={tmp_path / 'iemocap'}"])["iemocap"].utterances
    angry = next(u for u in turns if u.label == "angry")
    assert (angry.valence, angry.arousal) == (-0.75, 0.5)  # 1.5 and 4 of 1 to 5
    msppodcast(tmp_path / "msp")
    clip = load_corpora([f"msppodcast={tmp_path / 'msp'}"])["msppodcast"].utterances[0]
    assert (clip.valence, clip.arousal) == (0.0, pytest.approx(-0.6))  # 4 and 2.2 of 1 to 7
    table = tmp_path / "msp/Labels/labels_consensus.csv"
    good = table.read_text()
    for bad in ("9.0", "x"):
        table.write_text(good.replace(",N,2.2", f",N,{bad}"))
        with pytest.raises(TrainingError, match=f"EmoAct of MSP.*is '{bad}'; expected 1 to 7"):
            load_corpora([f"msppodcast={tmp_path / 'msp'}"])
    table.write_text(good.replace(",N,2.2", ",N,"))
    clip = load_corpora([f"msppodcast={tmp_path / 'msp'}"])["msppodcast"].utterances[0]
    assert clip.arousal is None


def test_valence_and_arousal_of_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("path,label,text,valence,arousal\n,happy,a,0.5,-1\n,sad,b,,\n")
    one, other = load_manifest(path).utterances
    assert (one.valence, one.arousal, other.valence, other.arousal) == (0.5, -1.0, None, None)
    write(tmp_path / "again.csv", [one, other])
    assert load_manifest(tmp_path / "again.csv").utterances == [one, other]
    write(tmp_path / "plain.csv", [other])
    assert "valence" not in (tmp_path / "plain.csv").read_text()
    for value in ("1.5", "much"):
        path.write_text(f"path,label,text,valence\n,happy,a,{value}\n")
        with pytest.raises(TrainingError, match=f"line 2: valence '{value}' is not a number from"):
            load_manifest(path)
