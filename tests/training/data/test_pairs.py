"""Clips with words of their class, and bimodal models that keep the encoders of their branches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.tokenizer import Tokenizer
from training.corpora import Utterance
from training.data.features import FeatureSet, FeatureSettings
from training.data.pairs import (
    PairDataset,
    collate_pairs,
    draw_words,
    with_drawn_words,
    with_own_words,
)
from training.data.tokens import encode, tokenize
from training.errors import TrainingError
from training.evaluate.predict import predict
from training.fit.examples import FitData
from training.fit.fit import fit, run_of
from training.fit.prepare import word_plan
from training.fit.settings import FitSettings
from training.fit.warmstart import Branches
from training.network.config import ModelConfig
from training.network.fakequant import Phase
from training.run import Run
from training.words.embeddings import Vocabulary
from training.words.settings import WordSettings

LABELS = ["angry", "sad"]
WORDS = [f"{label}{n}" for label in ("rage", "tear") for n in "abcdef"]
QUICK = FitSettings(epochs=2, qat_epochs=1, batch=16, augment=False, min_frames=20, max_frames=40)


def texts(count: int, seed: int, split: str = "train") -> list[Utterance]:
    """Texts whose words tell the class."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        label = LABELS[index % 2]
        own = WORDS[:6] if label == "angry" else WORDS[6:]
        words = " ".join(rng.choice(own, rng.integers(2, 6)))
        found.append(Utterance(None, label, f"t{index}", "toytext", text=words, split=split))
    return found


def clips(count: int, seed: int) -> FeatureSet:
    """Features whose level tells the class."""
    rng = np.random.default_rng(seed)
    utterances = [
        Utterance(Path(f"{seed}-{i}"), LABELS[i % 2], f"s{i % 4}", "toy") for i in range(count)
    ]
    variants = [
        [(rng.standard_normal((30, 96)) + 0.15 * (i % 2)).astype(np.float32)] for i in range(count)
    ]
    return FeatureSet(utterances, variants, [])


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    rng = np.random.default_rng(1)
    table = rng.standard_normal((2 + len(WORDS), 8)).astype(np.float32)
    table[0] = 0
    return Vocabulary(WORDS, table, Counter(), "toy")


@pytest.fixture(scope="module")
def branches(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Branches:
    """An audio and a text model, each trained alone."""
    folder = tmp_path_factory.mktemp("branches")
    audio_config = ModelConfig(labels=tuple(LABELS), filters=8, hidden=(6,))
    heard = fit(
        FitData(clips(64, 0), None, LABELS), audio_config, QUICK, folder / "a", progress=_silent
    )
    text_config = replace(
        audio_config,
        variant="text+swem",
        vocabulary=len(vocabulary.table),
        embedding=8,
        hidden=(5,),
    )
    read = tokenize(texts(96, 1), Tokenizer(WORDS))
    data = FitData(read, None, LABELS, vocabulary)
    text = fit(data, text_config, replace(QUICK, epochs=20), folder / "t", progress=_silent)
    runs = [run_of(module, FeatureSettings()) for module in (heard, text)]
    runs[1].vocabulary = WORDS
    return Branches(*runs)


@pytest.fixture(scope="module")
def fused(branches: Branches, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Both, trained on pairs."""
    config = ModelConfig(labels=tuple(LABELS), variant="audio+text+att+swem", hidden=(7,))
    pool = texts(60, 2)
    pairs = with_drawn_words(clips(64, 0), pool, encode(pool, Tokenizer(WORDS)))
    data = FitData(pairs, None, LABELS, branches=branches)
    folder = tmp_path_factory.mktemp("fused")
    module = fit(data, branches.fit_to(config), QUICK, folder, progress=_silent)
    return run_of(module, FeatureSettings())


def _silent(*_: int) -> None: ...


def test_words_are_drawn_from_the_same_class_and_the_same_for_a_seed() -> None:
    spoken = clips(40, 3).utterances
    pool = texts(20, 4)
    drawn = draw_words(spoken, pool, 7)
    assert drawn == draw_words(spoken, pool, 7) != draw_words(spoken, pool, 8)
    of_class = {label: {t.text for t in pool if t.label == label} for label in LABELS}
    for before, after in zip(spoken, drawn, strict=True):
        assert after == replace(before, text=after.text)
        assert after.text in of_class[after.label]
    with pytest.raises(TrainingError, match="no text of class sad"):
        draw_words(spoken, pool[::2], 0)


def test_a_clip_meets_all_texts_of_its_class_and_no_other() -> None:
    pool = texts(20, 5)
    tokens = [np.array([2 + i]) for i in range(20)]
    data = PairDataset(with_drawn_words(clips(4, 6), pool, tokens), LABELS, ["toy"], True)
    torch.manual_seed(0)
    for index in range(4):
        met = {int(data[index][1][0]) - 2 for _ in range(400)}
        assert met == {i for i in range(20) if i % 2 == index % 2}


def test_so_often_as_asked_a_clip_meets_words_that_tell_nothing() -> None:
    pool = [*texts(20, 5), *(replace(t, label="neutral") for t in texts(6, 8))]
    tokens = [np.array([2 + i]) for i in range(26)]
    pairs = with_drawn_words(clips(4, 6), pool, tokens, neutral_share=0.25)
    data = PairDataset(pairs, LABELS, ["toy"], True)
    torch.manual_seed(0)
    for index in range(4):
        met = Counter(int(data[index][1][0]) - 2 for _ in range(800))
        assert set(met) == {i for i in range(20) if i % 2 == index % 2} | set(range(20, 26))
        neutral = sum(met[i] for i in range(20, 26)) / 800
        assert neutral == pytest.approx(0.25, abs=0.05)  # deviation 0.015
    with pytest.raises(TrainingError, match="no text of class neutral"):
        with_drawn_words(clips(4, 6), pool[:20], tokens[:20], neutral_share=0.25)


def test_a_clip_without_words_of_its_own_is_a_row_without_words() -> None:
    pairs = with_own_words(clips(3, 6), [np.array([2, 3]), np.array([], np.int64), np.array([4])])
    data = PairDataset(pairs, LABELS, ["toy"], False)
    batch = collate_pairs([data[i] for i in range(3)])
    assert batch.words is not None
    assert batch.words.tolist() == [2, 0, 1]
    assert batch.tokens is not None
    assert batch.tokens.tolist() == [[2, 3], [0, 0], [4, 0]]


def test_a_fused_model_begins_as_the_sum_of_its_branches(branches: Branches) -> None:
    config = branches.fit_to(ModelConfig(labels=tuple(LABELS), variant="audio+text+swem"))
    assert config.hidden == (6 + 5 + 128,)
    from training.network.model import MscnnSpu

    model = MscnnSpu(config).eval()
    branches.restore(model, Phase.FLOAT)
    branches.silence_rest(model)
    features = [v[0] for v in clips(10, 9).variants]
    tokens = encode(texts(10, 9), Tokenizer(WORDS))
    assert branches.audio is not None
    assert branches.text is not None
    expected = predict(branches.audio.model(Phase.FLOAT), features) + predict(
        branches.text.model(Phase.FLOAT), tokens=tokens
    )
    np.testing.assert_allclose(predict(model, features, tokens), expected, atol=1e-5)


def test_training_on_pairs_leaves_the_branches_as_they_were(branches: Branches, fused: Run) -> None:
    for run, names in (
        (branches.audio, ("audio.", "audio_input.", "feature_mean")),
        (branches.text, ("text.", "text_input.", "embedding.")),
    ):
        assert run is not None
        for state, original in (
            (fused.weights, run.weights),
            (fused.float_weights, run.float_weights),
        ):
            kept = [key for key in original if key.startswith(names)]
            assert all(any(key.startswith(name) for key in kept) for name in names), names
            for key in kept:
                assert torch.equal(state[key], original[key]), key
    first = branches.audio.weights["head.layers.0.weight"]  # type: ignore[union-attr]
    assert torch.equal(fused.weights["head.layers.0.weight"][:6, : first.shape[1]], first)
    extra = fused.weights["head.layers.1.weight"][:, 11:]
    assert float(extra.abs().max()) > 0  # what reads attention has learned something


def test_both_know_more_than_each_alone_and_each_alone_still_works(fused: Run) -> None:
    features = [v[0] for v in clips(80, 11).variants]
    tokens = encode(texts(80, 12), Tokenizer(WORDS))
    truth = np.arange(80) % 2
    model = fused.model(Phase.INT8)
    right = {
        name: float((predict(model, *given).argmax(axis=1) == truth).mean())
        for name, given in (
            ("audio", (features, None)),
            ("text", (None, tokens)),
            ("both", (features, tokens)),
        )
    }
    assert min(right.values()) > 0.55, right
    assert right["both"] >= max(right["audio"], right["text"]) - 0.03


def test_words_from_elsewhere_must_be_asked_for() -> None:
    spoken, pool = clips(8, 0).utterances, [*texts(8, 0), *texts(4, 1, "dev")]
    both = ModelConfig(variant="audio+text")
    with pytest.raises(TrainingError, match=r"toytext is text only.*--pair"):
        word_plan([*spoken, *pool], both, WordSettings(), pair=False)
    usable, plan = word_plan([*spoken, *pool], both, WordSettings(), pair=True)
    assert usable == spoken
    assert {len(plan.train), len(plan.test)} == {8, 4}
    assert {u.split for u in plan.test} == {"dev"}
    for variant, utterances in (
        ("audio", [*spoken, *pool]),
        ("text", pool),
        ("audio+text", spoken),
    ):
        with pytest.raises(TrainingError, match="--pair puts texts to clips"):
            word_plan(utterances, ModelConfig(variant=variant), WordSettings(), pair=True)
    with pytest.raises(TrainingError, match="needs audio"):
        word_plan(pool, both, WordSettings(), pair=False)


def test_branches_that_do_not_fit_are_refused(branches: Branches) -> None:
    both = ModelConfig(labels=tuple(LABELS), variant="audio+text+swem")
    with pytest.raises(TrainingError, match="cannot be the audio branch"):
        Branches(branches.text, None).fit_to(both)
    with pytest.raises(TrainingError, match="has classes angry, sad"):
        branches.fit_to(replace(both, labels=("happy", "sad")))
    other = replace(branches.text, config=replace(branches.text.config, filters=9))  # type: ignore
    with pytest.raises(TrainingError, match="differ in filters"):
        Branches(branches.audio, other).fit_to(both)


def test_a_run_without_its_float_weights_is_a_branch_by_its_others(
    branches: Branches, tmp_path: Path
) -> None:
    """The run in the box has none."""
    assert branches.audio is not None
    shipped = Branches(replace(branches.audio, float_weights={}), branches.text)
    config = ModelConfig(labels=tuple(LABELS), variant="audio+text+att+swem", hidden=(7,))
    own = clips(8, 0)
    pairs = with_own_words(own, encode(texts(8, 2), Tokenizer(WORDS)))
    short = replace(QUICK, epochs=1)
    data = FitData(pairs, None, LABELS, branches=shipped)
    module = fit(data, shipped.fit_to(config), short, tmp_path, progress=_silent)
    for name in ("audio.convs.0.weight", "feature_mean"):
        expected = branches.audio.weights[name]
        assert torch.equal(module.final(Phase.FLOAT).state_dict()[name], expected)


def test_a_branch_brings_all_that_shapes_its_encoder() -> None:
    shape = ModelConfig(
        labels=tuple(LABELS), audio_kernels=(3, 5), audio_stride=3, audio_dilations=(1, 2)
    )
    run = Run(shape, FeatureSettings(), {}, {})
    found = Branches(audio=run).fit_to(ModelConfig(labels=tuple(LABELS), variant="audio+text"))
    for name in ("audio_kernels", "audio_stride", "audio_dilations"):
        assert getattr(found, name) == getattr(shape, name)


@pytest.mark.parametrize(
    ("own", "wanted"),
    [("audio+speaker", "audio+text"), ("audio+text+att", "audio+text"), ("audio+text", "audio")],
)
def test_a_branch_whose_head_reads_what_the_model_lacks_is_refused(own: str, wanted: str) -> None:
    run = Run(ModelConfig(labels=tuple(LABELS), variant=own), FeatureSettings(), {}, {})
    with pytest.raises(TrainingError, match=rf"a run of {own.replace('+', '.')} cannot be"):
        Branches(audio=run).fit_to(ModelConfig(labels=tuple(LABELS), variant=wanted))
