"""The C99 library on Cortex-M boards that QEMU emulates: compiled, run, its figures read."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from c99_library import STRICT

from edge_runtime.pcm import SAMPLE_RATE

HERE = Path(__file__).parent / "firmware"
COMPILER = shutil.which("arm-none-eabi-gcc")
EMULATOR = shutil.which("qemu-system-arm")
INSTALL = "apt-get install qemu-system-arm gcc-arm-none-eabi libnewlib-arm-none-eabi"
_TIMEOUT = 300  # seconds until an emulator hangs
_NANOSECONDS = 32.0  # of virtual time that an instruction takes: 2^5, of -icount shift=5


@dataclass(frozen=True)
class Board:
    """A board of QEMU's, and how to compile for it."""

    machine: str
    core: str
    flags: tuple[str, ...]
    clock: float
    """Of SysTick, Hz."""
    clips: int
    """That it is asked of."""
    vectors: int = 0
    code: int = 0
    ram: int = 0x20000000


BOARDS = (
    Board("mps2-an385", "Cortex-M3", ("-mcpu=cortex-m3",), 25e6, 4),
    Board(
        "mps2-an386",
        "Cortex-M4",
        ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
        25e6,
        24,
    ),
    Board(
        "mps2-an500",
        "Cortex-M7",
        ("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
        25e6,
        4,
    ),
    Board(
        "mps3-an547",
        "Cortex-M55",
        ("-mcpu=cortex-m55", "-mfloat-abi=hard", "-mfpu=auto"),
        32e6,
        24,
        # Out of reset it is in the secure state, which does not run what lies elsewhere.
        vectors=0x10000000,
        code=0x70000000,
        ram=0x71000000,
    ),
)


@dataclass(frozen=True)
class Heard:
    """What a board said of a clip."""

    scores: npt.NDArray[np.float64]
    label: int
    """Number of the class, or -1."""
    seconds: float
    """Length of the clip."""
    instructions: float
    """Of all its samples."""
    most: float
    """Instructions of the 10 ms that took most."""
    end: float
    """Instructions of the end of the utterance."""


class Firmware:
    """The library in `sources` for `board`, built in `folder`."""

    def __init__(self, board: Board, sources: Path, folder: Path) -> None:
        self.board, self._folder = board, folder
        folder.mkdir()
        objects = []
        for source in sorted(sources.glob("*.c")):
            objects.append(folder / f"{source.stem}.o")
            self._compile("-c", str(source), "-o", str(objects[-1]))
        found = subprocess.run(
            ["arm-none-eabi-size", "-t", *map(str, objects)],
            capture_output=True, text=True, check=True, timeout=_TIMEOUT,
        )  # fmt: skip
        text, data, bss = map(int, found.stdout.splitlines()[-1].split()[:3])
        self.flash, self.static = text + data, data + bss
        """Bytes of code and constants, and of variables without es_state."""
        include = (f"-I{sources}", f"-I{sources / 'test'}")
        own = [str(HERE / "startup.c"), *map(str, objects)]
        tests = [str(path) for path in sorted((sources / "test").glob("*.c"))]
        self._link("golden", *include, *own, *tests)
        self._link("clips", *include, *own, str(HERE / "clips.c"))

    def golden(self) -> str:
        """What the test in C says; it must end without failures."""
        return self._run("golden")

    def hear(self, clips: list[npt.NDArray[np.int16]]) -> tuple[list[Heard], int]:
        """What it says of each clip, and the bytes of es_state."""
        names = [f"clip{number}.raw" for number in range(len(clips))]
        for name, clip in zip(names, clips, strict=True):
            (self._folder / name).write_bytes(clip.astype("<i2").tobytes())
        (self._folder / "clips.txt").write_text("\n".join(names) + "\n")
        *lines, last = self._run("clips").splitlines()
        assert [line.split()[0] for line in lines] == names
        return [self._heard(line) for line in lines], int(last.split()[1])

    def _heard(self, line: str) -> Heard:
        _, samples, *scores, label, total, most, end = line.split()
        each = 1e9 / self.board.clock / _NANOSECONDS
        return Heard(
            np.array(scores, float) / 1e6,
            int(label),
            int(samples) / SAMPLE_RATE,
            each * int(total),
            each * int(most),
            each * int(end),
        )

    def _link(self, name: str, *arguments: str) -> None:
        places = {"VECTORS": self.board.vectors, "CODE": self.board.code, "RAM": self.board.ram}
        self._compile(
            *arguments,
            "--specs=rdimon.specs",
            "-nostartfiles",
            f"-T{HERE / 'board.ld'}",
            *(f"-Wl,--defsym={name}={place:#x}" for name, place in places.items()),
            "-Wl,--gc-sections",
            "-o",
            str(self._folder / f"{name}.elf"),
        )

    def _compile(self, *arguments: str) -> None:
        options = [o for o in STRICT if o != "-pedantic"]  # arm_mve.h is not
        command = ["arm-none-eabi-gcc", *options, "-O3", "-mthumb", *self.board.flags, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
        assert done.returncode == 0, done.stderr
        assert not re.search("warning", done.stderr), done.stderr

    def _run(self, name: str) -> str:
        done = subprocess.run(
            [
                "qemu-system-arm",
                *("-machine", self.board.machine, "-nographic", "-monitor", "none"),
                *("-serial", "none", "-icount", "shift=5,align=off"),
                *("-semihosting-config", "enable=on,target=native"),
                *("-kernel", str(self._folder / f"{name}.elf")),
            ],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
