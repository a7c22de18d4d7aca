"""Which phrases tell most about the class, from texts alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from edge_runtime.text.phrases import Phrase
from edge_runtime.tokenizer import words
from training.speech.settings import KeywordSettings
from training.speech.synthesis import Synthesizer

Gram = tuple[str, ...]


def log_odds(
    counts: dict[str, Counter[Gram]], prior: float, min_count: int = 1
) -> dict[Gram, dict[str, float]]:
    """z-scores of how much more often each gram is said in a class than in all others.

    Parameters
    ----------
    counts : per class, how often each gram occurs.
    prior : total weight of the Dirichlet prior, which has the proportions of all classes together.
    min_count : rarer grams count for the totals but are not scored.
    """
    total = sum(counts.values(), Counter[Gram]())
    size = sum(total.values())
    scored = {gram: count for gram, count in total.items() if count >= min_count}
    alpha = {gram: prior * count / size for gram, count in scored.items()}
    result: dict[Gram, dict[str, float]] = defaultdict(dict)
    for label, mine in counts.items():
        n_mine = sum(mine.values())
        n_rest = size - n_mine
        for gram, count in scored.items():
            here = mine[gram] + alpha[gram]
            there = count - mine[gram] + alpha[gram]
            delta = math.log(here / (n_mine + prior - here)) - math.log(
                there / (n_rest + prior - there)
            )
            result[gram][label] = delta / math.sqrt(1 / here + 1 / there)
    return dict(result)


def candidates(
    texts: Iterable[tuple[str, str]], settings: KeywordSettings, number: int
) -> list[Phrase]:
    """The phrases that tell most, in turn for each class, without thresholds.

    Parameters
    ----------
    texts : (text, class).
    settings : counts and lengths.
    number : how many at most.

    A phrase that contains a better one, or is contained in one, is left out.
    """
    counts = [defaultdict[str, Counter[Gram]](Counter) for _ in range(settings.longest)]
    for text, label in texts:
        found = words(text)
        for length, by_class in enumerate(counts, 1):
            by_class[label].update(_grams(found, length))
    scores: dict[Gram, dict[str, float]] = {}
    for by_class in counts:
        scores.update(log_odds(dict(by_class), settings.prior, settings.min_count))
    return _in_turn(scores, settings, number)


def information(shares: Sequence[float]) -> float:
    """Bits that an event tells about the class of an utterance, all classes being as likely.

    `shares` are the probabilities of the event in each class, 0 to 1: the mutual information
    (Cover & Thomas 2006, eq. 2.35).
    """
    by_class = np.clip(np.array(shares, float), 1e-12, 1 - 1e-12)
    mean = by_class.mean()
    yes, no = by_class * np.log2(by_class / mean), 1 - by_class
    return float((yes + no * np.log2(no / (1 - mean))).mean())


def _shares(
    texts: Sequence[tuple[str, str]], phrases: Sequence[str], prior: float
) -> dict[str, list[float]]:
    """Of each phrase the share of texts of each class that have it, drawn towards that of all."""
    grams = {tuple(phrase.split()) for phrase in phrases}
    longest = max(map(len, grams))
    sizes = Counter(label for _, label in texts)
    counts: dict[str, Counter[Gram]] = {label: Counter() for label in sizes}
    for text, label in texts:
        found = words(text)
        for length in range(1, longest + 1):
            counts[label].update(_grams(found, length) & grams)
    result = {}
    for gram in grams:
        overall = sum(mine[gram] for mine in counts.values()) / len(texts)
        result[" ".join(gram)] = [
            (mine[gram] + prior * overall) / (sizes[label] + prior)
            for label, mine in counts.items()
        ]
    return result


def _in_turn(
    scores: dict[Gram, dict[str, float]], settings: KeywordSettings, number: int
) -> list[Phrase]:
    """The best of each class, then the second best of each..."""
    labels = sorted({label for z in scores.values() for label in z})
    ranked = {c: iter(sorted(scores, key=lambda g, c=c: (-scores[g][c], g))) for c in labels}  # type: ignore[misc]
    pronounce = _Pronouncer()
    chosen: list[Phrase] = []
    grams: list[Gram] = []
    while ranked and len(chosen) < number:
        for label in list(ranked):
            for gram in ranked[label]:
                if scores[gram][label] < settings.min_score:
                    del ranked[label]
                    break
                phones, lacking = pronounce(gram)
                if phones < settings.min_phones or any(_overlap(gram, other) for other in grams):
                    continue
                grams.append(gram)
                chosen.append(Phrase(" ".join(gram), None, scores[gram], lacking))
                break
            else:
                del ranked[label]
    return chosen[:number]


class _Pronouncer:
    """Phones of a phrase: from the engine's dictionary, else as eSpeak reads the word."""

    def __init__(self) -> None:
        from edge_runtime.text.engines.sphinx import open_decoder

        self._dictionary = open_decoder(lm=None)
        self._synthesizer = Synthesizer()

    def __call__(self, gram: Gram) -> tuple[int, dict[str, str]]:
        """Number of phones, and the pronunciations that the dictionary lacks."""
        phones, lacking = 0, {}
        for word in gram:
            found = self._dictionary.lookup_word(word)
            if found is None:
                found = lacking[word] = self._synthesizer.pronounce(word)
            phones += len(found.split())
        return phones, lacking


def _grams(said: Sequence[str], length: int) -> set[Gram]:
    """Every run of `length` words, once."""
    return {tuple(said[i : i + length]) for i in range(len(said) - length + 1)}


def _overlap(one: Gram, other: Gram) -> bool:
    short, long = sorted((one, other), key=len)
    return any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1))
