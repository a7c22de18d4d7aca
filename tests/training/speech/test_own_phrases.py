"""Phrases of the user's own: the file, what each tells, and the list that a device takes."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from command_output import Command

from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.segment import speech_of
from edge_runtime.text.phrases import Phrase, has_log_odds, read_keywords
from training.corpora import Utterance
from training.errors import TrainingError
from training.speech.keywords import Tuned
from training.speech.own_phrases import read_phrases
from training.speech.settings import PhraseSettings
from training.speech.synthesis import speak_with_flite
from training.speech.tune_phrases import HELD_OUT_VOICE, Reader, log_odds_of, tune

SMALL = PhraseSettings(takes=3, fillers=5, jobs=1)
LABELS = ["calm", "stressed", "tired"]


def written(folder: Path, text: str) -> Path:
    path = folder / "my.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_phrases_is_read(tmp_path: Path) -> None:
    text = """# ours
phrase;class;pronunciation

Reboot the Zorblax!;stressed;zorblax=Z AO R B L AE K S
  take it easy ;calm|tired
take it easy;stressed
# too long ago
"don't; stop-now";calm
"""
    found = read_phrases(written(tmp_path, text), LABELS)
    assert [(p.text, p.classes, p.place.rpartition(":")[2]) for p in found] == [
        ("reboot the zorblax", ["stressed"], "4"),
        ("take it easy", ["calm", "tired", "stressed"], "5"),
        ("don't stop now", ["calm"], "8"),
    ]
    assert found[0].pronunciations == {"zorblax": "Z AO R B L AE K S"}


def test_tabs_and_a_mark_of_utf_8_are_read(tmp_path: Path) -> None:
    path = tmp_path / "my.tsv"
    path.write_bytes(b"\xef\xbb\xbfclass\tphrase\r\ncalm\tmu\xcc\x88de\r\n")
    (only,) = read_phrases(path)
    assert (only.text, only.classes) == ("m\u00fcde", ["calm"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists none; expected the header phrase,class"),
        ("phrase,class\n", "lists none"),
        ("hello,calm\nbye,calm\n", r"my\.csv:1: 'hello,calm' is no header"),
        ("phrase,class\nhello\n", r"my\.csv:2: 'hello' has no class"),
        ("phrase,class\nhello,\n", r"my\.csv:2: 'hello' has no class"),
        ("phrase,class\n\nhello,angry\n", r"my\.csv:3: there is no class 'angry'; there is calm"),
        ("phrase,class\nhello,calm|angry\n", "no class 'angry'"),
        ("phrase,class\n,calm\n", r"my\.csv:2: there is no phrase"),
        ("phrase,class\n?!,calm\n", r"my\.csv:2: the phrase '\?!' has no word"),
        ("phrase,class\nrock & roll,calm\n", "'rock & roll' has '&', which is not spoken"),
        ("phrase,class\ncall 911,calm\n", "has '9', which is not spoken: write numbers in words"),
        (
            "phrase,class\nstop it,calm\nStop it,tired\n",
            r"my\.csv:3: 'Stop it' is the phrase 'stop it' of .*my\.csv:2, written otherwise",
        ),
        ("phrase,class\nstop,calm\nstop,calm\n", "'stop' is there twice for the class 'calm'"),
        ("phrase,class\nwell, stop,calm\n", "3 columns where the header has 2; .* in quotes"),
        ('phrase,class\n"stop,calm\n', r"my\.csv:2: unexpected end of data"),
        ("phrase,class,pronunciation\nstop,calm,go=G OW\n", "of 'go', which is not in 'stop'"),
        ("phrase,class,pronunciation\nstop,calm,stop\n", "'stop': expected NAME=VALUE"),
        ("phrase,class\n" + "so " * 13 + ",calm\n", "more than 12 words"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        read_phrases(written(tmp_path, text), LABELS)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        read_phrases(tmp_path / "absent.csv")
    (tmp_path / "latin.csv").write_bytes(b"phrase,class\nm\xfcde,calm\n")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_phrases(tmp_path / "latin.csv")


def test_what_a_phrase_tells_is_bayes_rule() -> None:
    settings = PhraseSettings(trust=0.8, said=6.0)
    entry = Tuned(Phrase("stop"), hits=8, spoken=12, rate=2.0)
    odds = log_odds_of(entry, ["stressed"], LABELS, settings)
    # Of 1000 hours: heard where it is said, and where it is not, by chance in any class.
    said, alarms = 6000 * (8 + 1 / 3) / 13, 2000
    right = said * 0.8 + alarms / 3
    wrong = (said * 0.2 + alarms * 2 / 3) / 2
    assert odds["stressed"] - odds["calm"] == pytest.approx(math.log(right / wrong))
    assert odds["calm"] == odds["tired"]
    assert sum(math.exp(value) for value in odds.values()) == pytest.approx(3)
    assert log_odds_of(entry, LABELS, LABELS, settings) == dict.fromkeys(LABELS, 0.0)
    both = log_odds_of(entry, ["calm", "tired"], LABELS, settings)
    assert 0 < both["calm"] == both["tired"] < odds["stressed"]
    # Never against a class that the user names.
    doubted = log_odds_of(entry, ["calm", "tired"], LABELS, PhraseSettings(trust=0.1))
    assert doubted["calm"] == pytest.approx(0)


def test_words_are_read_as_the_user_says_or_by_rule(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    text = "phrase,class,pronunciation\nthe zorblax is here,calm,here=HH EH R\n"
    (phrase,) = read_phrases(written(tmp_path, text))
    reader = Reader(SMALL)
    assert reader.lacking(phrase) == {"zorblax": "Z AO R B L AE K S", "here": "HH EH R"}
    assert reader.read == {"zorblax": "Z AO R B L AE K S"}
    assert reader.phones("the here").split()[-3:] == ["HH", "EH", "R"]
    assert not reader.notes([phrase])
    phrase.pronunciations["here"] = "HH QQ R"
    with pytest.raises(
        TrainingError, match=r"my\.csv:2: the acoustic model has no phone QQ, as in"
    ):
        Reader(SMALL).lacking(phrase)
    (foreign,) = read_phrases(written(tmp_path, "phrase,class\nso müde,calm\n"))
    with pytest.raises(
        TrainingError, match=r"my\.csv:2: .* of US English lacks 'müde' of 'so müde'; add it there"
    ):
        reader.lacking(foreign)
    (short,) = read_phrases(written(tmp_path, "phrase,class\nno,calm\n"))
    short_reader = Reader(SMALL)
    short_reader.lacking(short)
    assert short_reader.notes([short])[0].startswith("'no': fewer than 6 phones")
    with pytest.raises(TrainingError, match="--dictionary goes with --model"):
        Reader(PhraseSettings(dictionary=tmp_path / "x.dict"))


@pytest.fixture(scope="module")
def flite() -> None:
    """Voices to speak with, and an engine to hear them."""
    pytest.importorskip("pocketsphinx")
    if shutil.which("flite") is None:
        pytest.skip("no flite: apt-get install flite")


def test_one_command_makes_a_list_that_is_heard(
    flite: None, python_module: Command, tmp_path: Path
) -> None:
    """Invented words among them, and in a voice that nothing was tuned on."""
    from edge_runtime.text.engines import source_named

    file = written(tmp_path, "phrase,class\nreboot the zorblax,stressed\neverything is fine,calm\n")
    out = tmp_path / "lists" / "my.txt"
    few = ("--takes", "3", "--fillers", "5", "--jobs", "1", "--alarms", "20")
    done = python_module("training", "phrases", file, *few, "--labels", "calm,stressed,tired",
                         "--out", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "read by rule: zorblax=Z AO R B L AE K S" in done.stdout
    assert (
        f"voice {HELD_OUT_VOICE}, which it was not tuned on: found 8 of 8, 0 false" in done.stdout
    )
    assert "no corpus of real speech is named" in done.stderr
    assert has_log_odds(out.read_bytes())
    for phrase, named in zip(read_keywords(out), ("stressed", "calm"), strict=True):
        assert set(phrase.weights) == set(LABELS)
        assert max(phrase.weights, key=lambda label: phrase.weights[label]) == named
        assert phrase.threshold is not None
    engine = source_named(f"keywords:{out}")
    engine.begin(0.0)
    engine.feed(speech_of(speak_with_flite("please reboot the zorblax now", HELD_OUT_VOICE)))
    assert engine.end().text == "reboot the zorblax"

    lost = python_module("training", "phrases", file, "--labels", "calm,tired", "--out", out)
    assert lost.returncode == 2
    assert lost.stderr.strip().endswith(
        "my.csv:2: there is no class 'stressed'; there is calm, tired"
    )


def test_what_is_not_found_again_is_dropped(flite: None, corpora: Path, tmp_path: Path) -> None:
    """Said with other sounds than it is spoken with; real speech is counted."""
    text = "phrase,class,pronunciation\nreboot now,calm,\neverything is fine,tired,\n"
    own = read_phrases(written(tmp_path, text))
    clip = corpora / "ravdess/Actor_01/03-01-01-01-01-02-01.flac"
    speech = [Utterance(clip, "neutral", "y", "ravdess", text="kids are talking by the door")]
    result = tune(own, LABELS, speech, PhraseSettings(takes=2, fillers=2, jobs=1, min_hits=1.0))
    assert {e.phrase.text for e in (*result.kept, *result.dropped)} == {p.text for p in own}
    assert all(e.hits == e.spoken for e in result.kept)
    assert all(e.hits < e.spoken for e in result.dropped)
    assert 0 < result.hours < 0.01
    assert result.speech == ("ravdess",)
    assert not result.notes
    assert len(speak_with_flite("", phones="HH EH L OW")) > 0.2 * SAMPLE_RATE


def test_another_language_is_spoken_as_its_dictionary_says(flite: None, tmp_path: Path) -> None:
    import pocketsphinx

    folder = tmp_path / "german"
    folder.mkdir()
    for path in Path(pocketsphinx.get_model_path("en-us/en-us")).iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "de.dict").write_text("Ruf R UW F\nden D EY N\nArzt AA R T S T\n")
    text = "phrase,class\nruf den arzt,stressed\n"
    own = read_phrases(written(tmp_path, text))
    settings = PhraseSettings(takes=2, fillers=2, jobs=1, model=folder, alarms=50)
    result = tune(own, LABELS, [], settings)
    assert [e.phrase.text for e in result.kept] == ["ruf den arzt"]
    assert result.kept[0].phrase.pronunciations == {}
    out = folder / "keywords.txt"
    result.write(out, tmp_path / "my.csv", settings)
    from edge_runtime.text.engines import source_named

    engine = source_named(f"keywords:{folder}")
    engine.begin(0.0)
    phones = "R UW F D EY N AA R T S T"
    engine.feed(speech_of(speak_with_flite("", HELD_OUT_VOICE, phones=phones)))
    assert engine.end().text == "ruf den arzt"

    lacking = read_phrases(written(tmp_path, "phrase,class\nich bin da,calm\n"))
    spoken = PhraseSettings(model=folder, voice="de")
    with pytest.raises(TrainingError, match=r"de\.dict lacks 'ich' of 'ich bin da'; add it there"):
        Reader(spoken).lacking(lacking[0])
