"""How the command ends: interrupted, stopped, with nobody who reads, with closed streams."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_output import Int16, Start, closing, events, finals, read_until

from edge_runtime.pcm import SAMPLE_RATE

pytestmark = pytest.mark.usefixtures("bundle_path")


def test_ctrl_c_on_a_pipe_closes_the_utterance_and_is_no_fault(
    start: Start, sentence: Int16
) -> None:
    process = start("run", "--stdin", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(sentence[: 3 * SAMPLE_RATE].tobytes())
    process.stdin.flush()
    before = read_until(process, b'"final": false')
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == b""
    (final,) = finals((before + out).decode())
    assert final["end"] <= 3.0
    assert events((before + out).decode())[-1]["type"] == "health"


def test_ctrl_c_in_real_time_ends_all_the_files(start: Start, scene_path: Path) -> None:
    process = start("run", "--realtime", scene_path, scene_path, scene_path)
    before = read_until(process, b'"final": false')
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)  # a scene takes 21 s
    assert process.returncode == 0
    assert err == b""
    text = (before + out).decode()
    assert len(finals(text)) == 1
    assert [event["type"] for event in events(text)].count("source") == 1


@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.06, 0.09, 0.12])
def test_ctrl_c_in_the_middle_of_the_work_leaves_no_half_done_utterance(
    start: Start, scene_path: Path, seconds: float
) -> None:
    # A verdict every 20 ms of speech: the interrupt falls into features, graph or printing.
    process = start("run", "--partial-seconds", "0.02", *[scene_path] * 20)
    before = read_until(process, b'"final": false')
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"error" not in err
    found = events((before + out).decode())
    kinds = [e["type"] for e in found if e["type"] != "emotion" or e["final"]]
    assert kinds.count("speech_start") == kinds.count("emotion")
    assert kinds[-1] == "health"
    assert kinds.count("source") == kinds.count("health") < 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_service_that_is_stopped_closes_the_utterance(
    start: Start, sentence: Int16, number: signal.Signals
) -> None:
    process = start("run", "--stdin", "--text", "keywords", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(sentence[: 3 * SAMPLE_RATE].tobytes())
    process.stdin.flush()
    before = read_until(process, b'"final": false')
    # As service managers do it: to all processes of the service.
    for child in children(process.pid):
        os.kill(child, number)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert err == b""
    assert process.returncode == 0
    found = events((before + out).decode())
    (final,) = finals((before + out).decode())
    assert final["end"] <= 3.0
    assert found[-1]["type"] == "health"
    assert found[-1]["text_source"] == "keywords"


def children(pid: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def read_terminal(primary: int, word: bytes, seconds: float = 60) -> bytes:
    """What a terminal shows, up to `word`; up to the end where that comes before."""
    shown, deadline = b"", time.monotonic() + seconds
    while word not in shown and select.select([primary], [], [], deadline - time.monotonic())[0]:
        try:
            data = os.read(primary, 65536)
        except OSError:  # nobody writes to it any more
            break
        shown += data
    return shown


HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_terminal_gets_its_cursor_back(
    command: list[str], environment: dict[str, str], scene_path: Path, number: signal.Signals
) -> None:
    primary, secondary = os.openpty()
    process = subprocess.Popen(
        [*command, "run", "--realtime", str(scene_path)],
        stdout=secondary,
        stderr=secondary,
        env={**environment, "TERM": "xterm"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(secondary)
    shown = read_terminal(primary, b"listening")
    process.send_signal(number)
    shown += read_terminal(primary, b"nothing ends it but the end")
    assert process.wait(60) == 0
    os.close(primary)
    assert shown.count(HIDE) >= 1
    assert shown.rfind(SHOW) > shown.rfind(HIDE)


def test_ctrl_c_ends_all_of_the_demo(command: list[str], environment: dict[str, str]) -> None:
    primary, secondary = os.openpty()
    process = subprocess.Popen(
        [*command, "demo"],
        stdout=secondary,
        stderr=secondary,
        env={**environment, "TERM": "xterm"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(secondary)
    shown = read_terminal(primary, b"listening")
    process.send_signal(signal.SIGINT)
    shown += read_terminal(primary, b"nothing ends it but the end")
    assert process.wait(60) == 0
    os.close(primary)
    assert b"real-time factor" in shown  # of what was heard
    assert b"once more" not in shown
    assert b"latency on this device" not in shown
    assert shown.rfind(SHOW) > shown.rfind(HIDE)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_is_interrupted_elsewhere_says_so_in_one_line(
    start: Start, scene_path: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    pipe = tmp_path / "password"
    os.mkfifo(pipe)  # somebody who takes for ever to type it
    words = ("--text", "mqtt://user@localhost/words", "--text-password-file", pipe)
    process = start("run", scene_path, *words)
    writer = os.open(pipe, os.O_WRONLY)  # returns when it is being read
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    os.close(writer)
    assert err == b"edge-emotion: stopped\n"
    assert process.returncode == code


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "--out", "pretty"], ["doctor"], ["bench", "--json"]]
)
def test_a_reader_that_has_seen_enough_ends_it_quietly(
    start: Start, scene_path: Path, arguments: list[str]
) -> None:
    files = [scene_path] * 3 if arguments[0] == "run" else []
    process = start(*arguments, *files)
    assert process.stdout is not None
    if arguments == ["run"]:
        assert b'"source"' in process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert err == b""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "--out", "pretty"], ["doctor"], ["bench", "--json"]]
)
def test_a_full_disk_is_one_line_and_exit_code_1(
    command: list[str], environment: dict[str, str], wav: Path, arguments: list[str]
) -> None:
    files = [str(wav)] if arguments[0] == "run" else []
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*command, *arguments, *files],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "edge-emotion: No space left on device\n"


@pytest.mark.parametrize("out", ["auto", "pretty", "jsonl"])
def test_a_closed_standard_output_is_one_line(
    command: list[str], environment: dict[str, str], wav: Path, out: str
) -> None:
    done = closing(1, [*command, "run", "--out", out, str(wav)], environment)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge-emotion: standard output is closed")


def test_other_commands_need_no_standard_output(
    command: list[str], environment: dict[str, str]
) -> None:
    done = closing(1, [*command, "doctor"], environment)
    assert done.stderr == ""
    assert done.returncode == 0


def test_nothing_but_events_goes_to_standard_output_where_standard_error_is_closed(
    command: list[str], environment: dict[str, str], wav: Path, tmp_path: Path
) -> None:
    done = closing(2, [*command, "run", str(tmp_path / "none.wav"), str(wav)], environment)
    assert done.returncode == 2
    assert len(finals(done.stdout)) == 1
