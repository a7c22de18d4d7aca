"""What rounding lost, and how much of it is chance."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.metrics import measure
from training.rounding import CHANGED, changes, described, loss_of, recorded

LABELS = ["angry", "happy", "sad"]
TRUTH = np.repeat([0, 1, 2], 20)


def with_wrong(*counts: int) -> np.ndarray:
    """Verdicts of which so many of each class are wrong, the first ones."""
    said = TRUTH.copy()
    for place, count in enumerate(counts):
        said[20 * place : 20 * place + count] = (place + 1) % 3
    return said


@pytest.mark.parametrize(
    ("wrong", "points", "notable", "sure", "broken"),
    [
        ((0, 0, 0), 0.0, False, False, False),
        ((1, 0, 0), 1.7, False, False, False),
        ((2, 0, 0), 3.3, True, False, False),  # two verdicts: chance
        ((3, 0, 0), 5.0, True, True, False),
        ((6, 0, 0), 10.0, True, True, False),
        ((5, 2, 0), 11.7, True, True, True),
        ((8, 0, 0), 13.3, True, True, True),
    ],
)
def test_a_loss_counts_by_its_points_and_beyond_chance(
    wrong: tuple[int, ...], points: float, notable: bool, sure: bool, broken: bool
) -> None:
    loss = loss_of(TRUTH, TRUTH, with_wrong(*wrong), LABELS)
    assert 100 * loss.ua == pytest.approx(points, abs=0.05)
    assert (loss.notable, loss.sure, loss.broken) == (notable, sure, broken)


def test_verdicts_that_change_both_ways_are_chance() -> None:
    before, after = with_wrong(8, 0, 0), with_wrong(0, 0, 0)
    after[8:18] = 1
    loss = loss_of(TRUTH, before, after, LABELS)
    assert loss.lost.tolist() == [2, 0, 0]
    assert loss.changed.tolist() == [18, 0, 0]
    assert loss.notable
    assert not loss.sure


def test_a_class_that_is_not_known_any_more_is_broken_whatever_the_rest_gained() -> None:
    before, after = with_wrong(0, 9, 9), with_wrong(9, 4, 5)
    loss = loss_of(TRUTH, before, after, LABELS)
    assert loss.ua == pytest.approx(0.0)
    assert loss.broken
    # Ten classes: one that is lost is less than ten points of UA.
    truth = np.repeat(np.arange(10), 4)
    lost = loss_of(truth, truth, np.where(truth == 3, 0, truth), [str(n) for n in range(10)])
    assert lost.ua == pytest.approx(0.1)
    assert lost.broken


def test_figures_remember_what_changed_and_say_it() -> None:
    before, after = with_wrong(8, 0, 0), with_wrong(0, 0, 0)
    after[8:20] = 1
    figures = [measure(TRUTH, said, LABELS).to_dict() for said in (before, after)]
    plain = recorded(*figures)
    assert plain.sure  # as far as two confusion matrices tell
    figures[1] |= changes(TRUTH, before, after, LABELS)
    assert figures[1][CHANGED] == {"angry": 20, "happy": 0, "sad": 0}
    exact, read = loss_of(TRUTH, before, after, LABELS), recorded(*figures)
    for name in ("n", "lost", "changed"):
        np.testing.assert_array_equal(getattr(read, name), getattr(exact, name))
    assert not read.sure
    assert described(*figures) == (
        "int8 loses 6.7 points of UA (86.7 to 80.0 % of 60 utterances; angry 60 to 40 %)"
    )


def test_a_class_without_utterances_is_left_out() -> None:
    loss = loss_of(TRUTH[:40], TRUTH[:40], with_wrong(4, 0, 0)[:40], LABELS)
    assert loss.labels == ("angry", "happy")
    assert loss.ua == pytest.approx(0.1)
    assert loss_of(TRUTH[:0], TRUTH[:0], TRUTH[:0], LABELS).ua == 0.0
