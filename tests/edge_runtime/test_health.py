"""What a device says of itself: temperature and throttling, from the files of real boards."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.bundle import load_bundle
from edge_runtime.events import EmotionEvent, Event, HealthEvent, to_dict
from edge_runtime.stream import EmotionStream
from edge_runtime.thermal import Thermal

# Types and contents as they stand in /sys/class/thermal of these boards.
BOARDS = {
    "Raspberry Pi 4": ([("cpu-thermal", "48686\n")], 48.686),
    "Raspberry Pi, older kernel": ([("cpu_thermal", "48686\n")], 48.686),
    "Jetson Nano": (
        [
            ("AO-therm", "41500\n"),
            ("CPU-therm", "33000\n"),
            ("GPU-therm", "32500\n"),
            ("PLL-therm", "31500\n"),
            ("PMIC-Die", "100000\n"),
            ("thermal-fan-est", "32750\n"),
        ],
        33.0,
    ),
    # Zones of what is switched off cannot be read there.
    "Jetson Orin": (
        [("cv0-thermal", None), ("gpu-thermal", None), ("cpu-thermal", "51125\n")],
        51.1,
    ),
    "PC": ([("acpitz", "27800\n"), ("x86_pkg_temp", "55000\n")], 55.0),
    "laptop": ([("INT3400 Thermal", "20000\n"), ("acpitz", "45000\n")], 20.0),
    "RK3399": ([("gpu", "43888\n"), ("soc-thermal", "44444\n")], 44.4),
    "nothing that makes sense": ([("cpu-thermal", "-274000\n"), ("acpitz", "hot\n")], None),
    "PMIC alone": ([("PMIC-Die", "100000\n")], None),
    "no zones": ([], None),
}
FIRMWARE = (
    "devices/platform/soc/soc:firmware/get_throttled",
    "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
)


@pytest.mark.parametrize("board", BOARDS)
def test_the_temperature_is_that_of_the_processor(board: str, tmp_path: Path) -> None:
    zones, expected = BOARDS[board]
    for number, (kind, content) in enumerate(zones):
        folder = tmp_path / "class" / "thermal" / f"thermal_zone{number}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(f"{kind}\n")
        if content is None:
            (folder / "temp").mkdir()  # reading it fails, for root too
        else:
            (folder / "temp").write_text(content)
    found = Thermal(tmp_path).temperature_c
    assert found == (None if expected is None else pytest.approx(expected, abs=0.05))


def test_a_temperature_that_cannot_be_read_any_more_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "class" / "thermal" / "thermal_zone0"
    folder.mkdir(parents=True)
    (folder / "type").write_text("cpu-thermal\n")
    (folder / "temp").write_text("48686\n")
    thermal = Thermal(tmp_path)
    assert thermal.temperature_c == 48.686
    (folder / "temp").unlink()
    assert thermal.temperature_c is None


def throttled(thermal: Thermal) -> str:
    """What it says once the answer is there."""
    said = thermal.throttled
    if thermal._asking is not None:
        thermal._asking.join(60)
        asked, thermal._asked = thermal._asked, time.monotonic() + 1e6  # not again
        said = thermal.throttled
        thermal._asked = asked
    return said


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        ("0", ""),
        ("1", "under-voltage"),
        ("2", "capped"),
        ("4", "throttled"),
        ("8", "soft temperature limit"),
        ("50005", "under-voltage, throttled"),
        ("e0008", "soft temperature limit"),
        ("50000", ""),  # at some time before: nobody wants to hear of it for ever
        ("nonsense", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize("place", FIRMWARE)
def test_throttling_is_what_the_firmware_says(
    bits: str, expected: str, place: str, tmp_path: Path
) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_text(f"{bits}\n")
    assert throttled(Thermal(tmp_path)) == expected


def test_what_happened_between_two_questions_is_told_once(tmp_path: Path) -> None:
    file = tmp_path / FIRMWARE[0]
    file.parent.mkdir(parents=True)
    file.touch()
    thermal = Thermal(tmp_path, every=0)
    said = []
    for bits in ("0", "50000", "50000", "d0008", "d0000"):
        file.write_text(f"{bits}\n")
        said.append(throttled(thermal))
    assert said == ["", "under-voltage, throttled", "", "soft temperature limit", ""]


def program(path: Path, script: str) -> str:
    """A `vcgencmd` that counts its calls in a file beside it."""
    path.write_text(f'#!/bin/sh\necho "$1" >> {path}.calls\n{script}\n')
    path.chmod(0o755)
    return str(path)


def test_vcgencmd_is_asked_where_sysfs_does_not_tell_and_once_a_minute(tmp_path: Path) -> None:
    vcgencmd = program(tmp_path / "vcgencmd", "echo throttled=0x50005")
    thermal = Thermal(tmp_path, vcgencmd)
    assert throttled(thermal) == "under-voltage, throttled"
    for _ in range(5):
        assert thermal.throttled == "under-voltage, throttled"
    assert Path(f"{vcgencmd}.calls").read_text() == "get_throttled\n"


@pytest.mark.parametrize(
    "script", ["exit 255", "sleep 100", "echo VCHI initialization failed", "printf '\\377'"]
)
def test_a_vcgencmd_that_does_not_answer_says_nothing_and_delays_nobody(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_runtime.thermal._ANSWER_SECONDS", 5.0)
    thermal = Thermal(tmp_path, program(tmp_path / "vcgencmd", f"exec {script}"))
    assert thermal.throttled == ""
    assert thermal._asking is not None
    # Nobody waited for the one that says nothing: it is still being asked.
    assert thermal._asking.is_alive() or not script.startswith("sleep")
    thermal._asking.join(60)
    assert not thermal._asking.is_alive()


def test_a_program_that_cannot_be_started_says_nothing(tmp_path: Path) -> None:
    assert throttled(Thermal(tmp_path, str(tmp_path / "none"))) == ""


def test_a_stream_says_what_it_knows_of_its_board() -> None:
    with EmotionStream(load_bundle()) as stream:
        health = stream.health()
        assert (health.temperature_c is None) == (Thermal().temperature_c is None)
        assert isinstance(health.throttled, str)
    told = to_dict(replace(health, temperature_c=48.686, audio_waiting_s=1.23456, reconnects=2))
    assert (told["temperature_c"], told["audio_waiting_s"]) == (48.7, 1.235)
    assert (
        json.loads(json.dumps(to_dict(replace(health, temperature_c=None))))["temperature_c"]
        is None
    )


@pytest.fixture
def lines() -> Callable[[Event], str]:
    """What the terminal view shows of an event, in one line, and its color codes."""
    pytest.importorskip("rich")
    from rich.console import Console

    from edge_runtime.sinks.pretty import PrettySink

    def show(event: Event) -> str:
        out = io.StringIO()
        sink = PrettySink(Console(file=out, width=200, color_system=None))
        sink.write(event)
        sink.close()
        return out.getvalue().strip()

    return show


def test_the_terminal_shows_what_is_notable_of_the_board(lines: Callable[[Event], str]) -> None:
    fine = HealthEvent(60.0, 0.0, 0, 0.01, 60.0, temperature_c=48.0, queued=3, audio_waiting_s=0.1)
    assert lines(fine).endswith("real-time factor 0.0100, 60 MB")
    troubled = replace(
        fine,
        temperature_c=81.4,
        throttled="throttled",
        audio_waiting_s=2.25,
        reconnects=1,
        queue_dropped=1200,
    )
    assert lines(troubled).endswith(
        "60 MB, 81 °C, slowed down: throttled, 2.2 s of audio waiting, 1 reconnect, "
        "1,200 messages dropped"
    )


def test_the_terminal_marks_a_late_verdict(lines: Callable[[Event], str]) -> None:
    verdict = EmotionEvent(
        9.0, True, 1.0, 3.5, "sad", 0.7, {"angry": 0.3, "sad": 0.7}, latency_ms={"total": 0.8}
    )
    assert lines(verdict).endswith("angry 30  0.8 ms")
    assert lines(replace(verdict, late=True)).endswith("angry 30  late, 0.8 ms")
