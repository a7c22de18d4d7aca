"""The benchmarks measure the device's own code, and say what they could not measure."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.accuracy import AccuracyResult, choose_text, inputs
from benchmarks.errors import BenchmarkError
from edge_runtime import EmotionStream
from edge_runtime.audio.file import read_file
from edge_runtime.bench import format_table, measure
from edge_runtime.bundle import Bundle
from edge_runtime.events import EmotionEvent
from edge_runtime.stream import classify
from training.corpora import Utterance

SCENE = Path(__file__).parents[2] / "edge_runtime" / "demo" / "scene.flac"
METRICS = ("ua_interval", "speakers", "n", "ua", "wa", "labels", "confusion", "per_class_recall")
CUTS = [(0.5, 4.9), (5.0, 8.8), (9.0, 13.7), (14.0, 17.3)]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four sentences of the scene, one with an unknown label, one that is missing."""
    path = tmp_path / "clips.csv"
    labels = ("neutral", "happy", "sad", "surprised")
    rows = [f"{SCENE},{label},{a},{b}" for (a, b), label in zip(CUTS, labels, strict=True)]
    path.write_text("\n".join(["path,label,start,end", *rows, "gone.wav,sad,,"]) + "\n")
    return path


def test_accuracy_is_that_of_the_streaming_path_and_counts_what_it_skips(
    bundle: Bundle, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, verdicts, plot = (tmp_path / name for name in ("a.json", "v.csv", "p.png"))
    arguments = ["--manifest", str(manifest), "--json", str(out), "--predictions", str(verdicts)]
    assert main(["accuracy", *arguments, "--plot", str(plot)]) == 0
    result = json.loads(out.read_text())
    assert set(result) >= set(METRICS)
    assert (result["n"], result["skipped"], result["text"]) == (3, 2, "off")
    lower, upper = result["ua_interval"]
    assert 0 <= lower < result["ua"] < upper <= 1
    assert result["speakers"] is None
    printed = " ".join(capsys.readouterr().out.split())
    assert f"[{100 * lower:.1f}, {100 * upper:.1f}] %" in printed
    assert "speakers unknown" in printed
    by_sound = result["by_modality"]["audio"]
    assert by_sound == {key: result[key] for key in by_sound}
    assert sum(map(sum, result["confusion"])) == 3
    assert plot.stat().st_size > 5000
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole())
    expected = [classify(stream, read_file(SCENE, *cut)).scores for cut in CUTS[:3]]
    with verdicts.open() as file:
        rows = list(csv.DictReader(file))
    for row, scores in zip(rows, expected, strict=True):
        assert row["predicted"] == max(scores, key=lambda label: scores[label])
        for label, score in scores.items():
            assert float(row[label]) == pytest.approx(score, abs=6e-5)  # four decimals
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert result["wa"] == pytest.approx(right / 3, abs=1e-4)


@pytest.mark.parametrize(
    "command",
    [
        ["latency", "--json"],
        ["accuracy", "--manifest", "clips.csv", "--predictions"],
        ["robustness", "ravdess=nowhere", "--plot"],
        ["report", "--out"],
    ],
)
def test_a_folder_is_no_file_to_write_and_that_is_said_at_once(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, str(tmp_path)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert f"argument {command[-1]}: {tmp_path} is a folder; name a file in it" in error


def test_texts_need_a_bundle_that_reads(
    deaf_to_words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "texts.csv", tmp_path / "a.json"
    path.write_text("path,label,text\n,sad,alas\n")
    accuracy = ["accuracy", "--bundle", str(deaf_to_words), "--manifest", str(path)]
    assert main(accuracy) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "'alas': it has no audio, and bundle deaf reads no words" in error
    # Beside clips they are skipped, and said to be.
    path.write_text(f"path,label,text,start,end\n,sad,alas,,\n{SCENE},happy,hello there,5.0,8.8\n")
    assert main([*accuracy, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["n"], result["skipped"], result["text"]) == (1, 1, "off")
    assert list(result["by_modality"]) == ["audio"]
    for asked in ("transcript", "asr"):
        assert main([*accuracy, "--text", asked]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"--text {asked}: bundle deaf (audio) reads no words" in error


def test_words_are_heard_by_any_engine(
    tmp_path: Path, tiny_en: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "clips.csv", tmp_path / "a.json"
    path.write_text(f"path,label,start,end\n{SCENE},happy,5.0,8.8\n")
    accuracy = ["accuracy", "--manifest", str(path), "--json", str(out), "--text"]
    assert main([*accuracy, f"faster-whisper:{tiny_en}"]) == 0
    result = json.loads(out.read_text())
    assert result["text"] == f"faster-whisper:{tiny_en}"
    assert {name: part["n"] for name, part in result["by_modality"].items()} == {"audio+text": 1}
    capsys.readouterr()
    for asked, told in (
        ("transcripts", "--text transcripts: expected one of transcript, off, keywords"),
        ("faster-whisper:/nowhere", "there is no /nowhere; it needs a model folder"),
    ):
        assert main([*accuracy, asked]) == 2
        (line,) = [said for said in capsys.readouterr().err.splitlines() if said.strip()]
        assert told in line


def test_texts_and_clips_with_words_are_judged_by_all_they_have(tmp_path: Path) -> None:
    path, out = tmp_path / "both.csv", tmp_path / "a.json"
    rows = [
        ",happy,this is wonderful!,,",
        f"{SCENE},happy,we won!,5.0,8.8",
        f"{SCENE},sad,,9.0,13.7",
    ]
    path.write_text("\n".join(["path,label,text,start,end", *rows]) + "\n")
    assert main(["accuracy", "--manifest", str(path), "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["n"], result["skipped"], result["text"]) == (3, 0, "transcript")
    assert {name: part["n"] for name, part in result["by_modality"].items()} == {
        "audio": 1,
        "text": 1,
        "audio+text": 1,
    }
    assert result["by_modality"]["text"]["ua"] == 1


@pytest.mark.parametrize("engine", ["keywords", "asr"])
def test_clips_are_judged_by_the_words_that_the_device_hears(
    bundle: Bundle, engine: str, manifest: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pocketsphinx")
    out, verdicts = tmp_path / "a.json", tmp_path / "v.csv"
    arguments = ["--manifest", str(manifest), "--json", str(out), "--predictions", str(verdicts)]
    assert main(["accuracy", *arguments, "--text", engine]) == 0
    result = json.loads(out.read_text())
    assert (result["n"], result["text"]) == (3, engine)
    if engine == "asr":
        assert "audio+text" in result["by_modality"]
    with verdicts.open() as file:
        modalities = {row["modality"] for row in csv.DictReader(file)}
    assert modalities == set(result["by_modality"])


@pytest.mark.parametrize(
    ("variant", "text", "expected"),
    [
        ("audio+text+att", None, ["audio+text", "text", "audio"]),
        ("audio+text", "off", ["audio", None, "audio"]),
        ("text+swem", None, ["text", "text", None]),
        ("audio", None, ["audio", None, "audio"]),
    ],
)
def test_each_row_gives_what_the_bundle_takes_of_it(
    bundle: Bundle, variant: str, text: str | None, expected: list[str | None]
) -> None:
    both = Utterance(SCENE, "sad", "a", "m", text="alas", start=0.5, end=4.9)
    rows = [both, replace(both, path=None), replace(both, text="")]
    heard, read = bundle.manifest.audio, bundle.manifest.text
    manifest = replace(
        bundle.manifest,
        audio=heard if "audio" in variant else None,
        text=read if "text" in variant else None,
    )
    wordy = replace(bundle, manifest=manifest)
    chosen = choose_text(wordy, rows, text)
    for row, modality in zip(rows, expected, strict=True):
        if modality is None:
            with pytest.raises(BenchmarkError, match=r"(no audio|hears nothing), and"):
                inputs(wordy, row, chosen)
            continue
        samples, words = inputs(wordy, row, chosen)
        given = [n for n, v in (("audio", samples), ("text", words)) if v is not None]
        assert "+".join(given) == modality


def test_figures_are_told_by_modality(bundle: Bundle) -> None:
    def verdict(label: str, modality: str) -> EmotionEvent:
        scores = {name: 0.7 if name == label else 0.1 for name in bundle.manifest.labels}
        return EmotionEvent(1.0, True, 0.0, 1.0, label, 0.7, scores, modality=modality)

    row = Utterance(SCENE, "sad", "a", "m")
    verdicts = [verdict("sad", "audio"), verdict("sad", "text"), verdict("happy", "text")]
    result = AccuracyResult([row] * 3, verdicts, 0, list(bundle.manifest.labels), "transcript")
    parts = {name: (part.n, part.wa) for name, part in result.by_modality().items()}
    assert parts == {"audio": (1, 1.0), "text": (2, 0.5)}
    assert result.metrics().wa == pytest.approx(2 / 3)


def test_words_alone_are_compared_on_the_development_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    telling = {"happy": ["hooray", "lovely"], "sad": ["alas", "awful"]}
    rows = ["path,label,text,split"]
    for split, count in (("train", 20), ("dev", 6)):
        for index in range(count):
            for label, words in telling.items():
                rows.append(f",{label},it is {words[index % 2]} number {index},{split}")
    manifest, out = tmp_path / "texts.csv", tmp_path / "t.json"
    manifest.write_text("\n".join(rows) + "\n")
    assert main(["text", f"manifest={manifest}", "--json", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert (row["n"], row["ua"]) == (12, 1.0)
    manifest.write_text("\n".join(line.removesuffix(",dev") for line in rows) + "\n")
    assert main(["text", f"manifest={manifest}"]) == 2
    assert "no training and development split" in capsys.readouterr().err


def test_nothing_to_measure_is_one_line(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clips.csv"
    path.write_text("path,label\ngone.wav,sad\n")
    assert main(["accuracy", "--manifest", str(path)]) == 2
    error = capsys.readouterr().err
    assert "no utterance of the manifest could be judged" in error.splitlines()[-1]
    assert "gone.wav" in error.splitlines()[-1]
    assert main(["accuracy", "--manifest", str(tmp_path / "none.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err


def test_bench_reports_every_stage_and_its_conditions(bundle: Bundle) -> None:
    result = measure(bundle, utterances=2)
    assert set(result["stages_ms_per_block"]) == {"segmentation", "features", "graph"}
    for values in (*result["stages_ms_per_block"].values(), result["final_verdict_ms"]):
        assert 0 < values["p50"] <= values["p95"] <= values["p99"]
    assert result["engine"] == "litert"
    assert 0 < result["real_time_factor"] < 1
    table = format_table(result)
    for words in ("segmentation", "features", "graph", "final verdict", "p50", "p99", "litert"):
        assert words in table


def test_peers_are_timed_beside_ours(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "peers.json"
    assert main(["peers", "--json", str(out)]) == 0
    rows = {row["quantity"]: row for row in json.loads(out.read_text())["rows"]}
    assert set(rows) == {
        *("MFCC + deltas", "graphs", "whole window", "whole window, audio alone"),
        "pre-trained encoder",
    }
    assert all(row["ours_ms"] > 0 and row["peer_ms"] > 0 for row in rows.values())
    assert "one thread" in capsys.readouterr().out


def test_the_report_holds_every_table_and_needs_no_other_file(
    bundle: Bundle, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    assert main(["report", "--out", str(out), "--manifest", str(manifest)]) == 0
    page = out.read_text()
    for words in (
        "Latency",
        "final verdict",
        "python_speech_features",
        "clips.csv",
        bundle.manifest.name,
    ):
        assert words in page
    assert "data:image/png;base64," in page
    assert "http" not in page
