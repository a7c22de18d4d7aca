"""Between capture and reading nothing is lost unseen, and each loss has its place."""

from __future__ import annotations

import numpy as np

from edge_runtime.audio.ring import Ring
from edge_runtime.system import resident_megabytes


def frames(first: int, count: int) -> np.ndarray:
    return np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], 2, axis=1)


def test_what_is_written_is_read_in_order_around_the_end() -> None:
    ring = Ring(100, 2, 1.0)
    ring.write(frames(0, 20).tobytes(), False, 0.0)  # so much always waits
    heard = []
    for first in range(20, 720, 70):
        ring.write(frames(first, 70).tobytes(), False, 0.0)
        for most in (50, 20):
            taken = ring.read(0, most)
            assert taken is not None
            assert taken.lost == 0
            heard.append(taken.frames)
    assert np.array_equal(np.concatenate(heard), frames(0, 700))


def test_only_what_waits_takes_memory() -> None:
    before = resident_megabytes()
    ring = Ring(48_000, 8, 300.0)  # 461 MB, if it were all used
    block = np.ones((4_800, 8), np.float32).tobytes()
    for _ in range(3_100):
        ring.write(block, False, 0.0)
        assert ring.read(0, 4_800) is not None
    assert resident_megabytes() - before < 50


def test_what_finds_no_room_is_told_by_what_follows() -> None:
    ring = Ring(100, 2, 1.0)
    for first in (0, 40, 80, 120):  # of 100 there is room for two
        ring.write(frames(first, 40).tobytes(), False, 0.0)
    first, second = ring.read(0, 60), ring.read(0, 60)
    assert first is not None
    assert second is not None
    assert np.array_equal(np.concatenate([first.frames, second.frames]), frames(0, 80))
    assert ring.read(0, 60) is None
    ring.write(frames(160, 40).tobytes(), False, 0.0)
    after = ring.read(0, 60)
    assert after is not None
    assert (after.lost, float(after.frames[0, 0])) == (80, 160.0)


def test_nothing_is_read_across_a_loss() -> None:
    ring = Ring(100, 2, 1.0)
    ring.write(frames(0, 40).tobytes(), False, 0.0)
    ring.write(frames(60, 40).tobytes(), True, 0.0)  # at least a buffer of its size
    first, second = ring.read(0, 100), ring.read(0, 100)
    assert first is not None
    assert second is not None
    assert (len(first.frames), first.lost) == (40, 0)
    assert (len(second.frames), second.lost) == (40, 40)


def test_how_much_overflowed_is_what_the_clock_says() -> None:
    now = 0.0
    block = np.zeros(100, np.float32).tobytes()
    ring = Ring(1000, 1, 30.0)
    for number in range(20):
        now += 0.1 + (0.03 if number % 3 == 0 else -0.015)  # they come unevenly
        ring.write(block, False, now)
    ring.write(block, True, now + 2.5)
    losses = 0
    while taken := ring.read(0, 100):
        losses += taken.lost
    assert abs(losses - 2400) <= 50
