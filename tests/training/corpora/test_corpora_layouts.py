"""Every corpus from a tree of its official shape: real names and label lines, synthesized audio."""

from __future__ import annotations

import csv
import json
import logging
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.__main__ import main
from training.corpora import (
    Expected,
    Found,
    Utterance,
    corpus_names,
    differences,
    load_corpora,
    manifest,
)
from training.corpora.class_map import open_classes
from training.data.features import extract
from training.errors import TrainingError

ROOT = Path(__file__).parents[3]
MELD_HEADER = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,"
    "Season,Episode,StartTime,EndTime"
)
MSP_HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"


def clips(root: Path, *names: str) -> None:
    """0.2 s of a tone each, which goes by the name of the file, in whatever folder."""
    for name in names:
        path = root / name
        pitch = 200 + zlib.crc32(path.name.encode()) % 1000
        tone = 0.3 * np.sin(2 * np.pi * pitch * np.arange(3200) / 16_000)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone, 16_000)


def lines(path: Path, *rows: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(row + "\n" for row in rows).encode(encoding))


def ravdess(root: Path) -> None:
    clips(root, "Actor_01/03-01-01-01-01-01-01.wav", "Actor_12/03-01-05-02-02-01-12.wav")


def emodb(root: Path) -> None:
    clips(root, "wav/03a01Fa.wav", "wav/16b10Wb.wav", "wav/16b10Lb.wav")


def iemocap(root: Path) -> None:
    for number in range(1, 6):
        session, dialogue = root / f"Session{number}", f"Ses{number:02d}F_impro01"
        summaries = (
            ("[6.2901 - 8.2357]", "F000", "neu", "[2.5000, 2.5000, 2.5000]"),
            ("[10.0100 - 11.3925]", "F001", "hap", "[4.0000, 3.0000, 2.5000]"),
            ("[14.8872 - 18.0175]", "M000", "exc", "[4.5000, 4.0000, 2.5000]"),
            ("[19.2900 - 20.7875]", "M001", "ang", "[1.5000, 4.0000, 4.5000]"),
            ("[21.3257 - 24.7400]", "F002", "sad", "[2.0000, 2.0000, 2.0000]"),
            ("[25.0000 - 26.0000]", "F003", "xxx", "[2.5000, 2.5000, 2.5000]"),
        )
        rows = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for times, turn, emotion, dimensions in summaries:
            rows += [
                f"{times}\t{dialogue}_{turn}\t{emotion}\t{dimensions}",
                "C-E2:\tNeutral;\t()",
                "A-E3:\tval 3; act 2; dom  2;\t()",
                "",
            ]
            clips(session / "sentences/wav" / dialogue, f"{dialogue}_{turn}.wav")
        evaluations = session / "dialog/EmoEvaluation"
        lines(evaluations / f"{dialogue}.txt", *rows)
        # What the release has besides, and must not be counted.
        lines(evaluations / f"Categorical/{dialogue}_e2_cat.txt", *rows)
        (evaluations / f"._{dialogue}.txt").write_bytes(b"\x00\x05\x16\x07Mac OS X")
        lines(
            session / "dialog/transcriptions" / f"{dialogue}.txt",
            f"{dialogue}_F000 [006.2901-008.2357]: Excuse me.",
            f"{dialogue}_M000 [014.8872-018.0175]: [LAUGHTER] That's great.",
            f"{dialogue}_MXX0 [018.0175-019.0000]: Mm-hmm.",
        )


def meld(root: Path) -> None:
    times = '4,7,"00:20:57,256","00:21:00,049"'
    lines(
        root / "train_sent_emo.csv",
        MELD_HEADER,
        f'1,"Oh my God, he\u2019s lost it.",Phoebe,sadness,negative,0,0,{times}',
        f"2,What?,Monica,surprise,negative,0,1,{times}",
        f'3,"Or! Or, we could go to the bank",Joey,neutral,neutral,0,2,{times}',
    )
    # As first published: Windows-1252 control codes inside UTF-8.
    lines(root / "dev_sent_emo.csv", MELD_HEADER, f"1,I\u0092m happy,Joey,joy,positive,0,0,{times}")
    lines(
        root / "test_sent_emo.csv",
        MELD_HEADER,
        f"1,You\u2019re mad\u2026,Ross,anger,negative,0,0,{times}",
        encoding="cp1252",
    )
    clips(root, "train_splits/dia0_utt0.wav", "output_repeated_splits_test/dia0_utt0.wav")
    (root / "train_splits/dia0_utt0.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom")
    (root / "train_splits/dia0_utt2.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom")
    clips(root, "output_repeated_splits_test/final_videos_testdia0_utt0.wav")


def cremad(root: Path) -> None:
    clips(root / "AudioWAV", "1001_DFA_ANG_XX.wav", "1091_IEO_HAP_HI.wav", "1040_ITH_SAD_X.wav")
    clips(root / "AudioWAV", "1002_TSI_NEU_XX.wav", "1002_TSI_FEA_XX.wav")


def tess(root: Path) -> None:
    clips(root, "OAF_angry/OAF_back_angry.wav", "OAF_neutral/OA_bite_neutral.wav")
    clips(root, "YAF_sad/YAF_youth_sad.wav", "YAF_happy/YAF_dog_happy.wav")
    clips(root, "OAF_Pleasant_surprise/OAF_back_ps.wav")
    clips(root, "TESS Toronto emotional speech set data/OAF_angry/OAF_back_angry.wav")


def savee(root: Path) -> None:
    clips(
        root / "AudioData", "DC/a01.wav", "DC/su01.wav", "JE/sa15.wav", "JK/n30.wav", "KL/h07.wav"
    )


def esd(root: Path) -> None:
    clips(root, "0001/Angry/0001_000351.wav", "0001/Surprise/0001_001401.wav")
    clips(root, "0011/Happy/train/0011_000721.wav", "0011/Sad/test/0011_001055.wav")
    lines(
        root / "0001/0001.txt",
        "0001_000351\t打远一看它们的确很是美丽\t生气",
        encoding="gb18030",
    )
    lines(
        root / "0011/0011.txt",
        "0011_000721\tThe nine the eggs, I keep.\tHappy",
        "0011_001055 Tom could hardly speak for laughing. Sad",
        encoding="utf-16",
    )
    clips(root, "0016/Neutral/0016_000001.wav", "0016/Neutral/0016_000002.wav")
    lines(
        root / "0016/0016.txt",
        "0016_000001\tIt\u2019s to say how do you do\tNeutral",
        "0016_000002\tYou sang well",
        encoding="cp1252",
    )


def msppodcast(root: Path) -> None:
    lines(
        root / "Labels/labels_consensus.csv",
        MSP_HEADER,
        "MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1",
        "MSP-PODCAST_0001_0009.wav,A,5.9,2.5,5.1,39,Male,Train",
        "MSP-PODCAST_0002_0011.wav,H,5.5,6.0,5.0,Unknown,Female,Development",
        "MSP-PODCAST_0002_0012.wav,X,4.0,4.0,4.0,39,Male,Train",
        "MSP-PODCAST_0002_0013.wav,S,2.0,2.0,2.0,39,Male,Train",
    )
    clips(root / "Audios", *(f"MSP-PODCAST_{n}.wav" for n in ("0001_0008", "0001_0009")))
    clips(root / "Audios", *(f"MSP-PODCAST_{n}.wav" for n in ("0002_0011", "0002_0012")))
    lines(root / "Transcripts/MSP-PODCAST_0001_0008.txt", "so we went there")


def goemotions(root: Path) -> None:
    names = ["joy", "love", "sadness", "anger", "curiosity", "neutral"]
    (root / "labels.txt").parent.mkdir(parents=True, exist_ok=True)
    (root / "labels.txt").write_text("\n".join(names))
    lines(
        root / "train.tsv",
        'My favourite "food" is\x85 anything\t5\teebbqej',
        "I love it, so happy\t0,1\ted00q6i",
        "Happy and sad\t0,2\teezlygj",
        "Why so mad?\t3,4\ted7ypvh",
        "I wonder\t4\ted0bdzj",
    )


NEMO_HEADER = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"


def nemo(root: Path) -> None:
    clips(root / "samples", "EB0_anger_1.wav", "WR0_happiness_86.wav", "KS0_neutral_22.wav")
    clips(root / "samples", "WR0_sadness_9.wav", "WR0_surprised_64.wav", "EB0_fear_35.wav")
    # As published: the speaker's column is padded, quotation marks stand for themselves, and
    # lines end as in DOS.
    rows = (
        ("EB0_anger_1.wav", "anger", "Lubię czytać przed snem.", "EB0\tfemale\t27"),
        ("WR0_happiness_86.wav", "happiness", 'Film "Ród smoka', "WR0\tmale\t23"),
        ("WR0_surprised_64.wav", "surprised", "Ucho wykrywa dźwięki.", "WR0\tmale\t23"),
        ("EB0_fear_35.wav", "fear", "Muszę kupić mączkę.", "EB0\tfemale\t27"),
        ("KS0_neutral_22.wav", "neutral", "Piesek wszedł do rzeki.", "KS0\tmale\t23"),
        ("WR0_sadness_9.wav", "sadness", "Piłka nożna to moja pasja.", "WR0\tmale\t23"),
    )
    table = [
        f"{file}\t{emotion}\t{text}\t{text.lower()}\t        {speaker}\r"
        for file, emotion, text, speaker in rows
    ]
    lines(root / "data.tsv", NEMO_HEADER + "\r", *table)


def ased(root: Path) -> None:
    clips(root, "01Neutral/n1-01-01-01-03.wav", "02Fearful/f2-03-01-02-50.wav")
    clips(root, "03Happy/h3-01-02-02-03.wav", "04Sad/s4-07-01-02-50.wav")
    clips(root, "05Angry/a5-03-01-02-50.wav", "05Angry/a5-03-02-02-50.wav")


def emovo(root: Path) -> None:
    clips(root / "f1", "rab-f1-b1.wav", "gio-f1-d2.wav", "dis-f1-n1.wav", "pau-f1-l3.wav")
    clips(root / "m3", "neu-m3-n5.wav", "tri-m3-l1.wav", "sor-m3-b2.wav")


def koemo(root: Path) -> None:
    plain, written = root / "plain-to-emotional/ema", root / "emotional-to-emotional/nec"
    clips(plain / "wav", "ema00001.wav", "ema00101.wav", "ema00205.wav")
    clips(written / "wav", "nec00102.wav", "nec00303.wav", "nec00401.wav")
    lines(written / "transcript/nec00102.txt", "경치도 좋고, 음식도 맛있고, 대만족이야.")
    lines(written / "script/nec00102.txt", "경치도 좋고 (휴지)")
    lines(plain / "script/ema00001.txt", "안녕하세요.", encoding="utf-8-sig")


PHONES = tuple(f"{number:056x}" for number in (7, 8))


def emospeech(root: Path) -> None:
    anybody = "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f"
    clips(
        root,
        f"house/bacho-safe-angry-1562907046662-{PHONES[0]}.wav",
        f"house/stop-safe-Happy-??-{PHONES[1]}.wav",  # one clip of the corpus lost its time
        f"train/help-glass break-calm-1563210486691-{PHONES[0]}.wav",
        f"train/unknown-safe-calm-1563210486692-{PHONES[0]}.wav",
        f"train/no-gunshots-fearful-1563210486693-{PHONES[1]}.wav",
        f"train/go-safe-angry-1563210486694-{anybody}.wav",
        f"train/background-safe-None-20190701193438-{anybody}.wav",
    )


def librispeech(root: Path) -> None:
    clips(root / "dev-clean/84/121123", "84-121123-0000.flac", "84-121123-0001.flac")
    clips(root / "dev-clean/174/50561", "174-50561-0000.flac")
    lines(
        root / "dev-clean/84/121123/84-121123.trans.txt",
        "84-121123-0000 GO DO YOU HEAR",
        "84-121123-0001 BUT IN LESS THAN FIVE MINUTES",
    )


CORPORA: dict[str, Callable[[Path], None]] = {
    build.__name__: build
    for build in (
        *(ravdess, emodb, iemocap, meld, cremad, tess, savee, esd, msppodcast, goemotions),
        *(nemo, ased, emovo, koemo, emospeech, librispeech),
    )
}
# What a tree above holds: class to utterances, and what is left out.
HOLDS: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "ravdess": ({"neutral": 1, "angry": 1}, {}),
    "emodb": ({"happy": 1, "angry": 1}, {"L": 1}),
    "iemocap": ({"neutral": 5, "happy": 10, "angry": 5, "sad": 5}, {"xxx": 5}),
    "meld": ({"sad": 1, "neutral": 1, "happy": 1, "angry": 1}, {"surprise": 1}),
    "cremad": ({"angry": 1, "happy": 1, "sad": 1, "neutral": 1}, {"FEA": 1}),
    "tess": ({"angry": 1, "neutral": 1, "sad": 1, "happy": 1}, {"ps": 1, "second copy": 1}),
    "savee": ({"angry": 1, "sad": 1, "neutral": 1, "happy": 1}, {"su": 1}),
    "esd": ({"angry": 1, "happy": 1, "sad": 1, "neutral": 2}, {"Surprise": 1}),
    "msppodcast": ({"neutral": 1, "angry": 1, "happy": 1}, {"X": 1, "without audio": 1}),
    "goemotions": (
        {"neutral": 1, "happy": 1, "angry": 1},
        {"several classes": 1, "curiosity": 1},
    ),
    "nemo": ({"angry": 1, "happy": 1, "neutral": 1, "sad": 1}, {"surprised": 1, "fear": 1}),
    "ased": ({"neutral": 1, "happy": 1, "sad": 1, "angry": 2}, {"f": 1}),
    "emovo": (
        {"angry": 1, "happy": 1, "neutral": 1, "sad": 1},
        {"dis": 1, "pau": 1, "sor": 1},
    ),
    "koemo": ({"neutral": 1, "happy": 2, "angry": 1, "sad": 1}, {"number beyond 400": 1}),
    "emospeech": (
        {"angry": 1, "happy": 1, "neutral": 2},
        {"fearful": 1, "none": 1, "user not known": 1},
    ),
    "librispeech": ({}, {}),
}
# The sub-folder or file that an error about an empty or another folder must name.
MISSING = {
    "ravdess": "Actor_NN/",
    "emodb": "wav/",
    "iemocap": "Session1 to Session5",
    "meld": "train_sent_emo.csv",
    "cremad": "AudioWAV/",
    "tess": "OAF_angry/",
    "savee": "folders DC",
    "esd": "0001/ to 0020/",
    "msppodcast": "Labels/labels_consensus.csv",
    "goemotions": "labels.txt",
    "nemo": "samples/",
    "ased": "05Angry/",
    "emovo": "f1/",
    "koemo": "wav/ema00001.wav",
    "emospeech": "bacho-safe-angry",
    "librispeech": "SPEAKER/CHAPTER/",
}


def load(name: str, root: Path) -> Found:
    return load_corpora([f"{name}={root}"], ordinary="")[name]


def by_name(found: Found) -> dict[str, Utterance]:
    return {u.audio.stem: u for u in found.utterances if u.path is not None}


def test_every_corpus_is_tested_here() -> None:
    assert set(CORPORA) | {"manifest"} == set(corpus_names())


@pytest.mark.parametrize("name", CORPORA)
def test_a_tree_of_the_official_shape(name: str, tmp_path: Path) -> None:
    CORPORA[name](tmp_path)
    found = load(name, tmp_path)
    classes, left_out = HOLDS[name]
    assert Counter(u.label for u in found.utterances) == classes
    assert found.left_out == left_out
    assert found.licence
    assert found.citation
    for utterance in [*found.utterances, *found.ordinary]:
        assert utterance.corpus == name
        assert (utterance.speaker or "").startswith("" if name == "goemotions" else f"{name}-")
        assert utterance.path is None or utterance.path.is_file()
        assert utterance.path or utterance.text


@pytest.mark.parametrize("name", CORPORA)
def test_an_empty_and_another_folder_are_refused_by_what_is_missing(
    name: str, tmp_path: Path
) -> None:
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.mkdir()
    clips(other, "holiday/track 01.wav")
    lines(other / "holiday/notes.txt", "nothing of interest")
    for folder in (empty, other):
        with pytest.raises(TrainingError, match=f"^{name}: ") as error:
            load(name, folder)
        assert str(folder) in str(error.value)
        assert MISSING[name] in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "removed", "named"),
    [
        ("iemocap", "Session3/dialog/EmoEvaluation", "dialog/EmoEvaluation"),
        ("iemocap", "Session3/sentences", "sentences/wav"),
        ("msppodcast", "Audios", "Audios/"),
        ("msppodcast", "Labels", "Labels/labels_consensus.csv"),
        ("goemotions", "train.tsv", "train.tsv"),
    ],
)
def test_a_part_that_is_missing_is_named(
    name: str, removed: str, named: str, tmp_path: Path
) -> None:
    CORPORA[name](tmp_path)
    (tmp_path / removed).rename(tmp_path / "elsewhere")
    with pytest.raises(TrainingError, match=f"^{name}: .* has no {named}"):
        load(name, tmp_path)


def test_iemocap_turns_belong_to_who_speaks_them(tmp_path: Path) -> None:
    iemocap(tmp_path / "IEMOCAP_full_release")
    found = load("iemocap", tmp_path)
    turns = by_name(found)
    assert turns["Ses01F_impro01_F000"].speaker == "iemocap-Ses01F"
    assert turns["Ses01F_impro01_M001"].speaker == "iemocap-Ses01M"
    assert turns["Ses05F_impro01_M000"].session == "Ses05"
    assert turns["Ses01F_impro01_F000"].text == "Excuse me."
    assert turns["Ses01F_impro01_M000"].text == "That's great."
    assert len({u.speaker for u in found.utterances}) == 10


def test_meld_reads_every_encoding_and_takes_audio_where_it_is(tmp_path: Path) -> None:
    meld(tmp_path)
    found = load("meld", tmp_path)
    texts = {(u.split, u.text): u for u in found.utterances}
    assert set(texts) == {
        ("train", "Oh my God, he\u2019s lost it."),
        ("train", "Or! Or, we could go to the bank"),
        ("dev", "I\u2019m happy"),
        ("test", "You\u2019re mad\u2026"),
    }
    paths = {split: u.path for (split, text), u in texts.items() if not text.startswith("Or!")}
    assert paths == {
        "train": tmp_path / "train_splits/dia0_utt0.wav",
        "dev": None,
        "test": tmp_path / "output_repeated_splits_test/dia0_utt0.wav",
    }
    (note,) = found.notes
    assert note.startswith("1 clips are there as .mp4 only")


def test_words_and_speakers_of_the_acted_corpora(tmp_path: Path) -> None:
    for name in ("cremad", "tess", "savee", "esd"):
        CORPORA[name](tmp_path / name)
    found = {name: by_name(load(name, tmp_path / name)) for name in ("cremad", "tess", "esd")}
    assert found["cremad"]["1001_DFA_ANG_XX"].text == "don't forget a jacket"
    assert found["tess"]["OA_bite_neutral"].speaker == "tess-OAF"
    assert found["tess"]["YAF_youth_sad"].text == "say the word youth"
    assert found["esd"]["0001_000351"].text == "打远一看它们的确很是美丽"
    assert found["esd"]["0011_000721"].text == "The nine the eggs, I keep."
    assert found["esd"]["0011_000721"].split == "train"
    assert found["esd"]["0011_001055"].text == "Tom could hardly speak for laughing."
    assert found["esd"]["0016_000001"].text == "It\u2019s to say how do you do"
    assert found["esd"]["0016_000002"].text == "You sang well"
    nested = load("savee", tmp_path / "savee").utterances
    assert {u.speaker for u in nested} == {f"savee-{s}" for s in ("DC", "JE", "JK", "KL")}
    clips(tmp_path / "flat", "DC_a01.wav", "KL_sa15.wav")
    flat = by_name(load("savee", tmp_path / "flat"))
    assert {stem: u.speaker for stem, u in flat.items()} == {
        "DC_a01": "savee-DC",
        "KL_sa15": "savee-KL",
    }
    assert flat["KL_sa15"].label == "sad"


def test_words_and_speakers_of_the_corpora_of_other_languages(tmp_path: Path) -> None:
    names = ("nemo", "ased", "emovo", "koemo", "emospeech")
    for name in names:
        CORPORA[name](tmp_path / name)
    found = {name: load(name, tmp_path / name) for name in names}
    clip = {name: by_name(part) for name, part in found.items()}
    assert clip["nemo"]["EB0_anger_1"].speaker == "nemo-EB0"
    assert clip["nemo"]["EB0_anger_1"].text == "Lubię czytać przed snem."
    assert clip["nemo"]["WR0_happiness_86"].text == 'Film "Ród smoka'
    assert clip["nemo"]["KS0_neutral_22"].text == "Piesek wszedł do rzeki."
    assert clip["emovo"]["rab-f1-b1"].speaker == "emovo-f1"
    assert clip["emovo"]["neu-m3-n5"].text == "uno quarantatré dieci mille cinquantasette venti"
    assert clip["koemo"]["nec00102"].text == "경치도 좋고, 음식도 맛있고, 대만족이야."
    assert clip["koemo"]["ema00001"].text == "안녕하세요."
    assert clip["koemo"]["ema00205"].label == "angry"
    assert {u.speaker for u in found["koemo"].utterances} == {"koemo-ema", "koemo-nec"}
    assert {u.speaker for u in found["emospeech"].utterances} == {
        f"emospeech-{user}" for user in PHONES
    }
    assert sorted(u.text for u in found["emospeech"].utterances) == ["", "bacho", "help", "stop"]


def test_a_number_of_two_people_is_one_speaker_and_told(tmp_path: Path) -> None:
    ased(tmp_path)
    found = load("ased", tmp_path)
    assert {u.speaker for u in found.utterances} == {"ased-03", "ased-50"}
    (note,) = found.notes
    assert note.startswith("1 speaker numbers stand for a woman and a man both (03)")


def test_a_table_of_nemo_that_does_not_fit_is_refused_and_one_that_is_missing_told(
    tmp_path: Path,
) -> None:
    nemo(tmp_path)
    table = tmp_path / "data.tsv"
    lines(table, NEMO_HEADER, "EB0_anger_1.wav\tfear\tLubię.\tlubię\tEB0\tfemale\t27")
    with pytest.raises(TrainingError, match=r"data\.tsv, line 2: emotion 'fear' is not that of"):
        load("nemo", tmp_path)
    lines(table, "file_id,emotion,raw_text", "EB0_anger_1.wav,anger,Lubię.")
    with pytest.raises(TrainingError, match="has no column file_id or emotion or raw_text"):
        load("nemo", tmp_path)
    lines(table, NEMO_HEADER, "EB0_anger_1.wav\tanger\tLubię.\tlubię\tEB0\tfemale\t27")
    assert load("nemo", tmp_path).notes == (
        "3 clips are not in data.tsv: their words are not known",
    )
    table.unlink()
    assert load("nemo", tmp_path).notes == ("there is no data.tsv: the words are not known",)


def test_stereo_of_emovo_is_heard_as_one_recording(tmp_path: Path) -> None:
    path = tmp_path / "f1/rab-f1-b1.wav"
    path.parent.mkdir(parents=True)
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(48_000) / 48_000)
    soundfile.write(path, np.stack([tone, tone], axis=1), 48_000)
    mono = tmp_path / "mono/f1/rab-f1-b1.wav"
    mono.parent.mkdir(parents=True)
    soundfile.write(mono, tone, 48_000)
    both, one = (
        extract(load("emovo", part.parent).utterances, cache=tmp_path / "cache", workers=1)
        for part in (path, mono)
    )
    np.testing.assert_array_equal(both.variants[0][0], one.variants[0][0])


def test_ordinary_speech_has_words_and_speakers_but_no_class(tmp_path: Path) -> None:
    librispeech(tmp_path / "LibriSpeech")
    found = load("librispeech", tmp_path)
    assert found.utterances == []
    spoken = {u.audio.stem: u for u in found.ordinary}
    assert spoken["84-121123-0000"].speaker == "librispeech-84"
    assert spoken["84-121123-0000"].text == "go do you hear"
    assert spoken["174-50561-0000"].text == ""
    assert {(u.label, u.split) for u in found.ordinary} == {("", "dev-clean")}
    assert differences(found) == ["rows of dev-clean: 3, not 2703"]
    # Folders of speakers alone, as people copy them.
    parts = load("librispeech", tmp_path / "LibriSpeech/dev-clean/84")
    assert len(parts.ordinary) == 2


def test_ordinary_speech_is_listed_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    librispeech(tmp_path / "read")
    emodb(tmp_path / "acted")
    assert main(["corpora", f"librispeech={tmp_path / 'read'}"]) == 0
    assert "ordinary speech 3" in capsys.readouterr().out
    arguments = [f"emodb={tmp_path / 'acted'}", f"librispeech={tmp_path / 'read'}"]
    for command in ("fit", "crossval", "table"):
        assert main([command, *arguments, "--out", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "librispeech is ordinary speech without labels of emotion" in error
        assert not (tmp_path / "run").exists()


def test_ordinary_speech_has_the_class_that_is_asked_for(tmp_path: Path) -> None:
    librispeech(tmp_path / "read")
    found = load_corpora([f"librispeech@mine={tmp_path / 'read'}"], ordinary="neutral")
    part = found["librispeech@mine"]
    assert {u.label for u in part.utterances} == {"neutral"}
    assert {u.corpus for u in part.utterances} == {"librispeech@mine"}
    assert len(part.utterances) == 3
    assert not part.ordinary  # nothing is there twice


def test_msp_podcast_labels_in_either_form_and_spelling(tmp_path: Path) -> None:
    msppodcast(tmp_path)
    table = tmp_path / "Labels/labels_consensus.csv"
    from_csv = load("msppodcast", tmp_path)
    with table.open(newline="") as file:
        rows = {row.pop("FileName"): row for row in csv.DictReader(file)}
    table.unlink()
    (tmp_path / "Labels/labels_concensus.json").write_text(json.dumps(rows))
    assert load("msppodcast", tmp_path) == from_csv
    turns = by_name(from_csv)
    assert turns["MSP-PODCAST_0002_0011"].speaker == "msppodcast-Unknown"
    assert turns["MSP-PODCAST_0001_0008"].text == "so we went there"
    assert from_csv.rows == {"Train": 3, "Development": 1, "Test1": 1}
    lines(table, "FileName,Emotion", "MSP-PODCAST_0001_0008.wav,N")
    with pytest.raises(TrainingError, match="no column EmoClass"):
        load("msppodcast", tmp_path)


def test_goemotions_keeps_comments_that_mean_one_class_and_says_so(tmp_path: Path) -> None:
    goemotions(tmp_path)
    found = load("goemotions", tmp_path)
    assert {u.text: u.label for u in found.utterances} == {
        'My favourite "food" is\x85 anything': "neutral",
        "I love it, so happy": "happy",
        "Why so mad?": "angry",
    }
    (note,) = found.notes
    assert note.startswith("2 comments with several labels are kept")
    lines(tmp_path / "dev.tsv", "no labels here")
    with pytest.raises(TrainingError, match=r"dev\.tsv, line 1: expected text, label numbers"):
        load("goemotions", tmp_path)


# Published totals of the four classes; sources in each corpus's module.
COMPLETE = {
    "ravdess": ({"angry": 192, "happy": 192, "neutral": 96, "sad": 192}, 24),
    "emodb": ({"angry": 127, "happy": 71, "neutral": 79, "sad": 62}, 10),
    "iemocap": ({"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084}, 10),
    "meld": ({"angry": 1607, "happy": 2308, "neutral": 6436, "sad": 1002}, None),
    "cremad": ({"angry": 1271, "happy": 1271, "neutral": 1087, "sad": 1271}, 91),
    "tess": ({"angry": 400, "happy": 400, "neutral": 400, "sad": 400}, 2),
    "savee": ({"angry": 60, "happy": 60, "neutral": 120, "sad": 60}, 4),
    "esd": ({"angry": 7000, "happy": 7000, "neutral": 7000, "sad": 7000}, 20),
    "nemo": ({"angry": 749, "happy": 749, "neutral": 809, "sad": 769}, 9),
    "ased": ({"angry": 486, "happy": 486, "neutral": 522, "sad": 470}, 65),
    "emovo": ({"angry": 84, "happy": 84, "neutral": 84, "sad": 84}, 6),
    "koemo": ({"angry": 75, "happy": 75, "neutral": 75, "sad": 75}, 15),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_a_complete_corpus_differs_in_nothing_and_a_clip_less_is_told(
    name: str, tmp_path: Path
) -> None:
    CORPORA[name](tmp_path)
    found = load(name, tmp_path)
    expected, own = found.expected, found.labels
    assert expected is not None
    classes, speakers = COMPLETE[name]
    labels = [label for label, count in classes.items() for _ in range(count)]
    utterances = [
        Utterance(None, label, f"{name}-{i % (speakers or 1)}", name, text="x")
        for i, label in enumerate(labels)
    ]
    rows = Counter(expected.rows)
    assert differences(Found(utterances, Counter(), expected=expected, rows=rows, labels=own)) == []
    less = differences(Found(utterances[1:], Counter(), expected=expected, rows=rows, labels=own))
    assert less == [f"angry: {classes['angry'] - 1}, not {classes['angry']}"]


def test_the_whole_of_koemo_is_not_compared_with_what_is_public(tmp_path: Path) -> None:
    koemo(tmp_path)
    assert "angry: 1, not 75" in differences(load("koemo", tmp_path))
    clips(tmp_path / "plain-to-emotional/ema/wav", "ema00300.wav")
    assert "angry: 2, not 1500" in differences(load("koemo", tmp_path))


def test_a_corpus_of_other_size_is_told_by_the_command(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    iemocap(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert main(["corpora", f"iemocap={tmp_path}"]) == 0
    (warning,) = (r.getMessage() for r in caplog.records)
    assert warning.startswith("iemocap: not the complete corpus")
    assert "angry: 5, not 1103; happy: 10, not 1636; neutral: 5, not 1708" in warning
    assert "speakers" not in warning  # all ten are there
    assert "25" in capsys.readouterr().out


def test_labels_without_a_published_count_are_not_compared() -> None:
    labels = open_classes().of("tess")
    known = {own: 1 for own, label in labels.items() if label != "sad"}
    found = Found([], Counter(), expected=Expected("a test", known), labels=labels)
    assert differences(found) == [f"{c}: 0, not 1" for c in ("angry", "happy", "neutral")]


def test_sessions_are_folds_of_the_test_tree(tmp_path: Path) -> None:
    from training.data.folds import session_folds, speaker_folds

    iemocap(tmp_path)
    data = load("iemocap", tmp_path).utterances
    folds = session_folds(data)
    assert [{data[i].session for i in fold.test} for fold in folds] == [
        {f"Ses{n:02d}"} for n in range(1, 6)
    ]
    # Ten folds by speaker need every class of every speaker: give each the other's turns, too.
    labels = sorted({u.label for u in data})
    full = [
        Utterance(u.path, label, u.speaker, u.corpus, u.session) for u in data for label in labels
    ]
    tested = [{full[i].speaker for i in fold.test} for fold in speaker_folds(full, 10)]
    assert [len(speakers) for speakers in tested] == [1] * 10


# Utterances without audio.


def test_a_manifest_keeps_utterances_without_audio(tmp_path: Path) -> None:
    written = [
        Utterance(None, "happy", "ann", "manifest", text="so happy", split="dev"),
        Utterance(tmp_path / "a.wav", "sad", "bob", "manifest"),
    ]
    manifest.write(tmp_path / "m.csv", written)
    assert manifest.load(tmp_path / "m.csv").utterances == written
    lines(tmp_path / "empty.csv", "path,label,text", ",happy,")
    with pytest.raises(TrainingError, match=r"line 2: path is empty, and so is text"):
        manifest.load(tmp_path / "empty.csv")


def test_features_skip_utterances_without_audio(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = ROOT / "edge_runtime" / "demo" / "scene.flac"
    words = [Utterance(None, "happy", "ann", "meld", text="so happy")] * 3
    spoken = Utterance(scene, "happy", "ann", "meld", start=0.5, end=3.0)
    with caplog.at_level(logging.WARNING):
        found = extract([*words, spoken], cache=tmp_path, workers=1, progress=False)
    assert found.utterances == [spoken]
    assert found.skipped == [(u, "text only") for u in words]
    assert [r.getMessage() for r in caplog.records] == ["meld: skipped 3 utterances without sound"]
    with pytest.raises(TrainingError, match="meld: no audio, 3 utterances of text only"):
        extract(words, cache=tmp_path, workers=1, progress=False)


@pytest.mark.parametrize("command", ["training", "conversion"])
def test_commands_that_need_audio_refuse_text_in_one_line(
    command: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    rows = [f",{label},s{i},{label} words" for i in range(5) for label in ("angry", "happy", "sad")]
    lines(tmp_path / "words.csv", "path,label,speaker,text", *rows)
    table = tmp_path / "words.csv"
    arguments = {
        "training": ["fit", f"manifest={table}", "--out", tmp_path / "run"],
        "conversion": ["parity", "default", "--manifest", table],
    }[command]
    done = subprocess.run(
        [sys.executable, "-m", command, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "text only" in done.stderr.splitlines()[-1]


# The shared texts.


@pytest.mark.corpora
def test_the_shared_meld_texts(corpora: Path) -> None:
    found = load("meld", corpora / "meld")
    assert found.rows == {"train": 9989, "dev": 1109}
    assert len(found.utterances) + found.left_out.total() == 11_098
    # Of the distribution table of its authors, train and dev.
    assert Counter(u.label for u in found.utterances) == {
        "angry": 1109 + 153,
        "happy": 1743 + 163,
        "neutral": 4710 + 470,
        "sad": 683 + 111,
    }
    assert found.left_out == {"surprise": 1205 + 150, "disgust": 271 + 22, "fear": 268 + 40}
    assert all(u.path is None and u.text for u in found.utterances)
    assert "rows of test: 0, not 2610" in differences(found)


@pytest.mark.corpora
def test_the_shared_goemotions_texts(corpora: Path) -> None:
    found = load("goemotions", corpora / "goemotions")
    assert found.rows == {"train": 43_410, "dev": 5_426}
    assert len(found.utterances) + found.left_out.total() == 48_836
    assert {u.label for u in found.utterances} == {"angry", "happy", "neutral", "sad"}
    assert differences(found) == ["rows of test: 0, not 5427"]


@pytest.mark.corpora
def test_the_shared_clips_are_told_from_the_complete_corpora(corpora: Path) -> None:
    short = {name: differences(load(name, corpora / name)) for name in ("ravdess", "emodb")}
    assert "speakers: 20, not 24" in short["ravdess"]
    assert "neutral: 80, not 96" in short["ravdess"]
    assert "speakers: 8, not 10" in short["emodb"]


@pytest.mark.corpora
@pytest.mark.parametrize(
    ("name", "clips_here", "speakers"),
    [("nemo", 1054, 7), ("emovo", 224, 4), ("koemo", 220, 11), ("ased", 812, 49)],
)
def test_the_shared_acted_corpora_are_counted_as_their_readme_says(
    corpora: Path, name: str, clips_here: int, speakers: int
) -> None:
    found = load(name, corpora / name)
    assert len(found.utterances) == clips_here
    assert {u.label for u in found.utterances} == {"angry", "happy", "neutral", "sad"}
    assert len({u.speaker for u in found.utterances}) == speakers
    assert found.left_out == {}
    assert f"speakers: {speakers}, not" in "; ".join(differences(found))
    if name == "nemo":
        assert found.notes == ()  # the table has the words of every clip
        assert all(u.text for u in found.utterances)


@pytest.mark.corpora
def test_the_shared_phones_and_readers_are_counted_as_their_readme_says(corpora: Path) -> None:
    found = load("emospeech", corpora / "emospeech")
    assert Counter(u.label for u in found.utterances) == {
        "angry": 163,
        "happy": 159,
        "neutral": 203,
    }
    assert {u.text for u in found.utterances} >= {"help", "bacho", "stop", "no", "go", "yes"}
    ordinary = load("librispeech", corpora / "librispeech").ordinary
    assert len(ordinary) == len({u.speaker for u in ordinary}) == 131
