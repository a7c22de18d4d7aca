"""The paper's table by its command, on a small tree of IEMOCAP's official shape."""

from __future__ import annotations

import json
import logging
import queue
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.peers import Standing
from edge_runtime import load_bundle
from training.__main__ import main
from training.corpora import Utterance, load_corpora
from training.data.features import FeatureSettings
from training.data.folds import speaker_folds
from training.errors import TrainingError
from training.evaluate.crossval import Training, _FoldTask, _run_fold
from training.evaluate.metrics import measure
from training.evaluate.paper import FLOAT, INT8, OURS, PAPER_FIGURES, PEERS, PaperTable, Row
from training.evaluate.table import TableSettings, choose, run
from training.fit.settings import FitSettings
from training.network.config import ModelConfig, variants

RATE = 16_000
SMALL = ["--epochs", "1", "--qat-epochs", "1", "--no-augment", "--filters", "4", "--hidden", "4"]
SMALL += ["--vocabulary", "20", "--jobs", "1"]
# The label of the corpus, how it sounds here (pitch in Hz, syllables a second), what is said.
TURNS = (
    ("neu", 120, 3, "Excuse me."),
    ("hap", 240, 5, "That's great!"),
    ("exc", 260, 6, "[LAUGHTER] I got the job."),
    ("ang", 180, 8, "Get out of my house!"),
    ("sad", 90, 2, "I miss him so much."),
    ("fru", 170, 4, "Why would you do that?"),
    ("xxx", 150, 4, "Okay."),
)
SPEAKERS = [f"Ses{number:02d}{sex}" for number in range(1, 6) for sex in "FM"]
JUDGED = 5  # turns of a speaker that have one of the four classes
WORDLESS = "Ses01F_impro01_F001"
COUNTS = "angry: 10, not 1103; happy: 20, not 1636; neutral: 10, not 1708; sad: 10, not 1084"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IEMOCAP_full_release with a dialogue a session, in which both actors speak every `TURNS`."""
    root = tmp_path_factory.mktemp("iemocap")
    rng = np.random.default_rng(0)
    for number in range(1, 6):
        session, dialogue = root / f"Session{number}", f"Ses{number:02d}F_impro01"
        sounds = session / "sentences/wav" / dialogue
        sounds.mkdir(parents=True)
        summaries = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        transcript, clock = [], 6.2901
        for sex in "FM":
            for index, (label, pitch, syllables, words) in enumerate(TURNS):
                turn = f"{dialogue}_{sex}{index:03d}"
                said = "[LAUGHTER]" if turn == WORDLESS else words
                samples = voice(pitch * (1.5 if sex == "F" else 1), syllables, rng)
                soundfile.write(sounds / f"{turn}.wav", samples, RATE)
                end = clock + len(samples) / RATE
                summaries += [
                    f"[{clock:.4f} - {end:.4f}]\t{turn}\t{label}\t[2.5000, 2.5000, 2.5000]",
                    "C-E2:\tNeutral;\t()",
                    "A-E3:\tval 3; act 2; dom  2;\t()",
                    "",
                ]
                transcript.append(f"{turn} [{clock:08.4f}-{end:08.4f}]: {said}")
                clock = end + 1
        for folder, text in (("EmoEvaluation", summaries), ("transcriptions", transcript)):
            path = session / "dialog" / folder / f"{dialogue}.txt"
            path.parent.mkdir(parents=True)
            path.write_text("\n".join(text) + "\n")
    return root


def voice(pitch: float, syllables: float, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """0.8 s of harmonics that swell and fade, with some breath."""
    time = np.arange(int(0.8 * RATE)) / RATE
    pitch *= rng.uniform(0.95, 1.05)
    harmonics = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 12))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * syllables * time)
    return 0.15 * swell * harmonics + 0.003 * rng.standard_normal(len(time))


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m benchmarks peers --json` writes, of figures made up here."""
    metrics = measure(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]), ["angry", "sad"])
    known = {"iemocap": metrics, "emodb": metrics}
    standings = [
        Standing("openSMILE eGeMAPSv02 + RBF SVM", known, {"iemocap": 0.7}, 150.0, 1000),
        Standing("ours: default, int8", known, {}, 1.0, 1000),
    ]
    accuracy = {
        "protocols": {"peers": "10 speaker-independent folds", "ours": "none"},
        "standings": [s.to_dict() for s in standings],
    }
    path = tmp_path_factory.mktemp("peers") / "peers.json"
    path.write_text(json.dumps({"rows": [], "accuracy": accuracy}))
    return path


def rows_of(out: Path, corpus: str = "iemocap") -> dict[str, dict[str, Any]]:
    return {
        row["who"]: row for row in json.loads((out / "table.json").read_text())["corpora"][corpus]
    }


def judged_once(folder: Path, form: str, count: int) -> None:
    """Every fold has verdicts of this form, and the utterances of all folds are `count`."""
    rows = 0
    for path in sorted(folder.glob("fold*/predictions.npz")):
        found = np.load(path)
        (key,) = [k for k in found.files if k.endswith(f"/{form}") and k.count("+") == most(found)]
        rows += len(found[key])
    assert rows == count


def most(found: Any) -> int:
    """Plus signs of the richest modality."""
    return max(key.count("+") for key in found.files)


def test_the_tree_is_iemocap_and_not_all_of_it(
    tree: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        assert main(["corpora", f"iemocap={tree}"]) == 0
    assert "not the complete corpus (the corpus's 10,039 summary lines" in caplog.text
    assert COUNTS in caplog.text
    assert "fru (frustrated) 10" in capsys.readouterr().out
    found = load_corpora([f"iemocap={tree}"])["iemocap"].utterances
    assert sorted({u.speaker for u in found}) == [f"iemocap-{s}" for s in SPEAKERS]
    assert len(found) == JUDGED * len(SPEAKERS)


def test_ten_folds_by_speaker_beside_the_paper_and_peers(
    tree: Path,
    peers: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "table"
    arguments = ["table", f"iemocap={tree}", "--forms", "float", "--out", str(out), *SMALL]
    arguments += ["--variants", "text", "--peers", str(peers)]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    rows = rows_of(out)
    name, count = "text", JUDGED * len(SPEAKERS) - 1  # one has no words
    row = rows.pop(name)
    assert row["source"] == OURS
    assert row["utterances"] == count
    assert INT8 not in row
    assert all(0 <= row[FLOAT][measure]["mean"] <= 1 for measure in ("wa", "ua"))
    judged_once(out / name / "seed0", FLOAT, count)
    plan = json.loads((out / name / "seed0" / "plan.json").read_text())["test"]
    assert len(plan) == 10
    speakers = [{part.split("/")[1][:5] + part.split("_")[2][0] for part in f} for f in plan]
    assert [sorted(s) for s in speakers] == [[s] for s in SPEAKERS]
    assert not list((out / name).rglob("bundle"))
    summary = json.loads((out / name / "seed0" / "crossval.json").read_text())
    figures = list(summary["metrics"]["corpora"]["iemocap"].values())[-1][FLOAT]
    assert row[FLOAT]["ua"]["mean"] == figures["ua"]
    assert row[FLOAT]["ua"]["interval"] == figures["ua_interval"]
    lower, upper = (100 * end for end in figures["ua_interval"])
    assert f"[{lower:.1f}, {upper:.1f}]" in printed.out
    for who, wa, ua in PAPER_FIGURES:
        published = rows.pop(who)
        assert published[FLOAT] == {"wa": {"mean": wa}, "ua": {"mean": ua}}
    (peer,) = rows.values()
    assert (peer["who"], peer["source"]) == ("openSMILE eGeMAPSv02 + RBF SVM", PEERS)
    assert peer[FLOAT]["ua"]["mean"] == 0.75
    text = (out / "table.md").read_text()
    for words in (
        COUNTS,
        "10 speaker-independent folds over iemocap (10 speakers)",
        "text 49, openSMILE",
    ):
        assert words in text
        assert words in printed.out
    assert "int8" not in text
    assert (out / "table.png").read_bytes().startswith(b"\x89PNG")


def test_five_sessions_in_float_and_int8(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load_corpora([f"iemocap={tree}"])["iemocap"].utterances
    voices = tmp_path / "voices.npy"
    rng = np.random.default_rng(0)
    np.save(voices, rng.standard_normal((len(found), 6)).astype(np.float32))
    voices.with_suffix(".txt").write_text("".join(f"{u.audio.stem}\n" for u in found))
    out = tmp_path / "table"
    arguments = ["table", f"iemocap={tree}", "--by", "session", "--out", str(out), *SMALL]
    arguments += ["--variants", "audio+text+att+speaker+swem", "--speaker", str(voices)]
    name = "audio+text+att+swem+speaker"
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    row = rows_of(out)[name]
    for form in (FLOAT, INT8):
        judged_once(out / name / "seed0", form, JUDGED * len(SPEAKERS))
    # Head: 3 statistics of 4 filters of 4 scales, twice; attention; SWEM; the embedding; 4 classes.
    width = 2 * 3 * 4 * 4 + 4 * 12 * 4 + 2 * 50 + 6
    convolutions = (32 * 96 + 14 * 50) * 4 + 8 * 4
    assert row["parameters"] == convolutions + width * 4 + 4 + 4 * 4 + 4
    assert row["embedding_parameters"] % 50 == 0
    assert row["macs"] > convolutions * 128
    lines = printed.splitlines()
    for form in (FLOAT, INT8):
        assert f"iemocap, {form}" in printed
        for measure_name in ("WA", "UA"):
            assert f"{form} {measure_name} %" in (out / "table.md").read_text(encoding="utf-8")
    tables = [line for line in lines if name in line or "parameters" in line or "WA %" in line]
    assert len(tables) >= 6  # two of accuracy, one of cost, each with a head and a row
    assert max(map(len, tables)) <= 80
    assert "5 speaker-independent folds, each a recording session" in printed
    assert "openSMILE is left out" in printed
    for fold in range(1, 6):
        bundle = load_bundle(out / name / "seed0" / f"fold{fold}" / "bundle")
        assert bundle.manifest.speaker == 6
    # Other words make other models.
    capsys.readouterr()
    assert main([*arguments, "--vocabulary", "30"]) == 2
    assert "other data or settings (vocabulary 20, not 30)" in capsys.readouterr().err


def test_a_fold_judged_in_float_is_converted_later_and_not_trained_again(
    tree: Path, tmp_path: Path
) -> None:
    found = load_corpora([f"iemocap={tree}"])["iemocap"].utterances
    (fold, *_) = speaker_folds(found, 5)
    training = Training(
        ModelConfig(variant="audio", filters=4, hidden=(4,)),
        FitSettings(epochs=1, qat_epochs=1, augment=False),
        FeatureSettings(),
        int8=False,
    )
    task = _FoldTask(1, found, fold, training, tmp_path / "fold1", queue.SimpleQueue())
    first = _run_fold(task)
    assert set(first) == {"audio/float", "audio/fake-quant"}
    weights = task.folder / "weights.pt"
    trained = weights.stat().st_mtime_ns
    second = _run_fold(replace(task, training=replace(training, int8=True)))
    assert weights.stat().st_mtime_ns == trained
    assert set(second) == {*first, "audio/int8"}
    assert second["audio/int8"].shape == (len(fold.test), 4)
    # Folds that have int8 do not mix with folds that do not.
    third = _run_fold(task)
    assert set(third) == set(first)
    np.testing.assert_array_equal(third["audio/float"], first["audio/float"])


def utterance(text: str = "", path: str | None = "a.wav") -> Utterance:
    return Utterance(Path(path) if path else None, "sad", "x-1", "x", text=text)


def test_variants_that_the_data_allows() -> None:
    spoken, worded, text = utterance(), utterance("so sad"), utterance("oh no", None)
    without, notes = choose("", [worded, spoken], pair=False, speaker=False)
    assert without == [name for name in variants() if "speaker" not in name]
    assert len(notes) == 1
    assert "7 variants" in notes[0]
    assert "--speaker" in notes[0]
    assert choose("", [worded], pair=False, speaker=True) == (variants(), [])
    silent, notes = choose("", [spoken, text], pair=False, speaker=False)
    assert silent == ["audio"]
    assert any("--pair" in note for note in notes)
    assert "text+swem" in choose("", [spoken, text], pair=True, speaker=False)[0]
    wanted, notes = choose("text,audio,text", [worded], pair=False, speaker=False)
    assert (wanted, notes) == (["text", "audio"], [])


@pytest.mark.parametrize(
    ("wanted", "utterances", "words"),
    [
        ("audio+speaker", [utterance("so sad")], "audio\\+speaker needs --speaker"),
        ("text", [utterance()], "text needs words.*--pair"),
        ("audio+video", [utterance()], "'audio\\+video' is not a model variant"),
        ("", [utterance("oh no", None)], "text only"),
    ],
)
def test_variants_that_it_does_not_allow(
    wanted: str, utterances: list[Utterance], words: str
) -> None:
    with pytest.raises(TrainingError, match=words):
        choose(wanted, utterances, pair=False, speaker=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--by", "session", "--folds", "5"], "leave out --folds"),
        (["--peers", "absent.json"], "absent.json: No such file"),
    ],
)
def test_mistakes_are_told_in_a_line(
    tree: Path,
    tmp_path: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["table", f"iemocap={tree}", "--out", str(tmp_path / "t"), *SMALL, *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("training: ")
    assert words in error


@pytest.mark.parametrize("content", ["{}", "[1]", "no json", '{"accuracy": {"standings": [7]}}'])
def test_another_file_is_not_the_figures_of_peers(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(TrainingError, match=r"other\.json: not the figures"):
        run(None, [], TableSettings(peers=path), tmp_path / "out")  # type: ignore[arg-type]


def test_seeds_give_mean_and_standard_deviation_everywhere(tmp_path: Path) -> None:
    figures = {FLOAT: {"wa": [0.70, 0.72, 0.74], "ua": [0.6, 0.6, 0.6]}, INT8: {}}
    figures[INT8] = {"wa": [0.69, 0.70, 0.71], "ua": [0.5, 0.6, 0.7]}
    row = Row("audio", OURS, figures, 5531, 1234, 0, 2_500_000)
    table = PaperTable((FLOAT, INT8), "10 folds", ["a note"], {"x": [row], "y": [row, row]})
    assert row.to_dict()[INT8]["ua"] == {"mean": 0.6, "std": 0.1, "seeds": [0.5, 0.6, 0.7]}
    cells = ["audio", "5,531", "72.0 ± 2.0", "60.0 ± 0.0", "70.0 ± 1.0", "60.0 ± 10.0"]
    assert row.cells(table.forms) == [*cells, "1,234", "-", "2.5"]
    assert f"| {' | '.join(cells)} |" in table.markdown()
    assert table.markdown().count("audio") == 3
    single = replace(row, figures={FLOAT: {"wa": [0.8], "ua": [0.7]}}, parameters=None)
    assert [part.title for part in table.tables()] == [
        "x, float",
        "x, int8",
        "y, float",
        "y, int8",
        "cost",
    ]
    assert [part.row_count for part in table.tables()] == [1, 1, 2, 2, 1]
    assert single.cells(table.forms)[2:7] == ["80.0", "70.0", "-", "-", "-"]
    table.write(tmp_path)
    assert (tmp_path / "table.png").stat().st_size > 5000
