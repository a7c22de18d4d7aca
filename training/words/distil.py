"""A bag-of-words teacher: its verdicts on the training texts are soft targets of the text model.

TF-IDF with logistic regression, of words and of characters, is as good as a small network where
texts are few, and errs elsewhere. What it says of a text comes from folds that did not hold that
text: a teacher that had seen it would only repeat its label. Distillation as in Hinton, Vinyals,
Dean 2015 (arXiv 1503.02531), at temperature 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.tokenizer import FIRST_WORD, UNKNOWN, words
from training.corpora import Found, Utterance, class_indices, load_corpora
from training.corpora.class_map import ClassMap
from training.data.tokens import TextSet
from training.errors import TrainingError
from training.words.embeddings import Vocabulary
from training.words.settings import DistilSettings

Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Inverse strengths of the logistic regressions, chosen out of fold on MELD's training texts.
_C_WORDS, _C_CHARACTERS, _C_FURTHER = 1.0, 0.3, 1.0
_FURTHER_SCALE = 0.3  # of the further corpus's log odds beside TF-IDF rows of length 1
# A text has some eight times as many characters as words: its row of length 1 holds less of each.
_CHARACTER_SHARE = 0.35
_LARGEST_ODDS = 4.0  # standard deviations; beyond it int8 would lose the small ones
_SEED = 0  # of the folds


@dataclass(frozen=True)
class Taught:
    """What the teacher made of the training texts."""

    texts: TextSet
    """With targets, and the pool behind them."""
    ua: float
    """The teacher's unweighted accuracy on the labelled texts, out of fold."""


def distil(
    texts: TextSet,
    labels: Sequence[str],
    settings: DistilSettings,
    further: TextSet | None = None,
) -> Taught:
    """Training texts with targets: part their labels and part what the teacher says.

    Parameters
    ----------
    texts : labelled training texts.
    labels : the classes, in the order of the targets.
    settings : see there. `distil` in (0, 1], at least 2 folds.
    further : labelled texts of another corpus, which inform the teacher; some may join the pool,
        where the teacher's word stands in place of their own labels.

    Raises TrainingError for settings out of range, a class with fewer texts than folds, or without
    scikit-learn.
    """
    check(settings)
    _sklearn()
    truth = np.array(class_indices(texts.utterances, labels))
    counts = np.bincount(truth, minlength=len(labels))
    if counts.min() < settings.distil_folds:
        raise TrainingError(
            f"{labels[int(counts.argmin())]} has {counts.min()} training texts, too few for "
            f"--distil-folds {settings.distil_folds}"
        )
    more = further.utterances if further else []
    own, others = verdicts(texts.utterances, truth, settings.distil_folds, more)
    right = own.argmax(axis=1) == truth
    ua = float(np.mean([right[truth == index].mean() for index in range(len(labels))]))
    # Class weights of the loss bring the balance back; labels and targets must mean the same.
    natural = [said * counts / (said * counts).sum(axis=1, keepdims=True) for said in (own, others)]
    mixed = settings.distil * natural[0] + (1 - settings.distil) * np.eye(len(labels))[truth]
    chosen = _best_known(further, settings.distil_pool) if further else []
    return Taught(_joined(texts, mixed, further, natural[1], chosen), ua)


def check(settings: DistilSettings) -> None:
    """Raises TrainingError for settings that do not go together."""
    if settings.distil == 0 and (settings.distil_columns or settings.distil_pool):
        raise TrainingError("--distil-columns and --distil-pool need a teacher: --distil SHARE")
    if settings.distil_pool and not settings.distil_texts:
        raise TrainingError("--distil-pool is a number of texts of --distil-texts NAME=PATH")


def verdicts(
    texts: Sequence[Utterance], truth: Indices, folds: int, further: Sequence[Utterance] = ()
) -> tuple[Float64, Float64]:
    """What the teacher says of `texts` and of `further`: (n, classes) each, all classes as likely.

    Of each text the teachers speak whose folds it was not in. `truth` are the class indices of
    `texts` (n,), every class in it at least `folds` times. The class log odds that a model of
    `further` gives are features beside the characters.
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.model_selection import StratifiedKFold

    asked = [u.text for u in (*texts, *further)]
    own, classes = len(texts), int(truth.max()) + 1
    # What is counted over all folds is how frequent words are, which tells of no label.
    rows = [
        vectorizer.fit(asked[:own]).transform(asked)
        for vectorizer in (_words_tfidf(), _both_tfidf())
    ]
    if further:
        odds = csr_matrix(_FURTHER_SCALE * _further_odds(texts, further, folds))
        rows[1] = hstack([rows[1], odds]).tocsr()
    said = np.zeros((len(asked), classes))
    cut = StratifiedKFold(folds, shuffle=True, random_state=_SEED)
    for train, held in cut.split(truth, truth):
        for part, strength in zip(rows, (_C_WORDS, _C_CHARACTERS), strict=True):
            model = _regression(strength).fit(part[train], truth[train])
            said[held] += model.predict_log_proba(part[held]) / len(rows)
            if further:
                said[own:] += model.predict_log_proba(part[own:]) / (len(rows) * folds)
    likely = np.exp(said)
    likely /= likely.sum(axis=1, keepdims=True)
    return likely[:own], likely[own:]


def with_odds(vocabulary: Vocabulary, corpora: Sequence[Sequence[Utterance]]) -> Vocabulary:
    """`vocabulary` with columns for what bags of words and characters say of each word.

    Per corpus of labelled texts and class one column, standardized: the weight of the word and of
    the characters in it, so that a word that no text holds has its say too. For training on a
    teacher's targets: beside the labels themselves, these columns would give them away.
    """
    columns = [_word_odds(texts, vocabulary.words) for texts in corpora]
    odds = np.concatenate(columns, axis=1)
    odds = np.clip(odds / np.maximum(odds.std(axis=0), 1e-6), -_LARGEST_ODDS, _LARGEST_ODDS)
    table = np.pad(vocabulary.table, ((0, 0), (0, odds.shape[1])))
    table[FIRST_WORD:, vocabulary.table.shape[1] :] = odds
    return replace(vocabulary, table=table)


def _word_odds(texts: Sequence[Utterance], known: Sequence[str]) -> Float64:
    """Weights of each known word in a logistic regression on `texts`, (known, classes or 1)."""
    from scipy.sparse import hstack

    bag, characters = _words_tfidf(), _characters_tfidf()
    said = [u.text for u in texts]
    rows = hstack([bag.fit_transform(said), characters.fit_transform(said)]).tocsr()
    weights = _regression(_C_CHARACTERS).fit(rows, [u.label for u in texts]).coef_
    of_words = weights[:, : len(bag.idf_)] * bag.idf_
    of_characters = weights[:, len(bag.idf_) :] * characters.idf_ * _CHARACTER_SHARE
    analyze = characters.build_analyzer()
    odds = np.zeros((len(known), len(weights)))
    for row, word in enumerate(known):
        if word in bag.vocabulary_:
            odds[row] += of_words[:, bag.vocabulary_[word]]
        grams = [characters.vocabulary_.get(gram) for gram in analyze(word)]
        odds[row] += of_characters[:, [g for g in grams if g is not None]].sum(axis=1)
    return odds


def further_corpora(settings: DistilSettings, classes: ClassMap | None = None) -> dict[str, Found]:
    """The corpus that `distil_texts` names, its training texts alone; none where it names none.

    `classes` is the map of its labels, by default that of four classes.

    Raises TrainingError for a corpus that cannot be read, or has no training texts.
    """
    if not settings.distil_texts:
        return {}
    result = {}
    for name, found in load_corpora([settings.distil_texts], classes=classes).items():
        texts = [u for u in found.utterances if u.split == "train" and u.text]
        if not texts:
            raise TrainingError(f"--distil-texts: {name} has no training split with texts")
        result[name] = replace(found, utterances=texts)
    return result


def _further_odds(texts: Sequence[Utterance], further: Sequence[Utterance], folds: int) -> Float64:
    """What models of `further` say of `texts`, and out of fold of `further`: (n, classes or 1)."""
    from sklearn.model_selection import cross_val_predict

    vectorizer, model = _both_tfidf(), _regression(_C_FURTHER)
    rows, labels = vectorizer.fit_transform([u.text for u in further]), [u.label for u in further]
    own = cross_val_predict(model, rows, labels, cv=folds, method="decision_function")
    others = model.fit(rows, labels).decision_function(
        vectorizer.transform([u.text for u in texts])
    )
    # Of two classes it gives one column.
    odds = np.concatenate([others, own]).reshape(len(texts) + len(further), -1)
    return np.asarray(odds, np.float64)


def _best_known(texts: TextSet, count: int) -> list[int]:
    """The `count` texts of which the vocabulary knows the largest share."""
    unknown = np.array([(tokens == UNKNOWN).mean() for tokens in texts.tokens])
    return [int(index) for index in np.argsort(unknown, kind="stable")[:count]]


def _joined(
    texts: TextSet, targets: Float64, further: TextSet | None, said: Float64, chosen: list[int]
) -> TextSet:
    """`texts` with `targets`, and behind them those `chosen` of `further` with what is `said`."""
    pool = [(further.utterances[i], further.tokens[i]) for i in chosen] if further else []
    return replace(
        texts,
        utterances=[*texts.utterances, *(utterance for utterance, _ in pool)],
        tokens=[*texts.tokens, *(tokens for _, tokens in pool)],
        targets=np.concatenate([targets, said[chosen]]).astype(np.float32),
        unlabelled=len(pool),
    )


def _words_tfidf() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer=_grams, sublinear_tf=True, min_df=2)


def _characters_tfidf() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=3)


def _both_tfidf() -> Any:
    from sklearn.pipeline import make_union

    return make_union(_words_tfidf(), _characters_tfidf())


def _grams(text: str) -> list[str]:
    """Words and marks of a text, singly and in pairs."""
    single = words(text, punctuation=True, expression=True)
    return single + [f"{a} {b}" for a, b in pairwise(single)]


def _regression(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, class_weight="balanced", max_iter=300)


def _sklearn() -> None:
    """Raises TrainingError without scikit-learn."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise TrainingError("--distil needs scikit-learn: pip install scikit-learn") from None
