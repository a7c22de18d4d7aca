"""Sound that is kept for review: what of a stream, for whom, and for how long."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime import EmotionStream
from edge_runtime.audio import Block
from edge_runtime.audio.file import read_file
from edge_runtime.audio.recent import MARGIN_SECONDS, Recent
from edge_runtime.audio.wav import LEAST_FREE
from edge_runtime.bundle import Bundle
from edge_runtime.errors import EdgeError, SettingError
from edge_runtime.events import EmotionEvent, Event, RevisedEvent, SourceEvent, StorageEvent
from edge_runtime.listening import listen
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.sinks import Context, Outputs, Part
from edge_runtime.sinks.keep import KeepSettings, KeepSink, check, open_keep

Make = Callable[..., Any]
MARGIN = round(MARGIN_SECONDS * SAMPLE_RATE)


class Heard:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        """Nothing is held back."""

    def finals(self) -> list[EmotionEvent]:
        return [e for e in self.events if isinstance(e, EmotionEvent) and e.final]


class Blocks:
    """A source of given blocks."""

    name = "blocks"

    def __init__(self, *blocks: Block) -> None:
        self.warnings: list[str] = []
        self._blocks = blocks

    def blocks(self) -> Any:
        yield from self._blocks

    def close(self) -> None:
        """Nothing is held."""


def hear(
    bundle: Bundle,
    settings: KeepSettings,
    context: Context,
    *blocks: Block,
    heard: Heard | None = None,
) -> list[EmotionEvent]:
    """The final verdicts on what comes in `blocks`, once all that is kept is written."""
    heard = heard or Heard()
    outputs = Outputs(
        {
            "heard": Part("", lambda: heard),
            "keep": Part(settings, lambda: open_keep(settings, context)),
        }
    )
    listen(Blocks(*blocks), EmotionStream(bundle), outputs)
    deadline = time.monotonic() + 60
    while outputs.queued and time.monotonic() < deadline:
        time.sleep(0.01)
    outputs.close()
    assert outputs.dropped == 0
    return heard.finals()


def in_blocks(samples: Int16, lost: int = 0) -> list[Block]:
    pieces = np.array_split(samples, len(samples) // 1600)
    return [Block(piece, 0 if number else lost) for number, piece in enumerate(pieces)]


def wavs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.wav"))


def test_each_utterance_is_a_file_that_its_event_names(
    tmp_path: Path, bundle: Bundle, context: Context, scene: Int16, capsys: Make
) -> None:
    folder = tmp_path / "room" / "kept"
    # A second is lost at first: places in the stream are not those in the sound.
    settings = KeepSettings(folder)
    works, finding = check(settings)
    assert works or "make room" in finding
    heard = Heard()
    finals = hear(bundle, settings, context, *in_blocks(scene, SAMPLE_RATE), heard=heard)
    assert len(finals) >= 5
    assert [event.audio for event in finals] == [file.name for file in wavs(folder)]
    for event in finals:
        samples = read_file(folder / event.audio)
        begin = round((event.start - 1) * SAMPLE_RATE) - MARGIN
        assert np.array_equal(samples, scene[begin : begin + len(samples)])
        length = round((event.end - event.start) * SAMPLE_RATE)
        assert length + MARGIN <= len(samples) <= length + 2 * MARGIN
        assert (folder / event.audio).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "edge-emotion review" in (folder / "README.md").read_text()
    notice = f"the sound of utterances is kept in {folder}, at most 200 MB and 30 days"
    assert capsys.readouterr().err == f"edge-emotion: {notice}\n"
    (stored,) = (event for event in heard.events if isinstance(event, StorageEvent))
    assert stored == StorageEvent(0.0, "sound", True, str(folder), 200.0, 30.0, notice)


def test_without_being_asked_nothing_is_kept(
    tmp_path: Path, edge_emotion: Make, scene_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = edge_emotion("run", "--out", "jsonl", scene_path)
    assert done.returncode == 0
    assert '"audio": ""' in done.stdout
    assert '"audio": "2' not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_doubtful_is_kept_where_that_is_wanted(
    tmp_path: Path, bundle: Bundle, context: Context, scene: Int16
) -> None:
    settings = KeepSettings(tmp_path, below=0.7)
    finals = hear(bundle, settings, context, *in_blocks(scene))
    doubtful = [event for event in finals if event.confidence < 0.7]
    assert 0 < len(doubtful) < len(finals)
    assert [event.audio for event in doubtful] == [file.name for file in wavs(tmp_path)]
    assert all(not event.audio for event in finals if event.confidence >= 0.7)


def test_what_is_unsure_is_doubtful_and_a_revised_verdict_has_the_same_file(
    tmp_path: Path, context: Context, verdict: Make
) -> None:
    sink = open_keep(KeepSettings(tmp_path, below=0.0), context)
    assert sink is not None
    sink.take(0, np.ones(3 * SAMPLE_RATE, np.int16))
    name = sink.keep(verdict("unsure", 0.3))
    assert name
    assert sink.keep(verdict("angry", 0.9, kind=RevisedEvent)) == name
    assert sink.keep(verdict("angry", 0.9, start=1.5)) == ""
    sink.write(SourceEvent(0.0, "another"))
    assert sink.keep(verdict("unsure", 0.3, kind=RevisedEvent)) == ""
    assert sink.keep(verdict("unsure", 0.3)) == ""  # nothing is held of it
    sink.close()
    assert [file.name for file in wavs(tmp_path)] == [name]


def test_of_a_stream_only_its_last_part_is_held_and_nothing_across_a_gap() -> None:
    recent = Recent(2.0)
    samples = np.arange(10 * 1600, dtype=np.int16)
    for at in range(0, len(samples), 1600):
        block = samples[at : at + 1600]
        recent.take(at, block)
    assert np.array_equal(recent.cut(0.5, 0.6)[1], samples[3200:14400])
    mine = samples[:1600].copy()
    recent.take(20_000, mine)  # 4,000 were lost
    mine[:] = 0
    begin, cut = recent.cut(1.26, 1.3)
    assert begin == 1.25
    assert np.array_equal(cut, samples[:1600])
    assert np.array_equal(recent.cut(0.8, 0.99)[1], samples[8000:])
    for at in range(30):
        recent.take(30_000 + 1600 * at, samples[:1600])
    assert recent.cut(0.5, 0.6)[1].size == 0


def test_the_oldest_go_where_it_becomes_too_much_and_others_files_stay(
    tmp_path: Path, context: Context, verdict: Make, eventually: Make
) -> None:
    others = tmp_path / "mine.wav"
    others.write_bytes(b"x" * 3_000_000)
    old = tmp_path / "20200101T000000Z-abcd-000001.wav"
    old.write_bytes(b"x")
    os.utime(old, (1e9, 1e9))
    sink = open_keep(KeepSettings(tmp_path, megabytes=2.0), context)
    assert sink is not None
    assert not old.exists()  # too old
    minute = np.zeros(60 * SAMPLE_RATE, np.int16)
    names = []
    for number in range(3):
        sink.write(SourceEvent(0.0, "one more"))
        sink.take(0, minute[: 25 * SAMPLE_RATE])  # 0.8 MB
        names.append(sink.keep(replace(verdict(), start=0.5, end=24.5)))
        eventually(lambda: not sink.queued)
        os.utime(tmp_path / names[-1], (time.time() + number, time.time() + number))
    sink.close()
    assert [file.name for file in wavs(tmp_path)] == [*names[1:], "mine.wav"]


@pytest.mark.parametrize("place", ["file", "file/within", "nul\0"])
def test_where_nothing_can_be_kept_that_is_an_error(
    tmp_path: Path, context: Context, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(EdgeError, match=r"cannot keep sound in .*; name a folder"):
        open_keep(KeepSettings(tmp_path / place), context)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_readme_of_somebody_else_stays_and_an_old_one_of_ours_is_renewed(
    tmp_path: Path, context: Context
) -> None:
    for first, stays in (("# My project", True), ("# Sound of utterances", False)):
        readme = tmp_path / "README.md"
        readme.write_text(f"{first}\n\nof an earlier day\n")
        sink = open_keep(KeepSettings(tmp_path), context)
        assert sink is not None
        sink.close()
        assert ("of an earlier day" in readme.read_text()) == stays


def test_numbers_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="below"):
        KeepSettings(tmp_path, below=60.0)
    with pytest.raises(SettingError, match="megabytes"):
        KeepSettings(tmp_path, megabytes=0.1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A disk of so many bytes."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("needs root")
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        disk = tmp_path / f"disk{size}"
        disk.mkdir()
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if subprocess.run(mounting, capture_output=True, check=False).returncode:
            pytest.skip("this container may not mount")
        mounted.append(disk)
        return disk

    yield mount
    for disk in mounted:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("beyond", "works"), [(-1_000_000, False), (1_000_000, None), (3_000_000, True)]
)
def test_whether_there_is_room_is_what_is_left_to_others(
    small_disk: Callable[[int], Path], beyond: int, works: bool | None
) -> None:
    found, line = check(KeepSettings(small_disk(LEAST_FREE + beyond), megabytes=2.0))
    assert found is works
    assert "MB free (100 stay so), and 2 MB may come" in line


def test_a_disk_that_is_nearly_full_is_left_to_others(
    small_disk: Make, context: Context, verdict: Make, eventually: Make, capsys: Make
) -> None:
    # Room for two of three seconds each beyond what is left free, and the README.
    disk = small_disk(LEAST_FREE + 250_000)
    sink = open_keep(KeepSettings(disk), context)
    assert isinstance(sink, KeepSink)
    sink.take(0, np.zeros(10 * SAMPLE_RATE, np.int16))
    for start in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
        sink.keep(verdict(start=start))
    eventually(lambda: not sink.queued)
    assert 1 <= len(wavs(disk)) < 6
    assert sink.dropped == 6 - len(wavs(disk))
    for file in wavs(disk):
        file.unlink()
    before = sink.dropped
    assert sink.keep(verdict(start=7.0))
    eventually(lambda: not sink.queued)
    sink.close()
    assert sink.dropped == before
    assert len(wavs(disk)) == 1
    said = capsys.readouterr().err.splitlines()[1:]
    assert len(said) == 2
    assert "less than 100 MB are free on this disk: sound is lost" in said[0]
    assert f"kept again; {before} utterances are lost" in said[1]
