"""What goes wrong with words, and what is said of it."""

from __future__ import annotations

import resource
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import TextError
from edge_runtime.events import TextStatusEvent
from edge_runtime.pcm import Int16
from edge_runtime.system import module_command
from edge_runtime.text.engine_process import EngineProcess
from edge_runtime.text.engines import source_named
from edge_runtime.text.given import GivenStream

PATIENCE = 60.0  # seconds for a process to start or to die on a busy machine


class Broker:
    """A feed that nobody reads from: lines come from a thread, as a broker's do."""

    repeats = False

    def __init__(self, waits: bool, count: int = 300) -> None:
        self.waits = waits
        self.count = count
        self.done = threading.Event()

    def start(self, line, end, tell) -> None:  # type: ignore[no-untyped-def]
        def run() -> None:
            for number in range(self.count):
                line(b'{"text": "word%d"}' % number)
            self.done.set()
            end("it is over")  # which waits for somebody to read

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.thread.join(PATIENCE)  # as a client library does: its loop ends before `stop` does
        assert not self.thread.is_alive()


@pytest.mark.parametrize("waits", [False, True])
def test_close_ends_while_nobody_polls(waits: bool) -> None:
    feed = Broker(waits)
    stream = GivenStream("mqtt://here/words", feed)
    closer = threading.Thread(target=stream.close, daemon=True)
    if waits:
        time.sleep(0.2)  # the queue is full
    else:
        feed.done.wait(PATIENCE)
    closer.start()
    closer.join(PATIENCE)
    assert not closer.is_alive()


def test_messages_that_nobody_polls_lose_their_oldest_and_are_counted() -> None:
    feed = Broker(waits=False)
    stream = GivenStream("mqtt://here/words", feed)
    feed.done.wait(PATIENCE)
    stream.begin(0.0)
    events = stream.poll(1.0)
    told = [e.reason for e in events if isinstance(e, TextStatusEvent)]
    assert stream.lost_lines >= 100
    assert any(f"{stream.lost_lines} lines" in reason for reason in told)
    words = [e for e in events if not isinstance(e, TextStatusEvent)][-1]
    assert words.text.endswith("word299")
    stream.close()


def dead(engine: EngineProcess) -> str:
    """What is wrong with an engine that is about to die."""
    deadline = time.monotonic() + PATIENCE
    while not (reason := engine.trouble(PATIENCE, PATIENCE, PATIENCE)):
        assert time.monotonic() < deadline
        engine.pump(0.05)
    engine.kill()
    engine.reap(5.0)
    return reason


def test_the_last_words_of_a_crashed_engine_are_its_reason(tmp_path: Path) -> None:
    model = tmp_path / "ggml-damaged.bin"
    model.write_bytes(b"lmgg" + np.random.default_rng(0).bytes(4096))
    reason = dead(EngineProcess(f"whisper:{model}"))
    assert "signal" in reason or "ended with" in reason or "whisper" in reason.lower()
    # More than the number: what the library wrote before it went, or the exception's message.
    assert ": " in reason


def test_an_exception_in_an_engine_is_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "vosk.py"
    package.write_text(
        "class Model:\n    def __init__(self, model_path): pass\n"
        "def SetLogLevel(level): pass\n"
        "class KaldiRecognizer:\n    def __init__(self, *a): raise MemoryError('no room for it')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    engine = EngineProcess(f"vosk:{tmp_path}")
    engine.begin(0.0)
    assert dead(engine) == "MemoryError: no room for it"


def test_a_stray_module_beside_the_packages_does_not_stand_for_the_standard_library(
    tmp_path: Path,
) -> None:
    import subprocess

    (tmp_path / "typing.py").write_text("raise RuntimeError('the stray one')")
    (tmp_path / "stray_package.py").write_text("import typing\nprint(typing.__file__)")
    path = [*sys.path, str(tmp_path)]
    code = (
        f"import sys; sys.path[:] = {path!r}\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        "from edge_runtime.system import module_command\n"
        "import subprocess\n"
        "sys.exit(subprocess.run(module_command('stray_package')).returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path.parent,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in done.stdout


def test_an_engine_imports_what_its_parent_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, "/nowhere/at all"])
    *_, path = module_command("anything")
    assert "/nowhere/at all" in path


def test_an_engine_works_above_descriptor_1023(sentence: Int16) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this system allows no such descriptor")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [open("/dev/null", "rb") for _ in range(1100)]  # noqa: SIM115
    try:
        engine = EngineProcess("asr")
        deadline = time.monotonic() + PATIENCE
        while not engine.ready:
            assert time.monotonic() < deadline
            assert engine.trouble(PATIENCE, PATIENCE, PATIENCE) == ""
            engine.pump(0.05)
        engine.kill()
        engine.reap(5.0)
    finally:
        for file in held:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_list_with_an_unknown_word_listens_for_the_rest_and_says_so(tmp_path: Path) -> None:
    listed = tmp_path / "mine.txt"
    listed.write_text("help me\nzzyzx please\nstop\n")
    engine = source_named(f"keywords:{listed}")
    (note,) = engine.notes
    assert "'zzyzx please'" in note
    assert "zzyzx" in note.split("lacks")[1]
    assert "help me" not in note


def test_a_list_of_unknown_words_alone_is_refused(tmp_path: Path) -> None:
    listed = tmp_path / "mine.txt"
    listed.write_text("zzyzx\n")
    with pytest.raises(TextError, match="zzyzx"):
        source_named(f"keywords:{listed}")


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"words": [' + b"[" * 100_000,
        b'{"text": "a", "start": ' + b"9" * 400 + b"}",
        b'{"text": "a", "start": NaN}',
        b"\xff\xfe\x00",
        b'{"words": [1]}',
        b'{"words": {"text": "a"}}',
    ],
)
def test_a_line_that_cannot_be_meant_is_told_and_the_next_is_read(line: bytes) -> None:
    class Said:
        waits, repeats = True, False

        def start(self, take, end, tell) -> None:  # type: ignore[no-untyped-def]
            take(line)
            take(b'{"text": "we won"}')

        def stop(self) -> None: ...

    stream = GivenStream("jsonl:here", Said())
    stream.begin(0.0)
    events = stream.poll(1.0)
    assert stream.invalid_lines == 1
    assert events[-1].text == "we won"  # type: ignore[union-attr]
