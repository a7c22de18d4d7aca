"""A program and a bundle to devices over ssh, several at a time, each as a whole or not at all."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conversion.deliver.connection import Connection, old_python
from conversion.deliver.on_device import SWITCH
from conversion.deliver.pack import pack, sha256_of
from conversion.deliver.wheel import Wheel, build_wheel, read_wheel
from conversion.errors import ConversionError
from edge_runtime.console import OK, OURS, counted, note
from edge_runtime.signature import public_keys
from edge_runtime.update.releases import PINNED_KEY, PINNED_ROOT

_SCRIPT = Path(__file__).with_name("on_device.py")
_PROGRAM_BYTES = 400_000_000  # what pip and an environment take while it installs, with extras
_RESERVE_BYTES = 50_000_000  # what is left to a device whatever comes
_ID = 16  # digits of a hash that name a program on a device
_CHUNK = 1 << 16  # bytes
_PROGRESS = 5.0  # seconds between two lines on a transfer

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """Options of `deploy`."""

    wheel: Path | None = None
    """The wheel; None: built from this checkout."""
    extras: str = "mic"
    """Of the wheel, with commas between."""
    wheels: Path | None = None
    """Folder of all that the wheel needs; None: the device asks its own index."""
    python: str = "python3"
    """The interpreter on the device."""
    folder: str = ""
    """Of releases on the device; empty: in the user's own data."""
    key: Path | None = None
    """Who must have signed the bundle."""
    allow_downgrade: bool = False
    """Whether an older signed bundle is taken."""
    root: Path | None = None
    """root.json of an update repository, to be pinned."""
    port: int | None = None
    """Of ssh."""
    options: tuple[str, ...] = ()
    """Of ssh, NAME=VALUE."""
    system_packages: bool = False
    """Whether the program sees what the device's own package manager installed."""
    jobs: int = 4
    """Devices at a time."""


@dataclass(frozen=True)
class Cargo:
    """What goes to each device."""

    job: dict[str, Any]
    """What the device is told, without the files."""
    program: str
    """What the program goes by."""
    wheel: Wheel
    """The program."""
    bundle: list[tuple[str, Path]]
    """The bundle and what is pinned: names there, and files here."""
    installed: list[tuple[str, Path]]
    """The program and what it needs; left out where it is there."""


def deploy(bundle: Path, hosts: Sequence[str], asked: Asked) -> int:
    """Bring a bundle to all hosts; the exit code: fine where every one runs it.

    Raises ConversionError and BundleError for what is wrong before any host is asked. Ctrl-C gives
    up those that are not switched yet, waits for the others, and goes on upwards.
    """
    twice = {host for host in hosts if hosts.count(host) > 1}
    if twice:
        raise ConversionError(f"{min(twice)} is named twice")
    with tempfile.TemporaryDirectory() as work:
        cargo = load(bundle, asked, Path(work))
        devices = [_Device(host, cargo, asked) for host in hosts]
        with ThreadPoolExecutor(max(1, asked.jobs)) as pool:
            outcomes = [pool.submit(device.deliver) for device in devices]
            try:
                for outcome in outcomes:
                    outcome.exception()  # which waits for it
            except BaseException:
                for outcome in outcomes:
                    outcome.cancel()
                for device in devices:
                    device.stop()
                pool.shutdown()
                _show(hosts, outcomes)
                raise
    return _show(hosts, outcomes)


def load(bundle: Path, asked: Asked, work: Path) -> Cargo:
    """Pack what goes to devices into the folder `work`. Raises ConversionError, BundleError."""
    archive = work / "bundle.zip"
    loaded = pack(bundle, archive)
    pinned = [(PINNED_KEY, asked.key), (PINNED_ROOT, asked.root)]
    for name, file in pinned:
        if file is not None and not file.is_file():
            raise ConversionError(f"no {name} at {file}")
    if asked.key is not None:
        try:
            public_keys(asked.key)
        except ValueError as error:
            raise ConversionError(str(error)) from None
    if asked.wheel is None:
        note("building the wheel")
    wheel = read_wheel(asked.wheel) if asked.wheel else build_wheel(work)
    needed = sorted(asked.wheels.glob("*.whl")) if asked.wheels else []
    if asked.wheels and not needed:
        raise ConversionError(f"{asked.wheels} holds no wheels")
    extras = list(filter(None, asked.extras.split(",")))
    if asked.root is not None and "update" not in extras:
        extras.append("update")  # which is what polls it
    digest = hashlib.sha256(f"{asked.python} {extras} {asked.system_packages}".encode())
    for file in (wheel.file, *needed):
        digest.update(sha256_of(file).encode())
    job = {
        "bundle": archive.name,
        "wheel": wheel.file.name,
        "extras": f"[{','.join(extras)}]" if extras else "",
        "offline": bool(needed),
        "system_packages": asked.system_packages,
        "allow_downgrade": asked.allow_downgrade,
        "source": f"deploy of {loaded.manifest.name}",
    }
    return Cargo(
        job,
        digest.hexdigest()[:_ID],
        wheel,
        [(archive.name, archive), *((name, file) for name, file in pinned if file is not None)],
        [(wheel.file.name, wheel.file), *((f"wheels/{file.name}", file) for file in needed)],
    )


class _Device:
    """One device, from the first question to its answer."""

    def __init__(self, host: str, cargo: Cargo, asked: Asked) -> None:
        self._host, self._cargo, self._asked = host, cargo, asked
        self._connection: Connection | None = None

    def deliver(self) -> dict[str, Any]:
        """What the device says of its new release. Raises ConversionError."""
        options = [word for option in self._asked.options for word in ("-o", option)]
        options += ["-p", str(self._asked.port)] if self._asked.port else []
        connection = Connection(self._host, self._asked.python, _SCRIPT, options)
        self._connection = connection
        with closing(connection):
            connection.tell({"folder": self._asked.folder, "program": self._cargo.program})
            for said in connection.lines():
                if "probe" in said:
                    self._send(connection, self._checked(said["probe"]))
                elif "step" in said:
                    self._tell(said["step"])
                elif "ready" in said:
                    connection.commit(SWITCH)
                elif "fault" in said:
                    raise ConversionError(said["fault"])
                elif "release" in said:
                    self._tell(f"release {said['release']} is current")
                    return said
            raise connection.trouble()

    def stop(self) -> None:
        """Give it up, unless it is past the switch."""
        if self._connection is not None:
            self._connection.stop()

    def _tell(self, step: str) -> None:
        note(f"{self._host}: {step}")

    def _checked(self, probe: dict[str, Any]) -> list[tuple[str, Path]]:
        """The files that the device needs. Raises ConversionError where it is not fit for them."""
        wheel = self._cargo.wheel
        if not wheel.takes(probe["python"]):
            raise old_python(probe["python"], wheel.python)
        machine, bits = probe["machine"], probe["bits"]
        if not wheel.fits(machine, bits):
            raise ConversionError(
                f"its architecture is {machine} with {bits}-bit Python, and the program is for "
                f"{', '.join(wheel.machines)} (of 32 and 64 bits as their names say)"
            )
        if not probe["environments"]:
            raise ConversionError("its Python makes no environments: sudo apt install python3-venv")
        files = [*self._cargo.bundle, *([] if probe["program"] else self._cargo.installed)]
        sent = sum(file.stat().st_size for _, file in files)
        # What is sent is unpacked beside it.
        needed = 3 * sent + _RESERVE_BYTES + (0 if probe["program"] else _PROGRAM_BYTES)
        if probe["free"] < needed:
            raise ConversionError(
                f"{probe['folder']} has {probe['free'] / 1e6:.0f} MB free, and {needed / 1e6:.0f} "
                "are needed: make room there, or name another place (--folder)"
            )
        return files

    def _send(self, connection: Connection, files: list[tuple[str, Path]]) -> None:
        sizes = [file.stat().st_size for _, file in files]
        self._tell(f"sending {counted(len(files), 'file')}, {sum(sizes) / 1e6:.1f} MB")
        listed = [
            (name, size, sha256_of(file)) for (name, file), size in zip(files, sizes, strict=True)
        ]
        connection.tell({**self._cargo.job, "program": self._cargo.program, "files": listed})
        done, told = 0, time.monotonic()
        for _, file in files:
            with file.open("rb") as content:
                while chunk := content.read(_CHUNK):
                    connection.send(chunk)
                    done += len(chunk)
                    if time.monotonic() > told + _PROGRESS:
                        told = time.monotonic()
                        self._tell(f"{done / 1e6:.1f} of {sum(sizes) / 1e6:.1f} MB")


def _show(hosts: Sequence[str], outcomes: Sequence[Future[dict[str, Any]]]) -> int:
    """A table of what became of each; the exit code."""
    from rich.table import Table

    from edge_runtime.terminal import Tables

    table, fine = Table("device", "release", "outcome"), True
    for host, outcome in zip(hosts, outcomes, strict=True):
        error = None if outcome.cancelled() else outcome.exception()
        if outcome.cancelled():
            row = ("", "not begun")
        elif error is not None:
            row = ("", str(error) if isinstance(error, ConversionError) else repr(error))
        else:
            said = outcome.result()
            further = [] if said["named"] else ['its settings do not say bundle = "current" yet']
            row = (
                str(said["release"]),
                "; ".join([f"runs {said['bundle']}", *said["untold"], *further]),
            )
        fine = fine and bool(row[0])
        table.add_row(host, *row)
    Tables().print(table)
    return OK if fine else OURS
