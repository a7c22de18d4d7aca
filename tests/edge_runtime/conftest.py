"""A clip of one sentence, and the command as it runs."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import soundfile
from command_output import Int16, Start

from edge_runtime.audio.file import read_file
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.segment import speech_of


@pytest.fixture(scope="session")
def kids(corpora: Path) -> Int16:
    """ "Kids are talking by the door", end-pointed."""
    return speech_of(read_file(corpora / "ravdess/Actor_01/03-01-01-01-01-02-01.flac"))


@pytest.fixture
def wav(tmp_path: Path, sentence: Int16) -> Path:
    """A file of one sentence."""
    path = tmp_path / "sentence.wav"
    soundfile.write(path, sentence, SAMPLE_RATE, subtype="PCM_16")
    return path


@pytest.fixture
def start(command: list[str], environment: dict[str, str]) -> Start:
    """Start `edge-emotion ARGUMENTS` and leave it running."""

    def run(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        # Where the tests run in the background, Ctrl-C is ignored by all that they start.
        return subprocess.Popen(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            **options,
        )

    return run
