"""A difference of two models is told from chance, and chance is not taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.paired import paired_test

CLASSES = 3


def simulated(
    rng: np.random.Generator, speakers: int, better: float = 0.0, clips: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str | None]]:
    """Verdicts of two models; each speaker is harder or easier, and suits one of the two more."""
    truth = np.arange(speakers * clips) % CLASSES
    who: list[str | None] = [f"s{number // clips}" for number in range(len(truth))]
    ease = np.repeat(rng.normal(0.6, 0.1, speakers), clips)
    suits = np.repeat(rng.normal(0, 0.08, speakers), clips)
    guesses = []
    for chance in (ease - suits, ease + suits + better):
        right = rng.random(len(truth)) < np.clip(chance, 0, 1)
        guesses.append(np.where(right, truth, (truth + 1) % CLASSES))
    return truth, guesses[0], guesses[1], who


def test_chance_is_taken_for_a_difference_as_often_as_it_says() -> None:
    rng, trials = np.random.default_rng(0), 300
    found = [paired_test(*simulated(rng, 20), seed=n, draws=400) for n in range(trials)]
    wrong = sum(one.sure for one in found) / trials
    missed = sum(not one.interval[0] <= 0 <= one.interval[1] for one in found) / trials
    # 5 % of 300 have a deviation of 1.3 %; the bootstrap of 20 speakers is a little narrow.
    assert 0.01 <= wrong <= 0.09
    assert 0.02 <= missed <= 0.12


def test_a_difference_is_found_and_has_its_sign() -> None:
    rng = np.random.default_rng(1)
    truth, first, second, who = simulated(rng, 20, better=0.15)
    found = paired_test(truth, first, second, who)
    assert found.by_speaker
    assert found.clusters == 20
    assert found.sure
    assert 0 < found.interval[0] < found.difference < found.interval[1]
    recalls = [np.mean([(g[truth == c] == c).mean() for c in range(3)]) for g in (first, second)]
    assert (found.first, found.second) == pytest.approx(recalls)
    turned = paired_test(truth, second, first, who)
    assert turned.difference == pytest.approx(-found.difference)
    assert turned.p == pytest.approx(found.p, abs=0.01)
    # The same clips by nobody known: each counts, and more is claimed of fewer.
    alone = paired_test(truth, first, second, [None, *who[1:]])
    assert not alone.by_speaker
    assert alone.clusters == len(truth)


def test_of_few_speakers_every_exchange_is_counted() -> None:
    truth = np.array([0, 1, 2] * 4)
    who: list[str | None] = [f"s{number // 3}" for number in range(12)]
    wrong = (truth + 1) % 3
    found = paired_test(truth, wrong, truth, who)
    # All four better: of 16 exchanges that one and its opposite are as far.
    assert (found.difference, found.p, found.least_p) == (1.0, 2 / 16, 2 / 16)
    assert not found.sure
    same = paired_test(truth, truth, truth, who)
    assert (same.difference, same.p, same.interval) == (0.0, 1.0, (0.0, 0.0))


def test_clips_of_one_speaker_do_not_count_as_independent() -> None:
    """All clips of one speaker are better, of the others none: it may be that speaker alone."""
    truth = np.tile([0, 1, 2], 40)
    who: list[str | None] = [f"s{number // 12}" for number in range(120)]
    first = np.where(np.arange(120) < 12, (truth + 1) % 3, truth)
    assert not paired_test(truth, first, truth, who).sure
    assert paired_test(truth, first, truth, [None] * 120).sure
