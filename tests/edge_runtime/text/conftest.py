"""Real speech with known words, and a list that spots some of them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def door_list(tmp_path: Path) -> Path:
    """Phrases of RAVDESS's sentences, and one that is not there."""
    path = tmp_path / "door.txt"
    path.write_text("# of RAVDESS\nby the door\nkids\t1e2\thappy=0.1\ntalking\nthank you\n")
    return path
