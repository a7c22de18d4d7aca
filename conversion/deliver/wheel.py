"""The wheel that goes to devices: what it asks of them, and how a checkout makes it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from conversion.errors import ConversionError

_ROOT = Path(__file__).parents[2]
_SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "edge_runtime")
_MACHINES = ("x86_64", "aarch64")  # with 64-bit Python: what the interpreter has wheels for
_BITS = 64
_EPOCH = "315532800"  # 1980: the same sources are the same wheel, and are not installed again


@dataclass(frozen=True)
class Wheel:
    """A wheel of edge_runtime."""

    file: Path
    """Where it is."""
    python: tuple[int, ...]
    """The least version of Python."""
    machines: tuple[str, ...]
    """As `uname -m` has them: those with 64 bits, and others that it has requirements for."""

    def fits(self, machine: str, bits: int) -> bool:
        """Whether it runs on a machine, by a Python of so many bits."""
        return machine in self.machines and (machine not in _MACHINES or bits == _BITS)

    def takes(self, python: str) -> bool:
        """Whether it runs in a version of Python."""
        return tuple(map(int, re.findall(r"\d+", python)[:2])) >= self.python


def read_wheel(file: Path) -> Wheel:
    """What a wheel asks of a device. Raises ConversionError for what is no wheel of ours."""
    try:
        with zipfile.ZipFile(file) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
            text = archive.read(name).decode("utf-8")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConversionError(f"{file} is no wheel: {error}") from None
    if not re.search(r"^Name: edge[-_]emotion$", text, re.M):
        raise ConversionError(f"{file} is not the wheel of edge-emotion")
    least = re.search(r"^Requires-Python: >=([\d.]+)", text, re.M)
    named = re.findall(r"platform_machine == ['\"](\w+)['\"]", text)  # 32-bit ARM
    version = tuple(map(int, least[1].split("."))) if least else (3, 11)
    return Wheel(file, version, tuple(dict.fromkeys((*_MACHINES, *named))))


def build_wheel(folder: Path) -> Wheel:
    """The wheel of this checkout, made in `folder`. Raises ConversionError."""
    missing = [name for name in _SOURCES if not (_ROOT / name).exists()]
    if missing:
        raise ConversionError(f"no checkout that makes a wheel ({missing[0]} is not here): --wheel")
    # Of a copy: what an earlier build left in the checkout must not get into it.
    copy = folder / "source"
    for name in _SOURCES:
        source = _ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy2(source, copy)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    done = subprocess.run(
        [*pip, str(folder), str(copy)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH},
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise ConversionError(f"the wheel cannot be built: {said[-1]}")
    (file,) = folder.glob("*.whl")
    return read_wheel(file)
