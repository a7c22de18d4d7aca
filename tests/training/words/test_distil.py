"""What the bag-of-words teacher says of a text does not come from that text's label."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.tokenizer import Tokenizer
from training.__main__ import main
from training.corpora import Utterance
from training.data.tokens import SoftTextDataset, TextSet, collate_soft, collate_text, tokenize
from training.errors import TrainingError
from training.run import load
from training.words.distil import DistilSettings, distil, verdicts, with_odds
from training.words.embeddings import Vocabulary

LABELS = ["happy", "sad"]
TELLING = {"happy": ["hooray", "lovely"], "sad": ["alas", "awful"]}
PLAIN = ["the", "chair", "is", "there", "and", "we"]


def utterances(count: int, seed: int = 0, sad: float = 0.5) -> list[Utterance]:
    """Plain words around one that tells."""
    rng = np.random.default_rng(seed)
    result = []
    for index in range(count):
        label = "sad" if index < sad * count else "happy"
        said = [*rng.choice(PLAIN, 3), rng.choice(TELLING[label])]
        result.append(
            Utterance(None, label, f"s{index}", "toy", text=" ".join(said), split="train")
        )
    return result


def texts_of(found: list[Utterance]) -> TextSet:
    return tokenize(found, Tokenizer([*PLAIN, *TELLING["happy"], *TELLING["sad"]]))


def test_a_wrong_label_is_not_taught() -> None:
    found = utterances(80)
    wrong = replace(found[0], label="happy")
    texts = texts_of([wrong, *found[1:]])
    taught = distil(texts, LABELS, DistilSettings(distil=1.0))
    texts = taught.texts
    assert taught.ua > 0.95
    assert texts.targets is not None
    np.testing.assert_allclose(texts.targets.sum(axis=1), 1, atol=1e-6)
    assert texts.targets[0].argmax() == LABELS.index("sad")


def test_the_share_mixes_labels_and_teacher() -> None:
    texts = texts_of(utterances(60))
    taught = distil(texts, LABELS, DistilSettings(distil=1.0)).texts
    mixed = distil(texts, LABELS, DistilSettings(distil=0.25)).texts
    assert taught.targets is not None
    assert mixed.targets is not None
    own = np.eye(2)[[LABELS.index(u.label) for u in mixed.utterances]]
    np.testing.assert_allclose(mixed.targets, 0.25 * taught.targets + 0.75 * own, atol=1e-6)


def test_targets_of_a_text_that_tells_nothing_are_the_shares_of_the_classes() -> None:
    """Class weights of the loss are for labels as frequent as they are."""
    found = [replace(u, text="the chair") for u in utterances(80, sad=0.25)]
    texts = distil(texts_of(found), LABELS, DistilSettings(distil=1.0)).texts
    assert texts.targets is not None
    np.testing.assert_allclose(texts.targets, [[0.75, 0.25]] * 80, atol=0.02)


def test_texts_of_another_corpus_help_where_there_are_few() -> None:
    few, many = utterances(12), utterances(200, seed=1)
    # Each of the few has a word of its own that only the many explain.
    few = [
        replace(u, text=f"the {TELLING[u.label][0]}{'abcdefghijkl'[i]}") for i, u in enumerate(few)
    ]
    many = [
        replace(u, text=f"the {TELLING[u.label][0]}{'abcdefghijkl'[i % 12]}")
        for i, u in enumerate(many)
    ]
    truth = np.array([LABELS.index(u.label) for u in few])

    def sure(further: list[Utterance]) -> float:
        said, _ = verdicts(few, truth, 3, further)
        return float(said[np.arange(len(few)), truth].mean())

    assert sure(many) > sure([]) + 0.02


def test_columns_tell_what_a_word_is_for_and_what_one_like_it_may_be() -> None:
    table = np.ones((2 + 4, 3), np.float32)
    known = Vocabulary(["alas", "hooray", "hoorays", "the"], table, Counter())
    found = with_odds(known, [utterances(60), utterances(80, 1)])
    assert found.table.shape == (6, 5)
    np.testing.assert_array_equal(found.table[:, :3], table)
    for column in found.table[:, 3:].T:
        assert column[:2].tolist() == [0, 0]
        alas, hooray, hoorays, plain = column[2:]
        assert hooray < hoorays < plain < alas


def test_the_pool_learns_by_the_teacher_and_not_by_its_labels() -> None:
    texts, further = texts_of(utterances(60)), utterances(40, 1)
    swapped = [replace(u, label=LABELS[1 - LABELS.index(u.label)]) for u in further]
    unread = replace(swapped[0], text="zebras yak")
    settings = DistilSettings(distil=0.5, distil_texts="toy=there", distil_pool=40)
    taught = distil(texts, LABELS, settings, texts_of([unread, *swapped])).texts
    assert taught.unlabelled == 40
    assert unread not in taught.utterances
    assert taught.utterances[60:] == swapped
    assert taught.targets is not None
    meant = [LABELS.index(u.label) for u in further]
    assert (taught.targets[60:].argmax(axis=1) == meant).mean() > 0.95


def test_a_batch_carries_its_targets() -> None:
    texts = texts_of(utterances(4))
    texts.targets = np.array([[0, 1], [0.5, 0.5], [1, 0], [0.25, 0.75]], np.float32)
    items = SoftTextDataset(texts, LABELS, ["toy"])
    batch = collate_soft([items[3], items[0]], collate_text)
    assert batch.targets is not None
    assert torch.equal(batch.targets, torch.tensor([[0.25, 0.75], [0, 1]]))
    assert torch.equal(batch.inputs()["tokens"][0], items[3][0][0])
    assert batch.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DistilSettings(distil_columns=True), "need a teacher"),
        (DistilSettings(distil=0.5, distil_pool=9), "texts of --distil-texts"),
        (DistilSettings(distil=0.5, distil_folds=9), "8 training texts, too few"),
    ],
)
def test_a_mistake_is_named_in_one_line(settings: DistilSettings, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        distil(texts_of(utterances(40, sad=0.2)), LABELS, settings)


def test_the_command_distils(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["path,label,speaker,text,split"]
    for utterance in [*utterances(40), *(replace(u, split="dev") for u in utterances(20, 1))]:
        rows.append(f",{utterance.label},{utterance.speaker},{utterance.text}!,{utterance.split}")
    manifest = tmp_path / "texts.csv"
    manifest.write_text("\n".join(rows) + "\n")
    vectors = tmp_path / "vectors.txt"
    names = [*PLAIN, *TELLING["happy"], *TELLING["sad"], "!", "?"]
    noise = np.random.default_rng(0).normal(0, 1, (len(names), 8))
    lines = zip(names, noise, strict=True)
    vectors.write_text("".join(f"{w} {' '.join(f'{x:.4f}' for x in row)}\n" for w, row in lines))
    corpus, out = f"manifest={manifest}", tmp_path / "run"
    options = "--variant text+swem --filters 8 --hidden 8 --epochs 4 --qat-epochs 1 --batch 8"
    options += f" --punctuation --expression --vectors {vectors} --distil 0.5"
    options += f" --distil-texts {corpus} --distil-columns --distil-pool 10"
    assert main(["fit", corpus, "--out", str(out), *options.split()]) == 0
    assert "the teacher's UA on the training texts" in capsys.readouterr().out
    run = load(out)
    assert run.training["distillation"]["distil"] == 0.5
    assert run.training["distillation"]["distil_texts"] == "manifest"
    assert run.training["corpora"]["manifest"]["clips"] == 40 + 10
    assert run.vocabulary[-1] == "<end>"
    assert run.config.embedding == 8 + 2  # for two classes, one column each of two corpora
    assert run.metrics["corpora"]["manifest"]["text"]["int8"]["ua"] > 0.9
