"""TF-IDF and logistic regression: what a text classifier costs nothing to beat, or is not worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from training.corpora import Utterance
from training.metrics import Metrics, measure


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
    found = model.predict([u.text for u in judged])
    return measure(
        np.array([labels.index(u.label) for u in judged]),
        np.array([labels.index(str(label)) for label in found]),
        labels,
    )
