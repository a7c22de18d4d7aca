"""Running statistics: those of plain numpy over the whole array, whatever the cut."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.model.spu import STD_EPSILON, RunningStatistics

MAPS = np.random.default_rng(0).integers(-128, 128, (600, 16)).astype(np.int8)


def pooled(*pieces: npt.NDArray[np.int8], offset: float = 0.0) -> RunningStatistics:
    statistics = RunningStatistics(16)
    for piece in pieces:
        statistics.update(piece, offset)
    return statistics


@pytest.mark.parametrize(("offset", "scale"), [(0, 1.0), (-128, 0.043), (5, 0.1)])
def test_statistics_are_those_of_numpy(offset: int, scale: float) -> None:
    real = (MAPS.astype(np.float64) - offset) * scale
    expected = [real.max(axis=0), real.mean(axis=0), np.sqrt(real.var(axis=0) + STD_EPSILON)]
    found = pooled(MAPS, offset=offset).result(scale)
    assert found.dtype == np.float32
    # float32 output: one part in 1.7e7 of values up to 26.
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=2e-6)


@settings(deadline=None)
@given(st.lists(st.integers(0, 600), max_size=30), st.integers(-128, 127))
def test_any_partition_gives_exactly_the_same_statistics(cuts: list[int], offset: int) -> None:
    pieces = np.split(MAPS, sorted(cuts))
    whole = pooled(*np.split(MAPS, [200, 400]), offset=offset)
    fed = pooled(*pieces, offset=offset)
    assert fed.count == 600
    assert np.array_equal(fed.result(0.05), whole.result(0.05))


def test_a_constant_has_no_spread_even_far_from_zero() -> None:
    maximum, mean, std = pooled(np.full((250, 16), 127, np.int8), offset=-128).result()
    assert (maximum == 255).all()
    assert (mean == 255).all()
    assert std == pytest.approx(np.sqrt(STD_EPSILON))


def test_an_hour_of_the_largest_values_is_still_exact() -> None:
    # 25 frames a chunk, as on the device: float64 sums of integers are exact below 2^53.
    statistics = RunningStatistics(1)
    chunk = np.full((25, 1), 127, np.int8)
    for _ in range(3600 * 4):
        statistics.update(chunk, -128)
    assert statistics.result()[1, 0] == 255
    assert statistics.result()[2, 0] == pytest.approx(np.sqrt(STD_EPSILON))


def test_float_maps_are_pooled_as_they_are() -> None:
    maps = np.random.default_rng(1).normal(0, 1, (300, 4)).astype(np.float32)
    statistics = RunningStatistics(4)
    statistics.update(maps)
    # float32 sums of 300 values of size 1: relative error 300 x 6e-8, far more than it is.
    np.testing.assert_allclose(statistics.result()[1], maps.mean(axis=0), atol=2e-5)
    np.testing.assert_allclose(statistics.result()[2], maps.std(axis=0), atol=2e-5)


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no steps"):
        RunningStatistics(4).result()


def test_no_steps_change_nothing() -> None:
    statistics = pooled(MAPS)
    before = statistics.result()
    statistics.update(MAPS[:0])
    assert np.array_equal(statistics.result(), before)


def test_maps_side_by_side_are_pooled_as_each_alone() -> None:
    offsets, scales = np.array([-128, 3]), np.array([0.05, 0.2])
    halves = MAPS[:, :8], MAPS[:, 8:]
    together = RunningStatistics(16)
    for start in range(0, 600, 25):
        together.update([half[start : start + 25] for half in halves], np.repeat(offsets, 8))
    found = together.result(np.repeat(scales, 8))
    for i, half in enumerate(halves):
        alone = RunningStatistics(8)
        alone.update(half, float(offsets[i]))
        assert np.array_equal(found[:, 8 * i : 8 * i + 8], alone.result(float(scales[i])))


def test_a_long_update_is_as_exact_as_many_short_ones() -> None:
    # 255^2 x 600 is beyond 2^24: one float32 sum over all of it would round.
    long = np.full((600, 1), 127, np.int8)
    long[::7] = 126
    whole, short = RunningStatistics(1), RunningStatistics(1)
    whole.update(long, -128)
    for piece in np.split(long, 24):
        short.update(piece, -128)
    assert np.array_equal(whole.result(), short.result())
