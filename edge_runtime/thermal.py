"""How hot the processor is, and whether the board slows it down: from sysfs, or `vcgencmd`."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from functools import cache
from pathlib import Path

_SYS = Path("/sys")
_PREFERRED = ("cpu", "x86_pkg_temp", "soc")  # in the zones' types: Pi, Jetson, PC, Rockchip
_FAKES = ("pmic", "fan")  # the PMIC of a Jetson Nano is always 100 degrees; a fan has none
_SENSIBLE = (-40.0, 150.0)  # degrees C; what lies outside is no temperature but a fault

# Bits of `vcgencmd get_throttled`, Raspberry Pi documentation. The same bits 16 places up say that
# it was so at some time since the board started.
_BITS = {
    1 << 0: "under-voltage",
    1 << 1: "capped",
    1 << 2: "throttled",
    1 << 3: "soft temperature limit",
}
_NOW = 0xF
_SINCE_BOOT = 16
_FIRMWARE = "devices/platform/soc*/soc*:firmware/get_throttled"  # soc@107c000000 on a Pi 5
_ASK_SECONDS = 60.0  # between two questions to the firmware
_ANSWER_SECONDS = 1.0  # in which vcgencmd has answered, or is ended
_WAIT_SECONDS = 0.05  # that who asks waits for it; later the answer counts for the next time


@cache
def this_board() -> Thermal:
    """The readings of this machine: looked for once, however many streams ask."""
    return Thermal()


class Thermal:
    """Readings of this board; nothing where it does not tell.

    Parameters
    ----------
    sys : root of sysfs.
    vcgencmd : the program of that name; found in the path unless given.
    every : seconds between two questions to the firmware; between them its last answer holds.
    """

    def __init__(
        self, sys: Path = _SYS, vcgencmd: str | None = None, every: float = _ASK_SECONDS
    ) -> None:
        self._zone = _processor_zone(sys)
        self._file = next(iter(sorted(sys.glob(_FIRMWARE))), None)
        self._program = None if self._file else vcgencmd or shutil.which("vcgencmd")
        self._every = every
        self._asked: float | None = None
        self._asking: threading.Thread | None = None
        self._now = 0
        self._before: int | None = None  # the bits since boot, when they were last read

    @property
    def temperature_c(self) -> float | None:
        """Of the processor, degrees C; None where the system does not tell."""
        return None if self._zone is None else _degrees(self._zone)

    @property
    def throttled(self) -> str:
        """What slows a Raspberry Pi down, now or at some time since the last question.

        Of "under-voltage", "capped", "throttled" and "soft temperature limit" all that hold, with
        commas between them; "" where nothing does, and on other boards. Returns at once: a program
        that has to be asked answers in a thread.
        """
        if self._file is None and self._program is None:
            return ""
        now = time.monotonic()
        asked_before = self._asked is not None and now - self._asked < self._every
        if not asked_before and (self._asking is None or not self._asking.is_alive()):
            self._asked = now
            self._asking = threading.Thread(target=self._ask, name="throttled", daemon=True)
            self._asking.start()
            self._asking.join(_WAIT_SECONDS)
        return ", ".join(word for bit, word in _BITS.items() if self._now & bit)

    def _ask(self) -> None:
        try:
            if self._file is not None:
                said = self._file.read_text(encoding="ascii", errors="replace")
            else:
                said = subprocess.run(
                    [str(self._program), "get_throttled"],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_ANSWER_SECONDS,
                    check=True,
                    encoding="ascii",
                    errors="replace",
                ).stdout
        except (OSError, subprocess.SubprocessError):
            said = ""
        # `50005` in sysfs, `throttled=0x50005` from the program.
        match = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", said.strip())
        bits = int(match[1], 16) if match else 0
        ever = bits >> _SINCE_BOOT & _NOW
        fresh = 0 if self._before is None else ever & ~self._before
        if match:
            self._before = ever
        self._now = bits & _NOW | fresh


def _processor_zone(sys: Path) -> Path | None:
    """The file that holds the processor's temperature, or what is nearest to it."""
    zones: list[tuple[int, int, Path]] = []
    for folder in sys.glob("class/thermal/thermal_zone*"):
        try:
            kind = (folder / "type").read_text(encoding="utf-8", errors="replace").strip().lower()
        except OSError:
            continue
        file = folder / "temp"
        number = folder.name.removeprefix("thermal_zone")
        if any(fake in kind for fake in _FAKES) or not number.isdecimal() or _degrees(file) is None:
            continue
        ranks = [rank for rank, word in enumerate(_PREFERRED) if word in kind]
        zones.append((min(ranks, default=len(_PREFERRED)), int(number), file))
    return min(zones)[2] if zones else None


def _degrees(file: Path) -> float | None:
    """Thousandths of a degree, as the kernel writes them, in degrees; None for anything else."""
    try:
        degrees = int(file.read_text(encoding="ascii", errors="replace")) / 1000
    except (OSError, ValueError):  # a zone that is switched off cannot be read
        return None
    return degrees if _SENSIBLE[0] < degrees < _SENSIBLE[1] else None
