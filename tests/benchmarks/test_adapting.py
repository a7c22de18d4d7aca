"""Adapting to few clips beside other ways to learn from them: how clips are drawn, kept, told."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from packaged import need_whisper

from benchmarks.__main__ import main
from benchmarks.adapting import Figure, draw, gains, means, worth
from benchmarks.errors import BenchmarkError
from benchmarks.trial import ADAPT, COMPARE, FIT, WITH_ENCODER, Trial
from training.corpora import Found, Utterance
from training.corpora.manifest import write as write_manifest
from training.fit.settings import FitSettings

RATE = 16_000
# Pitch in Hz, syllables a second.
SOUNDS = {"angry": (300, 8), "sad": (120, 2)}
LABELS = ("angry", "happy", "neutral", "sad")
QUICK = FitSettings(epochs=1, qat_epochs=1, epoch_steps=1, augment=False)
TRIAL = Trial((8,), 1, (ADAPT, FIT, COMPARE), seen=True, schedule=QUICK, jobs=1)


def people(speakers: int = 8, each: int = 5, corpus: str = "ased") -> list[Utterance]:
    """`each` clips of every class by every speaker; there is no sound to them."""
    return [
        Utterance(Path(f"{speaker}-{label}-{number}.wav"), label, f"s{speaker}", corpus)
        for speaker in range(speakers)
        for label in LABELS
        for number in range(each)
    ]


def test_who_tests_does_not_train_and_classes_are_alike() -> None:
    clips = people()
    one = draw(clips, seed=0)
    small, large = one.fold(20), one.fold(60)
    assert small is not None
    assert large is not None
    assert small.test == large.test
    assert set(small.train) < set(large.train)
    tested = {clips[i].speaker for i in large.test}
    assert len(tested) == 2  # a quarter of eight
    assert not tested & {clips[i].speaker for i in large.train}
    assert len(large.test) == sum(u.speaker in tested for u in clips)
    assert Counter(clips[i].label for i in small.train) == dict.fromkeys(LABELS, 5)
    assert Counter(Counter(clips[i].label for i in fold.train)[LABELS[0]] for fold in [large]) == {
        15: 1
    }


def test_a_draw_follows_from_its_seed() -> None:
    clips = people()
    assert draw(clips, seed=3) == draw(clips, seed=3)
    assert len({tuple(draw(clips, seed).test) for seed in range(8)}) > 1
    assert len({tuple(draw(clips, seed).train[0]) for seed in range(8)}) == 8


def test_clips_that_do_not_divide_are_spread_and_more_than_there_are_is_none() -> None:
    clips = people()
    fold = draw(clips, seed=0).fold(22)
    assert fold
    assert sorted(Counter(clips[i].label for i in fold.train).values()) == [5, 5, 6, 6]
    assert draw(clips, seed=0).fold(120)
    assert draw(clips, seed=0).fold(121) is None


def test_speakers_are_drawn_until_both_sides_have_every_class() -> None:
    # Of six speakers two alone are ever sad: neither both nor none of them may test.
    clips = [u for u in people(6) if u.label != "sad" or u.speaker in ("s0", "s1")]
    for seed in range(10):
        one = draw(clips, seed)
        assert len({clips[i].speaker for i in one.test} & {"s0", "s1"}) == 1


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([replace(u, speaker=None) for u in people()], "name who speaks"),
        (people(1), "name who speaks"),
        ([u for u in people() if u.label != "sad" or u.speaker == "s0"], "no quarter of its 8"),
    ],
)
def test_clips_that_cannot_be_drawn_apart_are_refused(clips: list[Utterance], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        draw(clips, 0)


def test_a_base_that_heard_what_judges_it_is_refused() -> None:
    found = {"ased": Found(people(), Counter())}
    for way in (ADAPT, WITH_ENCODER):
        with pytest.raises(BenchmarkError, match=r"base small trained on ased: .*--seen"):
            worth(found, Trial(ways=(COMPARE, way)))


def figure(clips: int, seed: int, way: str, ua: float) -> Figure:
    return Figure("ased", clips, seed, way, ua, "clips", "learner")


def test_gains_are_over_the_draws_that_have_both() -> None:
    ours, theirs = (0.6, 0.7, 0.9), (0.5, 0.4)
    figures = [figure(20, n, FIT, ua) for n, ua in enumerate(theirs)]
    figures += [figure(20, n, ADAPT, ua) for n, ua in enumerate(ours)]
    figures += [figure(60, 0, COMPARE, 0.5)]
    found, compared = means(figures), gains(figures)
    of_ours = found["ased", 20][ADAPT]
    assert (of_ours.mean, of_ours.draws) == (pytest.approx(statistics.mean(ours)), 3)
    assert of_ours.deviation == pytest.approx(statistics.stdev(ours))
    assert found["ased", 60][COMPARE].text() == "50.0 ± 0.0"
    assert set(compared) == {("ased", 20)}
    assert compared["ased", 20][FIT].text(sign=True) == "+20.0 ± 14.1"
    assert compared["ased", 20][FIT].draws == 2


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Three clips of either class by each of four speakers, of tones that tell the class."""
    folder = tmp_path_factory.mktemp("voices")
    rng, time = np.random.default_rng(0), np.arange(int(0.8 * RATE)) / RATE
    found = []
    for number in range(24):
        label, speaker = list(SOUNDS)[number % 2], number // 6
        pitch, syllables = SOUNDS[label]
        pitch *= 1 + 0.03 * speaker
        tone = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 8))
        swell = 0.6 + 0.4 * np.sin(2 * np.pi * syllables * time)
        samples = 0.15 * swell * tone + 0.003 * rng.standard_normal(len(time))
        soundfile.write(folder / f"{number}.wav", samples, RATE)
        found.append(Utterance(folder / f"{number}.wav", label, f"s{speaker}", "manifest"))
    return found


@pytest.fixture(scope="module", autouse=True)
def no_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def svm_alone(voices: list[Utterance]) -> float:
    """UA of the first draw's 8 clips, by openSMILE and scikit-learn alone."""
    import opensmile
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    fold = draw(voices, seed=0).fold(8)
    assert fold
    functionals = opensmile.FeatureLevel.Functionals
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, functionals)
    rows = np.concatenate([smile.process_file(str(u.path)).to_numpy() for u in voices])
    labels = np.array([u.label for u in voices])
    model = make_pipeline(StandardScaler(), SVC(C=10, class_weight="balanced"))
    model.fit(rows[fold.train], labels[fold.train])
    return float(balanced_accuracy_score(labels[fold.test], model.predict(rows[fold.test])))


def test_what_was_measured_before_an_interruption_is_kept(
    voices: list[Utterance], tmp_path: Path, bundle_path: Path
) -> None:
    pytest.importorskip("opensmile", reason="openSMILE is not installed")
    found, path = {"manifest": Found(voices, Counter())}, tmp_path / "figures.json"
    told: list[str] = []

    def interrupted(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worth(found, TRIAL, path, interrupted)
    kept = json.loads(path.read_text())
    assert [one["way"] for one in kept["figures"]] == [ADAPT]
    figures = worth(found, TRIAL, path, told.append)
    assert told[0].startswith("1 of 3 figures are in ")
    assert [line.split(": ")[1].split()[0] for line in told[1:]] == [FIT, COMPARE]
    by_way = {one.way: one.ua for one in figures}
    assert by_way[ADAPT] == 1  # pitches more than an octave apart: who hears tells them
    assert by_way[COMPARE] == pytest.approx(svm_alone(voices))
    assert 0 <= by_way[FIT] <= 1
    (row,) = json.loads(path.read_text())["results"]
    assert row["ua"][ADAPT] == {"mean": 1.0, "deviation": 0.0, "draws": 1}
    assert row["adapt_minus"][COMPARE]["mean"] == pytest.approx(1 - by_way[COMPARE])
    told.clear()
    assert worth(found, TRIAL, path, told.append) == figures
    assert len(told) == 1
    other = replace(TRIAL, schedule=replace(QUICK, lr=1e-4))
    with pytest.raises(BenchmarkError, match="figures of fit from another schedule"):
        worth(found, other, path)
    turned = [replace(u, speaker=f"t{(i + 3) // 6 % 4}") for i, u in enumerate(voices)]
    with pytest.raises(BenchmarkError, match="figures of other clips"):
        worth({"manifest": Found(turned, Counter())}, TRIAL, path)
    path.write_text("{}")
    with pytest.raises(BenchmarkError, match="holds no figures of this command"):
        worth(found, TRIAL, path)


def test_the_command_tells_means_and_numbers_of_clips_left_out(
    voices: list[Utterance], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("opensmile", reason="openSMILE is not installed")
    write_manifest(tmp_path / "voices.csv", voices)
    command = ["adapting", f"manifest={tmp_path / 'voices.csv'}", "--only=compare", "--jobs=1"]
    assert main([*command, "--clips", "8,200", "--draws", "2"]) == 0
    said = capsys.readouterr().out
    assert "manifest: no 200 clips" in said
    assert "[2/2] manifest, 8 clips, draw 2: compare " in said
    figures = [float(line.split()[-2]) for line in said.splitlines() if line.startswith("[")]
    assert f"{statistics.mean(figures):.1f} ± {statistics.stdev(figures):.1f}" in said
    assert main([*command, "--clips", "200"]) == 2
    assert "there is nothing to measure" in capsys.readouterr().err


WRONG = [("--clips", "20,few"), ("--clips", "4"), ("--only", "adapt,guess"), ("--draws", "0")]


@pytest.mark.parametrize("options", WRONG)
def test_options_that_say_nothing_are_refused(
    options: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["adapting", "ased=nowhere", *options])
    assert end.value.code == 2
    assert repr(options[1]) in capsys.readouterr().err


def test_the_pre_trained_encoder_hears_along(voices: list[Utterance], bundle_path: Path) -> None:
    need_whisper()
    found = {"manifest": Found(voices, Counter())}
    (one,) = worth(found, replace(TRIAL, ways=(WITH_ENCODER,)), tell=lambda line: None)
    assert (one.way, one.ua) == (WITH_ENCODER, 1)
