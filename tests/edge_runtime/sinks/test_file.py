"""Events kept in a file: rotated, deleted in time, and there after whatever happens to disks."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import EdgeError
from edge_runtime.events import SourceEvent, TextEvent, TextStatusEvent
from edge_runtime.sinks import Context
from edge_runtime.sinks.file import FileSettings, FileSink, _Log, open_file
from edge_runtime.sinks.lines import json_line

Make = Callable[..., Any]
DAY = 86_400.0


@contextmanager
def keeping(path: Path, **fields: Any) -> Iterator[FileSink]:
    sink = open_file(FileSettings(path, **fields), Context("", "", "", ()))
    assert sink is not None
    try:
        yield sink
    finally:
        sink.close()


def kept(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def all_kept(folder: Path) -> list[dict[str, Any]]:
    """What all files hold, the oldest first."""
    rotated = sorted(folder.glob("events.*.jsonl"))
    return [event for file in [*rotated, folder / "events.jsonl"] for event in kept(file)]


def line(number: int, age: float = 0.0, size: int = 0) -> bytes:
    """A line of `size` bytes that was written `age` seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=age)
    text = json.dumps({"time": at.isoformat(), "number": number})
    return (text[:-1] + " " * max(0, size - len(text) - 1) + "}\n").encode()


def test_nothing_is_kept_unless_asked_for(context: Context) -> None:
    assert open_file(FileSettings(), context) is None


def test_a_line_each_with_the_time_of_day_for_its_owner_alone(
    tmp_path: Path, verdict: Make, words: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "folder" / "events.jsonl"
    with keeping(path, megabytes=2.5, keep=3, days=7) as sink:
        assert sink.stored.message == (
            f"events, with the words, are kept in {path}, at most 10 MB and 7 days"
        )
        for event in (verdict(), words("grüße 日本")):
            sink.write(event)
    assert capsys.readouterr().err == f"edge-emotion: {sink.stored.message}\n"
    first, second = kept(path)
    assert (first["type"], first["label"]) == ("emotion", "angry")
    assert abs(datetime.fromisoformat(first["time"]).timestamp() - time.time()) < 60
    assert second["text"] == "grüße 日本"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (sink.queued, sink.dropped) == (0, 0)


def test_what_is_still_spoken_is_kept_on_request_alone(
    tmp_path: Path, verdict: Make, words: Make
) -> None:
    events = [verdict(final=False), words(final=False), verdict()]
    for partial, count in ((False, 1), (True, 3)):
        path = tmp_path / f"{partial}.jsonl"
        with keeping(path, partial=partial) as sink:
            for event in events:
                sink.write(event)
        assert len(kept(path)) == count


def test_words_can_be_left_out(
    tmp_path: Path, verdict: Make, words: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.jsonl"
    with keeping(path, text=False) as sink:
        for event in (verdict(text="a secret"), words("a secret")):
            sink.write(event)
    (only,) = kept(path)
    assert (only["label"], only["text"]) == ("angry", "")
    assert b"secret" not in path.read_bytes()
    assert "events, without the words, are kept" in capsys.readouterr().err


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_words_are_one_line_that_can_be_read(text: str) -> None:
    made = json_line(TextEvent(1.0, text, True, "asr"))
    assert made.count(b"\n") == 1
    assert made.startswith(b'{"time": "')  # by which a file of ours is known
    assert json.loads(made)["text"].encode("utf-16", "surrogatepass") == text.encode(
        "utf-16", "surrogatepass"
    )
    assert json.loads(json_line(TextEvent(1.0, text, True, "asr"), words=False))["text"] == ""
    # It may quote a line of words that could not be read.
    status = TextStatusEvent(1.0, "asr", "asr", text)
    assert json.loads(json_line(status, words=False))["reason"] == ""


@given(
    st.lists(st.integers(60, 400), min_size=1, max_size=60),
    st.integers(400, 1500),
    st.integers(0, 4),
)
@settings(max_examples=50, deadline=None)
def test_files_together_are_never_larger_than_was_said(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int, keep: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = _Log(folder / "events.jsonl", limit, keep, DAY)
    for number, size in enumerate(sizes):
        log.write(line(number, size=size))
        files = list(folder.iterdir())
        assert len(files) <= keep + 1
        assert all(file.stat().st_size <= limit for file in files)
    log.close()
    numbers = [event["number"] for event in all_kept(folder)]
    # The newest, without a gap.
    assert numbers == list(range(len(sizes) - len(numbers), len(sizes)))
    if keep:
        assert sum(sizes[-len(numbers) :]) >= min(sum(sizes), limit)
    assert log.lost == 0


def test_an_event_larger_than_a_file_may_become_is_lost_and_counted(tmp_path: Path) -> None:
    log = _Log(tmp_path / "events.jsonl", 200, 1, DAY)
    log.write(line(1, size=300))
    log.write(line(2))
    assert log.lost == 1
    assert [event["number"] for event in all_kept(tmp_path)] == [2]


def test_files_that_begin_too_long_ago_are_deleted(tmp_path: Path) -> None:
    for number, age in ((1, 31), (2, 29.9), (3, 1)):
        (tmp_path / f"events.{number:06d}.jsonl").write_bytes(line(number, age * DAY))
    unrelated = [tmp_path / name for name in ("events.1.jsonl", "other.000001.jsonl")]
    for file in unrelated:
        file.write_bytes(line(0, 99 * DAY))
    log = _Log(tmp_path / "events.jsonl", 10_000, 5, 30 * DAY)
    log.close()
    assert sorted(file.name for file in tmp_path.glob("events.0*")) == [
        "events.000002.jsonl",
        "events.000003.jsonl",
    ]
    assert all(file.exists() for file in unrelated)


def test_the_current_file_is_rotated_after_its_part_of_the_age_and_then_deleted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line(1, 6 * DAY))  # of 30 days and 6 files, a file is 5 days
    log = _Log(path, 10_000, 5, 30 * DAY)
    log.write(line(2))
    log.close()
    assert [event["number"] for event in kept(path)] == [2]
    assert [event["number"] for event in kept(tmp_path / "events.000001.jsonl")] == [1]
    path.write_bytes(line(3, 31 * DAY))
    log = _Log(path, 10_000, 5, 30 * DAY)
    log.look()  # nothing is written
    log.close()
    assert [event["number"] for event in all_kept(tmp_path)] == [1]


def test_what_is_too_old_goes_while_nothing_is_said(
    tmp_path: Path, verdict: Make, eventually: Make
) -> None:
    with keeping(tmp_path / "events.jsonl", days=0.5 / DAY, keep=1) as sink:
        sink.write(verdict())
        eventually(lambda: all_kept(tmp_path))
        eventually(lambda: not all_kept(tmp_path))
        assert sink.dropped == 0


def test_a_file_is_appended_to_and_half_a_line_at_its_end_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line(1) + line(2)[:25])
    path.chmod(0o644)
    log = _Log(path, 10_000, 5, DAY)
    log.write(line(3))
    log.close()
    assert [event["number"] for event in kept(path)] == [1, 3]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Dear diary", "holds something else"),
        (b'{"time": 5}\n', "holds something else"),
        (b'{"type": "emotion"}', "holds something else"),
        (b"\x89PNG", "holds something else"),
    ],
)
def test_a_file_of_something_else_is_left_alone(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    with pytest.raises(EdgeError, match=expected) as caught:
        FileSink(FileSettings(path), path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_what_is_no_file_is_refused_in_one_line(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "plain").touch()
    for path, expected in (
        (tmp_path, "Is a directory"),
        (pipe, "is no file"),
        (Path(os.devnull), "is no file"),
        (tmp_path / "plain" / "events.jsonl", "cannot keep events"),
        (Path("a\0b"), "null"),
    ):
        with pytest.raises(EdgeError, match=expected) as caught:
            FileSink(FileSettings(path), path)
        assert "\n" not in str(caught.value)


def test_moved_away_by_logrotate_a_new_one_begins(tmp_path: Path) -> None:
    path, moved = tmp_path / "events.jsonl", tmp_path / "events.jsonl.1"
    log = _Log(path, 10_000, 5, DAY)
    log.write(line(1))
    path.rename(moved)
    log.write(line(2))
    path.unlink()
    log.write(line(3))
    assert [event["number"] for event in kept(moved)] == [1]
    assert [event["number"] for event in kept(path)] == [3]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    os.truncate(path, 0)  # what copytruncate does
    log.write(line(4))
    log.close()
    assert [event["number"] for event in kept(path)] == [4]
    assert log.lost == 0


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "log" / "events.jsonl"
    log = _Log(path, 10_000, 5, DAY)
    log.write(line(1))
    path.unlink()
    path.parent.rmdir()
    log.write(line(2))
    log.close()
    assert [event["number"] for event in kept(path)] == [2]


def test_what_replaces_the_file_meanwhile_is_not_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.jsonl"
    log = _Log(path, 10_000, 5, DAY)
    path.unlink()
    path.write_text("mine")
    for number in range(3):
        log.write(line(number))
    assert path.read_text() == "mine"
    assert log.lost == 3
    assert capsys.readouterr().err.count("\n") == 1
    path.unlink()
    log.write(line(9))
    log.close()
    assert [event["number"] for event in kept(path)] == [9]
    assert "kept again; 3 are lost" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="needs root")
def test_a_full_disk_is_told_once_and_gone_on_from(
    tmp_path: Path, verdict: Make, eventually: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        filling = disk / "filling"
        with keeping(disk / "events.jsonl") as sink:
            sink.write(verdict())
            eventually(lambda: not sink.queued)
            with suppress(OSError), filling.open("wb", buffering=0) as full:
                while True:
                    full.write(bytes(4096))
            for _ in range(40):
                sink.write(verdict())
            eventually(lambda: not sink.queued)
            lost = sink.dropped
            assert lost > 20  # the page that was begun holds a few
            filling.unlink()
            sink.write(verdict())
            eventually(lambda: not sink.queued)
            assert sink.dropped == lost
        assert len(kept(disk / "events.jsonl")) == 42 - lost
        said = capsys.readouterr().err.splitlines()[1:]
        assert len(said) == 2
        assert "No space left on device: events are lost until that is over" in said[0]
        assert f"kept again; {lost} are lost" in said[1]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


CHILD = """
import sys, time
from pathlib import Path
from edge_runtime.events import SourceEvent
from edge_runtime.sinks.file import FileSettings, FileSink

path = Path(sys.argv[1])
sink = FileSink(FileSettings(path, megabytes=0.002, keep=5), path)
for number in range(int(sys.argv[2])):
    sink.write(SourceEvent(float(number), "somebody"))
    while sink.queued:
        time.sleep(0.0005)
sink.close()
print(sink.dropped)
"""


def child(path: Path, count: int, **how: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(path), str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


def test_a_line_that_fits_in_part_leaves_no_half(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    most = 250  # bytes of any file of the child: three lines, and a part of one

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    process = child(path, 20, preexec_fn=limit)
    out, err = process.communicate(timeout=60)
    events = kept(path)
    assert 0 < len(events) < 20
    assert [event["t"] for event in events] == list(range(len(events)))
    assert int(out) == 20 - len(events)
    assert err.count("events are lost until that is over") == 1


def test_killed_at_any_point_nothing_is_half_done(tmp_path: Path, eventually: Make) -> None:
    path = tmp_path / "events.jsonl"
    seen = 0
    for _ in range(4):
        process = child(path, 1_000_000)
        newest = f"events.{seen + 3:06d}.jsonl"
        eventually(lambda name=newest: any(f.name >= name for f in tmp_path.glob("events.0*")))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        files = sorted(tmp_path.glob("events.0*"))
        assert len(files) <= 6  # the last rename may have gone before its deletion
        for file in files:
            assert re.fullmatch(r"events\.\d{6}\.jsonl", file.name)
            assert kept(file)
        seen = int(files[-1].name.split(".")[1])
    with keeping(path, megabytes=0.002, keep=5) as sink:
        sink.write(SourceEvent(-1.0, "after"))
    events = all_kept(tmp_path)
    assert events[-1]["name"] == "after"
    assert len(list(tmp_path.iterdir())) <= 6
    # Whole stretches of what each child counted, from the oldest kept to the kill.
    steps = [b["t"] - a["t"] for a, b in pairwise(events)]
    assert sum(step != 1 for step in steps) <= 4 + 1
