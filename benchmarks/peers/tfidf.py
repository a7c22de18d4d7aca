"""TF-IDF and logistic regression: the least that a text classifier has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from benchmarks.errors import BenchmarkError
from edge_runtime.tokenizer import Tokenizer
from training.corpora import Utterance, class_indices, load_corpora
from training.corpora.class_map import open_classes
from training.data.folds import official_split
from training.data.tokens import tokenize
from training.evaluate.metrics import Metrics, measure
from training.evaluate.predict import predict
from training.network.fakequant import Phase
from training.run import Run

PEER = "TF-IDF + logistic regression"


def compare_texts(
    corpora: Sequence[str], run: Run | None, classes: str = ""
) -> list[tuple[str, str, Metrics]]:
    """Corpus, what, and accuracy on the development split, of the peer and of `run`.

    `corpora` are NAME=PATH; the peer is trained on each one's training split.
    `classes` is the map of their labels, by default the run's.
    Raises BenchmarkError for a corpus without splits, or a run that does not read.
    """
    rows = []
    chosen = open_classes(classes, run.training if run else None)
    for name, corpus in load_corpora(corpora, classes=chosen).items():
        split = official_split(corpus.utterances)
        if split is None or not all(split):
            raise BenchmarkError(f"{name} has no training and development split to compare on")
        rows.append((name, PEER, baseline(*split)))
        for form in ("float", "fake-quant") if run else ():
            rows.append((name, f"ours, {form}", _judge(run, form, split[1])))
    return rows


def baseline(train: Sequence[Utterance], judged: Sequence[Utterance]) -> Metrics:
    """Fit on the words of `train`, with balanced classes; accuracy on those of `judged`.

    Words 1 to 2 and characters 2 to 5, punctuation and all.
    """
    labels = sorted({u.label for u in train})
    model = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
        ),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )
    model.fit([u.text for u in train], [u.label for u in train])
    predicted = model.predict([u.text for u in judged])
    return measure(
        np.array(class_indices(judged, labels)),
        np.array([labels.index(str(label)) for label in predicted]),
        labels,
        [u.speaker for u in judged],
    )


def _judge(run: Run | None, form: str, judged: Sequence[Utterance]) -> Metrics:
    """Accuracy of a run on the texts of `judged` that have words."""
    if run is None or not run.vocabulary or run.config.parts.audio:
        raise BenchmarkError("the run is no model of words alone: train one with --variant text")
    config = run.config
    labels = list(config.labels)
    if unknown := sorted({u.label for u in judged} - {*labels}):
        raise BenchmarkError(
            f"the run has no class {unknown[0]!r}; it has {', '.join(labels)}: --classes says by "
            "which map the texts are read"
        )
    texts = tokenize(judged, Tokenizer(run.vocabulary, config.tokens, config.punctuation))
    model = run.model(Phase.FLOAT if form == "float" else Phase.INT8)
    logits = predict(model, tokens=texts.tokens)
    truth = np.array(class_indices(texts.utterances, labels))
    speakers = [u.speaker for u in texts.utterances]
    return measure(truth, logits.argmax(axis=1), labels, speakers)
