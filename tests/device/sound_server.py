"""A PulseAudio of the tests' own, with sinks that can be listened to by their monitors."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.pcm import SAMPLE_RATE

PROGRAMS = ("pulseaudio", "pactl", "pacat")
PLUGIN = "libasound_module_pcm_pulse.so"
IS_HERE = all(shutil.which(name) for name in PROGRAMS) and any(
    Path("/usr/lib").glob(f"*/alsa-lib/{PLUGIN}")
)
INSTALL = "apt install pulseaudio pulseaudio-utils libasound2-plugins"
PATIENCE = 60  # seconds until something that should have happened counts as a hang
SINK = "speaker"
SYSTEM_ALSA = "</usr/share/alsa/alsa.conf>\n"
Start = Callable[..., "subprocess.Popen[str]"]
Finish = Callable[..., subprocess.CompletedProcess[str]]


class Pulse:
    """A running sound server, with a sink at our own rate: nothing resamples on its way.

    Parameters
    ----------
    log : where it writes what happens.
    sinks : further ones, name: (rate, channels).
    """

    def __init__(self, log: Path, sinks: dict[str, tuple[int, int]] | None = None) -> None:
        self._log = log
        self._sinks = {SINK: (SAMPLE_RATE, 1), **(sinks or {})}
        self.start()

    def start(self) -> None:
        """Start it, once more if need be, and wait until it answers."""
        socket = os.environ["PULSE_SERVER"].removeprefix("unix:")
        command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no"]
        # Without shared memory: of that, version 16.1 aborts at times where a client goes away
        # (memblock.c: Assertion 'n_imported > 0' failed).
        command += ["--exit-idle-time=-1", "--disable-shm=yes"]
        command += [f"--load=module-native-protocol-unix socket={socket} auth-anonymous=1"]
        for name, (rate, channels) in self._sinks.items():
            form = f"rate={rate} channels={channels} format=s16le"
            command += [f"--load=module-null-sink sink_name={name} {form}"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(["pactl", "info"], capture_output=True).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail("PulseAudio does not start:\n" + self._log.read_text())
            time.sleep(0.1)

    def play(
        self, samples: np.ndarray, rate: int = SAMPLE_RATE, sink: str = SINK
    ) -> subprocess.Popen[bytes]:
        """Begin to play int16 (n,) or (n, channels)."""
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        form = (f"--rate={rate}", "--format=s16le", f"--channels={channels}", "--raw")
        with tempfile.TemporaryFile() as file:
            file.write(samples.astype("<i2").tobytes())
            file.seek(0)
            return subprocess.Popen(["pacat", "--playback", f"--device={sink}", *form], stdin=file)

    def control(self, *arguments: str) -> str:
        """What `pactl` says."""
        done = subprocess.run(["pactl", *arguments], capture_output=True, check=True, text=True)
        return done.stdout

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def wait_for_capture(captures: int = 1) -> None:
    """Until so many record from a sink's monitor."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        listing = subprocess.run(
            ["pactl", "list", "short", "source-outputs"], capture_output=True, check=False
        )
        if len(listing.stdout.splitlines()) >= captures:
            return
        time.sleep(0.1)
    pytest.fail("nobody records")
