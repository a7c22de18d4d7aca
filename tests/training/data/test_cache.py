"""Work on many clips, over several processes."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from training.data.cache import parallel


def test_what_is_not_under_way_is_given_up_where_its_taker_is_interrupted() -> None:
    tasks = [0.0] + [1.0] * 40  # seconds to sleep, in turn by two processes
    with (  # noqa: PT012 - that what takes them is interrupted is the point
        pytest.raises(KeyboardInterrupt),
        closing(parallel(time.sleep, tasks, 2, "sleeping", progress=False, chunk=1)) as slept,
    ):
        for _ in slept:
            begin = time.monotonic()
            raise KeyboardInterrupt
    # Two sleep and three are in their hands: three seconds, where all take 20.
    assert time.monotonic() - begin < 10


def test_one_process_is_this_one_and_outcomes_are_in_order() -> None:
    assert list(parallel(abs, [-3, 2, -1], 1, "counting", progress=False)) == [3, 2, 1]
    assert list(parallel(abs, [-3, 2, -1], 2, "counting", progress=False)) == [3, 2, 1]
