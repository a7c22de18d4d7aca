"""`edge-emotion` as a user meets it: a process with arguments, pipes and exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_output import Command, Int16, Start, events, finals, read_until

from edge_runtime import __version__
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.text.engines import engines

pytestmark = pytest.mark.usefixtures("bundle_path")


# What is printed


def test_a_file_becomes_events_in_json_lines(edge_emotion: Command, wav: Path) -> None:
    done = edge_emotion("run", wav)
    assert done.returncode == 0
    assert done.stderr == ""
    found = events(done.stdout)
    assert found[0] == {"type": "source", "t": 0.0, "name": str(wav)}
    assert found[1]["type"] == "speech_start"
    assert found[-1]["type"] == "health"
    assert found[-1]["t"] == pytest.approx(soundfile.info(wav).duration, abs=0.001)
    (final,) = finals(done.stdout)
    assert final["start"] == found[1]["t"]
    assert set(final["scores"]) == {"angry", "happy", "neutral", "sad"}


def test_the_time_of_each_file_begins_at_zero(edge_emotion: Command, wav: Path) -> None:
    one, two = finals(edge_emotion("run", wav, wav).stdout)
    assert (one["start"], one["scores"]) == (two["start"], two["scores"])


def test_pretty_output_is_a_line_for_each_utterance(edge_emotion: Command, wav: Path) -> None:
    done = edge_emotion("run", "--out", "pretty", "--partial-seconds", "0", wav)
    assert done.returncode == 0
    (final,) = finals(edge_emotion("run", wav).stdout)
    (line,) = [line for line in done.stdout.splitlines() if " % " in line]
    assert final["label"] in line
    (shown,) = re.findall(r"(\d+) % ", line)
    assert abs(int(shown) - 100 * final["confidence"]) <= 0.51  # of what is rounded already
    assert "\x1b" not in done.stdout  # no terminal, no escape codes


def test_without_rich_the_pretty_view_names_the_pip_command(
    edge_emotion: Command, wav: Path
) -> None:
    done = edge_emotion("run", "--out", "pretty", wav, missing="rich")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.endswith("pip install 'edge-emotion[view]'\n")
    # And what is chosen by itself works without it.
    assert edge_emotion("run", wav, missing="rich").returncode == 0


def test_no_partial_verdicts_on_request(edge_emotion: Command, wav: Path) -> None:
    found = events(edge_emotion("run", "--partial-seconds", "0", wav).stdout)
    assert [e["type"] for e in found] == ["source", "speech_start", "emotion", "health"]


def test_the_version_is_told(edge_emotion: Command) -> None:
    assert edge_emotion("--version").stdout == f"edge-emotion {__version__}\n"


# What is refused

THREADS = "must be a whole number from 1 to 64"
PARTIAL = "--partial-seconds: must be a number from 0 to 3600"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "name one or more FILEs, or --mic, or --stdin"),
        (["run", "a.wav", "--stdin"], "name FILEs or --stdin, not both"),
        (["run", "a.wav", "--out", "telegraph"], "invalid choice: 'telegraph'"),
        (["run", "a.wav", "--text", "telepathy"], "unknown text source 'telepathy'"),
        (["run", "a.wav", "--threads", "0"], f"--threads: {THREADS}, not '0'"),
        (["run", "a.wav", "--threads", "65"], f"--threads: {THREADS}, not '65'"),
        (["run", "a.wav", "--threads", "1000000"], f"--threads: {THREADS}, not '1000000'"),
        (["run", "a.wav", "--threads", "many"], f"--threads: {THREADS}, not 'many'"),
        (["run", "a.wav", "--partial-seconds", "-1"], f"{PARTIAL}, not '-1'"),
        (["run", "a.wav", "--partial-seconds", "nan"], f"{PARTIAL}, not 'nan'"),
        (["run", "a.wav", "--partial-seconds", "inf"], f"{PARTIAL}, not 'inf'"),
        (["run", "a.wav", "--partial-seconds", "1e308"], f"{PARTIAL}, not '1e308'"),
        (["run", "--mic", "--stdin"], "--mic and --stdin: one at a time"),
        (["listen"], "invalid choice: 'listen'"),
        ([], "required: COMMAND"),
        (["bench", "--threads", "0"], f"--threads: {THREADS}, not '0'"),
        (["bench", "--threads", "65"], f"--threads: {THREADS}, not '65'"),
    ],
)
def test_a_mistake_in_the_arguments_is_said_with_exit_code_2(
    edge_emotion: Command, arguments: list[str], words: str
) -> None:
    done = edge_emotion(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge-emotion")
    assert words in line


@pytest.mark.parametrize("arguments", [["run", "--mic"], ["devices"]])
def test_without_a_binding_of_portaudio_the_microphone_names_the_pip_command(
    edge_emotion: Command, arguments: list[str]
) -> None:
    done = edge_emotion(*arguments, missing="sounddevice,pyaudio")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "edge-emotion: the microphone needs sounddevice, which is not installed: "
        "pip install 'edge-emotion[mic]'\n"
    )


def test_without_the_library_the_microphone_names_the_apt_command(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    """Both packages are there, as pip installs them, and the system has no libportaudio2."""
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    (tmp_path / "pyaudio.py").write_text("raise ImportError('libportaudio.so.2: cannot open')")
    path = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    told = (
        "the microphone needs the library PortAudio (sounddevice does not load: PortAudio library "
        "not found): sudo apt install libportaudio2"
    )
    for arguments in (["run", "--mic"], ["devices"], ["doctor"]):
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            env={**environment, "PYTHONPATH": path},
            timeout=60,
        )
        if arguments == ["doctor"]:  # which is all right otherwise
            assert f"-     microphone      {told}\n" in done.stdout
            assert done.returncode == 0
        else:
            assert done.stderr == f"edge-emotion: {told}\n"
            assert done.returncode == 2


def test_without_the_voice_detector_the_message_names_a_pip_command(
    edge_emotion: Command, wav: Path
) -> None:
    done = edge_emotion("run", wav, missing="webrtcvad,_webrtcvad")
    assert done.returncode == 2
    assert "webrtcvad-wheels, which is not installed: pip install" in done.stderr


# Standard input


def test_raw_samples_on_standard_input_are_heard_as_the_file_is(
    edge_emotion: Command, wav: Path, sentence: Int16
) -> None:
    done = edge_emotion("run", "--stdin", stdin=sentence.astype("<i2").tobytes())
    assert done.returncode == 0
    assert done.stderr == ""
    expected = finals(edge_emotion("run", wav).stdout)
    found = finals(done.stdout)
    assert len(found) == 1
    assert [e["scores"] for e in found] == [e["scores"] for e in expected]
    assert events(done.stdout)[0]["name"] == "standard input"


def test_half_a_sample_at_the_end_is_no_fault_but_said(
    edge_emotion: Command, sentence: Int16
) -> None:
    done = edge_emotion("run", "--stdin", stdin=sentence.tobytes() + b"\x01")
    assert done.returncode == 0
    assert len(finals(done.stdout)) == 1
    assert done.stderr == (
        "edge-emotion: warning: standard input ended in the middle of a sample\n"
    )


def test_samples_torn_apart_by_the_pipe_are_put_together(start: Start, sentence: Int16) -> None:
    process = start("run", "--stdin", stdin=subprocess.PIPE)
    assert process.stdin is not None
    data = sentence.tobytes()
    for begin in range(0, len(data), 9999):  # an odd number of bytes at a time
        process.stdin.write(data[begin : begin + 9999])
        process.stdin.flush()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == b""
    assert len(finals(out.decode())) == 1


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_an_audio_file_piped_in_is_heard_as_the_file(
    edge_emotion: Command, tmp_path: Path, sentence: Int16, kind: str
) -> None:
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, sentence, SAMPLE_RATE)
    named = edge_emotion("run", path)
    piped = edge_emotion("run", "-", stdin=path.read_bytes())
    assert piped.returncode == 0
    assert piped.stderr == ""
    (one,), (other,) = finals(named.stdout), finals(piped.stdout)
    assert one["scores"] == other["scores"]
    assert (one["start"], one["end"]) == (other["start"], other["end"])


def test_an_empty_pipe_holds_no_speech(edge_emotion: Command) -> None:
    done = edge_emotion("run", "--stdin", stdin=b"")
    assert done.returncode == 0
    assert done.stderr == "edge-emotion: standard input: no speech found\n"


def test_a_closed_standard_input_is_one_line(
    command: list[str], environment: dict[str, str]
) -> None:
    code = "import os, sys; os.close(0); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "run", "--stdin"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "edge-emotion: standard input is closed; pipe audio into it\n"


def test_a_terminal_is_not_taken_for_samples(start: Start) -> None:
    primary, secondary = os.openpty()
    try:
        _, err = start("run", "--stdin", stdin=secondary).communicate(timeout=60)
    finally:
        os.close(primary)
        os.close(secondary)
    assert b"standard input is a terminal; pipe audio into it" in err


def test_verdicts_come_while_the_pipe_is_still_open(start: Start, sentence: Int16) -> None:
    process = start("run", "--stdin", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(sentence.tobytes())  # its last second is silence, which ends it
    process.stdin.flush()
    read_until(process, b'"final": true')
    process.stdin.close()
    process.stdin = None
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_real_time_is_the_speed_of_speech(edge_emotion: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(2 * SAMPLE_RATE, np.int16), SAMPLE_RATE)
    begin = time.monotonic()
    edge_emotion("run", "--realtime", path)
    assert time.monotonic() - begin >= 1.9  # a block of 0.1 s may remain


# Terminals and streams that are not as usual


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_of_another_encoding_shows_what_it_can(
    command: list[str], environment: dict[str, str], wav: Path, tmp_path: Path, encoding: str
) -> None:
    named = wav.rename(tmp_path / "Grüße ☺.wav")
    words = tmp_path / "words.jsonl"
    words.write_text(json.dumps({"text": "naïve ☺", "start": 1.5, "end": 2.0, "final": True}))
    run = [*command, "run", "--text", f"jsonl:{words}", str(named)]
    spoken = {**environment, "PYTHONIOENCODING": encoding}
    done = subprocess.run([*run, "--out", "pretty"], capture_output=True, env=spoken, timeout=60)
    assert done.stderr == b""
    assert done.returncode == 0
    shown = done.stdout.decode(encoding)
    assert " % #" in shown  # the bar of the confidence
    assert ("Grüße ?.wav" if encoding == "latin-1" else "Gr??e ?.wav") in shown

    done = subprocess.run([*run, "--out", "jsonl"], capture_output=True, env=spoken, timeout=60)
    assert done.returncode == 0
    assert events(done.stdout.decode(encoding))[0]["name"] == str(named)
    assert finals(done.stdout.decode(encoding))[0]["text"] == "naïve ☺"


@pytest.mark.parametrize("columns", ["1", "0", "20"])
def test_a_terminal_of_one_column_is_no_fault(
    command: list[str], environment: dict[str, str], scene_path: Path, columns: str
) -> None:
    done = subprocess.run(
        [*command, "run", "--out", "pretty", str(scene_path)],
        capture_output=True,
        text=True,
        env={**environment, "COLUMNS": columns},
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert "real-time factor" in " ".join(done.stdout.split())


# The other commands


def test_doctor_finds_a_sound_device_sound(edge_emotion: Command) -> None:
    done = edge_emotion("doctor")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "FAULT" not in done.stdout
    for word in ("edge-emotion", "Python", "CPU", "ai-edge-litert", "hashes match", "test run"):
        assert word in done.stdout
    for engine in (*(", ".join(found.forms) for found in engines().values()), "mqtt://"):
        assert f"\nok    {engine}" in done.stdout or f"\n-     {engine}" in done.stdout


def test_doctor_looks_where_something_is_to_be_kept(edge_emotion: Command, tmp_path: Path) -> None:
    def looked(*lines: str) -> dict[str, str]:
        settings = tmp_path / "config.toml"
        settings.write_text("\n".join(('listen = "tcp:4000"', *lines)))
        done = edge_emotion("doctor", "--config", settings)
        found = {line[6:].split()[0]: line for line in done.stdout.splitlines()}
        assert done.returncode == int("FAULT" in done.stdout)
        return found

    kept = tmp_path / "new" / "kept.jsonl"
    assert looked(f'[file]\npath = "{kept}"')["file"].startswith("ok ")
    assert not kept.parent.exists()
    growing = looked(f'[file]\npath = "{kept}"\nmegabytes = 99999\nkeep = 999')["file"]
    assert growing.startswith("-  ")
    assert growing.endswith("or keep less (--file-megabytes, --file-keep)")
    assert looked(f'[file]\npath = "{tmp_path}"')["file"].startswith("FAULT ")
    broker = '[mqtt]\nbroker = "mqtt://127.0.0.1:1"'
    assert looked(broker, 'buffer = "/proc/none"')["buffer"].startswith("FAULT ")
    assert "name another (--mqtt-buffer)" in looked(broker, 'buffer = "/proc/none"')["buffer"]


def test_what_is_kept_is_said_in_the_events(
    edge_emotion: Command, scene_path: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.jsonl"
    arguments = ("--out", "jsonl", "--file", kept, "--file-days", "2", "--no-file-text")
    done = edge_emotion("run", *arguments, scene_path)
    assert done.returncode == 0
    source, told, *_ = events(done.stdout)
    assert (source["type"], told["type"], told["t"]) == ("source", "storage", 0.0)
    assert told["message"] == (
        f"events, without the words, are kept in {kept}, at most 60 MB and 2 days"
    )
    assert (told["words"], told["place"], told["megabytes"]) == (False, str(kept), 60.0)
    assert [event["type"] for event in events(kept.read_text())][:2] == ["source", "storage"]


def test_doctor_finds_the_fault_of_a_bundle(edge_emotion: Command, bundle_copy: Path) -> None:
    (bundle_copy / "head.tflite").write_bytes(b"x")
    done = edge_emotion("doctor", "--bundle", bundle_copy)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "FAULT" in line]
    assert line.startswith("FAULT bundle")
    assert "head.tflite is damaged" in line


def test_bench_tells_every_stage_and_its_percentiles(edge_emotion: Command) -> None:
    done = edge_emotion("bench", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert set(result["stages_ms_per_block"]) == {"segmentation", "features", "graph"}
    for values in (*result["stages_ms_per_block"].values(), result["final_verdict_ms"]):
        assert 0 < values["p50"] <= values["p95"] <= values["p99"]
    assert result["engine"] == "litert"
    assert result["utterances"] >= 50
    # Faster than speech by far, also on a machine that is busy; numpy and LiteRT need 40 MB.
    assert 0 < result["real_time_factor"] < 0.5
    assert 30 < result["peak_rss_mb"] < 150


def test_bench_for_people_is_a_table(edge_emotion: Command) -> None:
    lines = edge_emotion("bench").stdout.splitlines()
    assert lines[0].split() == ["milliseconds", "p50", "p95", "p99"]
    assert len(lines) == 6
    assert "real-time factor" in lines[-1]


def test_the_demo_ends_with_the_latency_table(edge_emotion: Command) -> None:
    done = edge_emotion("demo")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.count(" % ") >= 3  # utterances, each with its confidence
    assert "final verdict, from the last sample to the event" in done.stdout


def test_a_memory_figure_is_that_of_the_process_not_of_what_started_it(
    environment: dict[str, str], command: list[str]
) -> None:
    # Linux carries the peak of a process over to the one that it turns into.
    code = "import os, sys; b = b'x' * 300_000_000; os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "bench", "--json"],
        capture_output=True,
        env=environment,
        check=True,
    )
    assert json.loads(done.stdout)["peak_rss_mb"] < 150
