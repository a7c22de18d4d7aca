"""Standard error of a process whose libraries chatter: silenced for a while, and never lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

OVERLAP = """
import os, threading
from edge_runtime.system import native_stderr_silenced

first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

def first():
    with native_stderr_silenced():
        first_in.set()
        second_in.wait(30)
    first_out.set()

def second():
    first_in.wait(30)
    with native_stderr_silenced():
        second_in.set()
        first_out.wait(30)
        os.write(2, b"chatter")

threads = [threading.Thread(target=job) for job in (first, second)]
[thread.start() for thread in threads]
[thread.join(60) for thread in threads]
os.write(2, b"told")
"""
STREAMS = """
import os, threading
from edge_runtime import EmotionStream, load_bundle

def work():
    for _ in range(5):
        EmotionStream(load_bundle()).close()

threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join(60) for thread in threads]
os.write(2, b"told")
"""
NESTED = """
import os
from edge_runtime.system import native_stderr_silenced
with native_stderr_silenced():
    with native_stderr_silenced():
        os.write(2, b"chatter")
    os.write(2, b"chatter")
    try:
        with native_stderr_silenced():
            raise KeyError
    except KeyError:
        os.write(2, b"chatter")
os.write(2, b"told")
"""


@pytest.mark.parametrize("code", [OVERLAP, STREAMS, NESTED])
def test_standard_error_comes_back_when_the_last_one_leaves(
    code: str, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment, timeout=120
    )
    assert done.stderr == b"told"
    assert done.returncode == 0


CLOSED_AT_THE_START = ""
CLOSED_BY_PYTHON = "import sys; sys.stderr.close()"
CLOSED_BEHIND_PYTHON = "import os; os.close(2)"
NO_OBJECT = "import sys; sys.stderr = None"


@pytest.mark.parametrize(
    "how", [CLOSED_AT_THE_START, CLOSED_BY_PYTHON, CLOSED_BEHIND_PYTHON, NO_OBJECT]
)
def test_a_stream_needs_no_standard_error(how: str, environment: dict[str, str]) -> None:
    code = f"""
{how}
from edge_runtime import EmotionStream, load_bundle
EmotionStream(load_bundle())
print("opened", flush=True)
"""
    closing = "exec 2>&-; " if how == CLOSED_AT_THE_START else ""
    done = subprocess.run(
        ["sh", "-c", closing + 'exec "$@"', "sh", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env=environment,
        timeout=120,
    )
    assert done.stdout == b"opened\n"


def test_a_file_that_got_the_number_of_standard_error_is_left_alone(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    code = """
import os, sys
from edge_runtime.system import native_stderr_silenced
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
assert file == 2
with native_stderr_silenced():
    os.write(file, b"precious")
"""
    path = tmp_path / "file"
    subprocess.run(
        ["sh", "-c", 'exec 2>&-; exec "$@"', "sh", sys.executable, "-c", code, path],
        env=environment,
        timeout=120,
    )
    assert path.read_bytes() == b"precious"
