"""Ten minutes of audio through all that a run can have open; `scripts/soak` does it with hours."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("paho")
pytest.importorskip("websockets")
pytest.importorskip("pocketsphinx")

from soak import Soak

MINUTES = 10.0
# The page's history of an hour still fills then, and the interpreter's arenas: 0.6 MB are usual. A
# window of features (60 kB) that each of the hundred utterances left behind would be 4 MB.
MOST_MB = 3.0


def test_ten_minutes_lose_no_event_and_hold_nothing(tmp_path: Path, corpora: Path) -> None:
    report = Soak(tmp_path, corpora, every=0.25).run(MINUTES / 60)
    print(report.table())
    assert report.faults() == []
    assert min(report.events[kind] for kind in ("speech_start", "emotion", "text", "health")) > 5
    assert set(report.kinds_h) == {"speech", "noise", "silence"}
    for name, growth in report.growth.items():
        assert growth.rss_mb[1] - growth.rss_mb[0] < MOST_MB, f"{name} grew: {growth}"
