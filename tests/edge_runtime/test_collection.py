"""A folder of clips stays whole whatever happens; what may be in it, and what is asked."""

from __future__ import annotations

import csv
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_output import Start, read_until

from edge_runtime.audio import Block
from edge_runtime.audio.file import read_file
from edge_runtime.audio.wav import LEAST_FREE
from edge_runtime.collect.collection import Collection, Session, read_about
from edge_runtime.collect.keyboard import Keyboard
from edge_runtime.collect.labels import labels_in, speaker_in
from edge_runtime.collect.play import Player
from edge_runtime.collect.recording import Plan, Recording
from edge_runtime.collect.reviewing import NO_EVENT, NO_FILE, doubts_in
from edge_runtime.collect.screen import Screen
from edge_runtime.errors import EdgeError
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.segment import SegmentParams
from training.corpora import load_corpora

Run = Callable[..., subprocess.CompletedProcess[str]]
LIMIT = 10_000_000
LABELS = ("angry", "neutral")
SECOND = np.ones(SAMPLE_RATE, np.int16)


def collection(folder: Path, labels: tuple[str, ...] = LABELS, limit: int = LIMIT) -> Collection:
    session = Session.now("kitchen", "microphone usb", "anna", "yes (typed)")
    return Collection(folder / "manifest.csv", labels, session, limit)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_whole(folder: Path) -> list[dict[str, str]]:
    """Every row names a file that is there; nothing half done is beside them. The rows."""
    rows = rows_of(folder)
    for row in rows:
        assert len(read_file(folder / row["path"])) > 0
    return rows


class Blocks:
    """A source of given blocks; `before` is called before each."""

    name = "blocks"

    def __init__(self, blocks: list[Block], before: Callable[[int], None] = lambda n: None) -> None:
        self.warnings: list[str] = []
        self._blocks, self._before = blocks, before

    def blocks(self) -> Iterator[Block]:
        for number, block in enumerate(self._blocks):
            self._before(number)
            yield block

    def close(self) -> None:
        """Nothing is held."""


def in_blocks(samples: Int16) -> list[Block]:
    return [Block(piece) for piece in np.array_split(samples, len(samples) // 1600)]


@pytest.fixture
def raw(tmp_path: Path, scene: Int16) -> Path:
    """The scene as raw samples: six utterances."""
    path = tmp_path / "scene.raw"
    scene.astype("<i2").tofile(path)
    return path


def test_without_a_terminal_clips_are_recorded_in_turn_and_train(
    edge_emotion: Run, tmp_path: Path, raw: Path
) -> None:
    folder = tmp_path / "mine"
    arguments = ("record", folder, "--stdin", "--who", "anna", "--count", "2", "--consent")
    labels = ("--label", "angry, neutral")
    done = edge_emotion(*arguments, *labels, stdin=raw.read_bytes())
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "each utterance is stored as sound in" in done.stdout
    found = load_corpora([f"manifest={folder / 'manifest.csv'}"])["manifest"].utterances
    assert [u.label for u in found] == ["angry", "neutral", "angry", "neutral"]
    assert {u.speaker for u in found} == {"anna"}
    for place in (folder, folder / "clips"):
        assert place.stat().st_mode & 0o777 == 0o700
    for file in (*folder.glob("*.*"), *folder.glob("clips/*")):
        assert file.stat().st_mode & 0o777 == 0o600
    # Gone on with: its labels are known, and so is what is there.
    arguments = ("record", folder, "--stdin", "--who", "ben", "--count", "3", "--consent")
    done = edge_emotion(*arguments, stdin=raw.read_bytes())
    assert done.returncode == 0, done.stderr
    assert "say something: ANGRY   (3 of 3)" in done.stdout
    assert [row["speaker"] for row in rows_of(folder)] == ["anna"] * 4 + ["ben"] * 2
    assert len({row["session"] for row in rows_of(folder)}) == 2
    assert [s["speaker"] for s in read_about(folder)["sessions"]] == ["anna", "ben"]
    assert "| anna | yes (--consent) |" in (folder / "README.md").read_text()
    done = edge_emotion(*arguments, "--count", "9", stdin=raw.read_bytes())
    assert done.returncode == 2
    assert done.stderr == "edge-emotion: the sound ended before each class had 9\n"
    assert len(assert_whole(folder)) == 12


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--label", "a,b"), "record asks somebody at a terminal; without one, say --count N"),
        (("--label", "a,b", "--count", "1"), "--consent"),
        ((), "name the classes: --label angry,neutral"),
        (("--label", "sad,Sad"), "labels 'sad' and 'Sad' differ only in case; write them alike"),
        (("--label", "sad,unknown"), "'unknown' is no label"),
        (("--label", "a,b", "--who", "none"), "'none' is no name of a speaker"),
        (("--label", ",".join(map(str, range(21)))), "21 labels; there may be 20 at most"),
    ],
)
def test_a_mistake_is_one_line_and_stores_nothing(
    edge_emotion: Run, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = edge_emotion("record", tmp_path / "mine", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "mine").exists()


def test_review_without_a_terminal_is_a_mistake(edge_emotion: Run, tmp_path: Path) -> None:
    done = edge_emotion("review", tmp_path / "e.jsonl", "--audio", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "start it in a terminal" in done.stderr


def test_labels_are_those_that_a_manifest_can_hold() -> None:
    assert labels_in("b, a,b", ("c",)) == ("c", "b", "a")
    assert labels_in("müde,très calme") == ("müde", "très calme")
    assert speaker_in(" anna ") == "anna"
    with pytest.raises(EdgeError, match="differ only in case"):
        labels_in("Calm", ("calm",))
    with pytest.raises(EdgeError, match="is no label"):
        labels_in("calm\x1b[2J")


def test_a_session_of_keys(tmp_path: Path, scene: Int16, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real keyboard at a real pseudo terminal: what each key does, and when."""
    master, slave = pty.openpty()
    pressed = {
        30: b"s",  # while the first utterance (0.7 to 4.9 s) is spoken: it was asked for before
        54: b"2\x1b[A",  # the first is stored; an arrow is no key
        70: b"p",  # within the second (5.5 to 8.6 s): it is no whole utterance
        88: b"p",
        112: b"dd",  # the third (9.2 to 10.8 s), and the first
        160: b"q",  # the fourth (11.2 to 15.1 s) is stored
    }

    def press(number: int) -> None:
        os.write(master, pressed.get(number, b""))

    with os.fdopen(slave) as stdin, collection(tmp_path / "mine") as stored:
        monkeypatch.setattr(sys, "stdin", stdin)
        with Keyboard() as keyboard:
            plan = Plan(LABELS, None, "anna")
            recording = Recording(stored, plan, SegmentParams(), keyboard, Screen(False))
            recording.listen(Blocks(in_blocks(scene), press))
        rows = assert_whole(tmp_path / "mine")
    os.close(master)
    assert recording.made == 1
    assert [row["label"] for row in rows] == ["angry"]
    samples = read_file(tmp_path / "mine" / rows[0]["path"])
    begin = round(float(rows[0]["start"]) * SAMPLE_RATE)
    # The noise floor is another after a pause, so that it may begin a moment earlier or later.
    near = range(round(10.8 * SAMPLE_RATE) - begin, round(11.6 * SAMPLE_RATE) - begin)
    assert any(np.array_equal(samples, scene[at : at + len(samples)]) for at in near)


def test_what_a_loss_cuts_off_is_not_stored(
    tmp_path: Path, scene: Int16, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = in_blocks(scene[: 9 * SAMPLE_RATE])
    blocks[30] = Block(blocks[30].samples, lost=SAMPLE_RATE)
    with collection(tmp_path) as stored:
        plan = Plan(LABELS, None, "")
        recording = Recording(stored, plan, SegmentParams(), None, Screen(False))
        recording.listen(Blocks(blocks))
        assert recording.made == 2  # the rest of the first, and the second
    assert capsys.readouterr().out.count("cut off, not stored") == 1
    for row in assert_whole(tmp_path):
        length = len(read_file(tmp_path / row["path"])) / SAMPLE_RATE
        assert float(row["end"]) <= length < float(row["end"]) + 0.31


def test_a_manifest_of_somebody_else_keeps_its_columns(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text('label,path,mood of the day\nsad,/elsewhere/x.wav,"rain, wind"\n')
    with collection(tmp_path) as stored:
        row = stored.add(SECOND, {"label": "angry"})
        stored.drop(stored.add(SECOND, {"label": "angry"}))
    rows = rows_of(tmp_path)
    assert rows[0]["mood of the day"] == "rain, wind"
    assert rows[0]["path"] == "/elsewhere/x.wav"
    assert rows[1:] == [row]
    assert len(list((tmp_path / "clips").iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("manifest.csv", b"path;label\nx.wav;sad\n", "expected a header with path,label"),
        ("manifest.csv", b"path,label\nx.wav\n", "line 2: another number of cells"),
        ("manifest.csv", b"path,label\nx.wav,\xff\n", "cannot be read"),
        ("about.json", b"{}", "is of something else than clips"),
        ("about.json", b"{", "cannot be read"),
        ("clips", b"a file", "cannot write in"),
    ],
)
def test_what_cannot_be_gone_on_with_stays_as_it_is(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EdgeError, match=said):
        collection(tmp_path)
    assert (tmp_path / name).read_bytes() == content


def test_two_do_not_write_in_one_folder(tmp_path: Path) -> None:
    with (
        collection(tmp_path),
        pytest.raises(EdgeError, match="another record or review writes there"),
    ):
        collection(tmp_path)
    collection(tmp_path).close()


def test_the_folder_has_a_size(tmp_path: Path) -> None:
    with collection(tmp_path, limit=70_000) as stored:
        row = stored.add(SECOND, {"label": "angry"})
        stored.add(SECOND, {"label": "angry"})
        with pytest.raises(EdgeError, match=r"has 0 MB of sound and may have 0.07 \(--megabytes\)"):
            stored.add(SECOND, {"label": "angry"})
        stored.drop(row)
        stored.add(SECOND, {"label": "neutral"})
    assert [row["label"] for row in assert_whole(tmp_path)] == ["angry", "neutral"]


@pytest.mark.skipif(os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="needs root")
def test_a_full_disk_ends_it_in_one_line_and_all_before_is_whole(
    edge_emotion: Run, tmp_path: Path, raw: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={LEAST_FREE + 450_000}", "tmpfs", str(disk)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        arguments = ("record", disk / "mine", "--label", "angry,neutral", "--stdin")
        done = edge_emotion(*arguments, "--count", "3", "--consent", stdin=raw.read_bytes())
        assert done.returncode == 2
        assert done.stderr == (
            f"edge-emotion: cannot write in {disk / 'mine'}: less than 100 MB are free on this "
            "disk; what was stored before is whole\n"
        )
        rows = assert_whole(disk / "mine")
        assert 0 < len(rows) < 6
        assert len(list((disk / "mine" / "clips").iterdir())) == len(rows)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_readme_of_somebody_else_stays_and_our_own_is_kept_up(tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "README.md"
    mine.parent.mkdir()
    mine.write_text("# My project\n")
    collection(mine.parent).close()
    assert mine.read_text() == "# My project\n"
    ours = tmp_path / "ours" / "README.md"
    collection(ours.parent, ("angry",)).close()
    collection(ours.parent, ("calm",)).close()
    assert "Labels: angry, calm." in ours.read_text()


@pytest.mark.parametrize("header", ['path,"label', 'path,la"bel"x', '"path"x,label'])
def test_a_stray_quote_in_a_manifest_is_one_line(tmp_path: Path, header: str) -> None:
    (tmp_path / "manifest.csv").write_text(f"{header}\n")
    with pytest.raises(EdgeError, match=r"manifest.csv(, line 1: | is no manifest)"):
        collection(tmp_path)


def test_a_clip_that_cannot_be_deleted_is_counted_still(tmp_path: Path) -> None:
    with collection(tmp_path, limit=2 * SECOND.nbytes) as stored:
        row = stored.add(SECOND, {"label": "angry"})
        file = tmp_path / row["path"]
        file.unlink()
        file.mkdir()  # which unlink refuses
        with pytest.raises(EdgeError, match="cannot write"):
            stored.drop(row)
        assert rows_of(tmp_path) == []
        with pytest.raises(EdgeError, match="--megabytes"):
            stored.add(SECOND, {"label": "angry"})


def test_who_is_stopped_is_not_told_that_the_sound_ended(tmp_path: Path, start: Start) -> None:
    arguments = ("record", tmp_path / "mine", "--label", "angry,calm", "--count", "2", "--consent")
    process = start(*arguments, "--mic-command", "cat /dev/zero")
    read_until(process, b"say something")
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert told.decode() == "edge-emotion: it was stopped before each class had 2\n"


def test_a_manifest_that_finds_no_room_stays_and_its_clip_goes(tmp_path: Path) -> None:
    def fill() -> None:
        for _ in range(10):
            stored.add(np.ones(10, np.int16), {"label": "angry", "speaker": "anna"})

    with collection(tmp_path) as stored:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, before[1]))  # four rows; clips have 64
        try:
            with pytest.raises(EdgeError, match="File too large; what was stored before is whole"):
                fill()
            known = len(stored.rows)
            with pytest.raises(EdgeError, match="File too large"):
                stored.relabel(stored.rows[0], "a" * 400)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        stored.drop(stored.rows[0])
    rows = assert_whole(tmp_path)
    assert {row["label"] for row in rows} == {"angry"}
    assert 2 <= len(rows) == known - 1
    assert len(list((tmp_path / "clips").iterdir())) == len(rows)


def test_killed_at_any_point_the_manifest_is_whole(
    start: Start, tmp_path: Path, scene: Int16
) -> None:
    folder = tmp_path / "mine"
    clips = 0
    for pause in (0.0, 0.01, 0.02, 0.05):
        arguments = ("record", folder, "--label", "angry,neutral", "--stdin", "--consent")
        process = start(*arguments, "--count", "10000", stdin=subprocess.PIPE)
        assert process.stdin
        deadline = time.monotonic() + 60
        while len(list(folder.glob("clips/*.wav"))) <= clips + 5:
            process.stdin.write(scene.tobytes())
            assert time.monotonic() < deadline
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        rows = assert_whole(folder)
        assert len(rows) > clips + 4
        clips = len(list((folder / "clips").glob("*.wav")))
        assert clips - len(rows) <= 4  # one a kill: between a file and its row
    with collection(folder) as stored:
        assert len(stored.unlisted) == clips - len(rows)


def event(audio: str, label: str = "angry", confidence: float = 0.5, **changes: Any) -> str:
    scores = {"angry": 0.0, "sad": 0.0, **{label: confidence}}
    best = max(scores, key=lambda name: scores[name])
    content = {"type": "emotion", "final": True, "label": best, "audio": audio, "scores": scores}
    return json.dumps({**content, "confidence": confidence, **changes}) + "\n"


def test_the_least_certain_comes_first_and_the_last_word_counts(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).touch()
    events = tmp_path / "events.jsonl"
    events.write_text(
        event("a.wav", confidence=0.9)
        + event("b.wav", "sad", 0.45, text="no\x1b[2J way")
        + event("c.wav", confidence=0.7, label_="x").replace(
            '"label": "angry"', '"label": "unsure"'
        )
        + event("", confidence=0.1)
        + event("a.wav", confidence=0.1, final=False)
        + event("gone.wav")
        + event("a.wav", "sad", 0.8, type="revised")
        + '{"type": "health"}\n'
    )
    doubts, left_out = doubts_in([events], tmp_path)
    assert [(doubt.file.name, doubt.label) for doubt in doubts] == [
        ("b.wav", "sad"),
        ("c.wav", "angry"),
        ("a.wav", "sad"),
    ]
    assert left_out == {NO_FILE: 1}
    assert str(doubts[0]) == 'sad  [sad 45, angry 0]  "no [2J way"'
    assert str(doubts[1]).startswith("angry (unsure)  [angry 70")
    below, _ = doubts_in([events], tmp_path, 0.6)
    assert [doubt.file.name for doubt in below] == ["b.wav", "c.wav"]  # c is unsure


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        "[]",
        "[" * 100_000,
        event("../secret.wav"),
        event("/etc/passwd"),
        event(".hidden.wav"),
        event("a.wav", scores={}),
        event("a.wav", scores={"angry": "high"}),
        event("a.wav", scores={"angry": float("nan")}),
        event("a.wav", scores=3),
        event("a.wav", text=5),
        event(3),  # type: ignore[arg-type]
    ],
)
def test_events_of_others_lead_nowhere_else(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "a.wav").touch()
    (folder / ".hidden.wav").touch()
    (tmp_path / "secret.wav").touch()
    events = tmp_path / "events.jsonl"
    events.write_text(line.rstrip("\n") + "\n")
    assert doubts_in([events], folder) == ([], {NO_EVENT: 1})
    with pytest.raises(EdgeError, match="cannot be read: No such file"):
        doubts_in([tmp_path / "none.jsonl"], folder)


def test_a_player_says_what_is_wrong_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="no program 'no-such-player' is there"):
        Player("no-such-player -q")
    with pytest.raises(EdgeError, match="No closing quotation"):
        Player("aplay '")
    player = Player("sh -c 'echo one; echo no \x1bsound >&2; exit 3'")
    player.start(tmp_path / "x.wav")
    deadline = time.monotonic() + 60
    while not (said := player.trouble()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert said == "no sound"
    assert player.trouble() == ""
    player.close()
    player = Player("sleep")
    player.start(Path("1000"))
    begin = time.monotonic()
    player.close()
    assert time.monotonic() - begin < 60
