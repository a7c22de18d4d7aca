"""No speaker on both sides, and the very folds that the published figures rest on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import __version__
from training.__main__ import main
from training.corpora import Utterance, load_corpora
from training.data.features import FeatureSettings
from training.data.folds import (
    check_classes,
    corpus_folds,
    fold_protocol,
    session_folds,
    speaker_folds,
    unjudged,
    watch_protocol,
    watch_split,
)
from training.errors import TrainingError
from training.evaluate.crossval import CrossvalResult, Training, write_summary
from training.fit.settings import FitSettings
from training.network.config import ModelConfig

CLASSES = ("angry", "happy", "sad")


def utterances(speakers: int, corpus: str = "x") -> list[Utterance]:
    return [
        Utterance(Path(f"{s}{label}.wav"), label, f"{corpus}-{s:02d}", corpus)
        for s in range(speakers)
        for label in CLASSES
    ]


def test_no_speaker_is_on_both_sides_and_every_clip_is_tested_once() -> None:
    data = utterances(7) + utterances(5, "y")
    folds = speaker_folds(data, 5)
    for fold in folds:
        assert not {data[i].speaker for i in fold.train} & {data[i].speaker for i in fold.test}
        assert sorted(fold.train + fold.test) == list(range(len(data)))
    assert sorted(i for fold in folds for i in fold.test) == list(range(len(data)))


def test_a_corpus_of_few_speakers_beside_others_is_judged_in_as_many_folds() -> None:
    data = utterances(7) + utterances(3, "y")
    folds = speaker_folds(data, 5)
    assert sorted(i for fold in folds for i in fold.test) == list(range(len(data)))
    assert unjudged(data, folds) == ["y is judged in 3 of the 5 folds"]


@pytest.mark.corpora
def test_folds_of_the_shared_corpora_are_array_split_of_the_sorted_speakers(corpora: Path) -> None:
    found = load_corpora([f"ravdess={corpora / 'ravdess'}", f"emodb={corpora / 'emodb'}"])
    data = [u for f in found.values() for u in f.utterances]
    for number, fold in enumerate(speaker_folds(data, 5)):
        for corpus in found:
            speakers = sorted({u.speaker for u in data if u.corpus == corpus})
            expected = set(np.array_split(speakers, 5)[number].tolist())
            assert {data[i].speaker for i in fold.test if data[i].corpus == corpus} == expected


def test_too_few_speakers_and_a_fold_without_a_class_are_refused() -> None:
    with pytest.raises(TrainingError, match="x has 3 speakers, too few for 5 folds"):
        speaker_folds(utterances(3), 5)
    data = [u for u in utterances(4) if u.label != "sad" or u.speaker == "x-00"]
    with pytest.raises(TrainingError, match=r"fold 1 has no sad in its training speakers"):
        speaker_folds(data, 2)
    with pytest.raises(TrainingError, match="at least 2"):
        speaker_folds(utterances(3), 1)


def test_one_class_is_refused() -> None:
    data = [u for u in utterances(4) if u.label == "sad"]
    with pytest.raises(TrainingError, match=r"one class only \(sad\)"):
        check_classes(data)
    with pytest.raises(TrainingError, match="one class only"):
        speaker_folds(data, 2)


def test_watched_speakers_do_not_train() -> None:
    data = utterances(10) + utterances(5, "y")
    train, watched = watch_split(data, 0.2)
    assert not {u.speaker for u in train} & {u.speaker for u in watched}
    assert len(train) + len(watched) == len(data)
    assert {u.corpus for u in watched} == {"x", "y"}
    assert watch_split(data, 0.0)[1] == []
    only = [u for u in data if u.label != "sad" or u.speaker == "x-00"]
    with pytest.raises(TrainingError, match="no training clip of sad"):
        watch_split(only, 0.2)


def unknown(clips: int, corpus: str = "manifest") -> list[Utterance]:
    """Of every class in turn, two segments of each file; nobody says who speaks."""
    return [
        Utterance(Path(f"{n // 2:02d}.wav"), CLASSES[n // 2 % 3], None, corpus, start=n % 2)
        for n in range(clips)
    ]


def test_clips_of_unknown_speakers_are_dealt_out_by_class_and_files_stay_whole() -> None:
    data = unknown(60)
    folds = speaker_folds(data, 5)
    assert sorted(i for fold in folds for i in fold.test) == list(range(60))
    for fold in folds:
        assert Counter(data[i].label for i in fold.test) == dict.fromkeys(CLASSES, 4)
        assert not {data[i].path for i in fold.train} & {data[i].path for i in fold.test}
    train, watched = watch_split(data, 0.2)
    assert len(watched) == 12
    assert not {u.path for u in train} & {u.path for u in watched}
    with pytest.raises(TrainingError, match="manifest has 3 clips, too few for 5 folds"):
        speaker_folds(unknown(6), 5)


def test_a_speaker_of_two_corpora_is_on_one_side_in_both() -> None:
    twins = [replace(u, corpus="a") for u in utterances(7)]
    data = utterances(9) + twins
    for fold in speaker_folds(data, 3):
        assert not {data[i].speaker for i in fold.train} & {data[i].speaker for i in fold.test}


def test_nothing_is_said_of_speakers_that_the_data_do_not_name() -> None:
    assert fold_protocol(utterances(7), 5, 5) == "5 speaker-independent folds over x (7 speakers)"
    said = fold_protocol(unknown(20) + utterances(7), 5, 5)
    assert said == (
        "speakers unknown: 5 folds by clip, not speaker-independent, over manifest (20 clips, "
        "speakers unknown) and x (7 speakers)"
    )
    assert watch_protocol(utterances(2)) == "2 speakers kept out of training"
    assert watch_protocol(unknown(4)) == (
        "speakers unknown: split by clip, not speaker-independent; 4 clips, speakers unknown, kept "
        "out of training"
    )


def test_a_summary_of_a_crossval_claims_no_speakers(tmp_path: Path) -> None:
    data = [replace(u, path=tmp_path / str(i)) for i, u in enumerate(unknown(30))]
    for number, utterance in enumerate(data):
        utterance.audio.write_bytes(bytes([number]))
    labels = sorted(CLASSES)
    right = np.eye(3, dtype=np.float32)[[labels.index(u.label) for u in data]]
    parts = [i % 5 for i in range(30)]
    result = CrossvalResult(data, labels, {"audio/int8": 9 * right}, parts)
    config = ModelConfig(variant="audio", labels=tuple(labels))
    training = Training(config, FitSettings(seed=7), FeatureSettings())
    written = write_summary(result, training, tmp_path, cut=5, paired=False)
    # What made them travels with the figures.
    assert written["settings"]["seed"] == 7
    assert written["model"]["variant"] == "audio"
    assert written["edge_emotion"] == __version__
    assert {"revision", "python", "versions"} <= written.keys()
    assert json.loads((tmp_path / "crossval.json").read_text()) == json.loads(json.dumps(written))
    protocol = written["metrics"]["protocol"]
    assert protocol.startswith("speakers unknown: 5 folds by clip, not speaker-independent")
    figures = written["metrics"]["corpora"]["manifest"]["audio"]["int8"]
    assert (figures["ua"], figures["speakers"]) == (1.0, None)
    # 10 of 10 of each class: Wilson's interval of one begins at 0.72
    assert 0.72 < figures["ua_interval"][0] < 0.9


def in_sessions(sessions: int) -> list[Utterance]:
    """Two speakers a session, each with every class."""
    return [
        Utterance(Path(f"{s}{sex}{label}.wav"), label, f"y-{s}{sex}", "y", session=f"Ses{s:02d}")
        for s in range(sessions)
        for sex in "FM"
        for label in CLASSES
    ]


def test_a_session_is_tested_as_a_whole_and_once() -> None:
    data = in_sessions(5)
    folds = session_folds(data)
    assert len(folds) == 5
    for number, fold in enumerate(folds):
        assert {data[i].session for i in fold.test} == {f"Ses{number:02d}"}
        assert len(fold.test) == 2 * len(CLASSES)
        assert sorted(fold.train + fold.test) == list(range(len(data)))


def test_sessions_that_do_not_fold_are_refused() -> None:
    with pytest.raises(TrainingError, match="x has no sessions; use --by speaker"):
        session_folds(in_sessions(5) + utterances(4))
    with pytest.raises(TrainingError, match="at least 2 sessions"):
        session_folds(in_sessions(1))
    stranger = Utterance(Path("a.wav"), "sad", "y-0F", "y", session="Ses01")
    with pytest.raises(TrainingError, match="y-0F speaks in y Ses00 and in y Ses01"):
        session_folds([*in_sessions(2), stranger])
    data = [u for u in in_sessions(3) if u.label != "sad" or u.session != "Ses02"]
    with pytest.raises(TrainingError, match="fold 3 has no sad in its test sessions"):
        session_folds(data)


@pytest.mark.parametrize("by", ["session", "corpus"])
def test_a_number_of_folds_and_sessions_or_corpora_exclude_each_other(
    by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["crossval", "manifest=x.csv", "--by", by, "--folds", "5"]) != 0
    assert f"--by {by} makes one fold a {by}" in capsys.readouterr().err


def test_a_corpus_is_tested_as_a_whole_by_a_model_of_the_others() -> None:
    data = utterances(3, "b") + utterances(2, "a") + utterances(1, "c")
    folds = corpus_folds(data)
    for fold, name in zip(folds, "abc", strict=True):
        assert {data[i].corpus for i in fold.test} == {name}
        assert {data[i].corpus for i in fold.train} == set("abc") - {name}
        assert sorted(fold.train + fold.test) == list(range(len(data)))


def test_corpora_that_do_not_fold_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"^x: at least 2 corpora are needed; use --by speaker"):
        corpus_folds(utterances(5))
    guest = Utterance(Path("a.wav"), "sad", "a-00", "b")
    with pytest.raises(TrainingError, match="a-00 speaks in a and in b; use --by speaker"):
        corpus_folds([*utterances(2, "a"), *utterances(2, "b"), guest])
    data = [u for u in utterances(2, "a") if u.label != "sad"] + utterances(2, "b")
    with pytest.raises(TrainingError, match="fold 2 has no sad in its training corpora; use --by"):
        corpus_folds(data)


def test_a_class_that_a_corpus_or_a_fold_of_it_lacks_is_told_in_one_line() -> None:
    phones = [u for u in utterances(4, "phones") if u.label != "sad"]
    data = utterances(4, "x") + phones
    lacking = "phones has no sad: its figures are over angry, happy alone"
    assert unjudged(data, corpus_folds(data + utterances(2, "y"))[:2]) == [lacking]
    assert unjudged(utterances(4), speaker_folds(utterances(4), 2)) == []
    # Another corpus fills what the fold's clips of this one lack: the fold is not refused.
    uneven = [u for u in utterances(4) if u.label != "sad" or u.speaker > "x-01"]
    both = uneven + utterances(4, "y")
    assert unjudged(both, speaker_folds(both, 2)) == [
        "fold 1: its 4 clips of x have no sad: the fold's UA is over the other classes"
    ]
