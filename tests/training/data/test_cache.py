"""Work on many clips, over several processes."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from training.data.cache import parallel


def leave(mark: Path) -> None:
    mark.touch()
    time.sleep(0.2)


def test_what_is_not_under_way_is_given_up_where_its_taker_is_interrupted(tmp_path: Path) -> None:
    tasks = [tmp_path / str(number) for number in range(60)]
    with (  # noqa: PT012 - that what takes them is interrupted is the point
        pytest.raises(KeyboardInterrupt),
        closing(parallel(leave, tasks, 2, "sleeping", progress=False, chunk=1)) as left,
    ):
        for _ in left:
            raise KeyboardInterrupt
    # Two are under way and three in their hands; some have ended where this process was slow.
    assert 1 <= len(list(tmp_path.iterdir())) < len(tasks)


def test_one_process_is_this_one_and_outcomes_are_in_order() -> None:
    assert list(parallel(abs, [-3, 2, -1], 1, "counting", progress=False)) == [3, 2, 1]
    assert list(parallel(abs, [-3, 2, -1], 2, "counting", progress=False)) == [3, 2, 1]
