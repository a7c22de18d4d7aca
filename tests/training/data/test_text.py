"""A model that reads learns what words mean, and the command trains it from a manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.tokenizer import UNKNOWN, Tokenizer
from training.__main__ import main
from training.corpora import Utterance
from training.data.features import FeatureSettings
from training.data.folds import official_split
from training.data.tokens import TextSet, collate_text, mark_rows, tokenize, without_marks
from training.evaluate.metrics import measure
from training.evaluate.predict import predict
from training.fit.examples import FitData
from training.fit.fit import fit, run_of
from training.fit.settings import FitSettings
from training.network.config import ModelConfig, variants
from training.network.fakequant import Phase
from training.network.model import MscnnSpu
from training.run import load
from training.words.embeddings import Vectors, Vocabulary, build_vocabulary

GOOD = ["hooray", "lovely", "great", "don't worry"]
BAD = ["alas", "awful", "never again", "can't"]
PLAIN = ["the", "chair", "is", "there", "and", "we", "go", "now"]
SETTINGS = FitSettings(epochs=8, qat_epochs=2, batch=8, lr=5e-3, embedding_lr=0.5, mixup=0.0)


def vectors() -> Vectors:
    words = ["the", "chair", "is", "there", "and", "we", "go", "now", "do", "n't", "worry", "ca"]
    words += ["hooray", "lovely", "great", "alas", "awful", "never", "again"]
    rng = np.random.default_rng(0)
    return Vectors(words, rng.normal(0, 1, (len(words), 8)).astype(np.float32), "toy")


def utterances(count: int, seed: int) -> list[Utterance]:
    """Plain words around one that tells."""
    rng = np.random.default_rng(seed)
    result = []
    for index in range(count):
        label, telling = (("happy", GOOD), ("sad", BAD))[index % 2]
        around = [str(word) for word in rng.choice(PLAIN, rng.integers(2, 9))]
        around.insert(int(rng.integers(len(around))), str(rng.choice(telling)))
        split = "train" if seed == 0 else "dev"
        text = " ".join(around).capitalize() + "!"
        result.append(Utterance(None, label, f"s{index % 5}", "toy", text=text, split=split))
    return result


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return build_vocabulary(vectors(), [u.text for u in utterances(160, 0)], size=100)


@pytest.fixture(scope="module")
def sets(vocabulary: Vocabulary) -> tuple[TextSet, TextSet]:
    tokenizer = Tokenizer(vocabulary.words)
    return tokenize(utterances(160, 0), tokenizer), tokenize(utterances(40, 1), tokenizer)


@pytest.fixture(scope="module")
def config(vocabulary: Vocabulary) -> ModelConfig:
    rows, width = vocabulary.table.shape
    shape = ModelConfig(labels=("happy", "sad"), variant="text+swem", filters=8, hidden=(8,))
    return replace(shape, vocabulary=rows, embedding=width)


def accuracy(model: MscnnSpu, texts: TextSet) -> float:
    labels = list(model.config.labels)
    truth = np.array([labels.index(u.label) for u in texts.utterances])
    return measure(truth, predict(model, tokens=texts.tokens).argmax(axis=1), labels).ua


def test_a_model_learns_from_words_and_is_read_back_as_it_was_saved(
    tmp_path: Path,
    sets: tuple[TextSet, TextSet],
    config: ModelConfig,
    vocabulary: Vocabulary,
) -> None:
    train, test = sets
    data = FitData(train, test, ["happy", "sad"], vocabulary)
    module = fit(data, config, SETTINGS, tmp_path / "fit", progress=lambda *_: None)
    for phase in (Phase.FLOAT, Phase.INT8):
        assert accuracy(module.final(phase), test) >= 0.95
    run = run_of(module, FeatureSettings())
    run.vocabulary = vocabulary.words
    run.save(tmp_path / "run")
    again = load(tmp_path / "run")
    assert again.vocabulary == vocabulary.words
    assert again.config == config
    np.testing.assert_array_equal(
        predict(again.model(), tokens=test.tokens),
        predict(module.final(Phase.INT8), tokens=test.tokens),
    )


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_embeddings_are_fine_tuned_or_left_as_they_are(
    tmp_path: Path,
    sets: tuple[TextSet, TextSet],
    config: ModelConfig,
    vocabulary: Vocabulary,
    share: float,
) -> None:
    data = FitData(sets[0], None, ["happy", "sad"], vocabulary)
    settings = replace(SETTINGS, epochs=1, qat_epochs=1, embedding_lr=share)
    module = fit(data, config, settings, tmp_path, progress=lambda *_: None)
    table = module.final(Phase.INT8).embedding.weight.detach().numpy()
    # Averaging weights that stay the same rounds them a little.
    assert np.allclose(table, vocabulary.table, atol=1e-5) == (share == 0.0)
    assert not table[0].any()


def test_texts_without_words_are_skipped_and_unknown_words_counted(vocabulary: Vocabulary) -> None:
    texts = [
        Utterance(None, "sad", "s", "toy", text=text)
        for text in ("?!", "the zebra is", "chair " * 200)
    ]
    found = tokenize(texts, Tokenizer(vocabulary.words))
    assert [why for _, why in found.skipped] == ["it has no words"]
    assert (found.words, found.unknown, found.cut) == (3 + 128, 1, 200 - 128)
    assert found.tokens[0].tolist().count(UNKNOWN) == 1


def test_a_batch_of_texts_is_padded_with_row_zero() -> None:
    import torch

    batch = collate_text([(torch.tensor([5, 6]), 1, 0), (torch.tensor([7]), 0, 0)])
    assert set(batch.inputs()) == {"tokens", "words"}
    assert batch.inputs()["tokens"].tolist() == [[5, 6], [7, 0]]
    assert batch.inputs()["words"].tolist() == [2, 1]


def test_a_share_of_the_texts_loses_its_marks() -> None:
    import torch

    marks = mark_rows(["oh", "!", "don't", "...", "7"])
    assert marks.tolist() == [3, 5]
    text, only_marks = torch.tensor([2, 3, 4, 5, 6]), torch.tensor([3, 5])
    assert without_marks(text, marks).tolist() == [2, 4, 6]
    assert without_marks(only_marks, marks).tolist() == [3, 5]
    torch.manual_seed(0)
    batch = collate_text([(text, 0, 0)] * 2000, marks, punctuation_dropout=0.3)
    # Five standard deviations of a binomial share of 2,000.
    lost = (batch.inputs()["words"] == 3).float().mean().item()
    assert abs(lost - 0.3) < 5 * (0.3 * 0.7 / 2000) ** 0.5
    assert set(batch.inputs()["words"].tolist()) == {3, 5}
    assert collate_text([(text, 0, 0)], marks).inputs()["words"].tolist() == [5]


def test_a_model_that_may_lose_its_marks_reads_texts_with_and_without(tmp_path: Path) -> None:
    """Where only the mark tells in half of the texts, and only a word in the other half."""
    rng = np.random.default_rng(0)
    texts = []
    for index in range(240):
        label, word, mark = (("happy", "hooray", "!"), ("sad", "alas", "..."))[index % 2]
        plain = " ".join(str(w) for w in rng.choice(PLAIN, 4))
        text = f"{plain} {mark}" if index % 4 < 2 else f"{plain} {word} {mark}"
        texts.append(Utterance(None, label, f"s{index}", "toy", text=text))
    source = vectors()
    source.words.extend(["!", "..."])
    known = Vectors(source.words, np.vstack([source.values, np.eye(2, 8)]).astype("float32"), "toy")
    vocabulary = build_vocabulary(known, [u.text for u in texts], 100, punctuation=True)
    tokenizer = Tokenizer(vocabulary.words, punctuation=True)
    rows, width = vocabulary.table.shape
    config = ModelConfig(
        ("happy", "sad"), "text+swem", filters=8, hidden=(8,), vocabulary=rows, embedding=width
    )
    data = FitData(tokenize(texts, tokenizer), None, ["happy", "sad"], vocabulary)
    settings = replace(SETTINGS, punctuation_dropout=0.5)
    model = fit(data, config, settings, tmp_path, progress=lambda *_: None).final(Phase.INT8)
    spoken = [replace(u, text=u.text.rstrip(" .!")) for u in texts[2::4] + texts[3::4]]
    assert accuracy(model, tokenize(texts, tokenizer)) >= 0.95
    assert accuracy(model, tokenize(spoken, tokenizer)) >= 0.95


def test_official_splits_are_kept_and_their_test_is_left_alone() -> None:
    texts = [*utterances(4, 0), *utterances(3, 1)]
    test = replace(texts[0], split="test")
    found = official_split([*texts, test])
    assert found is not None
    assert [len(side) for side in found] == [4, 3]
    assert official_split([*texts, replace(test, split="")]) is None


def test_the_command_trains_on_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["path,label,speaker,text,split"]
    for utterance in [*utterances(40, 0), *utterances(20, 1)]:
        rows.append(f",{utterance.label},{utterance.speaker},{utterance.text},{utterance.split}")
    manifest = tmp_path / "texts.csv"
    manifest.write_text("\n".join(rows) + "\n")
    toy = vectors()
    file = tmp_path / "vectors.txt"
    file.write_text(
        "".join(
            f"{word} {' '.join(f'{x:.4f}' for x in row)}\n"
            for word, row in zip(toy.words, toy.values, strict=True)
        )
    )
    out = tmp_path / "run"
    options = "--variant text+swem --filters 8 --hidden 8 --epochs 2 --qat-epochs 1 --batch 8"
    options += " --punctuation --punctuation-dropout 0.5 --asr-noise 0.2"
    arguments = ["fit", f"manifest={manifest}", "--out", str(out), "--vectors", str(file)]
    assert main([*arguments, *options.split()]) == 0
    printed = capsys.readouterr().out
    assert "40 texts" in printed
    assert "official development split" in printed
    run = load(out)
    assert run.config.variant == "text+swem"
    assert run.config.vocabulary == 2 + len(run.vocabulary)
    assert set(run.metrics["corpora"]["manifest"]["text"]) == {
        "float",
        "fake-quant",
        "int8",
        "int8, no marks",
    }

    noisy = [*arguments[:3], str(tmp_path / "no"), "--variant", "text", "--asr-noise", "gone.csv"]
    assert main(noisy) == 2
    assert "--asr-noise gone.csv cannot be read" in capsys.readouterr().err
    wrong = [*arguments[:3], str(tmp_path / "no"), "--variant", "text+video"]
    assert main(wrong) == 2
    assert "not a model variant" in capsys.readouterr().err


def test_every_variant_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["variants"]) == 0
    printed = capsys.readouterr().out
    for name in variants():
        assert f" {name} " in printed
    assert "590,980" in printed  # 32 x 96 x 128 + 4 x 128, and 1536 x 128 + 128 + 128 x 4 + 4
