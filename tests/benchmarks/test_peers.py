"""Peers are judged on the same clips and folds as ours, with their own real features."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import recall_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks import peers
from benchmarks.__main__ import main
from benchmarks.errors import BenchmarkError
from benchmarks.peers import compare_accuracy, onnx_float, opensmile_sets, speaker_svm
from benchmarks.peers.rules import PeerSettings, groups
from benchmarks.peers.svm import FeaturePeer, judge
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.manifest import AUDIO, WHOLE
from edge_runtime.pcm import SAMPLE_RATE
from training.__main__ import main as training_main
from training.commands.common import FoldSettings
from training.corpora import Utterance
from training.corpora.manifest import write as write_manifest
from training.data.features import FeatureSettings
from training.data.folds import Fold, cut_folds, speaker_folds
from training.errors import TrainingError
from training.evaluate import crossval
from training.network.config import ModelConfig
from training.network.fakequant import Phase, set_phase
from training.network.model import MscnnSpu
from training.run import DEFAULT_RUN, Run, load

SPEAKERS = ("Actor_01", "Actor_12")  # a man and a woman


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def utterances(clips: list[Path]) -> list[Utterance]:
    """Two actors in four classes."""
    label = {"01": "neutral", "03": "happy", "04": "sad", "05": "angry"}
    return [
        Utterance(clip, label[clip.stem[6:8]], clip.parent.name, "ravdess")
        for clip in clips
        if clip.parent.name in SPEAKERS
    ]


def test_opensmile_hears_how_loud_and_how_high_a_voice_is(clips: list[Path]) -> None:
    opensmile = pytest.importorskip("opensmile", reason="openSMILE is not installed")
    names = opensmile.Smile(
        opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals
    ).feature_names
    pitch = names.index("F0semitoneFrom27.5Hz_sma3nz_amean")
    loudness = names.index("loudness_sma3_amean")
    man, woman = (next(clip for clip in clips if clip.parent.name == actor) for actor in SPEAKERS)
    low, high = (opensmile_sets.functionals(read_file(c), "eGeMAPSv02") for c in (man, woman))
    assert low is not None
    assert high is not None
    assert low.shape == high.shape == (88,)
    assert high[pitch] > low[pitch] + 4  # semitones; men and women are about 9 apart
    quiet = opensmile_sets.functionals(read_file(man) // 8, "eGeMAPSv02")
    assert quiet is not None
    assert quiet[loudness] < low[loudness] / 2
    wide = opensmile_sets.functionals(read_file(man), "ComParE_2016")
    assert wide is not None
    assert wide.shape == (6373,)
    assert opensmile_sets.functionals(np.zeros(80, np.int16), "eGeMAPSv02") is None


def test_features_are_computed_once(
    utterances: list[Utterance], own_cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("opensmile", reason="openSMILE is not installed")
    gone = Utterance(tmp_path / "gone.wav", "sad", "x", "ravdess")
    asked = [*utterances[:2], gone]
    first = opensmile_sets.extract("eGeMAPSv02", asked, jobs=1)
    assert first[2] is None
    assert "gone.wav" in caplog.text
    files = sorted(own_cache.rglob("*.npy"))
    assert len(files) == 2
    marked = np.full(88, 7, np.float32)
    for file in files:
        np.save(file, marked)
    again = opensmile_sets.extract("eGeMAPSv02", asked[:2], jobs=1)
    assert all(v is not None and np.array_equal(v, marked) for v in again)


def made_up(vector: Callable[[Utterance], np.ndarray | None]) -> FeaturePeer:
    """A peer that hears what `vector` says."""
    return FeaturePeer(
        *("it", "made up", "numpy", ""),
        lambda _: None,
        lambda us, _: [vector(u) for u in us],
        lambda: 0,
    )


def test_folds_share_no_speaker_and_nothing_is_learned_from_the_test_side() -> None:
    rng = np.random.default_rng(0)
    labels = ("happy", "sad")
    rows = [
        Utterance(Path(f"{s}-{i}.wav"), labels[i % 2], f"speaker{s}", "c")
        for s in range(6)
        for i in range(8)
    ]
    plan = speaker_folds(rows, 3)
    # Who speaks tells the label only to those who have heard that speaker's clips.
    secret = {u: rng.standard_normal(2) + 9 * int(u.speaker[-1]) for u in rows}
    telling = made_up(lambda u: np.array([labels.index(u.label), secret[u][0]], np.float32))
    assert judge(telling, rows, plan, 1).metrics["c"].ua == 1.0
    by_voice = [
        Utterance(u.path, labels[int(u.speaker[-1]) % 2], u.speaker, u.corpus) for u in rows
    ]
    voice = {u: np.eye(6, dtype=np.float32)[int(u.speaker[-1])] for u in by_voice}
    assert judge(made_up(lambda u: voice[u]), by_voice, plan, 1).metrics["c"].ua <= 0.5
    # A clip without features is in no fold.
    fewer = made_up(lambda u: None if u == rows[0] else np.ones(2, np.float32))
    found = judge(fewer, rows, plan, 1)
    assert found.metrics["c"].n == len(rows) - 1
    assert len(found.fold_ua["c"]) == 3
    deaf = made_up(lambda u: np.ones(2, np.float32) if u.label == "sad" else None)
    with pytest.raises(BenchmarkError, match="have features of one class only"):
        judge(deaf, rows, plan, 1)


@pytest.fixture
def two_corpora() -> list[Utterance]:
    """Eight speakers in two corpora, half of them also of a class that the other corpus lacks."""
    kinds = {"here": ("happy", "neutral", "sad"), "there": ("happy", "sad")}
    return [
        Utterance(Path(f"{corpus}-{s}-{i}.wav"), labels[i % len(labels)], f"{corpus}{s}", corpus)
        for corpus, labels in kinds.items()
        for s in range(4)
        for i in range(6)
    ]


def test_corpora_that_train_together_are_judged_one_by_one(two_corpora: list[Utterance]) -> None:
    # A corpus has its own way to tell a class, which the other knows nothing of.
    labels = ["happy", "neutral", "sad"]

    def own_way(utterance: Utterance) -> np.ndarray:
        place = 3 * (utterance.corpus == "there") + labels.index(utterance.label)
        return np.eye(6, dtype=np.float32)[place]

    peer = made_up(own_way)
    known = judge(peer, two_corpora, cut_folds(two_corpora, 2), 1)
    assert {name: (m.n, m.ua) for name, m in known.metrics.items()} == {
        "here": (24, 1.0),
        "there": (24, 1.0),
    }
    assert known.fold_ua == {"here": [1.0, 1.0], "there": [1.0, 1.0]}
    assert known.metrics["here"].speakers == 4
    others = [u for u in two_corpora if u.label != "neutral"]
    unheard = judge(peer, others, cut_folds(others, "corpus"), 1)
    assert all(m.ua <= 0.5 for m in unheard.metrics.values())
    assert {name: len(ua) for name, ua in unheard.fold_ua.items()} == {"here": 1, "there": 1}


def test_the_test_side_standardizes_nothing(two_corpora: list[Utterance]) -> None:
    rng = np.random.default_rng(1)
    labels = ["happy", "sad"]
    rows = [u for u in two_corpora if u.label in labels]
    truth = np.array([labels.index(u.label) for u in rows])
    # Corpora are at levels and spreads apart, as studios and telephones are.
    there = np.array([u.corpus == "there" for u in rows])
    vectors = rng.standard_normal((len(rows), 3)).astype(np.float32)
    vectors[:, 0] += 2 * truth
    vectors[there] = 3 * vectors[there] + 2
    plan = cut_folds(rows, "corpus")
    of = dict(zip(rows, vectors, strict=True))
    found = judge(made_up(lambda u: of[u]), rows, plan, 1).metrics
    sides = [(fold.train, fold.test) for fold in plan]

    def expected(model: Any, values: np.ndarray) -> dict[str, float]:
        guess = cross_val_predict(model, values, truth, cv=sides)
        return {
            corpus: recall_score(truth[part], guess[part], average="macro")
            for corpus, part in (("here", ~there), ("there", there))
        }

    svm = SVC(class_weight="balanced")
    ours = {corpus: metrics.ua for corpus, metrics in found.items()}
    assert ours == pytest.approx(expected(make_pipeline(StandardScaler(), svm), vectors))
    # What the test side would have told.
    told = expected(svm, StandardScaler().fit_transform(vectors))
    assert told != pytest.approx(ours, abs=0.01)


LABELS = ("angry", "neutral", "sad")


@pytest.fixture
def trees(own_cache: Path, tmp_path: Path) -> list[str]:
    """NAME=PATH of two made up corpora and ordinary speech.

    Of the second nobody knows who speaks, so that clips are dealt to folds one by one; a silent
    clip, which crossval leaves out, is among the first.
    """
    rng = np.random.default_rng(0)

    def sound(path: Path, label: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(int(0.8 * SAMPLE_RATE)) / SAMPLE_RATE
        pitch = {"angry": 300, "neutral": 180, "sad": 120}[label] * rng.uniform(0.9, 1.1)
        tone = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 8))
        swell = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)
        soundfile.write(path, 0.15 * swell * tone + 0.003 * rng.standard_normal(len(time)), 16000)
        return path

    acted = [
        Utterance(sound(tmp_path / f"acted{s}{label}{i}.wav", label), label, f"acted{s}", "acted")
        for s in range(4)
        for label in LABELS
        for i in range(2)
    ]
    found = [
        Utterance(sound(tmp_path / f"found{label}{i}.wav", label), label, None, "found")
        for label in LABELS
        for i in range(6)
    ]
    soundfile.write(found[1].audio, np.zeros(8000), SAMPLE_RATE)
    for name, rows in (("acted", acted), ("found", found)):
        write_manifest(tmp_path / f"{name}.csv", rows)
    for s in ("19", "26", "27", "32"):
        sound(tmp_path / "ordinary" / s / "1" / f"{s}-1-0000.wav", "neutral")
    manifests = [f"manifest@{name}={tmp_path / name}.csv" for name in ("acted", "found")]
    return [*manifests, f"librispeech={tmp_path / 'ordinary'}"]


@pytest.mark.parametrize(
    ("by", "options"), [("speaker", ["--folds", "2"]), ("speaker", []), ("corpus", [])]
)
def test_the_folds_are_those_of_crossval(
    trees: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, options: list[str]
) -> None:
    theirs: list[tuple[list[Utterance], list[Fold]]] = []

    def stop(plan: list[Fold], utterances: list[Utterance], _: object) -> None:
        theirs.append((list(utterances), plan))
        raise TrainingError("that is all there is to know")

    monkeypatch.setattr(crossval, "_made_from", stop)
    command = ["crossval", *trees, "--ordinary", "neutral", "--by", by, *options]
    training_main([*command, "--jobs", "1", "--no-augment", "--out", str(tmp_path / "out")])
    folds = FoldSettings(folds=2 if options else None, by=by, jobs=1)
    (ours,) = groups(trees, PeerSettings(together=True, ordinary="neutral", folds=folds))
    assert theirs == [(ours.utterances, ours.plan)]
    assert len(ours.plan) == (3 if by == "corpus" else 2 if options else 5)
    everyone = {u.corpus for u in ours.utterances}
    assert everyone == {"manifest@acted", "manifest@found", "librispeech"}
    assert len(ours.utterances) == 4 * 6 + 3 * 6 - 1 + 4  # not the silent one
    assert sorted(i for fold in ours.plan for i in fold.test) == list(range(len(ours.utterances)))
    for fold in ours.plan:
        train, test = ([ours.utterances[i] for i in side] for side in (fold.train, fold.test))
        assert not {u.speaker for u in train if u.speaker} & {u.speaker for u in test}
        assert not {u.clip for u in train} & {u.clip for u in test}
        if by == "corpus":
            (left_out,) = {u.corpus for u in test}
            assert {u.corpus for u in train} == everyone - {left_out}


def test_by_itself_each_corpus_has_folds_of_its_own(trees: list[str]) -> None:
    found = groups(trees[:2], PeerSettings(folds=FoldSettings(folds=2)))
    assert [{u.corpus for u in group.utterances} for group in found] == [
        {"manifest@acted"},
        {"manifest@found"},
    ]
    assert [len(group.plan) for group in found] == [2, 2]
    with pytest.raises(TrainingError, match="4 speakers, too few for 7 folds"):
        groups(trees[:1], PeerSettings(folds=FoldSettings(folds=7)))


@pytest.mark.parametrize(("by", "place"), [("speaker", ""), ("corpus", "unseen")])
def test_ours_stand_beside_peers_under_the_same_rules(
    bundle: Bundle,
    trees: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    by: str,
    place: str,
) -> None:
    pytest.importorskip("opensmile", reason="openSMILE is not installed")
    monkeypatch.setattr(peers, "compare", lambda *_: [])  # the times of graphs: another matter
    out = tmp_path / "peers.json"
    options = ["--ordinary", "neutral", "--only", "eGeMAPSv02", "--jobs", "1", "--by", by]
    assert main(["peers", "--corpora", *trees, "--together", *options, "--json", str(out)]) == 0
    accuracy = json.loads(out.read_text())["accuracy"]
    ours, peer = accuracy["standings"]
    assert peer["who"] == "openSMILE eGeMAPSv02 + SVM"
    judged = peer["corpora"]
    assert [judged[name]["n"] for name in judged] == [24, 17, 4]
    # LibriSpeech is neutral alone: its figure is a recall, and in no mean over classes.
    assert accuracy["mean_over"] == ["manifest@acted", "manifest@found"]
    mean = (judged["manifest@acted"]["ua"] + judged["manifest@found"]["ua"]) / 2
    assert peer["mean_ua"] == pytest.approx(mean, abs=1e-4)
    # The bundle carries figures of another LibriSpeech alone, and the page says so.
    assert list(ours["corpora"]) == ["librispeech"]
    assert (ours["mean_ua"], accuracy["same_folds"]) == (None, False)
    page = capsys.readouterr().out
    for words in (
        "mean of the 2 with every class",
        "librispeech, 4 speakers, 4 clips",
        "not of the same clips and folds",
        "all other corpora at once" if by == "corpus" else "; all corpora at once",
    ):
        assert words in page
    # One that was judged on these very folds.
    metrics = {name: {AUDIO: {"int8": values}} for name, values in judged.items()}
    carried: dict[str, Any] = {"corpora": metrics, "protocol": accuracy["protocols"]["peers"]}
    manifest = replace(bundle.manifest, metrics={place: carried} if place else carried)
    settings = PeerSettings(
        together=True, ordinary="neutral", only="eGeMAPSv02", folds=FoldSettings(by=by, jobs=1)
    )
    again = compare_accuracy(Bundle(manifest, bundle.contents, "mine"), trees, settings)
    assert again.same_folds
    assert again.to_dict()["standings"][0]["mean_ua"] == peer["mean_ua"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "eGeMAPSv02,whisper"], "--only whisper: no such peer; expected some of eGeM"),
        (["--by", "corpus", "--folds", "3"], "--by corpus makes one fold a corpus"),
        (["--together", "--ordinary", ""], "librispeech is ordinary speech without labels"),
    ],
)
def test_what_cannot_be_judged_is_said_in_one_line(
    bundle: Bundle,
    trees: list[str],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    assert main(["peers", "--corpora", *trees, *options]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert said in errors[0]


def test_to_train_together_takes_corpora(capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--together"], ["--by", "corpus"]):
        assert main(["peers", *options]) == 2
        assert "name --corpora" in capsys.readouterr().err


def test_a_peer_that_is_asked_for_must_be_there(
    bundle: Bundle, trees: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    with pytest.raises(BenchmarkError, match="--only resemblyzer: not installed: pip install"):
        compare_accuracy(bundle, trees[:1], PeerSettings(only="resemblyzer"))


def test_the_table_has_ours_and_every_peer(
    bundle: Bundle,
    corpora: Path,
    clips: list[Path],
    own_cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("opensmile", reason="openSMILE is not installed")
    small = tmp_path / "ravdess"
    for clip in clips:
        if clip.parent.name in SPEAKERS:
            (small / clip.parent.name).mkdir(parents=True, exist_ok=True)
            (small / clip.parent.name / clip.name).symlink_to(clip)
    out = tmp_path / "peers.json"
    arguments = ["--corpora", f"ravdess={small}", "--folds", "2", "--jobs", "1"]
    assert main(["peers", *arguments, "--json", str(out)]) == 0
    accuracy = json.loads(out.read_text())["accuracy"]
    ours, *others = accuracy["standings"]
    carried = bundle.manifest.metrics["corpora"]["ravdess"]["audio"]["int8"]
    assert ours["corpora"]["ravdess"]["ua"] == pytest.approx(carried["ua"], abs=1e-4)
    assert {f"openSMILE {name} + SVM" for name in opensmile_sets.SETS} <= {o["who"] for o in others}
    for other in others:
        assert other["corpora"]["ravdess"]["n"] == 8
        assert min(other["ms"], ours["ms"]) > 0
        assert other["file_bytes"] > 1e6
    page = capsys.readouterr().out
    for words in ("eGeMAPSv02", "ComParE_2016", "2 speaker-independent folds", "ours / peer"):
        assert words in page


@pytest.mark.parametrize("options", [[], ["--together"]])
def test_a_text_corpus_has_nothing_to_compare_on(
    bundle: Bundle,
    trees: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("path,label,text\n,sad,alas\n")
    corpora = [trees[0], f"manifest@texts={texts}"]
    assert main(["peers", "--corpora", *corpora, *options, "--jobs", "1"]) == 2
    assert "manifest@texts has no audio to compare on" in capsys.readouterr().err


def test_the_speaker_encoder_is_the_third(clips: list[Path]) -> None:
    pytest.importorskip("resemblyzer", reason="Resemblyzer is not installed")
    (peer,) = speaker_svm.peers()
    vector = peer.extract(read_file(clips[0]))
    assert isinstance(vector, np.ndarray)
    assert vector.shape == (256,)
    assert peer.file_bytes() > 1e7


@pytest.fixture
def run() -> Run:
    """What the default bundle was built from."""
    return load(DEFAULT_RUN)


def test_audio_alone_is_the_same_model_without_its_words(run: Run) -> None:
    models = [run.model(), onnx_float.audio_alone(run).model()]
    heard = torch.randn(3, 200, run.config.features), torch.tensor([200, 120, 60])
    for model in models:
        set_phase(model, Phase.FLOAT)
    with torch.no_grad():
        whole, alone = (model(*heard) for model in models)
    # The words are zeros that the larger head adds up: the sum goes by another order.
    torch.testing.assert_close(alone, whole, atol=1e-5, rtol=0)
    assert models[1].width == run.config.branches[AUDIO] < models[0].width


def test_a_model_without_words_has_one_whole_window(deaf_to_words: Path) -> None:
    bundle, model = load_bundle(deaf_to_words), MscnnSpu(ModelConfig(filters=8, hidden=(8,)))
    untrained = Run(model.config, FeatureSettings(), model.state_dict(), model.state_dict())
    contests = onnx_float.contests(bundle, untrained)
    assert [c.quantity for c in contests] == ["graphs", "whole window, audio alone"]
    steps_alone = {k: v for k, v in bundle.manifest.graphs.items() if k != WHOLE}
    without = replace(bundle.manifest, graphs=steps_alone)
    (steps,) = onnx_float.contests(Bundle(without, bundle.contents, "mine"), untrained)
    assert steps.quantity == "graphs"
