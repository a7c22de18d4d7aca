"""Real speech with known words, and a list that spots some of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.audio.file import read_file
from edge_runtime.pcm import Int16
from edge_runtime.segment import speech_of


@pytest.fixture(scope="session")
def kids(corpora: Path) -> Int16:
    """ "Kids are talking by the door", end-pointed."""
    return speech_of(read_file(corpora / "ravdess/Actor_01/03-01-01-01-01-02-01.flac"))


@pytest.fixture
def door_list(tmp_path: Path) -> Path:
    """Phrases of RAVDESS's sentences, and one that is not there."""
    path = tmp_path / "door.txt"
    path.write_text("# of RAVDESS\nby the door\nkids\t1e2\thappy=0.1\ntalking\nthank you\n")
    return path
