"""A soak: hours of audio through a real `edge-emotion run`, faster than speech, and what grows.

    python tests/soak.py --hours 8 --json soak.json --plot soak.png

The program hears a socket, spots keywords, and has a broker, a page and a file for its events. It
is watched from outside: memory, descriptors and threads of its processes, and at the end whether
every event of the file also came to the broker and to the page.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from mosquitto import ANYBODY, PATIENCE, Listener, Mosquitto, wait_until  # noqa: E402
from ports import free_port  # noqa: E402
from soak_audio import Int16, stretches  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from edge_runtime.pcm import SAMPLE_RATE  # noqa: E402

AHEAD = 20.0  # seconds of audio before the words of what was said; the program keeps 30
WARM_UP = 0.25  # share of the run in which buffers and histories fill
_PIECE = SAMPLE_RATE // 4  # samples that are sent at a time
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NO_EVENTS = ("hello", "history", "level", "alive", "missed")  # of what the page gets


@dataclass(frozen=True)
class Usage:
    """What a process holds at a moment."""

    audio_h: float
    """Hours of audio that were sent by then."""
    wall_h: float
    """Hours since the first of it was sent."""
    rss_mb: float
    """Resident memory, MB (10^6 bytes)."""
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Growth:
    """What became of a process after the warm-up."""

    rss_mb: tuple[float, float]
    """At the beginning and at the end, means of a tenth each, MB."""
    rss_mb_per_audio_h: float
    """Least-squares slope, MB per hour of audio."""
    rss_mb_per_h: float
    """The same, MB per hour of the clock."""
    descriptors: tuple[int, int]
    """The fewest of the first and of the last tenth: a look at /proc opens one for a moment."""
    threads: tuple[int, int]
    """The same."""

    @classmethod
    def of(cls, usage: list[Usage]) -> Growth:
        """Growth over `usage`, without the warm-up."""
        usage = usage[round(WARM_UP * len(usage)) :]
        memory = np.array([one.rss_mb for one in usage])
        tenth = max(1, len(usage) // 10)
        first, last = usage[:tenth], usage[-tenth:]
        return cls(
            (float(memory[:tenth].mean()), float(memory[-tenth:].mean())),
            _slope([one.audio_h for one in usage], memory),
            _slope([one.wall_h for one in usage], memory),
            (min(u.descriptors for u in first), min(u.descriptors for u in last)),
            (min(u.threads for u in first), min(u.threads for u in last)),
        )


@dataclass
class Report:
    """What came of a soak."""

    audio_h: float = 0.0
    """Hours of audio."""
    wall_h: float = 0.0
    """Hours that it took."""
    kinds_h: dict[str, float] = field(default_factory=dict)
    """Hours of speech, noise and silence."""
    usage: dict[str, list[Usage]] = field(default_factory=dict)
    """By process: "program", and "engine", which hears the words."""
    engines: int = 0
    """Processes of the engine that were seen; one where none failed."""
    events: dict[str, int] = field(default_factory=dict)
    """By type, in the file."""
    places: dict[str, int] = field(default_factory=dict)
    """Events at each place: file, broker, page."""
    missed: int = 0
    """Events that the page was told it missed."""
    same: bool = False
    """Whether all places have the same events in the same order."""
    health: dict[str, Any] = field(default_factory=dict)
    """The last health event."""
    code: int | None = None
    """Of the program's end."""
    said: str = ""
    """What it said on standard error."""

    @property
    def growth(self) -> dict[str, Growth]:
        """By process."""
        return {name: Growth.of(usage) for name, usage in self.usage.items()}

    def faults(self) -> list[str]:
        """What must not be, apart from memory: that needs hours to be told from noise."""
        health = self.health
        found = [
            f"{name}: {what} grew from {counts[0]} to {counts[1]}"
            for name, growth in self.growth.items()
            for what, counts in (("descriptors", growth.descriptors), ("threads", growth.threads))
            if counts[1] > counts[0]
        ]
        if not self.same or self.missed or len(set(self.places.values())) != 1:
            found.append(f"events differ: {self.places}, the page missed {self.missed}")
        if self.code != 0:
            found.append(f"exit code {self.code}: {self.said[-500:]}")
        if self.engines != 1:
            found.append(f"{self.engines} engines were started")
        lost = ("dropped_ms", "queue_dropped", "text_dropped_s", "reconnects")
        return found + [f"{name}: {health.get(name)}" for name in lost if health.get(name) != 0]

    def table(self) -> str:
        """The figures for people."""
        kinds = ", ".join(f"{name} {hours:.2f} h" for name, hours in self.kinds_h.items())
        lines = [
            f"{self.audio_h:.2f} h of audio ({kinds}) in {self.wall_h:.2f} h, "
            f"{self.audio_h / max(self.wall_h, 1e-9):.1f} times as fast as people speak",
            f"events: {self.places}, {'the same' if self.same else 'NOT THE SAME'}; {self.events}",
            f"{'':9} {'RSS, MB':>15} {'MB/h of audio':>14} {'MB/h':>7} {'files':>9} {'threads':>9}",
        ]
        for name, growth in self.growth.items():
            memory, files, threads = (
                f"{pair[0]:.4g} to {pair[1]:.4g}"
                for pair in (growth.rss_mb, growth.descriptors, growth.threads)
            )
            lines.append(
                f"{name:9} {memory:>15} {growth.rss_mb_per_audio_h:14.3f} "
                f"{growth.rss_mb_per_h:7.2f} {files:>9} {threads:>9}"
            )
        return "\n".join([*lines, *(f"FAULT: {fault}" for fault in self.faults())])

    def to_json(self) -> str:
        """All figures; of what was measured on the way, some 500 moments."""
        usage = {
            name: [asdict(one) for one in some[:: max(1, len(some) // 500)]]
            for name, some in self.usage.items()
        }
        growth = {name: asdict(grown) for name, grown in self.growth.items()}
        return json.dumps(
            {**asdict(self), "usage": usage, "growth": growth, "faults": self.faults()}, indent=1
        )


class Page:
    """A page that is open: the events that it gets, and how far the program is."""

    def __init__(self, port: int) -> None:
        self.events: list[str] = []
        self.missed = 0
        self._open: dict[float, bool] = {}  # utterances without their words, by their start
        self._t = 0.0
        self._turn = threading.Condition()
        self._closing = contextlib.ExitStack()
        self._connection = self._closing.enter_context(
            connect(f"ws://127.0.0.1:{port}/events", proxy=None, max_size=None)
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def done(self) -> float:
        """Second of the stream up to which everything is said, words too."""
        with self._turn:
            return min(self._open, default=self._t)

    def wait_for(self, t: float) -> None:
        """Until everything up to second `t` is said; fails where the program hangs."""
        wait_until(lambda: self.done >= t, PATIENCE, lambda: f"hangs at {self.done}, wanted {t}")

    def close(self) -> None:
        """Wait for the program to end it."""
        self._thread.join(PATIENCE)
        self._closing.close()

    def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = json.loads(self._connection.recv())
                with self._turn:
                    self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        for event in message["events"] if kind == "history" else [message]:
            if event["type"] not in _NO_EVENTS:
                self.events.append(canonical(event))
        self._t = max(self._t, message.get("t", 0.0))
        if kind == "speech_start":
            self._open[message["t"]] = True
        elif kind == "text" and message["final"]:
            self._open.pop(message["start"], None)
        elif kind == "missed":
            self.missed = message["count"]


class Soak:
    """One run, with its files in an empty `folder`."""

    def __init__(self, folder: Path, corpora: Path, seed: int = 0, every: float = 1.0) -> None:
        self._folder, self._every = folder, every
        self._stretches = stretches(corpora, seed)
        self._report = Report(usage={"program": [], "engine": []})
        self._sent = 0  # samples
        self._engines: set[int] = set()

    def run(self, hours: float) -> Report:
        """Feed so many hours of audio, and see what came of it."""
        report, broker = self._report, Mosquitto(self._folder)
        try:
            broker.start(*ANYBODY)
            heard = Listener(broker.port, "edge-emotion/#")
            with self._program(broker.port) as (process, page):
                self._feed(hours, process, page)
                process.send_signal(signal.SIGTERM)
                report.code = process.wait(PATIENCE)
                page.close()
            self._compare(page, heard)
            heard.close()
        finally:
            broker.kill()
        report.engines = len(self._engines)
        report.said = (self._folder / "stderr").read_text()
        return report

    @contextlib.contextmanager
    def _program(self, broker: int) -> Iterator[tuple[subprocess.Popen[bytes], Page]]:
        audio, file, port = self._folder / "audio", self._folder / "config.toml", free_port()
        file.write_text(
            f"""listen = "unix:{audio}"
out = "none"
text = "keywords"
name = "Soak"
[file]
path = "{self._folder / "events.jsonl"}"
megabytes = 10000
partial = true
[mqtt]
broker = "mqtt://127.0.0.1:{broker}"
buffer = "{self._folder / "buffer"}"
text = true
partial = true
[web]
on = true
port = {port}
""",
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "edge_runtime.cli", "run", "--config", str(file)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with open(self._folder / "stderr", "wb") as said:
            process = subprocess.Popen(command, env=environment, stderr=said)
        try:
            wait_until(lambda: audio.exists() or process.poll() is not None)
            yield process, Page(port)
        finally:
            process.kill()
            process.wait()

    def _feed(self, hours: float, process: subprocess.Popen[bytes], page: Page) -> None:
        """Send audio as fast as words are found in it, and look at the processes on the way."""
        begun = looked = time.monotonic()
        with socket.socket(socket.AF_UNIX) as sender:
            sender.settimeout(PATIENCE)
            sender.connect(str(self._folder / "audio"))
            while self._sent < hours * 3600 * SAMPLE_RATE:
                kind, samples = next(self._stretches)
                self._send(sender, page, samples)
                kinds = self._report.kinds_h
                kinds[kind] = kinds.get(kind, 0.0) + samples.size / SAMPLE_RATE / 3600
                if time.monotonic() - looked >= self._every:
                    looked = time.monotonic()
                    self._look(process.pid, (looked - begun) / 3600)
        page.wait_for(self._sent / SAMPLE_RATE - 0.1)  # who leaves ends what was said
        self._report.audio_h = self._sent / SAMPLE_RATE / 3600
        self._report.wall_h = (time.monotonic() - begun) / 3600

    def _send(self, sender: socket.socket, page: Page, samples: Int16) -> None:
        for at in range(0, samples.size, _PIECE):
            piece = samples[at : at + _PIECE]
            page.wait_for(self._sent / SAMPLE_RATE - AHEAD)
            sender.sendall(piece.tobytes())
            self._sent += piece.size

    def _look(self, program: int, wall_h: float) -> None:
        engines = children(program)
        self._engines.update(engines)
        for name, pids in (("program", [program]), ("engine", engines)):
            for pid in pids:
                self._report.usage[name].append(usage(pid, self._sent / SAMPLE_RATE / 3600, wall_h))

    def _compare(self, page: Page, heard: Listener) -> None:
        report = self._report
        with open(self._folder / "events.jsonl", encoding="utf-8") as lines:
            kept = [json.loads(line) for line in lines]
        wanted = [canonical(event) for event in kept]
        with contextlib.suppress(AssertionError):  # what is missing is counted below
            wait_until(lambda: len(_events(heard)) >= len(wanted), 5.0)
        sent = _events(heard)
        report.places = {"file": len(wanted), "broker": len(sent), "page": len(page.events)}
        report.missed = page.missed
        report.same = wanted == sent == page.events
        for event in kept:
            report.events[event["type"]] = report.events.get(event["type"], 0) + 1
            if event["type"] == "health":
                report.health = event


def canonical(event: dict[str, Any]) -> str:
    """An event without the time of day, which every place notes by itself."""
    return json.dumps({key: value for key, value in event.items() if key != "time"}, sort_keys=True)


def usage(pid: int, audio_h: float, wall_h: float) -> Usage:
    """What a process holds now. Raises OSError where it is gone."""
    folder = Path("/proc") / str(pid)
    return Usage(
        audio_h,
        wall_h,
        int((folder / "statm").read_text().split()[1]) * _PAGE / 1e6,
        len(list((folder / "fd").iterdir())),
        len(list((folder / "task").iterdir())),
    )


def children(pid: int) -> list[int]:
    """The processes that it started and that are still there."""
    tasks = (Path("/proc") / str(pid) / "task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _events(heard: Listener) -> list[str]:
    return [
        canonical(json.loads(payload))
        for topic, payload, _ in list(heard.heard)
        if "/event/" in topic
    ]


def _slope(hours: list[float], memory: Any) -> float:
    return float(np.polyfit(hours, memory, 1)[0])


def plot(report: Report, file: Path) -> None:
    """A picture of memory, descriptors and threads over the audio."""
    from matplotlib.figure import Figure

    figure = Figure((8, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for name, some in report.usage.items():
        hours = [one.audio_h for one in some]
        above.plot(hours, [one.rss_mb for one in some], label=f"{name}, RSS")
        below.plot(hours, [one.descriptors for one in some], label=f"{name}, descriptors")
        below.plot(hours, [one.threads for one in some], "--", label=f"{name}, threads")
    above.set_ylabel("MB")
    below.set_xlabel("hours of audio")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.legend()
    figure.savefig(file)


def main() -> int:
    """The figures of a run; 1 where there is a fault, or memory grows."""
    parser = argparse.ArgumentParser(description="Hours of audio through edge-emotion run")
    parser.add_argument("--hours", type=float, default=8.0, help="of audio (8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two looks (2)")
    parser.add_argument("--most", type=float, default=1.0, help="MB an hour of audio (1)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--plot", type=Path, help="file for a picture; needs matplotlib")
    arguments = parser.parse_args()
    corpora = Path(os.environ.get("CORPORA") or ROOT.parent / "shared" / "data")
    with tempfile.TemporaryDirectory() as folder:
        report = Soak(Path(folder), corpora, arguments.seed, arguments.every).run(arguments.hours)
    print(report.table())
    if arguments.json:
        arguments.json.write_text(report.to_json(), encoding="utf-8")
    if arguments.plot:
        plot(report, arguments.plot)
    grown = [name for name, g in report.growth.items() if g.rss_mb_per_audio_h > arguments.most]
    return 1 if report.faults() or grown else 0


if __name__ == "__main__":
    sys.exit(main())
