"""Every example is learned from, in batches of even size, in steps enough."""

from __future__ import annotations

import pytest

from training.fit.schedule import EvenBatches, Steps


@pytest.mark.parametrize(
    ("examples", "batch", "passes", "sizes"),
    [
        (108, 64, 1, {54: 2}),
        (129, 64, 1, {43: 3}),
        (7, 3, 2, {2: 4, 3: 2}),
        (3, 2, 1, {3: 1}),  # no batch of one: it has no variance
        (2, 64, 3, {2: 3}),
    ],
)
def test_batches_hold_every_example_once_a_pass(
    examples: int, batch: int, passes: int, sizes: dict[int, int]
) -> None:
    found = list(EvenBatches(examples, batch, passes))
    assert len(found) == len(EvenBatches(examples, batch, passes))
    lengths = [len(part) for part in found]
    assert {size: lengths.count(size) for size in sorted(set(lengths))} == sizes
    assert sorted(index for part in found for index in part) == sorted(
        list(range(examples)) * passes
    )


@pytest.mark.parametrize("examples", [2, 9, 40, 108, 300, 511, 512, 826, 30_000])
def test_an_epoch_has_enough_steps_and_of_much_data_one_pass(examples: int) -> None:
    steps = Steps.of(examples, None, 8)
    assert steps.epoch == len(steps.batches(examples)) >= 8
    assert steps.batch <= 64
    if examples >= 512:
        assert steps.passes == 1
        assert steps.epoch == -(-examples // 64)


def test_of_much_data_an_epoch_goes_over_a_part() -> None:
    steps = Steps.of(100_000, None, 8, 1000)
    assert steps.epoch == len(steps.batches(100_000)) == 1000
    found = list(EvenBatches(40, 8, most=3))
    assert [len(part) for part in found] == [8, 8, 8]
    assert len({index for part in found for index in part}) == 24
    # What an epoch needs at least is not cut, and the default recipe's 59 steps stay as they are.
    assert Steps.of(40, None, 8, 3).epoch >= 8
    assert Steps.of(3_791, None, 8, 1000) == Steps.of(3_791, None, 8)


def test_a_batch_that_is_asked_for_is_obeyed() -> None:
    assert Steps.of(300, 64, 8) == Steps(batch=60, passes=2, epoch=10)
    assert Steps.of(300, 100, 1) == Steps(batch=100, passes=1, epoch=3)
