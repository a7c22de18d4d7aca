"""Peers are judged on the same clips and folds as ours, with their own real features."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.peers import onnx_float, opensmile_sets, speaker_svm
from benchmarks.peers.svm import FeaturePeer, judge
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.manifest import AUDIO, WHOLE
from training.corpora import Utterance
from training.data.features import FeatureSettings
from training.errors import TrainingError
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


def test_folds_share_no_speaker_and_nothing_is_learned_from_the_test_side() -> None:
    rng = np.random.default_rng(0)
    labels = ("happy", "sad")
    rows = [
        Utterance(Path(f"{s}-{i}.wav"), labels[i % 2], f"speaker{s}", "c")
        for s in range(6)
        for i in range(8)
    ]

    def peer(vector: Callable[[Utterance], np.ndarray | None]) -> FeaturePeer:
        return FeaturePeer(
            "made up", "numpy", "", lambda _: None, lambda us, _: [vector(u) for u in us], lambda: 0
        )

    # Who speaks tells the label only to those who have heard that speaker's clips.
    secret = {u: rng.standard_normal(2) + 9 * int(u.speaker[-1]) for u in rows}
    telling = peer(lambda u: np.array([labels.index(u.label), secret[u][0]], np.float32))
    assert judge(telling, rows, 3, 1).metrics.ua == 1.0
    by_voice = [
        Utterance(u.path, labels[int(u.speaker[-1]) % 2], u.speaker, u.corpus) for u in rows
    ]
    voice = {u: np.eye(6, dtype=np.float32)[int(u.speaker[-1])] for u in by_voice}
    assert judge(peer(lambda u: voice[u]), by_voice, 3, 1).metrics.ua <= 0.5
    # A clip without features is in no fold.
    fewer = judge(peer(lambda u: None if u == rows[0] else np.ones(2, np.float32)), rows, 3, 1)
    assert fewer.metrics.n == len(rows) - 1
    assert len(fewer.fold_ua) == 3
    with pytest.raises(TrainingError, match="6 speakers, too few for 7 folds"):
        judge(telling, rows, 7, 1)


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
        assert other["ms"] > ours["ms"] > 0
        assert other["file_bytes"] > 1e6
    page = capsys.readouterr().out
    for words in ("eGeMAPSv02", "ComParE_2016", "2 speaker-independent folds", "ours / peer"):
        assert words in page


def test_a_text_corpus_has_nothing_to_compare_on(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("path,label,text\n,sad,alas\n")
    assert main(["peers", "--corpora", f"manifest={texts}"]) == 2
    assert "manifest has no audio to compare on" in capsys.readouterr().err


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
