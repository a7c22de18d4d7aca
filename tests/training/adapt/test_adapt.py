"""Classes of one's own on a finished run: from a manifest to what the device says."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from conversion.__main__ import main as convert
from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.stream import judge_clip
from training.__main__ import main
from training.adapt.adapt import HeadData, _of_base, fit_run
from training.adapt.base import Base, open_base
from training.adapt.clips import check_clips, warnings_of
from training.adapt.cross import Curve, choose_strength, plan_folds
from training.adapt.doubtful import Doubt, doubtful_labels, with_troubles
from training.adapt.head import PRIOR, View
from training.corpora import Utterance
from training.data.fingerprint import read_trained
from training.errors import TrainingError
from training.evaluate.predict import predict
from training.evaluate.reference import Heard
from training.evaluate.verdicts import read
from training.fit.warmstart import audio_alone
from training.run import DEFAULT_RUN, load, with_origin
from training.tiers import MEDIUM

RATE = 44_100
# Pitch in Hz, syllables a second.
SOUNDS = {"calm": (120, 2), "stressed": (310, 8), "tired": (190, 4)}
LABELS = sorted(SOUNDS)

# Adapts by the arguments, where writing meets Ctrl-C, then a full disk.
_TROUBLED = """
import os, resource, signal, sys
import training.adapt.doubtful as doubtful
from training.__main__ import main
write = doubtful.write_doubts
def interrupted(path, doubts):
    os.kill(os.getpid(), signal.SIGINT)
    write(path, doubts)
def full(path, doubts):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
    write(path, doubts)
for doubtful.write_doubts in (interrupted, full):
    print(main(sys.argv[1:]))
"""

# Adapts by the arguments, where Ctrl-C comes at the beginning of one step after the other.
_INTERRUPTED = """
import importlib, os, signal, sys
from training.__main__ import main
def interrupted(*given, **more):
    os.kill(os.getpid(), signal.SIGINT)
for place in (
    "corpora.load_corpora", "adapt.adapt.inspect", "adapt.adapt.open_base",
    "adapt.adapt.choose_strength", "adapt.adapt.fit_run", "adapt.adapt.two_voices",
    "run.Run.save",
):
    parts = place.split(".")
    count = 1 if place.startswith(("corpora", "run")) else 2
    owner = importlib.import_module(".".join(["training", *parts[:count]]))
    for part in parts[count:-1]:
        owner = getattr(owner, part)
    whole = getattr(owner, parts[-1])
    setattr(owner, parts[-1], interrupted)
    print(main(sys.argv[1:]))
    setattr(owner, parts[-1], whole)
"""


@pytest.fixture(scope="module", autouse=True)
def no_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """What is pooled is computed here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 24 clips of three classes by four speakers, 44.1 kHz in stereo."""
    folder = tmp_path_factory.mktemp("own")
    rng, time = np.random.default_rng(0), np.arange(int(0.8 * RATE)) / RATE
    rows = []
    for number in range(24):
        label, speaker = LABELS[number % 3], number // 6
        pitch, syllables = SOUNDS[label]
        pitch *= 1 + 0.05 * speaker
        tone = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 8))
        swell = 0.6 + 0.4 * np.sin(2 * np.pi * syllables * time)
        samples = 0.15 * swell * tone + 0.003 * rng.standard_normal(len(time))
        soundfile.write(folder / f"{number}.wav", np.stack([samples] * 2, axis=1), RATE)
        rows.append((f"{number}.wav", label, f"s{speaker}"))
    return listed(folder / "own.csv", rows)


def listed(path: Path, rows: Sequence[tuple[str, ...]], more: str = "") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "speaker"), *rows])
    return path


@pytest.fixture(scope="module")
def adapted(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    assert main(["adapt", f"manifest={own}", "--out", str(out), "--jobs", "1"]) == 0
    return out


def test_the_device_says_the_classes_of_ones_own(own: Path, adapted: Path, tmp_path: Path) -> None:
    assert convert(["build", str(adapted), "--out", str(tmp_path / "b"), "--no-whole"]) == 0
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest.labels == tuple(LABELS)
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    for number, label in enumerate(LABELS):
        event = judge_clip(stream, read_file(own.parent / f"{number}.wav"))
        assert event is not None
        assert max(event.scores, key=lambda name: event.scores[name]) == label
    # The terms of what trained the base are the run's as well.
    assert "CC BY-NC-SA 4.0" in bundle.manifest.training["licence"]
    assert {"manifest", "ravdess"} <= bundle.manifest.training["corpora"].keys()


def test_the_same_clips_give_the_same_bytes(own: Path, adapted: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    assert main(["adapt", f"manifest={own}", "--out", str(out), "--jobs", "1"]) == 0
    for path in adapted.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_it_was_made_of_and_what_it_said_of_each_clip_are_kept(adapted: Path) -> None:
    run, rows = load(adapted), read(adapted)
    assert run.training["data"]["clips"] == 24
    assert len(run.training["data"]["fingerprint"]) == 64
    assert run.training["data"]["complete"]
    # The list is of the base's clips, too.
    of_base = set(read_trained(DEFAULT_RUN) or ())
    assert {row["clip"] for row in rows} == set(read_trained(adapted) or ()) - of_base
    assert len(of_base) > 20_000
    said = [row for row in rows if row["form"] == "fake-quant"]
    figures = run.metrics["corpora"]["manifest"]["audio"]["fake-quant"]
    right = np.mean([row["guess"] == row["label"] for row in said])
    assert (len(said), right) == (24, pytest.approx(figures["wa"], abs=1e-4))


def test_a_finished_run_is_a_base(own: Path, adapted: Path, tmp_path: Path) -> None:
    source, out = ["--from", str(adapted)], tmp_path / "second"
    assert main(["adapt", f"manifest={own}", *source, "--out", str(out), "--jobs", "1"]) == 0
    first, second = load(adapted), load(out)
    assert second.training["settings"]["adapted_from"] == adapted.name
    # Its people taught the base, which nobody is to overlook, and which is not the only manifest.
    assert second.metrics["protocol"].endswith(f"; {adapted.name} was trained on manifest")
    assert second.training["data"]["complete"]
    assert second.training["corpora"].keys() == first.training["corpora"].keys()
    more = listed(
        own.parent / "more.csv", [(f"{n}.wav", LABELS[n % 3], f"s{n // 6}") for n in range(12)]
    )
    third = tmp_path / "third"
    assert main(["adapt", f"manifest={more}", *source, "--out", str(third), "--jobs", "1"]) == 0
    kept = load(third).training["corpora"]
    assert (kept["manifest"]["clips"], kept["manifest@base"]["clips"]) == (12, 24)
    for name, value in first.weights.items():
        if not name.startswith("head."):
            assert (second.weights[name] == value).all(), name


def test_one_published_corpus_is_one_and_manifests_are_many() -> None:
    """A model of words leaves out texts without a word: the corpus of both runs is the same."""
    run = load(DEFAULT_RUN)
    published = {"citation": "Them 2020", "classes": {"a": 2, "b": 3}, "clips": 5}
    origin = replace(run, training={"corpora": {"said": published, "manifest": {"clips": 9}}})
    fewer = {**published, "classes": {"a": 2, "b": 2}, "clips": 4}
    other = {**published, "classes": {"c": 2, "b": 2}, "clips": 4}
    record = with_origin(
        {"corpora": {"said": fewer, "manifest": {"clips": 8}}, "licence": ""}, origin
    )
    assert record["corpora"]["said"] == published
    assert set(record["corpora"]) == {"said", "manifest", "manifest@base"}
    record = with_origin({"corpora": {"said": other}, "licence": ""}, origin)
    assert set(record["corpora"]) == {"said", "said@base", "manifest"}


def test_what_it_is_worth_is_told(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(own.parent / f"{n}.wav", LABELS[n % 3], "") for n in range(24)]
    silent = own.parent / "silent.wav"
    soundfile.write(silent, np.zeros(RATE), RATE)
    rows += [(silent, "calm", "")]
    written = listed(own.parent / "nobody.csv", [tuple(map(str, row)) for row in rows])
    out = tmp_path / "run"
    assert main(["adapt", f"manifest={written}", "--out", str(out), "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    assert "speakers unknown" in said
    assert "always the largest class: 33.3 % (WA 33.3 %)" in said
    assert "too few clips to say what more of them would bring" in said
    with (out / "doubtful.csv").open(encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert (Path(first["path"]).name, first["reason"]) == ("silent.wav", "silent")
    assert "1 clip could not be heard" in caplog.text


def one_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["adapt", *arguments, "--jobs", "1"]) == 2
    (line,) = [said for said in capsys.readouterr().err.splitlines() if said.strip()]
    return line


def test_what_cannot_be_is_told_in_one_line(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(rows: Sequence[tuple[str, ...]], *more: str) -> str:
        written = listed(own.parent / "wrong.csv", rows)
        out = tmp_path / "run"
        line = one_line(capsys, f"manifest={written}", "--out", str(out), *more)
        assert not out.exists()
        return line

    good = [(f"{n}.wav", LABELS[n % 3], f"s{n // 6}") for n in range(24)]
    assert "one class only (calm)" in refused([row for row in good if row[1] == "calm"])
    few = [row for row in good if row[1] != "tired"] + [row for row in good if row[1] == "tired"][
        :2
    ]
    assert "class 'tired' has 2 clips; at least 3 are needed" in refused(few)
    for other in ("Calm", "Ca lm"):
        assert "differ only in case or spaces" in refused([*good[1:], ("0.wav", other, "s0")])
    assert "has the label tired here and calm in line 2" in refused(
        [*good, ("0.wav", "tired", "s0")]
    )
    for word in ("unsure", "Unsure"):
        assert "a class is called 'unsure'" in refused(
            [(a, b.replace("calm", word), c) for a, b, c in good]
        )
    assert "is not a finished training run" in refused(good, "--from", str(tmp_path))
    soundfile.write(own.parent / "long.wav", np.zeros(31 * 8000), 8000)
    cutting = f"python -m training segment manifest={own.parent / 'wrong.csv'} --out "
    assert f"long.wav is longer than 30 s; cut to utterances: {cutting}" in refused(
        [*good, ("long.wav", "calm", "s0")]
    )
    (own.parent / "long.wav").unlink()


def test_a_base_of_other_features_is_refused(
    own: Path, adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(**changes: object) -> str:
        base = Path(shutil.copytree(adapted, tmp_path / "base", dirs_exist_ok=True))
        raw = json.loads((adapted / "run.json").read_text())
        raw["features"]["mfcc"] |= changes
        (base / "run.json").write_text(json.dumps(raw))
        out = tmp_path / "run"
        line = one_line(capsys, f"manifest={own}", "--from", str(base), "--out", str(out))
        assert not out.exists()
        return line

    assert "its network takes 96 features a frame, and its settings make 72" in refused(cepstra=24)
    eight = refused(sample_rate=8000, high_hz=4000.0)
    assert "hears 8000 Hz, and a device hears 16000" in eight
    assert "unexpected keyword argument 'mel_norm'" in refused(mel_norm="slaney")
    assert "these do not fit together" in refused(hop=4000)


def test_ctrl_c_at_any_time_is_one_line_and_leaves_nothing(own: Path, tmp_path: Path) -> None:
    command = ["adapt", f"manifest={own}", "--jobs", "1", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, *command], capture_output=True, text=True
    )
    assert done.stdout.split() == ["130"] * 7, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("training: ")]
    assert said == ["training: stopped"] * 7
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_the_processes_that_hear_clips(own: Path, tmp_path: Path) -> None:
    command = ["adapt", f"manifest={own}", "--jobs", "2", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + 120
        while len(children.read_text().split()) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "training: stopped"
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_trouble_leaves_nothing_half_written(own: Path, tmp_path: Path) -> None:
    command = ["adapt", f"manifest={own}", "--jobs", "1", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", _TROUBLED, *command], capture_output=True, text=True
    )
    assert done.stdout.split() == ["130", "1"], done.stderr
    stopped, full = [line for line in done.stderr.splitlines() if line.startswith("training: ")]
    assert stopped == "training: stopped"
    assert full == f"training: File too large: {tmp_path / 'run'}"
    assert not list(tmp_path.iterdir())


def test_nothing_that_is_there_is_replaced(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "mine" / "a.wav"
    kept.parent.mkdir()
    shutil.copy(own.parent / "0.wav", kept)
    for out in (kept.parent, kept, tmp_path):
        line = one_line(capsys, f"manifest={own}", "--out", str(out))
        assert line == f"training: {out} is there and not empty; choose another --out"
    assert kept.stat().st_size == (own.parent / "0.wav").stat().st_size


def people(label_of: Sequence[tuple[str, str]]) -> list[Utterance]:
    return [
        Utterance(Path(f"{number}.wav"), label, speaker, "made")
        for number, (label, speaker) in enumerate(label_of)
    ]


def test_a_speaker_of_one_class_is_warned_of() -> None:
    both = [("calm", "a"), ("tired", "a")] * 12
    assert not warnings_of(people(both))
    (warning,) = warnings_of(people([*both, ("calm", "b"), ("tired", "c")]))
    assert "speaker b has clips of 'calm' alone, and so have 1 more of 3" in warning
    alone = people([("calm", "a"), ("tired", "b")] * 6)
    truth = np.array([0, 1] * 6)
    plan = plan_folds(alone, truth)
    assert not plan.by_speaker
    assert "not speaker-independent" in plan.protocol
    assert plan_folds(people(both), np.array([0, 1] * 12)).by_speaker is False
    with pytest.raises(TrainingError, match="21 classes"):
        check_clips(people([(f"class {number}", "a") for number in range(21)] * 3))


def clouds(count: int, classes: int, width: int = 60) -> tuple[list[Utterance], View, np.ndarray]:
    """Clips by five speakers whose classes lie apart in a few directions."""
    rng = np.random.default_rng(3)
    truth = np.arange(count) % classes
    places = rng.normal(0, 1.2, (classes, width)) * (np.arange(width) < 12)
    values = places[truth] + rng.normal(0, 1, (count, width))
    clips = people([(f"class {label}", f"s{row % 5}") for row, label in enumerate(truth)])
    return clips, View(values.astype(np.float32)), truth


def test_wrong_labels_are_at_the_head_of_the_list() -> None:
    clips, view, truth = clouds(200, 4)
    wrong = np.random.default_rng(1).choice(200, 10, replace=False)
    truth[wrong] = (truth[wrong] + 1) % 4
    labels = [f"class {number}" for number in range(4)]
    said = [replace(clip, label=labels[of]) for clip, of in zip(clips, truth, strict=True)]
    found = doubtful_labels(said, [view], truth, labels, PRIOR)
    assert len(found) >= 20
    first = {doubt.utterance.path for doubt in found[:20]}
    assert sum(clips[place].path in first for place in wrong) >= 9


def test_labels_are_doubted_by_the_pretrained_encoder_as_well(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    views: list[int] = []

    def counting(said: list[Utterance], by: list[View], *rest: Any) -> list[Doubt]:
        views.append(len(by))
        return doubtful_labels(said, by, *rest)

    monkeypatch.setattr("training.adapt.adapt.doubtful_labels", counting)
    rows = [(f"{n}.wav", LABELS[n % 3], f"s{n // 6}") for n in range(24)]
    adapt = ["adapt", f"manifest={listed(own.parent / 'both.csv', rows)}", "--jobs", "1", "--out"]
    assert main([*adapt, str(tmp_path / "with")]) == 0
    assert "labels are doubted by" not in caplog.text
    monkeypatch.setattr("training.data.teachers.whisper._PACKAGE", "no-such-package")
    assert main([*adapt, str(tmp_path / "without")]) == 0
    assert views == [2, 1]
    told = "labels are doubted by what small hears alone: the encoder whisper needs"
    assert told in caplog.text
    made = [load(tmp_path / name).weights for name in ("with", "without")]
    assert all((made[0][name] == made[1][name]).all() for name in made[0])


def test_a_second_encoder_is_joined_and_read_back(tmp_path: Path) -> None:
    base = audio_alone(load(DEFAULT_RUN))
    clips, view, truth = clouds(60, 3, base.config.audio_statistics)
    other = clouds(60, 3, 768)[1]
    labels = [f"class {number}" for number in range(3)]
    plan = plan_folds(clips, truth)
    views = [view, other]
    assert choose_strength(views, truth, plan.folds) > 0
    run, _ = fit_run(
        Base("base", base, "", MEDIUM), HeadData(clips, views, truth, labels, plan, PRIOR)
    )
    run.save(tmp_path / "run")
    again = load(tmp_path / "run")
    joined = again.pretrained[MEDIUM]
    assert joined.arrays.weights.shape == (768, 3)
    assert joined.metrics["all"]["ua"] > 0.6
    assert again.metrics["corpora"]["made"]["audio"]["fake-quant"]["n"] == 60


def test_a_head_that_rounding_harms_gets_finer_ranges_by_the_clips_that_train() -> None:
    """A few values far out, of which nothing depends, take the steps from all others."""
    base = audio_alone(load(DEFAULT_RUN))
    clips, view, truth = clouds(240, 3, base.config.audio_statistics)
    view.values[::7, -3:] = 3000
    labels = [f"class {number}" for number in range(3)]
    data = HeadData(clips, [view], truth, labels, plan_folds(clips, truth), PRIOR)
    run, _ = fit_run(Base("base", base, "", False), data)
    before, after = run.training["remedy"]["lost"]
    assert before > 0.2 > 0.1 > after
    forms = run.metrics["corpora"]["made"]["audio"]
    lost = forms["float head"]["ua"] - forms["fake-quant"]["ua"]
    assert lost == pytest.approx(after, abs=2e-4)
    assert set(forms["fake-quant"]["changed"]) == set(labels)
    # What rounding does not harm keeps its ranges, and says nothing.
    clips, view, truth = clouds(240, 3, base.config.audio_statistics)
    plain, _ = fit_run(Base("base", base, "", False), replace(data, views=[view]))
    assert plain.training == {}
    assert plain.weights["head.input.high"] < 100
    assert run.weights["head.input.high"] <= 3000 * 0.5


def test_the_large_base_is_judged_with_its_encoder(tmp_path: Path) -> None:
    base = open_base("large", tmp_path)
    assert base.pretrained is not None
    layer, labels = base.pretrained.arrays, base.run.config.labels
    truth = np.arange(40) % len(labels)
    clips = people([(labels[label], f"s{row % 5}") for row, label in enumerate(truth)])
    # What the encoder's layer is sure of, beside statistics that say nothing.
    states = 100 * layer.weights.T[truth] - 100 * layer.weights.mean(axis=1)
    rows = np.zeros((40, base.run.config.audio_statistics), np.float32)
    heard = Heard(clips, rows, np.ones(40))
    views = [View(rows), View(states.astype(np.float32))]
    alone = _of_base(replace(base, pretrained=None), heard, views, truth, list(labels))
    both = _of_base(base, heard, views, truth, list(labels))
    assert alone is not None
    assert both is not None
    assert (alone.ua, both.ua) == (pytest.approx(1 / len(labels)), 1.0)


def test_a_clip_is_doubted_once_for_all_reasons() -> None:
    one, two, three = people([("calm", "a"), ("tired", "a"), ("calm", "b")])
    doubts = [Doubt(one, "tired", 0.9, "sounds more like tired"), Doubt(two, "calm", 0.6, "hardly")]
    troubles = [Doubt(three, "", 0.0, "silent"), Doubt(two, "", 0.0, "clipped")]
    found = with_troubles(doubts, troubles)
    assert [doubt.utterance for doubt in found] == [three, two, one]
    assert (found[1].likely, found[1].reason) == ("calm", "clipped; hardly")


def test_what_more_clips_would_bring_is_no_less_than_there_is() -> None:
    rising, noise = Curve([20, 40, 80], [0.5, 0.6, 0.68]), Curve([20, 40, 80], [0.7, 0.69, 0.68])
    assert 0.7 < rising.expected(160) < 0.8
    assert noise.expected(160) == pytest.approx(0.68)


def test_the_part_that_hears_judges_as_the_whole_does() -> None:
    run = load(DEFAULT_RUN)
    part = audio_alone(run)
    rng = np.random.default_rng(0)
    frames = [rng.normal(0, 5, (length, 96)).astype(np.float32) for length in (40, 90, 150)]
    assert part.config.variant == "audio"
    found = [predict(model.model(), frames) for model in (run, part)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
