"""Corpora by conditions: each does what it says, and every figure is of what was heard."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.__main__ import main
from benchmarks.conditions import CONDITIONS, heard, possible
from benchmarks.errors import BenchmarkError
from benchmarks.nonspeech import sounds
from benchmarks.peers import opensmile_sets
from benchmarks.robust_peers import judge_peer
from benchmarks.robustness import Part, Robustness, _judge, _Task, evenly, robustness
from edge_runtime.audio.file import read_file
from edge_runtime.pcm import SAMPLE_RATE, Int16
from training.corpora import Utterance
from training.data import channel
from training.data.degrade import Sources
from training.data.surroundings import surroundings

RNG = np.random.default_rng(0)
ROOM = np.concatenate([[1.0], 0.1 * RNG.standard_normal(3999)]).astype(np.float32)
SOURCES = Sources(
    [(0.1 * RNG.standard_normal(20_000)).astype(np.float32)],
    [ROOM],
    [(0.1 * RNG.standard_normal(20_000)).astype(np.float32) for _ in range(5)],
)


@pytest.fixture(scope="module")
def clip(scene: Int16) -> Int16:
    return scene[: 3 * SAMPLE_RATE]


def under(name: str, clip: Int16) -> Int16:
    return heard(clip, next(c for c in CONDITIONS if c.name == name), "clip", SOURCES)


def test_each_condition_is_repeatable_and_changes_the_clip_but_for_clean(clip: Int16) -> None:
    assert len({condition.name for condition in CONDITIONS}) == len(CONDITIONS)
    for condition in CONDITIONS:
        one = heard(clip, condition, "clip", SOURCES)
        assert one.shape == clip.shape
        assert np.array_equal(one, heard(clip, condition, "clip", SOURCES))
        assert np.array_equal(one, clip) == (condition.name == "clean")


@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_noise_is_as_loud_as_it_says(clip: Int16, snr_db: int) -> None:
    voice = clip / 32768
    added = under(f"noise {snr_db} dB", clip) / 32768 - voice
    ratio = channel.active_level(np.float32(voice)) / channel.active_level(np.float32(added))
    assert 20 * np.log10(ratio) == pytest.approx(snr_db, abs=0.5)


def test_a_line_a_level_and_an_offset_are_as_they_say(clip: Int16) -> None:
    spectrum = np.abs(np.fft.rfft(under("telephone", clip)))
    hz = np.fft.rfftfreq(len(clip), 1 / SAMPLE_RATE)
    assert spectrum[hz > 4200].sum() < 0.01 * spectrum[(hz > 300) & (hz < 3400)].sum()
    softer = under("20 dB softer", clip).astype(float)
    assert np.std(softer) == pytest.approx(np.std(clip) / 10, rel=0.02)
    moved = under("offset 0.02", clip).astype(float)
    assert (moved - clip).mean() == pytest.approx(0.02 * 32768, abs=1)


def test_what_needs_recordings_is_left_out_without_them() -> None:
    alone = {condition.name for condition in possible(Sources())}
    assert "room" not in alone
    assert {"clean", "telephone"} <= alone
    assert len(possible(SOURCES)) == len(CONDITIONS)


def test_a_clip_in_which_nothing_is_heard_is_left_out(clips: list[Path], tmp_path: Path) -> None:
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(SAMPLE_RATE, np.int16), SAMPLE_RATE)
    spoken = [Utterance(path, "sad", "s", "x") for path in (clips[0], silent)]
    task = _Task("default", surroundings("", "", ""), "clean", spoken, live=False)
    heard_, nothing = _judge(task)
    assert heard_ is not None
    assert nothing is None


def test_sounds_that_are_no_speech_are_sounds() -> None:
    for name, wave in sounds().items():
        assert wave.dtype == np.float32
        assert np.abs(wave).max() <= 0.2 + 1e-6
        assert wave.any() == (name != "silence")


def test_clips_are_chosen_evenly_and_always_the_same() -> None:
    clips = [
        Utterance(Path(f"{n}.wav"), ("angry", "sad")[n % 2], f"s{n % 5}", "toy") for n in range(200)
    ]
    chosen = evenly(clips, 20)
    assert chosen == evenly(clips[::-1], 20)
    assert Counter(u.label for u in chosen) == {"angry": 10, "sad": 10}
    assert {u.speaker for u in chosen} == {f"s{n}" for n in range(5)}
    assert evenly(clips[:3], 20) == clips[:3]


def test_clean_figures_are_those_of_accuracy_and_an_offset_costs_nothing(
    clips: list[Path], bundle_path: Path
) -> None:
    spoken = [
        Utterance(path, label, path.stem, "toy")
        for path, label in zip(clips, ("angry", "happy", "neutral", "sad") * 20, strict=False)
    ][:8]
    from benchmarks.accuracy import accuracy
    from edge_runtime.bundle import load_bundle

    result = robustness(
        [Part(str(bundle_path), {"toy": spoken}, spoken[:2])], surroundings(), jobs=1
    )
    expected = accuracy(load_bundle(bundle_path), spoken, "off").metrics()
    row = result.cells["toy"]
    assert row["clean"].metrics == expected
    assert row["offset 0.02"].metrics.confusion == expected.confusion
    assert set(result.ordinary) == set(row)
    assert result.nonspeech["silence"] == []
    assert json.dumps(result.to_dict())


def test_a_peer_hears_the_same_conditions(clips: list[Path]) -> None:
    pytest.importorskip("opensmile")
    spoken = [
        Utterance(path, label, path.stem, "toy", start=0.0, end=1.5)
        for path, label in zip(clips, ("angry", "sad") * 40, strict=False)
    ][:6]
    peer = next(p for p in opensmile_sets.peers() if "eGeMAPS" in p.name)
    rows = judge_peer(peer, spoken, {"toy": spoken[:4]}, surroundings(), ["angry", "sad"], jobs=1)
    assert set(rows["toy"]) == {c.name for c in possible(Sources())}
    # It is judged on what it learned from, clean: an SVM knows six clips.
    assert rows["toy"]["clean"].ua == 1.0
    assert rows["toy"]["clean"].n == 4
    with pytest.raises(BenchmarkError, match="no clip to train on"):
        judge_peer(peer, [], {"toy": spoken}, surroundings(), ["angry", "sad"], jobs=1)


def test_calm_is_neutral_or_unsure() -> None:
    result = Robustness(ordinary={"clean": Counter(neutral=3, unsure=2, sad=5)})
    assert result.calm("clean") == 0.5


def test_the_command_prints_draws_and_writes(
    scene_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = read_file(scene_path)
    rows = ["path,label,speaker"]
    for n, label in enumerate(("angry", "happy", "neutral", "sad")):
        part = samples[n * 4 * SAMPLE_RATE : (n + 1) * 4 * SAMPLE_RATE]
        soundfile.write(tmp_path / f"{n}.wav", part, SAMPLE_RATE)
        rows.append(f"{n}.wav,{label},s{n}")
    (tmp_path / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise" / "hiss.wav", SOURCES.noises[0], SAMPLE_RATE)
    arguments = ["robustness", f"manifest={tmp_path / 'clips.csv'}", "--jobs", "1"]
    arguments += ["--noises", str(tmp_path / "noise"), "--json", str(tmp_path / "r.json")]
    assert main([*arguments, "--plot", str(tmp_path / "r.png")]) == 0
    printed = capsys.readouterr().out
    assert "noise 10 dB" in printed
    assert "room" not in printed
    assert "no speech: of 9 sounds" in printed
    figures = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert figures["corpora"]["manifest"]["clean"]["n"] == 4
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_folds_are_judged_together_each_on_what_it_did_not_train_on(
    scene_path: Path, bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two folds of the bundle in the box: one has the same verdicts on all clips at once."""
    samples, rows, names = read_file(scene_path), ["path,label,speaker"], []
    for n, label in enumerate(("angry", "happy", "neutral", "sad")):
        part = samples[n * 4 * SAMPLE_RATE : (n + 1) * 4 * SAMPLE_RATE]
        soundfile.write(tmp_path / f"{n}.wav", part, SAMPLE_RATE)
        rows.append(f"{n}.wav,{label},s{n}")
        names.append(f"manifest/{n}.wav/0.0/None/")
    (tmp_path / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    folds = tmp_path / "folds"
    for number in (1, 2):
        (folds / f"fold{number}").mkdir(parents=True)
        (folds / f"fold{number}" / "bundle").symlink_to(bundle_path)
        logits = {"audio/int8": np.zeros((2, 4), np.float32)}
        np.savez(folds / f"fold{number}" / "predictions.npz", **logits)  # type: ignore[arg-type]
    (folds / "plan.json").write_text(json.dumps({"test": [names[:1] + names[3:], names[1:3]]}))
    given = ["robustness", f"manifest={tmp_path / 'clips.csv'}", "--jobs", "1"]
    found = {}
    for name, options in (("whole", []), ("folds", ["--crossval", str(folds)])):
        assert main([*given, *options, "--json", str(tmp_path / f"{name}.json")]) == 0
        found[name] = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert found["folds"]["corpora"] == found["whole"]["corpora"]
    assert found["folds"]["corpora"]["manifest"]["clean"]["n"] == 4
    assert len(found["folds"]["nonspeech"]) == 2 * len(found["whole"]["nonspeech"])
    capsys.readouterr()
    for options, why in (
        (["--tier", "medium"], "--tier is of the folds of --crossval"),
        (
            ["--crossval", str(folds), "--tier", "large"],
            "fold1 has no large: python -m training pretrained --tier large",
        ),
        (["--crossval", str(folds), "--peers", "ravdess=x"], "leave out --crossval"),
        (["--crossval", str(tmp_path)], "not a finished crossval"),
    ):
        assert main([*given, *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert why in line


def test_an_empty_folder_of_noises_is_refused_in_one_line(
    tmp_path: Path, scene_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clips.csv").write_text(f"path,label\n{scene_path},sad\n", encoding="utf-8")
    (tmp_path / "none").mkdir()
    arguments = ["robustness", f"manifest={tmp_path / 'clips.csv'}"]
    assert main([*arguments, "--noises", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "none" in error
